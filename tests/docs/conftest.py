import pytest
from documentation import Pages
from helpers import one_thread as one_thread


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The documentation's pages, each of which is read once, in a folder of its own."""
    return Pages(tmp_path_factory)

import pytest
from documentation import FOLDER

NAMES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.md"))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # what a reader would see, too
@pytest.mark.parametrize("name", NAMES)
def test_what_a_page_says_can_be_done(pages, name):
    pages.read(name)

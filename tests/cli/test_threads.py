import os
import subprocess
import sys

import pytest
import torch

from memviz.cli.threads import computing_threads


@pytest.fixture(autouse=True)
def not_set(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.fixture
def seen(monkeypatch):
    """The threads of torch, and the variable, when a command reads its model."""
    found = []
    read = "memviz.cli.common.read_model"
    from memviz.cli.common import read_model

    def look(*arguments):
        found.append((torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")))
        return read_model(*arguments)

    monkeypatch.setattr(read, look)
    return found


def test_a_command_computes_with_as_many_as_it_is_told(memviz, tiny, seen):
    before = torch.get_num_threads()
    assert memviz("--threads", 1, "layers", tiny, "--weights", "random").code == 0
    assert memviz("--threads", 3, "layers", tiny, "--weights", "random").code == 0
    assert seen == [(1, "1"), (3, "3")]
    assert torch.get_num_threads() == before
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("given", ["0", "-1", "two"])
def test_what_is_no_number_of_threads_is_refused(memviz, given):
    done = memviz("--threads", given, "models")
    assert done.code == 2
    assert "--threads" in done.err


def test_by_default_there_are_no_more_than_a_quota_allows(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr("loky.cpu_count", lambda only_physical_cores: 1)
    with computing_threads(None):
        assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (1, "1")
    monkeypatch.setattr("loky.cpu_count", lambda only_physical_cores: before + 4)
    with computing_threads(None):
        assert torch.get_num_threads() == before


def test_what_the_environment_says_stays_unless_told_otherwise(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with computing_threads(None):
        assert os.environ["OMP_NUM_THREADS"] == "7"
    with computing_threads(2):
        assert os.environ["OMP_NUM_THREADS"] == "2"
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_torch_that_is_imported_later_follows():
    code = (
        "from memviz.cli.threads import computing_threads\n"
        "with computing_threads(1):\n"
        "    import torch\n"
        "    print(torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]

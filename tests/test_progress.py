import io
import subprocess
import sys

import pytest
from helpers import undisturbed

from memviz import progress as module
from memviz.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that runs when it is told to."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def run(total, steps, clock, show=True, seconds=1):
    with progress("score", total=total, unit="images", show=show) as advance:
        for count in steps:
            clock(seconds)
            advance(count)


@pytest.mark.parametrize("show", [None, False])
def test_silent_in_a_log_unless_asked(show, clock, capsys):
    run(3, [1, 1, 1], clock, show)
    assert capsys.readouterr() == ("", "")


def test_nothing_to_do_is_silent(clock, capsys):
    run(0, [], clock)
    assert capsys.readouterr() == ("", "")


def test_log_gets_rate_and_time_left_on_stderr(clock, capsys):
    run(300, [10] * 30, clock)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "score: 200/300 images, 10/s, 0:10 left",
        "score: 300/300 images, 10/s, 0:00 left",
    ]


def test_minutes_left(clock, capsys):
    run(1000, [1], clock, seconds=25)
    assert "score: 1/1000 images, 0.04/s, 416:15 left" in capsys.readouterr().err


def test_advances_by_one_unless_told(clock, capsys):
    with progress("x", total=2, unit="images", show=True) as advance:
        clock(1)
        advance()
        clock(1)
        advance()
    assert "x: 2/2" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_terminal_gets_a_bar_that_reaches_the_end(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress("score", total=4, unit="images") as advance:
        for _ in range(4):
            advance()
    assert "score" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()


@pytest.mark.parametrize("show", [True, None])
def test_an_exception_passes_through(show, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(KeyboardInterrupt), progress("score", total=4, unit="images", show=show):
        raise KeyboardInterrupt


def test_draws_nothing_at_random_even_when_rich_is_first_imported(clock):
    with undisturbed():
        run(2, [1, 1], clock)
    code = """
import random
random.seed(0)
before = random.getstate()
from memviz.progress import progress
with progress("x", total=1, unit="images") as advance:
    advance()
assert random.getstate() == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)

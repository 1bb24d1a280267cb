import csv
import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from memviz.cli import common

COMMANDS = ["models", "layers", "score", "render", "index", "top", "drivers", "gallery", "site", "app", "map", "demo"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("layers", "resnem"), "Error: There is no model 'resnem'. Close names: resmem"),
        (("render", "memnet", "alexnet.conv1", "--out", "x"), "Error: No package contains weights of memnet."),
        (("render", "resmem", "score", "--out", "x", "--weights", "no.pt"), "Error: There is no weights file no.pt."),
        (("render", "resmem", "score", "--out", "x", "--device", "gpu"), "Error: The device 'gpu' cannot be used here"),
        (("render", "resmem", "score", "--out", "x", "--device", "meta:x"), "Try --device cpu"),
        (("score", "nowhere.jpg", "--model", "tiny", "--weights", "random"), "nowhere.jpg"),
        (
            ("layers", "m3m", "--option", "head=tiny"),
            "Error: m3m has no option head='tiny'. Valid: head= one of paper, sm",
        ),
        (("top", "nowhere", "alexnet.conv1:0"), "Error: There is no index in nowhere."),
        (("gallery", "nowhere.toml", "--out", "x"), "Error: There is no recipe nowhere.toml."),
    ],
)
def test_known_errors_end_with_one_message(memviz, tiny, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = memviz(*arguments)
    assert done.code == 1
    assert message in done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rendre",), "No such command 'rendre'"),
        (("render", "resmem", "x", "--out", "y", "--steps", "0"), "Invalid value for '--steps'"),
        (("render", "resmem", "x"), "Missing option '--out'"),
        (("layers", "memnet", "--option", "small"), "'small': write NAME=VALUE"),
        (("layers", "m3m", "--option", "head=small", "--option", "head=paper"), "each name once"),
        (("layers", "memnet", "--option", "seed=3"), "'seed' is no option of an architecture"),
    ],
)
def test_wrong_usage_ends_with_2(memviz, arguments, message):
    done = memviz(*arguments)
    assert done.code == 2
    assert message in done.err


def test_without_a_command_there_is_help(memviz):
    done = memviz()
    for name in (
        "models",
        "layers",
        "score",
        "render",
        "index",
        "top",
        "drivers",
        "gallery",
        "site",
        "app",
        "map",
        "demo",
    ):
        assert name in done.out + done.err


def test_version(memviz):
    done = memviz("--version")
    assert (done.code, done.out) == (0, "memviz 0.1.0\n")


@pytest.mark.parametrize(
    "command",
    ["models", "layers", "score", "render", "index", "top", "drivers", "gallery", "site", "app", "map", "demo"],
)
def test_every_command_has_help(memviz, command):
    done = memviz(command, "--help")
    assert done.code == 0
    assert "Usage:" in done.out


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_a_full_or_closed_disk_is_no_traceback(memviz, monkeypatch, number):
    def fail(*_):
        raise OSError(number, os.strerror(number), "runs/x")

    monkeypatch.setattr(common, "read_model", fail)
    done = memviz("layers", "resmem")
    assert done.code == 1
    assert os.strerror(number) in done.err
    assert "run it again" in done.err


def test_an_unknown_error_keeps_its_traceback(monkeypatch):
    from memviz.cli import main

    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(common, "read_model", fail)
    monkeypatch.setattr(sys, "argv", ["memviz", "layers", "resmem"])
    monkeypatch.setattr("warnings.showwarning", print)
    with pytest.raises(ZeroDivisionError):
        main()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_process(memviz, monkeypatch, number, code):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(common, "read_model", lambda *_: signal.raise_signal(number))
    done = memviz("layers", "resmem")
    assert done.code == code
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    assert "Interrupted. What was finished is kept; the same command continues from there." in done.err


def interrupt(command, folder, begun, number):
    """Runs a command in a process of its own until `begun()`, sends the signal, and gives the exit code."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "memviz", *command], cwd=folder, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        until = time.monotonic() + 200
        while not begun():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.005)
        process.send_signal(number)
        _, err = process.communicate(timeout=100)
    finally:
        process.kill()
        process.communicate()
    assert "Interrupted. What was finished is kept; the same command continues from there." in err
    assert "Traceback" not in err
    return process.returncode


def test_ctrl_c_while_units_are_drawn(tmp_path):
    command = ["render", "memnet", "alexnet.conv1", "--weights", "random", "--size", "32", "--steps", "4"]
    folder = tmp_path / "out/alexnet.conv1"
    begun = (folder / "alexnet.conv1-0001.png").exists
    assert interrupt([*command, "--batch-size", "1", "--out", "out"], tmp_path, begun, signal.SIGINT) == 130
    names = [path.name for path in folder.iterdir()]
    assert "manifest.json" in names
    assert not [name for name in names if "writing" in name]
    assert "contact_sheet.png" not in names


def test_sigterm_while_photographs_are_scored(tmp_path):
    (tmp_path / "photos").mkdir()
    for place, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (400, 8, 8, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(tmp_path / f"photos/{place:03d}.png")
    command = [
        "score",
        "photos",
        "--model",
        "memnet",
        "--weights",
        "random",
        "--batch-size",
        "1",
        "--csv",
        "scores.csv",
    ]
    rows = tmp_path / "scores.csv.partial/rows.jsonl"
    begun = lambda: rows.exists() and rows.stat().st_size > 1500  # noqa: E731
    assert interrupt(command, tmp_path, begun, signal.SIGTERM) == 143
    with (tmp_path / "scores.csv").open(newline="") as file:
        kept = [(os.path.basename(row["path"]), float(row["memorability"])) for row in csv.DictReader(file)]
    assert 3 < len(kept) < 400
    assert [name for name, _ in kept] == [f"{place:03d}.png" for place in range(len(kept))]
    assert len(rows.read_text().splitlines()) == len(kept)


def test_an_unknown_objective_lists_all(memviz, tiny):
    done = memviz("render", tiny, "alexnet.conv1", "--out", "y", "--objective", "mean", "--weights", "random")
    assert done.code == 1
    assert "objective='mean': of the units of a layer, give one of excitation, channel, inhibition, neuron" in done.err


@pytest.mark.parametrize("unit", ["alexnet.conv1", "alexnet.conv1:x"])
def test_what_is_no_unit(memviz, index, unit):
    done = memviz("top", index, unit)
    assert done.code == 1
    assert "write a unit as address:channel" in done.err

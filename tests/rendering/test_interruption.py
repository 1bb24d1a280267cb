import io
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from drawing import QUICK, render, unit_numbers
from helpers import unchanged, undisturbed
from PIL import Image

from memviz.rendering import engine as engines
from memviz.rendering import load_renders


class Stop(BaseException):
    """Stands in for KeyboardInterrupt, which pytest treats as its own."""


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, Stop, RuntimeError])
def test_what_was_finished_is_kept(small, tmp_path, monkeypatch, interruption):
    draw = engines.Engine.draw

    def interrupted(self, objectives, advance):
        if unit_numbers(map(str, objectives)) == [4]:
            self._optimize(objectives, advance)
            raise interruption
        return draw(self, objectives, advance)

    monkeypatch.setattr(engines.Engine, "draw", interrupted)
    with unchanged(small.module), undisturbed(), pytest.raises(interruption):
        render(small, "body.3", out=tmp_path, batch_size=2, **QUICK)
    assert sorted(load_renders(tmp_path / "body.3").units) == [0, 1, 2, 3]
    monkeypatch.setattr(engines.Engine, "draw", draw)
    renders = render(small, "body.3", out=tmp_path, batch_size=2, **QUICK)
    uninterrupted = render(small, "body.3", batch_size=2, **QUICK)
    pd.testing.assert_frame_equal(renders.table, uninterrupted.table)
    assert (renders.images - uninterrupted.images).abs().max() <= 0.5 / 255 + 1e-6
    assert not [path for path in tmp_path.rglob("*") if "writing" in path.name]


def test_an_interruption_before_the_contact_sheet_is_made_good(small, tmp_path, monkeypatch):
    """Also where an older sheet lies there."""
    render(small, "body.3", [0, 1], out=tmp_path, **QUICK)
    sheet = tmp_path / "body.3/contact_sheet.png"
    of_two = sheet.read_bytes()

    def interrupted(*_):
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr("memviz.rendering.store.contact_sheet", interrupted)
        with pytest.raises(Stop):
            render(small, "body.3", out=tmp_path, **QUICK)
    assert sheet.read_bytes() == of_two
    render(small, "body.3", out=tmp_path, **QUICK)
    with Image.open(sheet) as of_five, Image.open(io.BytesIO(of_two)) as before:
        assert of_five.height > before.height


KILLED = """
import torch
from torch import nn
import memviz
torch.set_num_threads(1)
torch.manual_seed(0)
model = memviz.wrap(nn.Sequential(nn.Conv2d(3, 150, 3)), memviz.InputSpec(size=(32, 32)))
renders = memviz.render(model, "0", out="out", config=memviz.RenderConfig(size=64, steps=2, batch_size=2))
print(len(renders), renders.table["state"].eq("ok").all())
"""


def test_killed_in_the_middle(tmp_path):
    """Whatever is there after SIGKILL is whole, and the same command finishes."""
    folder = tmp_path / "out/0"
    process = subprocess.Popen([sys.executable, "-c", KILLED], cwd=tmp_path, start_new_session=True)
    until = time.monotonic() + 60
    while not (folder / "0-0009.png").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    saved = load_renders(folder)
    assert 8 <= len(saved.units) < 150
    pictures = list(folder.glob("0-*.png"))
    assert len(pictures) >= len(saved.units)
    for path in pictures:
        with Image.open(path) as image:
            image.load()
            assert image.size == (64, 64)
    stamp = saved.path(saved.units[0]).stat().st_mtime_ns
    again = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=True
    )
    assert again.stdout == "150 True\n"
    assert saved.path(saved.units[0]).stat().st_mtime_ns == stamp
    assert len(load_renders(folder).units) == 150


SHARED = """
import sys
import torch
from torch import nn
import memviz
torch.set_num_threads(1)
torch.manual_seed(0)
model = memviz.wrap(nn.Sequential(nn.Conv2d(3, 40, 3)), memviz.InputSpec(size=(32, 32)))
units = range(int(sys.argv[1]), int(sys.argv[2]))
memviz.render(model, "0", units, out="out", config=memviz.RenderConfig(size=16, steps=2, batch_size=1))
"""


def test_processes_that_draw_into_one_folder_keep_each_others_records(tmp_path):
    """Also of units that several of them draw."""
    ranges = (("0", "16"), ("12", "28"), ("24", "40"))
    processes = [subprocess.Popen([sys.executable, "-c", SHARED, *ends], cwd=tmp_path) for ends in ranges]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    saved = load_renders(tmp_path / "out/0")
    assert sorted(saved.units) == list(range(40))
    assert all(saved.picture(record) for record in saved.records)
    assert not list((tmp_path / "out/0").glob("shards/*"))

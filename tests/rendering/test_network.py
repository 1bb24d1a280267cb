import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import unchanged
from torch import nn

import memviz
from memviz.artefacts import leased
from memviz.errors import LayerError, RenderError, StoreError
from memviz.rendering import RenderConfig, cost, load_renders, network, outcome
from memviz.rendering.cost import BUSY, LayerCost, Plan, plan
from memviz.rendering.engine import Engine
from memviz.rendering.network import Painter, network_jobs, render_jobs
from memviz.rendering.outcome import render_network
from memviz.rendering.store import SavedRenders

QUICK = RenderConfig(size=16, steps=3)


def cheap(jobs, out=None):
    """A plan that nobody measured."""
    return Plan(tuple(LayerCost(job.address, len(job.units), 0, job.config.steps, 1.0) for job in jobs), 0, 0, None, 1)


@pytest.fixture
def jobs(small):
    return network_jobs(small, config=QUICK)


def pictures(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png")) if "sheet" not in path.name}


def test_the_jobs_are_the_watched_layers_of_a_branch(small):
    assert [(job.address, len(job.units)) for job in network_jobs(small)] == [
        ("stem.0", 6),
        ("body.0", 8),
        ("body.3", 5),
    ]
    assert [job.address for job in network_jobs(small, branch="body")] == ["body.0", "body.3"]
    assert [job.address for job in network_jobs(small, ["@3", "head.2"])] == ["body.3", "head.2"]
    with pytest.raises(LayerError, match=r"No layer to draw lies in 'head'. Give a part of small: stem, body, head"):
        network_jobs(small, branch="head")


def test_the_pictures_are_those_of_each_layer_alone(small, jobs, tmp_path):
    with unchanged(small.module):
        table = render_network(small, jobs, tmp_path / "all", estimate=cheap(jobs))
    for job in jobs:
        memviz.render(small, job.address, config=QUICK, out=tmp_path / "each")
        alone, together = (load_renders(tmp_path / name / job.address) for name in ("each", "all"))
        assert alone.manifest.differences(together.manifest) == []
        assert pictures(tmp_path / "each" / job.address) == pictures(tmp_path / "all" / job.address)
        assert (tmp_path / "all" / job.address / "contact_sheet.png").is_file()
    assert not list((tmp_path / "all").rglob(".lock-*"))
    assert pd.read_parquet(tmp_path / "all" / "units.parquet").drop(columns="why").equals(table.drop(columns="why"))
    assert table["layer"].unique().tolist() == [job.address for job in jobs]
    assert table["seconds"].gt(0).all()


def test_only_what_is_missing_is_drawn_again(small, jobs, tmp_path, monkeypatch):
    render_jobs(small, jobs, tmp_path, estimate=cheap(jobs))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    lost = tmp_path / "body.0" / "body.0-0003.png"
    lost.unlink()
    drawn = []
    monkeypatch.setattr(Engine, "draw", lambda *given, draw=Engine.draw: drawn.append(given[1]) or draw(*given))
    render_jobs(small, jobs, tmp_path, estimate=cheap(jobs))
    assert [str(each) for batch in drawn for each in batch] == ["excitation(body.0:3)"]
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    changed = {path.name for path in before if before[path] != after[path]} - {".lock"}
    assert changed == {lost.name, "records.json", "contact_sheet.png"}


def test_other_settings_are_refused_before_anything_is_drawn(small, jobs, tmp_path):
    render_jobs(small, jobs[-1:], tmp_path, estimate=cheap(jobs))
    others = [replace(job, seed=1) for job in jobs]
    with pytest.raises(StoreError, match="seed 0, not 1"):
        render_jobs(small, others, tmp_path, estimate=cheap(jobs))
    assert not list((tmp_path / "stem.0").glob("*.png"))


def test_two_share_the_work_and_none_is_done_twice(small, jobs, tmp_path, monkeypatch):
    """Two threads with models of their own, as two processes have; shares of two units."""
    monkeypatch.setattr(network, "SHARE", 2)
    monkeypatch.setattr(network, "WAIT_SECONDS", 0.01)
    drawn = []

    def draw(painter, share, advance, own=Painter.draw):
        drawn.extend((share.address, unit) for unit in share.units)
        time.sleep(0.02)
        return own(painter, share, advance)

    monkeypatch.setattr(Painter, "draw", draw)
    errors = []

    def work():
        try:
            render_jobs(small, jobs, tmp_path, estimate=cheap(jobs))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(drawn) == sorted((job.address, unit) for job in jobs for unit in job.units)
    assert len(set(drawn)) == len(drawn)


def test_a_share_that_another_process_holds_is_waited_for(small, jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "WAIT_SECONDS", 0.01)
    (job,) = jobs[-1:]
    render_jobs(small, [replace(job, units=(0,))], tmp_path, estimate=cheap([job]))
    finished = threading.Event()
    thread = threading.Thread(
        target=lambda: render_jobs(small, [job], tmp_path, estimate=cheap([job])) is None or finished.set()
    )
    with leased(tmp_path / job.address, "00000") as ours:
        assert ours
        thread.start()
        assert not finished.wait(0.3)
    thread.join()
    assert finished.is_set()
    assert len(load_renders(tmp_path / job.address).units) == 5


def to_be_killed():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3)).eval()
    model = memviz.wrap(module, memviz.InputSpec(size=(24, 24)), name="killed")
    return model, network_jobs(model, config=RenderConfig(size=16, steps=3, batch_size=2))


def die_after(batches, folder):
    """Draws, and is killed as soon as so many batches are saved."""
    add, left = SavedRenders.add, [None] * batches

    def counted(*given):
        add(*given)
        left.pop()
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    SavedRenders.add = counted
    model, jobs = to_be_killed()
    render_jobs(model, jobs, folder, estimate=cheap(jobs))


def test_killed_twice_it_goes_on(tmp_path):
    for batches in (2, 3):
        code = f"import test_network; test_network.die_after({batches}, {str(tmp_path / 'killed')!r})"
        places = os.pathsep.join(map(str, [Path(__file__).parent, Path(__file__).parents[1]]))
        run = subprocess.run([sys.executable, "-c", code], check=False, env=os.environ | {"PYTHONPATH": places})
        assert run.returncode == -signal.SIGKILL
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").rglob("*-0*.png")}
    assert len(done) == 10
    with torch.random.fork_rng():
        model, jobs = to_be_killed()
    for folder in ("killed", "whole"):
        render_jobs(model, jobs, tmp_path / folder, estimate=cheap(jobs))
    assert all(path.stat().st_mtime_ns == written for path, written in done.items())
    for layer in ("0", "2"):
        assert pictures(tmp_path / "killed" / layer) == pictures(tmp_path / "whole" / layer)
        assert len(pictures(tmp_path / "whole" / layer)) == 6


def test_a_layer_that_cannot_be_drawn_does_not_stop_the_others(small, jobs, tmp_path, monkeypatch):
    def draw(painter, share, advance, own=Painter.draw):
        if share.address == "body.0":
            raise RenderError("values that are not finite")
        return own(painter, share, advance)

    monkeypatch.setattr(Painter, "draw", draw)
    table = render_network(small, jobs, tmp_path, estimate=cheap(jobs)).set_index("layer")
    assert table.loc["body.0", "why"] == "values that are not finite"
    assert table.loc["body.0", "state"] == "error"
    assert len(table.loc["body.3"]) == 5


def test_what_fails_is_drawn_again_until_it_succeeds(small, tmp_path):
    """Against photographs whose peaks lie between those of the first picture and those of the attempts."""
    (job,) = network_jobs(small, ["body.3"], config=QUICK)
    first = memviz.render(small, "body.3", config=QUICK).table["peak"]
    seeds = [memviz.render(small, "body.3", config=QUICK, seed=seed).table["peak"] for seed in (1, 2)]
    by_seed_1 = int((seeds[0] - first).idxmax())
    assert seeds[0][by_seed_1] > first[by_seed_1]
    unbeaten = next(unit for unit in range(5) if unit != by_seed_1)
    dark = next(unit for unit in range(5) if unit not in (by_seed_1, unbeaten))
    best = dict.fromkeys(range(5), -1.0) | {unbeaten: 1e9, dark: 0.0}
    best[by_seed_1] = max(1e-5, (first[by_seed_1] + seeds[0][by_seed_1]) / 2)
    table = render_network(small, [job], tmp_path, best={"body.3": best}, estimate=cheap([job])).set_index("unit")
    assert table.loc[by_seed_1, ["attempt", "succeeds", "why"]].tolist() == ["seed-1", True, ""]
    assert table.loc[by_seed_1, "file"] == f"retries/seed-1/body.3/body.3-{by_seed_1:04d}.png"
    assert table.loc[unbeaten, "why"].startswith("the best photograph excites it more (1e+09, the picture ")
    assert first[dark] < 0
    assert table.loc[dark, ["attempt", "why"]].tolist() == [
        "first",
        "no photograph excites the unit, nor does the picture",
    ]
    for attempt, units in {"seed-1": {by_seed_1, unbeaten}, "seed-2": {unbeaten}, "redirected": {unbeaten}}.items():
        assert set(load_renders(tmp_path / "retries" / attempt / "body.3").units) == units
    larger = load_renders(tmp_path / "retries" / "larger-canvas" / "body.3")
    assert larger.manifest.config["size"] == 24
    attempts = [
        load_renders(tmp_path / place / "body.3").units[unbeaten].peak
        for place in (".", *(f"retries/{name}" for name in outcome.ATTEMPTS))
    ]
    assert table.loc[unbeaten, "peak"] == max(attempts)
    again = render_network(small, [job], tmp_path, best={"body.3": best}, estimate=cheap([job])).set_index("unit")
    pd.testing.assert_frame_equal(again, table)


def test_where_no_photograph_excites_a_unit_it_says_whether_the_picture_does():
    row = {"layer": "a", "unit": 0, "state": "ok", "file": "a.png", "succeeds": True}
    why = [outcome._why(row | {"peak": peak}, {"a": {0: 0.0}}) for peak in (0.23, 0.0)]
    assert why == [
        f"no photograph excites the unit{end}" for end in ("; the picture does (0.23)", ", nor does the picture")
    ]


def test_a_unit_that_is_dead_says_so(wrapped, tmp_path):
    model = wrapped(
        nn.Sequential(nn.Conv2d(3, 2, 3)), weights={"0.weight": torch.cat([torch.zeros(27), torch.ones(27)])}
    )
    jobs = network_jobs(model, config=QUICK)
    table = render_network(model, jobs, tmp_path, estimate=cheap(jobs))
    assert table["why"].tolist() == ["the unit has one value on every picture", ""]
    assert table["file"].isna().tolist() == [True, False]


def test_the_plan_counts_what_is_left_and_writes_nothing(small, tmp_path):
    jobs = network_jobs(small, config=QUICK)
    render_jobs(small, [replace(jobs[0], units=(0, 1))], tmp_path, estimate=cheap(jobs))
    before = sorted(tmp_path.rglob("*"))
    found = plan(small, jobs, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    assert [(each.address, each.units, each.done) for each in found.layers] == [
        ("stem.0", 6, 2),
        ("body.0", 8, 0),
        ("body.3", 5, 0),
    ]
    assert all(each.seconds > 0 for each in found.layers)
    left = [4 * found.layers[0].seconds, 8 * found.layers[1].seconds, 5 * found.layers[2].seconds]
    assert found.seconds == pytest.approx(sum(left) + 3 * found.setup)
    assert found.bytes == pytest.approx(17 * found.bytes_each)


def test_between_measured_layers_seconds_follow_the_multiplications(wrapped, monkeypatch):
    model = wrapped(nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(5))), size=8)
    jobs = network_jobs(model, config=QUICK)
    seconds = {"0": 1.0, "2": 2.0, "4": 6.0}
    monkeypatch.setattr(cost, "_measure", lambda model, job: cost._Measured(0.5, seconds[job.address], 1, 0.4, 100))
    found = plan(model, jobs, "nowhere")
    np.testing.assert_allclose([each.seconds for each in found.layers], [1, 1.5, 2, 4, 6])
    assert found.share == pytest.approx(0.4 / torch.get_num_threads())
    assert found.share < BUSY
    assert "busy" in found.warning
    assert replace(found, share=0.95).warning == replace(found, share=None).warning == ""

"""Activation against seconds: times to reach a level, what they are a share of, and how peers are drawn and timed."""

import json

import pytest
import torch
from torch import nn

import memviz
from experiments.benchmarks import anytime, curves
from experiments.benchmarks.peers import Lucent, UpTo, framed, time_steps, to_bytes
from memviz.models import InputSpec
from memviz.rendering import RenderConfig
from memviz.rendering.measure import as_photograph

SIDE = 28


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 22 * 22, 1)]
    return memviz.wrap(nn.Sequential(*layers), InputSpec(size=(SIDE, SIDE), resize=32))


def result(layer="conv"):
    """Two units, both clocks alike but for the peer's wall, which is twice its CPU."""
    clocks = {"cpu": 1.0, "wall": 1.0}
    ours = [
        {"steps": s, "setup": clocks, "seconds": {c: float(s) for c in clocks}, "units": [unit(v), unit(2 * v)]}
        for s, v in [(1, -1.0), (2, 1.0), (4, 4.0)]
    ]
    step = {"cpu": 10.0, "wall": 20.0}
    peer = {"steps": (5, 10), "cut": 3.0, "units": [[unit(2.0), unit(1.0)], [unit(1.0), unit(2.0)]]}
    peers = {"torch-lucent": peer | {"step of 1": step, "step of 2": step}}
    facts = {"machine": "m", "threads": 1, "torch": "t", "date": "2026-11-29", "commit": "c", "alone": clocks}
    return {"layer": layer, "units": [3, 7], "memviz": ours, "peers": peers, **facts}


def unit(mean):
    return {"mean": mean, "peak": 2 * mean}


@pytest.mark.parametrize(
    ("level", "seconds"), [(-9, 1.0), (1, 1.0), (2, 2.0), (3, 3.0), (4, 5 + 8 / 3), (5, 9.0), (5.1, None)]
)
def test_a_level_is_reached_at_its_first_crossing(level, seconds):
    assert curves.reach([(1, 1), (3, 3), (5, 2), (9, 5)], level) == (
        None if seconds is None else pytest.approx(seconds)
    )


def test_a_peer_is_taken_at_its_best_and_never_reached_is_no_times_quicker():
    peer = [(100, 1.0), (200, 3.0), (400, 2.0)]
    assert curves.quicker(peer, [(1, 0.0), (4, 6.0)]) == pytest.approx(200 / 2.5)
    assert curves.quicker(peer, [(1, 0.0), (4, 6.0)], extra=1.5) == pytest.approx(200 / 4)
    assert curves.quicker(peer, [(1, 0.0), (4, 2.9)]) == 0


def test_the_table_holds_medians_over_units(capsys, tmp_path, monkeypatch):
    found = result("alexnet.conv4")
    # Unit 3: lucent's 2 after 50 s, ours after 2 + 2/3 s. Unit 7: 2 after 100 s, ours after 2 s. Peaks alike.
    expected = (50 / (2 + 2 / 3) + 100 / 2) / 2
    assert curves.medians(found, "torch-lucent", "cpu") == pytest.approx([expected, expected])
    row = curves.table([found]).splitlines()[-1]
    assert row == (
        "| alexnet.conv4 | torch-lucent, 10 steps | 100, 200 | 38%, 38% | 2/2, 2/2 | 34, 34 | 69, 69 | 28, 28 | 200 |"
    )
    # Units that reach nothing above zero have no share.
    assert curves.shares(found, "memviz", "mean") == [(1.0, -0.25), (2.0, 0.25), (4.0, 1.0)]
    found["memviz"][-1]["units"] = [unit(-1.0), unit(-1.0)]
    assert curves.share(found, "torch-lucent", "mean") is None
    for layer in ("conv", "resnet.layer2.3", "alexnet.conv4"):
        (tmp_path / f"{layer}.json").write_text(json.dumps(result(layer)))
    monkeypatch.setattr("sys.argv", ["anytime.py", "--layers", "--out", str(tmp_path)])
    anytime.main()
    printed = [line.split(" | ")[0] for line in capsys.readouterr().out.splitlines() if "lucent, " in line]
    assert printed == ["| alexnet.conv4", "| resnet.layer2.3", "| conv"]
    assert (tmp_path / "anytime.png").stat().st_size > 1000


def test_a_frame_is_cropped_away_again():
    inputs = InputSpec(size=(SIDE, SIDE), resize=33)
    picture = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    seen = inputs.from_pil(as_photograph(framed(picture, inputs), inputs))
    assert torch.equal(seen, to_bytes(picture).float() / 255)


def test_lucent_draws_the_same_up_to_the_layer(model):
    peer = Lucent(SIDE)
    whole, short = model.module.eval(), UpTo(model.module, "2")
    (before, picture), (_, other) = peer.draw(whole, "2", [1], [1, 6]), peer.draw(short, "map", [1], [1, 6])
    torch.testing.assert_close(other, picture, atol=1e-3, rtol=0)
    assert (picture - before).abs().max() > 0.1


def test_steps_of_a_peer_are_timed_on_a_copy(model):
    found = time_steps(Lucent(SIDE), model.module, "2", [0, 1], 3)
    assert len(found) == 3
    assert all(each.wall > 0 for each in found)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.module.modules())


def test_our_pictures_are_measured_as_records_say(model):
    found, pictures = anytime.draw(model, UpTo(model.module, "2").network, "2", [2, 0], 3)
    table = memviz.render(model, "2", [2, 0], config=RenderConfig(steps=3)).table
    assert [each["mean"] for each in found["units"]] == pytest.approx(table["mean"].tolist())
    assert [each["peak"] for each in found["units"]] == pytest.approx(table["peak"].tolist())
    assert len(pictures) == 2
    assert found["setup"]["wall"] > 0
    assert found["seconds"]["wall"] > 0

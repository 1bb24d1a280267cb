import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import memviz as library
from memviz.rendering import Maco, Pixel, RenderConfig, load_renders
from memviz.rendering import engine as engines

QUICK = ("--weights", "random", "--size", 16, "--steps", 3)


@pytest.fixture
def drawn(monkeypatch):
    """How many pictures the engine draws."""
    drawn = []
    draw = engines.Engine.draw
    monkeypatch.setattr(
        engines.Engine, "draw", lambda self, chosen, *args: drawn.extend(map(str, chosen)) or draw(self, chosen, *args)
    )
    return drawn


def test_writes_pictures_sheet_and_manifest(memviz, tiny, tmp_path):
    done = memviz("render", tiny, "alexnet.conv2", "--units", "0-1,3", "--seed", 5, "--out", tmp_path, *QUICK)
    assert done.code == 0
    folder = tmp_path / "alexnet.conv2"
    assert sorted(path.name for path in folder.iterdir()) == [
        ".lock", "alexnet.conv2-0000.png", "alexnet.conv2-0001.png", "alexnet.conv2-0003.png", "contact_sheet.png",
        "manifest.json", "records.json",
    ]  # fmt: skip
    assert str(folder / "contact_sheet.png") in done.out
    header, *lines = [line.split() for line in done.out.splitlines() if line.strip()]
    assert header == ["unit", "mean", "peak", "state"]
    assert [line[0] for line in lines[:3]] == ["0", "1", "3"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["model"] == "tiny"
    assert manifest["seed"] == 5
    # As the library draws them.
    model = library.load_model(tiny, weights=None)
    images, table = library.render(
        model, "alexnet.conv2", [0, 1, 3], config=library.RenderConfig(size=16, steps=3), seed=5
    )
    np.testing.assert_allclose([float(line[1]) for line in lines[:3]], table["mean"], atol=6e-5)
    for unit, image in zip((0, 1, 3), images, strict=True):
        array = np.asarray(Image.open(folder / f"alexnet.conv2-{unit:04d}.png")) / 255
        assert np.abs(array - image.permute(1, 2, 0).numpy()).max() <= 0.51 / 255


def test_running_again_skips_what_is_done(memviz, tiny, tmp_path, drawn):
    command = ("render", tiny, "alexnet.conv2", "--out", tmp_path, *QUICK)
    first = memviz(*command, "--units", "0-1")
    again = memviz(*command, "--units", "0-1")
    assert len(drawn) == 2
    assert again.out == first.out
    everything = memviz(*command)
    assert len(drawn) == 4
    assert everything.code == 0
    assert len(load_renders(tmp_path / "alexnet.conv2").units) == 4


def test_a_unit_and_an_ordinal(memviz, tiny, tmp_path):
    done = memviz("render", tiny, "alexnet@2:3", "--out", tmp_path, *QUICK)
    assert done.code == 0
    assert str(tmp_path / "alexnet.conv2/contact_sheet.png") in done.out
    assert list(load_renders(tmp_path / "alexnet.conv2").units) == [3]


def test_options_reach_the_config(memviz, tiny, tmp_path):
    done = memviz(
        "render", tiny, "alexnet.conv1:0", "--out", tmp_path, "--objective", "neuron", "--parameterization", "pixel",
        *QUICK,
    )  # fmt: skip
    assert done.code == 0
    config = load_renders(tmp_path / "alexnet.conv1").manifest.config
    assert config["objective"] == "neuron"
    assert config["parameterization"] == {"kind": "pixel", "sd": Pixel().sd, "decorrelated": True}
    assert config["size"] == 16
    assert config["steps"] == 3


def test_the_defaults_are_the_librarys(memviz, tiny, tmp_path):
    """So that what one draws the other goes on with."""
    model = library.load_model(tiny, weights=None)
    library.render(model, "alexnet.conv1", 0, out=tmp_path)
    done = memviz("render", tiny, "alexnet.conv1", "--units", "0", "--weights", "random", "--out", tmp_path)
    assert done.code == 0, done.err


def test_the_score(memviz, tiny, tmp_path):
    done = memviz("render", tiny, "score", "--out", tmp_path, *QUICK)
    assert done.code == 0
    assert sorted(path.name for path in (tmp_path / "score").iterdir()) == [
        ".lock", "0000.png", "0001.png", "contact_sheet.png", "manifest.json", "records.json",
    ]  # fmt: skip
    assert "-1 * score" in done.out


@pytest.mark.parametrize("units", ["x", "1-", "-1", "1,,2", "", "1-2-3", "0x1"])
def test_units_that_are_none(memviz, tiny, tmp_path, units):
    done = memviz("render", tiny, "alexnet.conv1", f"--units={units}", "--out", tmp_path, *QUICK)
    assert done.code == 1
    assert "write channels as 0-31,40" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("alexnet.conv9",), "Error: There is no layer 'alexnet.conv9'. Close names: alexnet.conv"),
        (("alexnet@9",), "Error: There is no layer 'alexnet@9'. Its convolutions are alexnet@1 to alexnet@5."),
        (("alexnet.conv1", "--units", "3-5"), "Error: alexnet.conv1 has units 0 to 3; given was 4."),
        (("alexnet.conv1", "--units", "3-1"), "write channels as 0-31,40"),
        (("alexnet.conv1:2", "--units", "1"), "then give no units"),
    ],
)
def test_wrong_layers_and_units(memviz, tiny, tmp_path, arguments, message):
    done = memviz("render", tiny, *arguments, "--out", tmp_path / "out", *QUICK)
    assert done.code == 1
    assert message in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_other_settings_in_the_same_folder(memviz, tiny, tmp_path):
    command = ("render", tiny, "alexnet.conv1:0", "--out", tmp_path)
    memviz(*command, *QUICK)
    done = memviz(*command, "--weights", "random", "--size", 20, "--steps", 3)
    assert done.code == 1
    assert "config.size 16, not 20" in done.err


def test_help_names_the_default_number_of_steps(memviz):
    """It is written out there, since importing the config would cost each command a second."""
    assert f"{RenderConfig().steps} by default" in " ".join(memviz("render", "--help").out.replace("│", " ").split())


def test_the_magnitude_of_an_indexs_photographs(memviz, tiny, index, photos, tmp_path):
    """It is saved beside the layers, as a recipe may name it, and in the manifest."""
    out = tmp_path / "renders"
    command = ("render", tiny, "alexnet.conv1:0", "--out", out, "--parameterization", "maco", *QUICK)
    done = memviz(*command, "--index", index)
    assert done.code == 0, done.err
    saved = library.load_index(index)
    expected = Maco.from_photographs(map(saved.photo, saved.ranked["image"]), saved.inputs)
    config = RenderConfig.from_dict({"parameterization": json.loads((out / "spectrum.json").read_text())})
    assert config.parameterization == expected
    manifest = load_renders(out / "alexnet.conv1").manifest
    assert manifest.config["parameterization"] == config.to_dict()["parameterization"]
    # The same photographs elsewhere are the same spectrum.
    photos.rename(tmp_path / "moved")
    assert "--photos" in memviz(*command, "--index", index).err
    done = memviz(*command, "--index", index, "--photos", tmp_path / "moved")
    assert done.code == 0, done.err


@pytest.mark.parametrize("given", [("--parameterization", "maco"), ("--index", "runs/photos")])
def test_an_index_is_for_the_magnitude(memviz, tiny, tmp_path, given):
    done = memviz("render", tiny, "alexnet.conv1", "--out", tmp_path / "out", *given, *QUICK)
    assert done.code == 2
    assert "maco and --index go together" in done.err
    assert not (tmp_path / "out").exists()


def test_all_units_are_planned_drawn_and_told(memviz, tiny, tmp_path, drawn):
    arguments = ("render", tiny, "--all", "--branch", "alexnet", "--out", tmp_path / "all", *QUICK)
    planned = memviz(*arguments, "--plan")
    assert planned.code == 0
    assert not (tmp_path / "all").exists()
    rows = [line.split() for line in planned.out.splitlines() if line.startswith("alexnet.")]
    units = sum(int(row[1]) for row in rows)
    assert f"{units} units to draw: about" in planned.out
    drawn.clear()
    done = memviz(*arguments)
    assert done.code == 0
    assert len(set(drawn)) == units
    table = pd.read_parquet(tmp_path / "all" / "units.parquet")
    assert table["layer"].value_counts().to_dict() == {row[0]: int(row[1]) for row in rows}
    assert table["why"].eq("").all()
    again = memviz(*arguments)
    assert "0 units to draw" in again.out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "give either a layer or --all"),
        (("alexnet.conv1", "--all"), "give either a layer or --all"),
        (("alexnet.conv1", "--plan"), "go with --all"),
        (("--all", "--units", "3"), "--all draws all units"),
        (("--all", "--branch", "alex"), "No layer to draw lies in 'alex'"),
        (("--all", "--layers", "alexnet.conv9"), "There is no layer 'alexnet.conv9'"),
    ],
)
def test_what_does_not_go_together(memviz, tiny, tmp_path, given, message):
    done = memviz("render", tiny, *given, "--out", tmp_path / "all", *QUICK)
    assert done.code != 0
    assert message in " ".join(done.err.replace("│", " ").split())
    assert not (tmp_path / "all").exists()

import csv
from pathlib import Path

import numpy as np
import pytest
from helpers import misnamed
from PIL import Image

import memviz as library
from memviz.errors import ModelError
from memviz.models import InputSpec, Model, ModelCard, save_trained


@pytest.fixture
def expected(tiny, photos):
    """Path to memorability, by hand."""
    model = library.load_model(tiny, weights=None)
    spec = InputSpec(size=(32, 32), resize=(36, 36))
    return {str(path): model(spec.from_pil(Image.open(path))[None]).item() for path in sorted(photos.iterdir())}


def rows(text):
    return [line.split() for line in text.splitlines()]


def test_prints_a_table(memviz, tiny, photos, expected):
    done = memviz("score", photos, "--model", tiny, "--weights", "random")
    header, *lines = rows(done.out)
    assert done.code == 0
    assert header == ["path", "memorability"]
    assert [path for path, _ in lines] == list(expected)
    np.testing.assert_allclose([float(score) for _, score in lines], list(expected.values()), atol=6e-4)


def test_a_trained_models_folder_is_a_model(memviz, tiny, photos, tmp_path, expected):
    save_trained(library.load_model(tiny, weights=None), tmp_path / "mine", ModelCard(tiny))
    plain = memviz("score", photos, "--model", tiny, "--weights", "random").out
    assert memviz("score", photos, "--model", tmp_path / "mine").out == plain
    assert memviz("score", photos, "--model", tiny, "--weights", tmp_path / "mine").out == plain
    assert memviz("layers", tmp_path / "mine").out == memviz("layers", tiny).out


def test_mean_image_is_only_for_models_that_subtract_one(memviz, tiny, photos):
    done = memviz("score", photos, "--model", tiny, "--weights", "random", "--mean", "mean.npy")
    assert done.code == 1
    assert f"{tiny} subtracts no mean" in done.err


def test_writes_a_csv(memviz, tiny, photos, tmp_path, expected):
    table = tmp_path / "new/scores.csv"
    done = memviz("score", photos / "03.png", photos, "--model", tiny, "--weights", "random", "--csv", table)
    assert done.code == 0
    assert done.out == f"12 photographs scored: {table}\n"  # the one given twice counts once
    with table.open(newline="") as file:
        found = {row["path"]: float(row["memorability"]) for row in csv.DictReader(file)}
    assert next(iter(found)) == str(photos / "03.png")
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[path] for path in expected], list(expected.values()), atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_batches_change_nothing(memviz, tiny, photos, batch_size, expected):
    done = memviz("score", photos, "--model", tiny, "--weights", "random", "--batch-size", batch_size, "--workers", 1)
    np.testing.assert_allclose([float(row[1]) for row in rows(done.out)[1:]], list(expected.values()), atol=6e-4)


@pytest.mark.filterwarnings("default::UserWarning")
def test_an_unreadable_file_is_named_and_skipped(memviz, tiny, photos):
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    done = memviz("score", photos, "--model", tiny, "--weights", "random")
    assert done.code == 0
    assert len(rows(done.out)) == 13
    assert "Warning: 1 unreadable files were skipped" in done.err
    assert "broken.jpg" in done.err
    assert "UserWarning" not in done.err


@pytest.mark.filterwarnings("default::UserWarning")
def test_nothing_readable_is_a_failure(memviz, tiny, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    done = memviz("score", tmp_path, "--model", tiny, "--weights", "random")
    assert done.code == 1
    assert "broken.jpg" in done.err


def test_the_table_can_be_piped(memviz, tiny, photos, monkeypatch):
    """However narrow the terminal, a row is a line."""
    monkeypatch.setenv("COLUMNS", "30")
    done = memviz("score", photos, "--model", tiny, "--weights", "random")
    assert len(done.out.splitlines()) == 13


def test_names_with_line_breaks_and_quotes_are_quoted(memviz, tiny, photos, tmp_path):
    names = ['a"b.png', "a,b.png", "a\nb.png", "a\rb.png", "a b.png"]
    for path, name in zip(sorted(photos.iterdir()), names, strict=False):
        path.rename(photos / name)
    table = tmp_path / "scores.csv"
    assert memviz("score", photos, "--model", tiny, "--weights", "random", "--csv", table).code == 0
    with table.open(newline="") as file:
        found = [row["path"] for row in csv.DictReader(file)]
    assert found == sorted(map(str, photos.iterdir()))
    printed = memviz("score", photos, "--model", tiny, "--weights", "random").out
    assert len(printed.splitlines()) == 13
    assert r"a\nb.png" in printed


@pytest.mark.parametrize("to_file", [True, False])
def test_a_pass_that_fails_keeps_what_was_scored(memviz, tiny, photos, tmp_path, monkeypatch, to_file):
    table = tmp_path / "scores.csv"
    command = ("score", photos, "--model", tiny, "--weights", "random", "--batch-size", 2)
    command += ("--csv", table) if to_file else ()
    run = Model.run_pixels
    batches = []

    def fails(model, network, crops):
        batches.append(crops)
        if len(batches) == 3:
            raise ModelError("no more")
        return run(model, network, crops)

    with monkeypatch.context() as patched:
        patched.setattr(Model, "run_pixels", fails)
        done = memviz(*command)
    assert done.code == 1
    assert "Error: no more" in done.err
    printed = table.read_text() if to_file else done.out
    assert [line.count(".png") for line in printed.splitlines()] == [0, 1, 1, 1, 1]
    assert memviz(*command).code == 0
    assert not to_file or len(table.read_text().splitlines()) == 13


@pytest.mark.filterwarnings("default::UserWarning")
def test_names_that_are_not_utf8_are_named_and_skipped(memviz, tiny, photos, tmp_path):
    strange = misnamed(photos, photos / "03.png")
    table = strange.with_name(strange.stem + ".csv")
    done = memviz("score", photos, "--model", tiny, "--weights", "random", "--csv", tmp_path / "scores.csv")
    assert (done.code, done.out) == (0, f"12 photographs scored: {tmp_path}/scores.csv\n")
    assert r"caf\xe9.png: its name is not UTF-8: rename it" in done.err
    done = memviz("score", photos, "--model", tiny, "--weights", "random", "--csv", table)
    assert done.code == 1
    assert r"caf\xe9.csv.partial is not UTF-8. Give another folder." in done.err
    assert memviz("score", strange, "--model", tiny, "--weights", "random").code == 1


def test_what_score_writes_is_data_wherever_it_lies(memviz, tiny, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scores = Path("tables/scores.csv")
    assert memviz("score", "photos", "--model", tiny, "--weights", "random", "--csv", scores).code == 0
    done = memviz("evaluate", tiny, "--weights", "random", "--data", f"csv={scores}", "--resamples", 2)
    assert done.code == 0, done.err
    assert done.out.splitlines()[2].split()[2:8] == ["12", "0.0000", "[0.0000,", "0.0000]", "0.000", "[0.000,"]

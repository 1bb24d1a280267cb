import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import memviz
from memviz.evaluation import contamination, evaluate
from memviz.evaluation.contamination import PHOTOGRAPHS, PUBLISHED_RESMEM
from memviz.models import ModelCard, registry, save_trained


@pytest.fixture
def trained(model, table, tmp_path, monkeypatch):
    """`trained(**card)` saves the model as one trained on the first 15 pictures, and reads its folder."""
    build = type(model.module)
    monkeypatch.setattr(build, "branches", (), raising=False)
    entry = registry.Architecture("brightness", "the mean", build, model.inputs, "memorability")
    monkeypatch.setitem(registry.ARCHITECTURES, "brightness", entry)
    for number, path in enumerate(table["path"]):
        Image.new("RGB", (10, 12), (10 * number,) * 3).save(path)  # no two are alike
    subsets = ["train"] * 10 + ["validation"] * 3 + ["test"] * 2
    checksums = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in table["path"][:15]]
    photographs = pd.DataFrame({"name": "elsewhere", "path": "elsewhere", "subset": subsets, "sha256": checksums})

    def save(**card):
        save_trained(model, tmp_path / "run", ModelCard("brightness", **card))
        photographs.to_csv(tmp_path / "run" / PHOTOGRAPHS, index=False)
        return memviz.load_model(tmp_path / "run")

    return save


@pytest.fixture
def published(model, monkeypatch):
    """The model passes for the published ResMem."""
    monkeypatch.setattr("memviz.evaluation.contamination.PUBLISHED_RESMEM", model.fingerprint())


def warnings_of(model, table):
    """But those of small tables."""
    given = evaluate(model, table, resamples=5).warnings
    return [text for text in given if "images are few" not in text and "is not defined" not in text]


def test_published_resmem_is_known(resmem):
    assert resmem.fingerprint() == PUBLISHED_RESMEM
    assert resmem.card is None


@pytest.mark.parametrize("name", ["resmem", "resmem-retrain"])
def test_published_weights_have_seen_lamem_and_memcat_under_either_name(model, table, published, name):
    model.name = name
    (warning,) = warnings_of(model, table)
    assert warning.startswith("The published ResMem was trained on LaMem and MemCat")
    assert "24 images from lamem and memcat" in warning
    assert "12 images from memcat" in warnings_of(model, table[12:])[0]
    assert warnings_of(model, table.assign(source="ours")) == []


def test_own_training_photographs_are_counted(trained, table):
    table = table.assign(source="ours")
    model = trained()
    seen, chosen = warnings_of(model, table)
    assert seen.startswith("10 of 24 images were in this model's training subset")
    assert chosen.startswith("3 of 24 images were in this model's validation subset")
    assert warnings_of(model, table[13:]) == []
    (chosen,) = warnings_of(model, table[10:])
    assert chosen.startswith("3 of 14 images were in this model's validation subset")


def test_a_file_is_known_by_its_bytes_not_its_name_or_picture(trained, table, tmp_path):
    copy, changed = tmp_path / "copy.png", tmp_path / "changed.png"
    copy.write_bytes(Path(table["path"][0]).read_bytes())
    Image.new("RGB", (10, 12), "red").save(table["path"][1])
    Image.open(table["path"][2]).save(changed, compress_level=1)
    (warning,) = warnings_of(trained(), pd.DataFrame({"path": [copy, table["path"][20], changed], "score": 0.5}))
    assert warning.startswith("1 of 3 images")


def test_a_student_of_the_published_resmem(trained, table, published):
    model = trained(distilled_from={"weights": contamination.PUBLISHED_RESMEM})
    model.module.scale.weight.data *= 0.9  # it is not its teacher
    (warning,) = warnings_of(model, table[15:])
    assert warning.startswith("brightness learned the scores of the published ResMem")
    assert "9 images from memcat" in warning
    assert warnings_of(model, table[15:].assign(source="ours")) == []
    other = trained(distilled_from={"weights": "of another"})
    other.module.scale.weight.data *= 0.9
    assert warnings_of(other, table[15:]) == []


def test_trained_on_from_the_published_resmem(trained, table, published):
    model = trained(start={"weights": "published", "fingerprint": contamination.PUBLISHED_RESMEM})
    model.module.scale.weight.data *= 0.9
    (warning,) = warnings_of(model, table[15:])
    assert warning.startswith("brightness started from the weights of the published ResMem")
    assert warnings_of(model, table[15:].assign(source="ours")) == []


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ({"start": {"start": {"fingerprint": "RESMEM"}}}, "brightness started, through other models, from the weights"),
        ({"start": {"distilled_from": {"weights": "RESMEM"}}}, "brightness learned, through other models, the scores"),
        (
            {"start": {"distilled_from": {"weights": "RESMEM"}}, "distilled_from": {"weights": "RESMEM"}},
            "brightness learned the scores",
        ),
        ({"distilled_from": {"start": {"fingerprint": "RESMEM"}}}, "brightness learned, through other models, the"),
    ],
)
def test_the_published_resmem_anywhere_before(trained, table, published, card, reason):
    card = json.loads(json.dumps(card).replace("RESMEM", contamination.PUBLISHED_RESMEM))
    model = trained(**card)
    model.module.scale.weight.data *= 0.9
    (warning,) = warnings_of(model, table[15:])
    assert warning.startswith(reason)
    assert warnings_of(model, table[15:].assign(source="ours")) == []


def test_photographs_of_those_before(trained, table, tmp_path):
    """A parent, and the teacher of that."""
    checksums = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in trained() and table["path"]]
    for folder, rows in {"parent": slice(15, 18), "teacher": slice(18, 22)}.items():
        (tmp_path / folder).mkdir()
        pd.DataFrame({"subset": "train", "sha256": checksums[rows]}).to_csv(tmp_path / folder / PHOTOGRAPHS)
    teacher = {"weights": "b", "folder": str(tmp_path / "teacher")}
    model = trained(start={"fingerprint": "a", "folder": str(tmp_path / "parent"), "distilled_from": teacher})
    table = table[15:].assign(source="ours")
    assert warnings_of(model, table) == [
        f"3 of 9 images were in its predecessor {tmp_path / 'parent'}'s training subset: errors are too low and "
        "correlations too high.",
        f"4 of 9 images were in its teacher {tmp_path / 'teacher'}'s training subset: people's scores of them may have "
        "come through to it.",
    ]
    (tmp_path / "parent" / PHOTOGRAPHS).unlink()
    unknown, _ = warnings_of(model, table)
    assert unknown.startswith(f"Whether its predecessor {tmp_path / 'parent'} was trained on images of the table can")


def test_synthetic_training(trained, table):
    (warning,) = warnings_of(trained(data={"synthetic": True}), table[15:])
    assert warning == "brightness was trained on synthetic data: its scores say nothing about memorability."
    assert warnings_of(trained(data={"synthetic": False}), table[15:]) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "is missing"), ("", "No columns"), ("name,subset\na,train\n", "has no column sha256")],
)
def test_what_cannot_be_checked_is_said(trained, table, content, reason):
    model = trained()
    path = model.folder / PHOTOGRAPHS
    path.unlink() if content is None else path.write_text(content)
    (warning,) = warnings_of(model, table)
    assert warning.startswith("Whether brightness was trained on images of the table cannot be checked: ")
    assert reason in warning

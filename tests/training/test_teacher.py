import os
import shutil

import numpy as np
import pandas as pd
import pytest
from helpers import misnamed, unchanged, undisturbed
from PIL import Image
from scipy.stats import spearmanr
from tiny import Toy
from toys import bright

import memviz
from memviz.errors import ImageError, StoreError, TrainingError
from memviz.models import InputSpec
from memviz.training import Runtime, Teacher, TrainConfig, TrainingJob, search, teacher, train
from memviz.training.cache import FeatureCache

INPUTS = InputSpec(size=(16, 16), resize=18)
CPU = Runtime(accelerator="cpu")


@pytest.fixture
def photos(tmp_path):
    """Photographs in two folders."""
    bright(tmp_path / "photos" / "more", 24)
    (tmp_path / "photos" / "some, with a comma").mkdir()
    for path in sorted((tmp_path / "photos" / "more").glob("*.png"))[12:]:
        path.rename(tmp_path / "photos" / "some, with a comma" / path.name)
    return tmp_path / "photos"


def job(name, data, config=None):
    return TrainingJob(name, data, config or TrainConfig(), runtime=CPU)


def model(scale=1.0):
    wrapped = memviz.wrap(Toy().eval(), INPUTS, "teacher", target="memorability")
    wrapped.module.head.weight.data *= scale
    return wrapped


def test_scores_are_those_of_the_model(photos, tmp_path):
    taught = model()
    with unchanged(taught.module), undisturbed():
        table = Teacher(taught, photos).table(FeatureCache(tmp_path / "out"))
    wanted = taught.score(photos)
    assert table["path"].tolist() == [os.path.abspath(path) for path in wanted["path"]]
    np.testing.assert_array_equal(table["score"].astype("float32"), wanted["memorability"])
    assert table["file"][0] == "more/000.png"
    assert set(table["source"]) == {"photos"}
    assert table.attrs["dataset"]["target"] == "memorability as teacher predicts it"
    again = Teacher(taught, photos).table(FeatureCache(tmp_path / "out"))
    pd.testing.assert_frame_equal(again, table, check_exact=True)


def test_an_interrupted_pass_continues(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher, "CHUNK", 5)
    taught = model()
    whole = Teacher(taught, photos).table(FeatureCache(tmp_path / "whole"))
    scored, score = [], taught.score

    def stop(paths, **options):
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(len(paths))
        return score(paths, **options)

    monkeypatch.setattr(taught, "score", stop)
    with pytest.raises(KeyboardInterrupt):
        Teacher(taught, photos).table(FeatureCache(tmp_path / "out"))
    counted = []
    monkeypatch.setattr(taught, "score", lambda paths, **options: counted.append(len(paths)) or score(paths, **options))
    pd.testing.assert_frame_equal(
        Teacher(taught, photos).table(FeatureCache(tmp_path / "out")), whole, check_exact=True
    )
    assert counted == [5, 5, 4]


def test_unreadable_files_are_named_and_left_out(photos, tmp_path):
    damaged = sorted(photos.rglob("*.png"))[3]
    damaged.write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=rf"1 unreadable.*\n.*{damaged.name}"):
        table = Teacher(model(), photos).table(FeatureCache(tmp_path / "out"))
    assert str(damaged) not in table["path"].tolist()
    assert len(table) == 23


def test_unreadable_files_are_not_tried_again(photos, tmp_path, monkeypatch):
    sorted(photos.rglob("*.png"))[3].write_bytes(b"no picture")
    taught = model()
    with pytest.warns(UserWarning, match="unreadable"):
        first = Teacher(taught, photos).table(FeatureCache(tmp_path / "out"))
    monkeypatch.setattr(taught, "score", lambda *args, **kwargs: pytest.fail("scored again"))
    pd.testing.assert_frame_equal(Teacher(taught, photos).table(FeatureCache(tmp_path / "out")), first)


def test_no_photograph_is_readable(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with (
        pytest.warns(UserWarning, match="unreadable"),
        pytest.raises(TrainingError, match=r"None of the 1 photographs can be read; the first is .*a\.png"),
    ):
        Teacher(model(), tmp_path / "a.png").table(FeatureCache(tmp_path / "out"))


def test_teachers_may_share_a_cache(photos, tmp_path):
    Teacher(model(), photos).table(FeatureCache(tmp_path / "out"))
    other = model(2.0)
    table = Teacher(other, photos).table(FeatureCache(tmp_path / "out"))
    np.testing.assert_array_equal(table["score"].astype("float32"), other.score(photos)["memorability"])


def test_only_what_has_changed_is_scored_again(photos, tmp_path, monkeypatch):
    taught = model()
    Teacher(taught, photos).table(FeatureCache(tmp_path / "out"))
    changed = sorted(photos.rglob("*.png"))[3]
    Image.new("RGB", (30, 30), "red").save(changed)
    scored, score = [], taught.score
    monkeypatch.setattr(taught, "score", lambda paths, **options: scored.append(paths) or score(paths, **options))
    table = Teacher(taught, photos).table(FeatureCache(tmp_path / "out"))
    assert scored == [[str(changed)]]
    assert table.set_index("path")["score"][str(changed)] == pytest.approx(score(changed)["memorability"][0])


def test_who_cannot_teach(photos, tmp_path):
    with pytest.raises(TrainingError, match="Toy gives no score"):
        Teacher(memviz.wrap(Toy(), INPUTS), photos)
    with pytest.raises(ImageError, match="nowhere"):
        Teacher(model(), tmp_path / "nowhere").table(FeatureCache(tmp_path / "out"))


def test_distillation(photos, tmp_path):
    """A toy learns a toy's scores; the card names the teacher, and the result on unseen photographs."""
    taught = model(20.0)
    config = TrainConfig(
        recipe="paper", epochs=60, batch_size=8, learning_rate=0.5, patience=60, fractions=(0.6, 0.2, 0.2)
    )
    out = tmp_path / "out"
    with unchanged(taught.module), undisturbed():
        student = train(job("toy-retrain", Teacher(taught, photos), config), out)
    assert student.card.distilled_from == Teacher(taught, photos).describe()
    assert student.card.distilled_from["weights"] == taught.fingerprint()
    listed = pd.read_csv(out / "photographs.csv")
    test = listed[listed["subset"] == "test"]
    scores = taught.score(list(test["path"]))["memorability"]
    np.testing.assert_allclose(test["score"], scores, rtol=1e-6)
    learned = student.score(list(test["path"]))["memorability"]
    assert student.card.metrics["test_spearman"] == pytest.approx(spearmanr(scores, learned).statistic)
    trained = listed[listed["subset"] == "train"]
    learned = student.score(list(trained["path"]))["memorability"]
    assert spearmanr(trained["score"], learned).statistic > 0.8
    assert memviz.load_model(out).card.distilled_from == student.card.distilled_from


def test_a_teacher_of_something_else(photos, tmp_path):
    liar = memviz.wrap(Toy().eval(), INPUTS, "liar", target="beauty")
    for learn in (train, search):
        with pytest.raises(TrainingError, match="toy predicts memorability, and what it is to learn is beauty"):
            learn(job("toy", Teacher(liar, photos)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_teachers_own_past_is_in_the_card(photos, tmp_path):
    config = TrainConfig(epochs=1, batch_size=8)
    taught = train(job("toy", Teacher(model(), photos), config), tmp_path / "first")
    student = train(job("toy", Teacher(taught, photos), config), tmp_path / "second")
    assert student.card.distilled_from["folder"] == str(tmp_path / "first")
    assert student.card.distilled_from["distilled_from"] == taught.card.distilled_from


def test_a_distillation_that_was_finished_needs_no_photographs_pass(photos, tmp_path, monkeypatch):
    taught, config = model(), TrainConfig(epochs=1, batch_size=8)
    first = train(job("toy", Teacher(taught, photos), config), tmp_path / "out")
    monkeypatch.setattr(taught, "score", lambda *args, **kwargs: pytest.fail("scored again"))
    assert train(job("toy", Teacher(taught, photos), config), tmp_path / "out").card == first.card
    shutil.rmtree(tmp_path / "photos" / "more")
    with pytest.raises(StoreError, match=r"data\.photographs 24, not 12"):
        train(job("toy", Teacher(taught, photos), config), tmp_path / "out")


def test_names_that_are_not_utf8_are_left_out(photos, tmp_path):
    misnamed(photos, photos / "more/000.png")
    with pytest.warns(UserWarning, match=r"caf\\xe9.png: its name is not UTF-8: rename it"):
        table = Teacher(model(), photos).table(FeatureCache(tmp_path / "out"))
    assert len(table) == 24
    assert not table["file"].str.contains("caf").any()

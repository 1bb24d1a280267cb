import pytest
from trainings import CPU, SETTINGS, changed, run

import memviz
from memviz.artefacts import Manifest, locked
from memviz.errors import ImageError, StoreError, TrainingError
from memviz.images import Split
from memviz.training import Runtime, TrainingJob, store


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": changed(momentum=0.5)}, r"config.momentum 0.9, not 0.5"),
        ({"name": "toy-retrain"}, r"model 'toy', not 'toy-retrain'"),
        ({"split": Split(0, (0.5, 0.5, 0), ("bright/1",), ("bright/2",), ())}, r"another split"),
        ({"table": "fewer"}, r"data.photographs 40, not 39"),
        ({"table": "other scores"}, r"other photographs or scores"),
        ({"weights": True}, r"other starting weights; config.start 'random', not .*"),
    ],
)
def test_other_settings_in_the_same_folder(table, tmp_path, change, message):
    run(table, tmp_path / "out")
    given = {"table": table, "out": tmp_path / "out"} | change
    if change.get("table") == "fewer":
        given["table"] = table.iloc[1:].reset_index(drop=True)
    elif change.get("table") == "other scores":
        given["table"] = table.assign(score=table["score"].iloc[::-1].to_numpy())
    elif "weights" in change:
        given["weights"] = tmp_path / "out"
    with pytest.raises(StoreError, match=message):
        run(**given)


def manifest(**config):
    return Manifest("memviz-training", 1, "toy", config=config)


def claim(out, settings, begun=("last.ckpt",)):
    with store.claimed(out, settings, begun):
        pass


def test_an_option_that_is_no_longer_given(tmp_path):
    claim(tmp_path, manifest(options={"head": "small"}))
    (tmp_path / "last.ckpt").touch()
    claim(tmp_path, manifest(options={"head": "small"}))
    with pytest.raises(StoreError, match=r"config.options.head 'small', not None"):
        claim(tmp_path, manifest(options={}))


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("mine")
    for out in (tmp_path / "out", tmp_path / "out" / "run"):
        with pytest.raises(StoreError, match=r"out is a file"):
            claim(out, manifest())


def test_other_processes_refuse_too_and_write_nothing(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(store, "first_process", lambda: False)
        claim(tmp_path / "out", manifest(options={}))
        assert not (tmp_path / "out").exists()
    claim(tmp_path / "out", manifest(a=1))
    (tmp_path / "out/last.ckpt").touch()
    monkeypatch.setattr(store, "first_process", lambda: False)
    with locked(tmp_path / "out"):  # by the first
        claim(tmp_path / "out", manifest(a=1))
    with pytest.raises(StoreError, match=r"config\.a 1, not 2"):
        claim(tmp_path / "out", manifest(a=2))


def test_what_has_not_begun_gives_way(table, tmp_path):
    """A first call that failed does not block its folder: nothing is lost."""
    missing = table.assign(path=["none.png", *table["path"][1:]])
    with pytest.raises(ImageError, match=r"none\.png"):
        run(missing, tmp_path / "out")
    with pytest.raises(TrainingError, match="The validation subset has 1 of"):
        run(table[:4].reset_index(drop=True), tmp_path / "out", changed(fractions=(0.5, 0.25, 0.25)))
    model = run(table, tmp_path / "out", changed(epochs=1))
    assert model.card.data["photographs"] == 40


def test_two_processes_in_one_folder(table, tmp_path):
    claim(tmp_path / "out", TrainingJob("toy", table, SETTINGS, runtime=CPU).manifest(memviz.load_model("toy", None)))
    with locked(tmp_path / "out"), pytest.raises(StoreError, match=r"Another process is writing .*out\. Wait"):
        run(table, tmp_path / "out")
    run(table, tmp_path / "out", changed(epochs=1))


def test_a_folder_of_something_else(table, tmp_path):
    with pytest.raises(StoreError, match="is no memviz-training: it holds"):
        run(table, tmp_path / "photos")


def test_devices_and_precision_are_part_of_the_result(table, tmp_path):
    model = run(table, tmp_path / "out", changed(epochs=1))
    device = model.card.runtime["device"]
    assert device.startswith("CPU (")
    assert model.card.runtime == {"devices": 1, "nodes": 1, "precision": "32-true", "device": device}
    free = Runtime("cpu", precision="32-true", workers=1, logger="tensorboard")
    assert run(table, tmp_path / "out", changed(epochs=1), runtime=free).card == model.card
    mixed = Runtime(accelerator="cpu", precision="bf16-mixed")
    assert run(table, tmp_path / "out", changed(epochs=1), runtime=mixed).card == model.card
    (tmp_path / "out/card.json").rename(tmp_path / "out/last.ckpt")  # as if it were not finished
    for other, was in (
        ({"devices": 2}, "1, not 2"),
        ({"nodes": 2}, "1, not 2"),
        ({"precision": "bf16-mixed"}, "'32-t"),
    ):
        with pytest.raises(StoreError, match=rf"runtime\.{next(iter(other))} {was}"):
            run(table, tmp_path / "out", changed(epochs=1), runtime=Runtime(**{"accelerator": "cpu"} | other))

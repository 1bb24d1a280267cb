import dataclasses
import json

import pytest
import torch
from helpers import unchanged, undisturbed
from tiny import Toy

import memviz
from memviz.errors import ModelError, StoreError, WeightsError
from memviz.models import InputSpec, ModelCard, save_trained
from memviz.models.card import CARD, WEIGHTS, read_trained
from memviz.models.registry import ARCHITECTURES

CARD_GIVEN = ModelCard(
    "toy",
    data={"sets": ["lamem"]},
    split={"seed": 3, "file": "split.json"},
    seed=3,
    training={"learning_rate": 0.001},
    metrics={"spearman": 0.5},
    distilled_from={"model": "resmem"},
    notes="synthetic",
)


@pytest.fixture
def model(toy):
    return memviz.load_model("toy", weights=None, seed=5)


@pytest.fixture
def folder(model, tmp_path):
    save_trained(model, tmp_path / "mine", CARD_GIVEN)
    return tmp_path / "mine"


def test_round_trip(model, folder):
    for path in (folder, str(folder)):
        with undisturbed():
            again = memviz.load_model(path)
        assert again.fingerprint() == model.fingerprint()
        assert (again.name, again.target, again.branches) == ("toy", "memorability", ("alexnet", "resnet"))
        assert again.inputs == model.inputs
        assert not again.module.training
        assert again.folder == folder
    assert (model.card, model.folder) == (None, None)


def test_saving_leaves_the_model_as_it_was(model, tmp_path):
    with unchanged(model.module), undisturbed():
        save_trained(model, tmp_path / "mine", CARD_GIVEN)


def test_card_says_what_was_given_and_where_it_was_made(folder):
    card = memviz.load_model(folder).card
    given = {field.name for field in dataclasses.fields(card)} - {
        "inputs", "score_spec", "movement", "sha256", "created", "versions", "platform",
    }  # fmt: skip
    assert {name: getattr(card, name) for name in given} == {name: getattr(CARD_GIVEN, name) for name in given}
    assert card.versions["torch"] == torch.__version__.partition("+")[0]
    assert card.created
    assert card.platform
    assert len(card.sha256) == 64
    assert json.loads((folder / CARD).read_text())["metrics"] == {"spearman": 0.5}


def test_measures_that_are_not_defined_are_null(model, tmp_path):
    card = save_trained(model, tmp_path, ModelCard("toy", metrics={"spearman": float("nan"), "mse": 0.5}))
    assert card.metrics == memviz.load_model(tmp_path).card.metrics == {"spearman": None, "mse": 0.5}
    assert "NaN" not in (tmp_path / CARD).read_text()


def test_preprocessing_is_that_of_the_training(model, tmp_path):
    model.inputs = InputSpec(size=(20, 24), mean=(0.1, 0.2, 0.3))
    save_trained(model, tmp_path, CARD_GIVEN)
    assert memviz.load_model(tmp_path).inputs == model.inputs


def test_saving_again_replaces(model, folder):
    model.module.head.bias.data += 1
    save_trained(model, folder, CARD_GIVEN)
    assert memviz.load_model(folder).fingerprint() == model.fingerprint()


def test_folder_as_weights(model, folder):
    again = memviz.load_model("toy", weights=folder)
    assert (again.fingerprint(), again.folder) == (model.fingerprint(), folder)
    with pytest.raises(WeightsError, match="is a trained toy, not a memnet"):
        memviz.load_model("memnet", weights=folder)


def test_networks_on_channels_last(model, tmp_path):
    model.module.to(memory_format=torch.channels_last)
    save_trained(model, tmp_path, CARD_GIVEN)
    assert memviz.load_model(tmp_path).fingerprint() == model.fingerprint()


def test_changed_weights_are_refused(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(WeightsError, match=r"model\.safetensors is not the file that its card describes.*SHA-256"):
        memviz.load_model(folder)


def test_missing_weights_are_named(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(WeightsError, match=r"model\.safetensors is missing"):
        memviz.load_model(folder)


def test_cards_from_before_there_was_a_field_are_read(folder):
    fields = json.loads((folder / CARD).read_text())
    del fields["training"]
    (folder / CARD).write_text(json.dumps(fields))
    assert read_trained(folder)[0].training == {}


HEAD = '{"kind": "memviz-model", "format": 1, "architecture": "toy", '


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"architecture": "toy"}',
        HEAD.replace("1", "2") + '"seed": 0}',
        HEAD.replace('"toy"', "[]") + '"seed": 0}',
        HEAD + '"colour": 1, "metrics": {"spearman": "good"}}',
        HEAD + '"seed": 1.5}',
        HEAD + '"options": 3}',
        HEAD + '"seed": ' + "9" * 10_000 + "}",
        HEAD + '"start": ' + '{"start":' * 50_000,
    ],
)
def test_damaged_card_is_named(content, folder):
    (folder / CARD).write_text(content)
    with pytest.raises(StoreError, match=r"card\.json "):
        memviz.load_model(folder)


def test_random_weights_in_the_same_architecture(model, folder):
    other = memviz.load_model(folder, weights=None, seed=6)
    assert (other.name, other.inputs, other.card, other.folder) == ("toy", model.inputs, None, None)
    assert other.fingerprint() == memviz.load_model("toy", weights=None, seed=6).fingerprint() != model.fingerprint()


def test_other_weights_make_no_sense(folder):
    with pytest.raises(ModelError, match="holds its own weights"):
        memviz.load_model(folder, weights="other.safetensors")


def test_folder_of_something_else_is_no_model(tmp_path):
    with pytest.raises(ModelError, match="There is no model"):
        memviz.load_model(tmp_path)


def test_options_of_the_architecture_come_from_the_card(model, tmp_path, monkeypatch):
    built = []
    entry = dataclasses.replace(
        ARCHITECTURES["toy"], options={"head": ("small",)}, build=lambda **options: built.append(options) or Toy()
    )
    monkeypatch.setitem(ARCHITECTURES, "toy", entry)
    save_trained(model, tmp_path, dataclasses.replace(CARD_GIVEN, options={"head": "small"}))
    memviz.load_model(tmp_path)
    assert built == [{"head": "small"}]

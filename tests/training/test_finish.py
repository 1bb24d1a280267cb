import pandas as pd
import pytest
import torch
from helpers import undisturbed
from PIL import Image
from tiny import Toy
from torch import nn
from trainings import CPU, changed, changed_toy, run

import memviz
from memviz.models import ModelCard, save_trained
from memviz.training import Start, TrainingJob, finish


def test_the_card_says_how_far_each_trained_layer_moved(table, tmp_path):
    config = changed(epochs=2)
    trained = run(table, tmp_path / "out", config)
    start = TrainingJob("toy", table, config, Start(), runtime=CPU).untrained().module.state_dict()
    moved = trained.card.movement
    assert moved.keys() == {
        address
        for address, layer in trained.module.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and not address.startswith("resnet")
    }
    for address, share in moved.items():
        before, after = start[f"{address}.weight"], trained.module.state_dict()[f"{address}.weight"]
        assert share == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-4)


@pytest.mark.parametrize("cached", [True, False])
def test_a_normalized_start_is_that_of_the_training_photographs(table, tmp_path, monkeypatch, cached):
    """Movement counts from there, also of a training that was interrupted, and what is frozen stays."""
    config = changed(epochs=2, learning_rate=1e-9, initialization="normalized", cache_frozen=cached)
    drawn = TrainingJob("toy", table, config, Start(), runtime=CPU).untrained().module.state_dict()
    saved = finish.save_trained

    def killed(*arguments):
        raise MemoryError

    monkeypatch.setattr(finish, "save_trained", killed)
    with pytest.raises(MemoryError), undisturbed():
        run(table, tmp_path / "out", config)
    monkeypatch.setattr(finish, "save_trained", saved)
    trained = run(table, tmp_path / "out", config)
    assert max(trained.card.movement.values()) < 1e-5
    listed = pd.read_csv(tmp_path / "out/photographs.csv")
    pictures = [
        trained.inputs.from_pil(Image.open(path)) for path in listed["path"][listed["subset"] == "train"]
    ]  # 24, of which all are used
    maps = trained.module.alexnet[0](torch.stack(pictures)).detach()
    torch.testing.assert_close(maps.var((0, 2, 3), correction=0), torch.ones(4), rtol=1e-3, atol=0)
    torch.testing.assert_close(maps.mean((0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-3)
    assert torch.equal(trained.module.resnet[0].weight, drawn["resnet.0.weight"])


def test_a_branch_that_did_not_learn_is_warned_of(table, tmp_path):
    with pytest.warns(UserWarning, match="The branch alexnet has hardly moved from its random start"):
        run(table, tmp_path / "out", changed(epochs=1, learning_rate=1e-6))


class Wide(Toy):
    """Its trained branch has weights enough to be judged."""

    def __init__(self):
        super().__init__()
        self.alexnet = nn.Sequential(nn.Conv2d(3, 24, 7, stride=4, padding=2), nn.ReLU(inplace=True))
        self.head = nn.Linear(28, 1)


@pytest.mark.filterwarnings("ignore:The branch alexnet")
def test_the_card_judges_each_branch_by_its_weights(table, tmp_path, monkeypatch):
    changed_toy(monkeypatch, build=Wide)
    told = run(table, tmp_path / "still", changed(epochs=1, learning_rate=1e-7)).card.learned
    assert list(told) == ["alexnet", "resnet", "besides"]
    assert told["alexnet"].startswith("weights at their random start (0 of 1 layers have learned")
    assert "neighbouring weights of the first convolution, alexnet.0, correlate by" in told["alexnet"]
    assert told["besides"].startswith("nothing can be told of its weights")

    smooth = memviz.load_model("toy", weights=None)
    with torch.no_grad():
        smooth.module.alexnet[0].weight.copy_(torch.linspace(0, 3, 7).cos().expand(24, 3, 7, 7))
    save_trained(smooth, tmp_path / "smooth", ModelCard("toy"))
    told = run(table, tmp_path / "moved", changed(epochs=1, learning_rate=1e-7), weights=str(tmp_path / "smooth"))
    assert told.card.learned["alexnet"].startswith("weights trained (1 of 1 layers have learned")

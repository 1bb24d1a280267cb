import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from memviz.errors import TrainingError
from memviz.images import split
from memviz.models import InputSpec
from memviz.training import Runtime, TrainConfig, TrainingJob
from memviz.training.data import Photographs

INPUTS = InputSpec(size=(16, 16), resize=18)
SETTINGS = TrainConfig(batch_size=4, fractions=(0.5, 0.5, 0.0))


@pytest.fixture
def photographs(table, tmp_path):
    """Split and opened, as in one of several processes."""

    def photographs(config=SETTINGS, frozen=None, world=1, rank=0, table=table, **others):
        job = TrainingJob("toy", table, config, runtime=Runtime("cpu", cache=tmp_path / "cache"))
        given = Photographs(job, INPUTS, frozen or {}, tmp_path / "out", **others)
        given.trainer = SimpleNamespace(world_size=world, global_rank=rank)
        given.prepare_data()
        given.setup("fit")
        return given

    return photographs


@pytest.mark.parametrize(("count", "world", "size"), [(9, 1, 4), (9, 2, 4), (9, 2, 1), (7, 3, 2), (3, 3, 4)])
def test_each_photograph_is_validated_once_whatever_the_processes(table, photographs, count, world, size):
    """Each process has the same number of batches; otherwise they would wait for one another."""
    table = table.iloc[: 2 * count].reset_index(drop=True)
    config = TrainConfig(batch_size=size, fractions=(0.5, 0.5, 0.0))
    batches = [list(photographs(config, table=table, world=world, rank=rank).val_dataloader()) for rank in range(world)]
    assert len({len(each) for each in batches}) == 1
    sizes = [len(batch.scores) for each in batches for batch in each]
    assert 1 <= min(sizes) <= max(sizes) <= size + (world > 1)
    scores = torch.cat([batch.scores for each in batches for batch in each])
    wanted = split(table, fractions=(0.5, 0.5, 0.0)).subset(table, "validation")["score"]
    torch.testing.assert_close(scores.sort().values, torch.tensor(sorted(wanted), dtype=torch.float32))


def test_processes_without_a_photograph(table, photographs):
    with pytest.raises(TrainingError, match="The train subset has 3 of 6 photographs; it needs 4 or more"):
        photographs(table=table.iloc[:6].reset_index(drop=True), world=4)


def test_the_search_for_near_duplicates_shows_progress_in_a_log(table, photographs, capsys):
    photographs(table=table.assign(source=["one", "two"] * 20), progress=True)
    assert "Looking for copies: 40/40 images" in capsys.readouterr().err


@pytest.mark.parametrize("flip", [True, False])
def test_mirror_images_only_of_a_training_that_flips(photographs, flip):
    config = TrainConfig(flip=flip, fractions=(0.5, 0.5, 0.0))
    [batch] = photographs(config, {"submodule": nn.Flatten()}).train_dataloader()
    assert batch.frozen["submodule"].shape == (20, 1 + flip, 3 * 16 * 16)


def test_processes_that_read_ahead_get_paths_instead_of_arrays(photographs):
    subset = photographs(frozen={"submodule": nn.Flatten()}).subsets["train"]
    pickled = pickle.dumps(subset)
    assert len(pickled) < 10_000 < subset.features.pixels[:].nbytes
    again = pickle.loads(pickled)
    assert isinstance(again.features.pixels.array, np.memmap)
    for one, other in zip(again.__getitems__([3, 1]), subset.__getitems__([3, 1]), strict=True):
        torch.testing.assert_close(one, other)
    assert again.features.unreadable == {}

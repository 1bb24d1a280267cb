"""The photographs of a training, split into subsets and read in batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from memviz.errors import StoreError, TrainingError
from memviz.files import replacing
from memviz.images import Split, near_duplicates, split
from memviz.images.scored import first_of, names
from memviz.images.split import SUBSETS
from memviz.models import InputSpec
from memviz.models.model import warn_unreadable
from memviz.training.cache import FeatureCache
from memviz.training.config import TrainConfig
from memviz.training.features import Features, compute_features
from memviz.training.job import TrainingJob
from memviz.training.module import Examples
from memviz.training.store import CACHE, LAST, NEAR_DUPLICATES, PHOTOGRAPHS, SPLIT


class SubsetExamples(Dataset[Examples]):
    """The examples of one subset of the split; a batch is read with one call."""

    def __init__(self, features: Features, rows: list[int], scores: list[float]) -> None:
        self.features = features
        self.rows = np.array(rows)
        self.scores = torch.tensor(scores, dtype=torch.float32)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: list[int]) -> Examples:
        """The examples of a batch, from the records on disk."""
        rows = self.rows[indices]
        frozen = {address: torch.from_numpy(outputs[rows]) for address, outputs in self.features.frozen.items()}
        return Examples(torch.from_numpy(self.features.pixels[rows]), self.scores[indices], frozen)


class Photographs(LightningDataModule):
    """Scored photographs: decoded once, split into subsets, and read in a seeded order.

    Args:
        job: the training; its data are read in each process, and the first process writes the files.
        inputs: the network's preprocessing.
        frozen: by address, the submodules whose outputs are computed once.
        out: the training's folder, where `split.json` and `photographs.csv` are written.
        progress: as in `train`.

    `test` is the table of the test subset, which is not read during training.
    """

    def __init__(
        self,
        job: TrainingJob,
        inputs: InputSpec,
        frozen: Mapping[str, nn.Module],
        out: Path,
        progress: bool | None = None,
    ) -> None:
        super().__init__()
        # The folders of a training are on a disk that all its nodes see.
        self.prepare_data_per_node = False
        self.job, self.inputs, self.frozen, self.out, self.progress = job, inputs, dict(frozen), out, progress
        self.subsets: dict[str, SubsetExamples] = {}
        self.test = pd.DataFrame()

    def prepare_data(self) -> None:
        """Decodes, runs frozen submodules and draws the split, unless that is on disk; in the first process only."""
        if self.subsets:
            return
        table, features = self.opened
        readable = _readable(table, features)
        # stacklevel 2: the warning is to name this file, not Lightning's, which calls this method.
        warn_unreadable({table["path"].iloc[row]: reason for row, reason in features.unreadable.items()}, stacklevel=2)
        if not (self.out / SPLIT).is_file():
            # The split includes photographs that cannot be read, so that it fits the same table again.
            drawn = self.job.split or draw_split(
                table, self.out, self.job.config, self.job.runtime.workers, self.progress
            )
            drawn.save(self.out / SPLIT)
        divided = Split.load(self.out / SPLIT)
        subset_of = {name: subset for subset in SUBSETS for name in getattr(divided, subset)}
        listed = pd.DataFrame({"name": names(readable), "path": readable["path"], "score": readable["score"]})
        listed.insert(2, "subset", listed["name"].map(subset_of))
        listed["sha256"] = [features.sha256[row] for row in readable["row"]]
        if (self.out / LAST).is_file() or (self.out / "trials").is_dir():
            _refuse_replaced(listed, self.out / PHOTOGRAPHS)
        with replacing(self.out / PHOTOGRAPHS) as temporary:
            listed.to_csv(temporary, index=False)

    def setup(self, stage: str) -> None:
        """Opens the records and the split, in each process."""
        if self.subsets:
            return
        table, features = self.opened
        divided = Split.load(self.out / SPLIT)
        readable, needed = len(table) - len(features.unreadable), max(2, self._share()[0])
        subsets = {}
        for subset in ("train", "validation"):
            chosen = _readable(divided.subset(table, subset), features)
            if len(chosen) < needed:
                raise TrainingError(
                    f"The {subset} subset has {len(chosen)} of {readable} photographs; it needs {needed} or more. "
                    "Give more photographs, or other fractions."
                )
            subsets[subset] = SubsetExamples(features, list(chosen["row"]), list(chosen["score"]))
        self.subsets, self.test = subsets, _readable(divided.subset(table, "test"), features)

    def train_dataloader(self) -> DataLoader[Examples]:
        """Batches in an order given by the seed and the epoch."""
        dataset, size = self.subsets["train"], self.job.config.batch_size
        # It has its own generator, and Lightning sets its epoch.
        sampler: DistributedSampler[Examples] = DistributedSampler(dataset, *self._share(), seed=self.job.config.seed)
        # A batch norm in training mode fails on a batch of one photograph.
        return self._loader(dataset, sampler=sampler, batch_size=size, drop_last=len(sampler) > size)

    def val_dataloader(self) -> DataLoader[Examples]:
        """Batches in the table's order; each photograph is read by one process only."""
        dataset, (world, rank) = self.subsets["validation"], self._share()
        # The processes synchronize at each batch: all have the same number, some with one photograph more.
        count = math.ceil(len(dataset) // world / self.job.config.batch_size)
        batches = np.array_split(np.arange(rank, len(dataset), world), count)
        return self._loader(dataset, batch_sampler=[batch.tolist() for batch in batches])

    def _share(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def _loader(self, dataset: SubsetExamples, **batches: Any) -> DataLoader[Examples]:
        runtime = self.job.runtime
        cuda = runtime.device.type == "cuda"
        ahead = runtime.workers if cuda else 0
        return DataLoader(
            dataset,
            **batches,
            collate_fn=_as_it_is,
            num_workers=ahead,
            persistent_workers=ahead > 0,
            pin_memory=cuda,
            generator=torch.Generator(),
        )

    @cached_property
    def opened(self) -> tuple[pd.DataFrame, Features]:
        """The table, with a column `row` that numbers the rows of the records, and the records."""
        runtime = self.job.runtime
        cache = FeatureCache(runtime.cache or self.out / CACHE, runtime.workers, self.progress)
        table = self.job.table(cache)
        features = compute_features(
            table, self.inputs, self.frozen, cache, device=runtime.device, mirrored=self.job.config.flip
        )
        numbered = table.assign(row=range(len(table)))
        numbered.attrs = table.attrs
        return numbered, features


def draw_split(table: pd.DataFrame, out: Path, config: TrainConfig, workers: int, progress: bool | None) -> Split:
    """Draws a split by the configuration; near-duplicates stay in one subset, and are listed in `out`."""
    alike = near_duplicates(table, workers=workers, progress=progress)
    with replacing(out / NEAR_DUPLICATES) as temporary:
        alike.to_csv(temporary, index=False)
    return split(table, config.split_seed, config.fractions, alike)


def _refuse_replaced(listed: pd.DataFrame, path: Path) -> None:
    """Refuses photographs whose contents differ from when the training began, as listed in `path`."""
    if not path.is_file():
        return
    begun = pd.read_csv(path, dtype=str, keep_default_na=False)
    before, now = (dict(zip(each["name"], each["sha256"], strict=True)) for each in (begun, listed))
    if replaced := sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name)):
        raise StoreError(
            f"Photographs were replaced since the training in {path.parent} began. {first_of(replaced)}. Bring back "
            "those of before, or give another folder."
        )


def _as_it_is(batch: Any) -> Any:
    return batch


def _readable(table: pd.DataFrame, features: Features) -> pd.DataFrame:
    chosen = table[~table["row"].isin(list(features.unreadable))].reset_index(drop=True)
    chosen.attrs = table.attrs
    return chosen

"""A training as one value, which a command, a notebook and a task on a cluster share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from memviz.artefacts import Manifest
from memviz.errors import TrainingError
from memviz.images import Split
from memviz.images.scored import names
from memviz.models import Model, load_model
from memviz.models.registry import ARCHITECTURES, architecture
from memviz.training.cache import FeatureCache, digest
from memviz.training.config import Runtime, TrainConfig
from memviz.training.initialize import initialize
from memviz.training.teacher import Teacher

KIND, FORMAT = "memviz-training", 1


@dataclass(frozen=True)
class Start:
    """The network before the first step.

    Attributes:
        weights: initial weights, as for `load_model`; None starts at random. From a trained model's folder the
            architecture's options are taken too.
        mean: a mean image, as `load_model` takes it, for models that subtract one.
        backbones: for a random start, files of the pretrained submodules by address; submodules that are not named are
            torchvision's, as in the paper. `{}` leaves all of them random, which is useful only for trying out.
        options: of the architecture, such as `{"head": "small"}` for m3m.
    """

    weights: str | Path | None = None
    mean: str | Path | None = None
    backbones: Mapping[str, str | Path] | str = "torchvision"
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.backbones, str) and self.backbones != "torchvision":
            raise TrainingError(f"backbones={self.backbones!r}: give 'torchvision', or files by address.")
        if self.weights is not None and self.backbones != "torchvision":
            raise TrainingError(
                f"{self.weights} holds the pretrained submodules already: leave backbones out, or weights."
            )

    def sources(self, name: str) -> dict[str, str]:
        """The source of each pretrained submodule of a model, by address."""
        theirs = architecture(name).backbones
        if isinstance(self.backbones, str):
            return {} if self.weights is not None else dict(theirs)
        # One that is not named would stay random, and, where it is frozen, give only noise.
        given = {**(theirs if self.backbones else {}), **self.backbones}
        return {address: str(source) for address, source in given.items()}


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """Which model is trained, on which data, and how.

    Attributes:
        model: one of `list_models()`. Of "resmem" the ResNet stays frozen, of "resmem-retrain" it does not.
        data: a table of scored photographs (`memviz.images`), or a `Teacher` whose scores are learned.
        config: what decides the result.
        start: the network before the first step; by default at random, with torchvision's pretrained submodules.
        split: the subsets; None draws them by `config.fractions` and `config.split_seed`, and keeps near-duplicates
            in one subset.
        runtime: the machine, the logger and the cache.

    Example:
        >>> table = memviz.images.mixed(memviz.images.lamem("lamem"), memviz.images.memcat("memcat"))  # doctest: +SKIP
        >>> job = TrainingJob("m3m", table, start=Start(options={"head": "small"}))  # doctest: +SKIP
        >>> memviz.train(job, "runs/m3m")  # doctest: +SKIP
    """

    model: str
    data: pd.DataFrame | Teacher
    config: TrainConfig = field(default_factory=TrainConfig)
    start: Start = field(default_factory=Start)
    split: Split | None = None
    runtime: Runtime = field(default_factory=Runtime)

    @property
    def initialized(self) -> bool:
        """Whether the network is drawn by `initialize`, and so starts at the mean of the training scores."""
        return self.start.weights is None and self.config.initialization != "torch"

    def with_config(self, **changes: Any) -> TrainingJob:
        """The job with other settings.

        >>> TrainingJob("memnet", pd.DataFrame()).with_config(epochs=3).config.epochs
        3
        """
        return replace(self, config=replace(self.config, **changes))

    def untrained(self) -> Model:
        """The model before the training photographs are known, by which `Regression.setup` completes its start.

        Raises `ModelError` or `WeightsError` as `load_model` does.
        """
        start, sources = self.start, self.start.sources(self.model)
        made = load_model(
            self.model,
            weights=start.weights,
            mean=start.mean,
            backbones=sources or None,
            seed=self.config.seed,
            **start.options,
        )
        if self.initialized:
            initialize(made.module, self.config.seed, sources, made.inputs.scale)
        return made

    def manifest(self, start: Model, kind: str = KIND) -> Manifest:
        """Everything that affects the result, by which a folder is recognized as this job's.

        Args:
            start: what `untrained` gives.
            kind: of the folder.

        Raises:
            TrainingError: the scores are not of the kind that the model predicts, or the machine lacks what is asked.
        """
        self._check_target(start)
        settings = self.config.to_dict()
        del settings["seed"]
        return Manifest(
            kind,
            FORMAT,
            model=start.name,
            weights=start.fingerprint(),
            inputs=start.inputs.to_dict(),
            config={
                **settings,
                "options": {**(start.card.options if start.card else {}), **self.start.options},
                "start": "random" if self.start.weights is None else str(self.start.weights),
                "backbones": self.start.sources(self.model),
                "data": self._described(),
                "split": self.split and digest([self.split.train, self.split.validation, self.split.test]),
                "runtime": self.runtime.to_dict(),
            },
            seed=self.config.seed,
        )

    def table(self, cache: FeatureCache) -> pd.DataFrame:
        """The scored photographs; a teacher first scores those that are not in the cache."""
        data = self.data
        return data.table(cache) if isinstance(data, Teacher) else data

    def _described(self) -> dict[str, Any]:
        data = self.data
        if isinstance(data, Teacher):
            return {"teacher": data.describe(), "photographs": len(data.paths), "files": digest(data.paths)}
        listed = digest(list(zip(names(data), data["score"], strict=True)))
        return {"dataset": dict(data.attrs.get("dataset", {})), "photographs": len(data), "files": listed}

    def _check_target(self, start: Model) -> None:
        """Refuses scores of another quantity than the model predicts; of a CSV it may be unknown."""
        if isinstance(self.data, Teacher):
            target, other = self.data.model.target, self.data.model.target != start.target
        else:
            target = str(self.data.attrs.get("dataset", {}).get("target"))
            targets = tuple(entry.target for entry in ARCHITECTURES.values() if entry.target != start.target)
            other = any(each.startswith(targets) for each in target.split(" + "))
        if other:
            raise TrainingError(f"{start.name} predicts {start.target}, and what it is to learn is {target}.")

"""A network together with its name, its preprocessing, and the ways to look at it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from memviz.artefacts import Manifest
from memviz.errors import ModelError
from memviz.files import utf8_name
from memviz.images import find_images, stream
from memviz.layers import ChannelsLast, LayerTable, check_uncompiled, evaluating, layer_table, private_copy
from memviz.models.inputs import InputSpec
from memviz.models.score_spec import IDENTITY, ScoreSpec
from memviz.models.weights import fingerprint
from memviz.progress import Advance
from memviz.progress import progress as show_progress
from memviz.work import work

if TYPE_CHECKING:
    import pandas as pd

    from memviz.models.card import ModelCard

SHARD = 64  # photographs that are scored in one go, at least


class Model:
    """A vision network that memviz can look into.

    Made by `memviz.load_model` for the memorability models and by `memviz.wrap` for any other.

    Attributes:
        module: the network; memviz never changes it.
        inputs: how a photograph becomes the network's input.
        name: its name in manifests and on pages.
        target: what its single output means, such as "memorability"; None if it is no score.
        branches: top-level children whose convolutions are counted separately.
        score_spec: how its outputs become the score.
        named: the names of the units of layers that have any, by address, as the classes of a classifier inside it.
        card: where a trained model came from; None for others.
        folder: of a trained model; None for others.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: InputSpec,
        name: str,
        target: str | None = None,
        branches: Sequence[str] = (),
        score_spec: ScoreSpec = IDENTITY,
        named: Mapping[str, Sequence[str]] | None = None,
        card: ModelCard | None = None,
    ) -> None:
        self.module = module
        self.inputs = inputs
        self.name = name
        self.target = target
        self.branches = tuple(branches)
        self.score_spec = score_spec
        self.named = {address: tuple(names) for address, names in (named or {}).items()}
        self.card = card
        self.folder: Path | None = None

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {type(self.module).__name__}, {self.inputs.size[0]}x{self.inputs.size[1]} px)"

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        tensor = next(self.module.parameters(), None)
        return tensor.device if tensor is not None else torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        tensor = next(self.module.parameters(), None)
        return tensor.dtype if tensor is not None else torch.float32

    def to(self, device: str | torch.device) -> Model:
        """Moves the network to a device, as `nn.Module.to` does, and returns this model."""
        self.module.to(device)
        return self

    def __call__(self, pictures: Tensor) -> Tensor:
        """The network's output for inputs (N, 3, H, W), in evaluation mode, with gradients."""
        with evaluating(self.module):
            out: Tensor = self.module(pictures)
        return out

    @cached_property
    def layers(self) -> LayerTable:
        """The layers in executed order, found by running the network once on a black picture."""
        example = torch.zeros(1, 3, *self.inputs.size, device=self.device, dtype=self.dtype)
        return layer_table(self.module, example, self.branches)

    def fingerprint(self) -> str:
        """SHA-256 of the weights, which identifies the network of an index or of renders."""
        return fingerprint(self.module)

    def manifest(self, kind: str, version: int, config: dict[str, Any], seed: int | None = None) -> Manifest:
        """The manifest of a result of this model; arguments as `memviz.artefacts.Manifest` has them."""
        return Manifest(kind, version, self.name, self.fingerprint(), self.inputs.to_dict(), config, seed)

    def run(self, network: nn.Module, crops: Tensor) -> list[object]:
        """The outputs of `network`, a `ChannelsLast` copy, for each of the crops (N, crops, 3, H, W) of N pictures.

        One crop after the other, to save memory; the first, at which activations are measured, comes last.
        """
        return [network(crops[:, crop].to(self.device, self.dtype)) for crop in reversed(range(crops.shape[1]))]

    def run_pixels(self, network: nn.Module, pixels: Tensor) -> list[object]:
        """What `run` gives, of photographs as `InputSpec.pixels_from_pil` makes them, (N, 1 or 5, H, W, 3) uint8."""
        pixels = pixels.to(self.device)
        crops = 1 if self.inputs.crops == "centre" else 10
        return [network(self.inputs.from_pixels(pixels, crop).to(self.dtype)) for crop in reversed(range(crops))]

    def scores(self, outputs: Sequence[object], count: int) -> list[float]:
        """The scores of `count` pictures from what `run` gave; `ModelError` if that is not one number a picture."""
        scores: list[float] = self.score_spec(self.numbers(outputs, count)).tolist()
        return scores

    def numbers(self, outputs: Sequence[object], count: int) -> Tensor:
        """What `run` gave as numbers (count, crops) float32; `ModelError` if that is not one number a picture."""
        numbers = [out.float().flatten() for out in outputs if isinstance(out, Tensor) and out.numel() == count]
        if len(numbers) < len(outputs):
            raise ModelError(
                f"{self.name} does not give one number a picture, so it has no {self.target or 'score'!r}. "
                "Wrap it with target=None to look inside all the same."
            )
        return torch.stack(numbers, dim=1)

    def score(
        self,
        sources: str | Path | Iterable[str | Path],
        batch_size: int = 16,
        workers: int = 2,
        progress: bool | None = None,
    ) -> pd.DataFrame:
        """Scores photographs.

        Args:
            sources: files and folders; folders are searched with their subfolders.
            batch_size: photographs in one forward pass.
            workers: threads that decode.
            progress: None shows it on a terminal, True also in a log, False never.

        Returns:
            One row a readable photograph, in the order given: `path` and the score, in a column named
            after `target` ("memorability", between 0 and 1). `attrs["unreadable"]` maps the path of
            each unreadable file to the reason; there is a warning that names them.

        Raises:
            ModelError: the network does not give one number a picture.
            ImageError: no photograph was found.

        Example:
            >>> import memviz
            >>> memviz.load_model("resmem").score("photos/")  # doctest: +SKIP
                       path  memorability
            0  photos/a.jpg      0.774063
        """
        found = [each for batch in self.iter_scores(sources, batch_size, workers, progress) for each in batch]
        table = score_table(found, self.target)
        warn_unreadable(table.attrs["unreadable"])
        return table

    def iter_scores(
        self,
        sources: str | Path | Iterable[str | Path],
        batch_size: int = 16,
        workers: int = 2,
        progress: bool | None = None,
    ) -> Iterator[list[Scored]]:
        """Scores photographs as `score` does, and yields the results of one batch after the other.

        A crew (`memviz.work`) does them in any order; `Scored.place` says which is which.
        """
        scoring = Scoring(find_images(sources), batch_size, workers)
        with (
            show_progress("Scoring", len(scoring.paths), "images", progress) as advance,
            closing(work(self, scoring, scoring.shards(), advance)) as batches,
        ):
            yield from batches


@dataclass(frozen=True)
class Scoring:
    """Photographs to score, as a recipe of `memviz.work`: its workers turn ranges of them into scores, batch by batch.

    Attributes:
        paths: the photographs.
        batch_size: in one forward pass.
        workers: threads that decode.
    """

    paths: Sequence[str]
    batch_size: int
    workers: int

    def shards(self) -> list[range]:
        """All photographs, a few batches each."""
        size = max(1, -(-SHARD // max(self.batch_size, 1))) * max(self.batch_size, 1)
        return [range(start, min(start + size, len(self.paths))) for start in range(0, len(self.paths), size)]

    def __call__(self, model: Model) -> Callable[[Iterable[range], Advance], Iterator[list[Scored]]]:
        """A worker with a private copy of the model's network."""
        network = ChannelsLast(private_copy(model.module))

        def score(shards: Iterable[range], advance: Advance) -> Iterator[list[Scored]]:
            chosen = [place for shard in shards for place in shard]
            paths = [self.paths[place] for place in chosen]
            with closing(stream(paths, model.inputs.pixels_from_pil, self.batch_size, workers=self.workers)) as batches:
                for batch in batches:
                    found = {each.index: Scored(str(each.path), None, each.reason) for each in batch.failures}
                    if len(batch.indices):
                        with torch.inference_mode():  # not around the yield: the caller's code would run in it
                            scores = model.scores(model.run_pixels(network, batch.pictures), len(batch.indices))
                        for index, number in zip(batch.indices.tolist(), scores, strict=True):
                            found[index] = Scored(paths[index], number)
                    yield [replace(found[index], place=chosen[index]) for index in sorted(found)]
                    advance(len(found))

        return score


@dataclass(frozen=True)
class Scored:
    """The result of scoring a file: its score, or None and the reason why it could not be read; and its place in the
    list of files."""

    path: str
    score: float | None
    reason: str = ""
    place: int = 0


def score_table(found: Iterable[Scored], target: str | None) -> pd.DataFrame:
    """The results of scoring as the table that `Model.score` returns."""
    import pandas as pd

    found = sorted(found, key=lambda each: each.place)
    read = [each for each in found if each.score is not None]
    scores = pd.Series([each.score for each in read], dtype="float32")
    table = pd.DataFrame({"path": [each.path for each in read], target or "score": scores})
    table.attrs["unreadable"] = {each.path: each.reason for each in found if each.score is None}
    return table


def warn_unreadable(unreadable: dict[str, str], stacklevel: int = 3) -> None:
    """Warns of the files that were skipped, naming the first ten; `stacklevel` as in `warnings.warn`."""
    if unreadable:
        named = "\n".join(f"  {utf8_name(path)}: {reason}" for path, reason in list(unreadable.items())[:10])
        more = f"\n  and {len(unreadable) - 10} more" if len(unreadable) > 10 else ""
        warnings.warn(f"{len(unreadable)} unreadable files were skipped:\n{named}{more}", stacklevel=stacklevel)


def wrap(
    module: nn.Module,
    inputs: InputSpec,
    name: str | None = None,
    target: str | None = None,
    branches: Sequence[str] = (),
    score_spec: ScoreSpec = IDENTITY,
    named: Mapping[str, Sequence[str]] | None = None,
) -> Model:
    """Makes any vision network explorable.

    Args:
        module: a network from pictures (N, 3, H, W) to anything; it is never changed.
        inputs: its preprocessing.
        name: its name in manifests and on pages; the class's name by default.
        target: what its single output means, if it is a score.
        branches: top-level children whose convolutions are counted separately.
        score_spec: how its outputs become the score; by default they are the score.
        named: the names of the units of layers that have any, by address, as {"fc": ["tench", "goldfish", ...]}.

    Raises:
        ModelError: not a module, a compiled one, or another number of names than a layer has units.
        LayerError: names of a layer that does not run.

    Example:
        >>> from torchvision.models import alexnet
        >>> from memviz.models.inputs import IMAGENET
        >>> wrap(alexnet(weights=None), inputs=IMAGENET).layers["features.8"].receptive_field
        (131, 131)
    """
    if not isinstance(module, nn.Module):
        raise ModelError(f"wrap takes a torch.nn.Module; given was {type(module).__name__}.")
    check_uncompiled(module)
    model = Model(module, inputs, name or type(module).__name__, target, branches, score_spec, named)
    for address, names in model.named.items():
        if len(names) != (channels := model.layers[address].channels):
            raise ModelError(f"{len(names)} names were given for {address!r}, which has {channels} units.")
    return model

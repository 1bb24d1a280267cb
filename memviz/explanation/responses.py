"""The activations of chosen units on photographs, measured as an index measures them, and all of them kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memviz.errors import ImageError, LayerError, ModelError, StoreError
from memviz.images import content_hash, list_images, stream
from memviz.index import Index
from memviz.layers import ChannelsLast, Layer, private_copy, truncate
from memviz.layers.unit import Unit, units_of
from memviz.models import Model
from memviz.progress import progress as show_progress

Statistic = Literal["mean", "peak"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)


@dataclass(frozen=True, eq=False)
class Responses:
    """Activations of units on photographs.

    Attributes:
        paths: the photographs that were read, in the order given.
        units: the units of each layer, by address, in the order asked for.
        values: by address, (photographs, units) float32.
        unreadable: path and reason.
    """

    paths: tuple[Path, ...]
    units: dict[str, tuple[Unit, ...]]
    values: dict[str, NDArray[np.float32]]
    unreadable: dict[str, str]


def responses(
    model: Model,
    photographs: Index | str | Path | Iterable[str | Path],
    layers: Mapping[str, Iterable[int] | None],
    *,
    statistic: Statistic = "peak",
    batch_size: int = 16,
    workers: int = 2,
    progress: bool | None = None,
) -> Responses:
    """The mean or peak of units on each photograph, as the glossary in `memviz.layers.unit` defines them.

    With "peak", the numbers are those that an index of the photographs ranks. All layers are measured in one pass, of
    which only these numbers are kept: 4 bytes a photograph and unit.

    Args:
        model: of which a private copy runs; a network that averages over crops is measured at the centre crop.
        photographs: files and folders, or an index: then those that it ranks, which must be what they were.
        layers: addresses, each with the channels that are wanted, or None for all.
        statistic: "mean" or "peak", over the interior of each unit's map.
        batch_size: photographs in one forward pass.
        workers: threads that decode.
        progress: None shows it on a terminal, True also in a log, False never.

    Raises:
        LayerError: an unknown layer or channel, one that does not run, no layer, or another statistic.
        ModelError: an activation that is not finite.
        ImageError: no photograph can be read.
        StoreError: an index of other weights.

    Example:
        >>> from PIL import Image
        >>> import memviz
        >>> Image.new("RGB", (4, 4), (255, 0, 0)).save(getfixture("tmp_path") / "red.png")
        >>> model = memviz.wrap(torch.nn.Sequential(torch.nn.ReLU()), memviz.InputSpec(size=(4, 4)), name="same")
        >>> responses(model, getfixture("tmp_path"), {"0": [2, 0]}).values["0"].tolist()
        [[0.0, 1.0]]
    """
    if statistic not in STATISTICS:
        raise LayerError(f"statistic={statistic!r} is not possible: give {' or '.join(map(repr, STATISTICS))}.")
    if not layers:
        raise LayerError("No layer was given: give at least one address, as 'resnet.layer3.20'.")
    paths, hashes = find_photographs(photographs, model)
    units = {address: tuple(units_of(model.layers[address], channels)) for address, channels in layers.items()}
    batches = stream(paths, model.inputs.from_pil, batch_size, workers=workers, hashes=hashes)
    # What lies behind the layers is not run.
    running = ChannelsLast(truncate(private_copy(model.module), units))
    reductions = {
        address: _reduction(model.layers[address], chosen, model.inputs.size, statistic)
        for address, chosen in units.items()
    }
    read: list[int] = []
    unreadable: dict[str, str] = {}
    found: dict[str, list[NDArray[np.float32]]] = {address: [] for address in units}
    # A caller's autocast would change the activations.
    plain = torch.autocast(model.device.type, enabled=False)
    with (
        closing(batches),
        torch.inference_mode(),
        plain,
        show_progress("Measuring units", len(paths), "photographs", progress) as advance,
    ):
        for batch in batches:
            unreadable |= {str(failure.path): failure.reason for failure in batch.failures}
            if len(batch.indices):
                outputs: Mapping[str, Tensor] = running(batch.pictures.to(model.device, model.dtype))
                names = [paths[place] for place in batch.indices.tolist()]
                for address, reduction in reductions.items():
                    found[address].append(_checked(reduction(outputs[address]), units[address], names))
                read += batch.indices.tolist()
            advance(len(batch.indices) + len(batch.failures))
    if not read:
        reasons = "".join(f" {path}: {why}." for path, why in list(unreadable.items())[:3])
        raise ImageError(f"None of {len(paths)} photographs can be read.{reasons} Give photographs that can be.")
    values = {address: np.concatenate(parts) for address, parts in found.items()}
    return Responses(tuple(paths[place] for place in read), units, values, unreadable)


def find_photographs(
    photographs: Index | str | Path | Iterable[str | Path], model: Model | None = None
) -> tuple[list[Path], list[str | None]]:
    """The files, each with the SHA-256 that it must have, or None; of an index those that it ranks, each once.

    Raises:
        ImageError: there is no photograph.
        StoreError: an index of other weights than those of `model`, where one is given.
    """
    if isinstance(photographs, Index):
        if model is not None:
            photographs.check_model(model)
        ranked = photographs.ranked
        return [photographs.photos / name for name in ranked["path"]], list(ranked["sha256"])
    paths = list_images(photographs)
    return paths, [None] * len(paths)


def draw_photographs(index: Index, sample: int, seed: int) -> tuple[list[Path], list[str | None]]:
    """The photographs that an index ranks, or a sample of them, in its order, each with its SHA-256.

    Raises:
        ImageError: a sample of less than one.
    """
    if sample < 1:
        raise ImageError(f"sample={sample} is not possible: give 1 or more.")
    paths, hashes = find_photographs(index)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(paths))[:sample])
    return [paths[place] for place in chosen], [hashes[place] for place in chosen]


def check_files(index: Index, paths: Sequence[Path], hashes: Sequence[str | None]) -> None:
    """Refuses photographs that are gone or changed, where several passes must read the same ones.

    Raises:
        StoreError: one is.
    """
    for path, known in zip(paths, hashes, strict=True):
        found: str | None = None
        with suppress(OSError):
            found = content_hash(path)
        if found is None or found != known:
            raise StoreError(
                f"{path} is gone, or is not the photograph that the index {index.path} ranks. Put the old one back, "
                "build the index again, or say where the photographs lie now: load_index(folder, photos=...)."
            )


def _reduction(
    layer: Layer, units: Sequence[Unit], size: tuple[int, int], statistic: Statistic
) -> Callable[[Tensor], Tensor]:
    """From a layer's output to the statistic of its units."""
    rows, columns = layer.interior(size)
    channels = [unit.channel for unit in units]
    everything = channels == list(range(layer.channels))

    def reduce(output: Tensor) -> Tensor:
        chosen = output if everything else output[:, channels]
        if chosen.dim() == 4:
            inside = chosen.shape[2:] == (layer.height, layer.width)
            maps = (chosen[:, :, rows, columns] if inside else chosen).flatten(2).float()
            chosen = maps.amax(2) if statistic == "peak" else maps.mean(2)
        return chosen.float()

    return reduce


def _checked(values: Tensor, units: Sequence[Unit], names: Sequence[Path]) -> NDArray[np.float32]:
    wrong = ~values.isfinite()
    if wrong.any():
        row, column = (int(place) for place in wrong.nonzero()[0])
        raise ModelError(
            f"{units[column]} gave no finite activation for {names[row]} (NaN or infinite). Check the model's weights "
            "and its InputSpec, or leave the layer out."
        )
    return values.cpu().numpy().copy()

"""What training reads for each photograph, computed once and kept in a `FeatureCache`.

These are the network's input, as 8-bit pixels after resizing and cropping, and the outputs of the submodules that are
not trained, for the photograph and, where training flips, for its mirror image. Epochs then need neither decoding nor
a pass through those submodules.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from memviz.errors import ImageError, TrainingError
from memviz.images import stream
from memviz.images.scored import check_readable
from memviz.layers import ChannelsLast, private_copy
from memviz.models import InputSpec
from memviz.models.weights import fingerprint
from memviz.training.cache import Array, FeatureCache, Identified, RecordKind, Records


@dataclass(frozen=True, eq=False)
class Features:
    """What training reads for the photographs of a table, row by row.

    Attributes:
        pixels: (N, 3, H, W) uint8, red, green, blue.
        frozen: by address, the submodule's outputs (N, 1 or 2, ...) float32: of the photograph, and of its mirror
            image.
        sha256: of each file's bytes.
        unreadable: the reason by row.
    """

    pixels: Records
    frozen: dict[str, Records]
    sha256: list[str]
    unreadable: dict[int, str]


def pixel_spec(inputs: InputSpec) -> InputSpec:
    """The same resizing and cropping without normalization, whose result is stored as 8 bits.

    >>> pixel_spec(InputSpec(size=(8, 8), scale=255.0, mean=(1.0, 2.0, 3.0))).scale
    1.0
    """
    return replace(inputs, mean=None, std=None, channels="rgb", scale=1.0, mean_image=None)


def network_input(inputs: InputSpec, pixels: Tensor) -> Tensor:
    """The network's inputs (N, 3, H, W) of 8-bit pixels of that shape, as `InputSpec.from_pil` gives them."""
    return inputs.from_tensor(pixels.float() / 255, resize=False)


def compute_features(
    table: pd.DataFrame,
    inputs: InputSpec,
    frozen: Mapping[str, nn.Module],
    cache: FeatureCache,
    *,
    device: torch.device,
    mirrored: bool = True,
    batch_size: int = 16,
) -> Features:
    """Computes what is missing in the cache, and opens the records.

    Args:
        table: of scored photographs.
        inputs: the network's preprocessing.
        frozen: by address, the submodules that are not trained; each maps inputs (N, 3, H, W) to one tensor.
        cache: where the records are stored.
        device: where the frozen submodules run.
        mirrored: also compute their outputs for the mirror images.
        batch_size: photographs in one pass.

    Raises:
        ImageError: files are missing, or none can be read.
        StoreError: the disk is too small for the records.
    """
    check_readable(table)
    photographs = cache.identify(list(table["path"]))
    pixels = _pixels(photographs, inputs, cache, batch_size)
    if len(pixels.unreadable) == len(table):
        reason = pixels.unreadable[0]
        raise ImageError(f"None of the {len(table)} photographs can be read: {table['path'].iloc[0]}: {reason}.")
    readable = ["" if row in pixels.unreadable else checksum for row, checksum in enumerate(photographs.sha256)]
    photographs = replace(photographs, sha256=readable)
    outputs = {}
    for address, submodule in frozen.items():
        network = ChannelsLast(private_copy(submodule).to(device))
        with torch.inference_mode():
            example = _output(network, torch.zeros(1, 3, *inputs.size, device=device), address)

        def computed(missing: list[int], network: nn.Module = network) -> Iterator[dict[int, Array | str]]:
            for first in range(0, len(missing), batch_size):
                rows = missing[first : first + batch_size]
                pictures = network_input(inputs, torch.from_numpy(pixels[rows]).to(device))
                with torch.inference_mode():
                    seen = [network(pictures), *([network(pictures.flip(-1))] if mirrored else [])]
                yield dict(zip(rows, torch.stack(seen, dim=1).cpu().numpy(), strict=True))

        source = {"inputs": inputs.to_dict(), "weights": fingerprint(submodule)}
        kind = RecordKind(address, source, (1 + mirrored, *example.shape[1:]), "<f4")
        outputs[address] = cache.records(kind, photographs, computed, f"Running {address} once")
    return Features(pixels, outputs, readable, pixels.unreadable)


def _pixels(photographs: Identified, inputs: InputSpec, cache: FeatureCache, batch_size: int) -> Records:
    spec, paths = pixel_spec(inputs), photographs.paths

    def decoded(missing: list[int]) -> Iterator[dict[int, Array | str]]:
        files = [paths[index] for index in missing]
        for batch in stream(files, _as_bytes(spec), batch_size, workers=cache.workers):
            found: dict[int, Array | str] = {failure.index: failure.reason for failure in batch.failures}
            found |= dict(zip(batch.indices.tolist(), batch.pictures.numpy(), strict=True))
            for place in found:
                status = os.stat(files[place])
                if (status.st_size, status.st_mtime_ns) != photographs.states[missing[place]]:
                    raise ImageError(f"{files[place]} was changed while it was read. Give the same command again.")
            yield {missing[place]: found[place] for place in sorted(found)}

    kind = RecordKind("pixels", {"inputs": spec.to_dict()}, (3, *inputs.size), "|u1")
    return cache.records(kind, photographs, decoded, "Decoding")


def _output(network: nn.Module, pictures: Tensor, address: str) -> Tensor:
    out = network(pictures)
    if not isinstance(out, Tensor):
        raise TrainingError(
            f"{address} gives a {type(out).__name__}; only a submodule that gives one tensor can stay frozen."
        )
    return out


def _as_bytes(spec: InputSpec) -> Callable[[Image.Image], Tensor]:
    # from_pil divides the resized photograph's 8-bit values by 255: rounding gives them back exactly.
    return lambda image: torch.from_numpy(np.rint(spec.from_pil(image).numpy() * 255).astype(np.uint8))

"""From a folder of photographs to an index: what is wanted, what is there already, and the pass between."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from memviz.errors import ImageError, LayerError, StoreError
from memviz.files import provenance, read_json, replacing, write_json
from memviz.images import list_images
from memviz.index.scan import ScanState, scan
from memviz.index.store import Index, load_index, partial_folder, write_index
from memviz.index.topk import TopK
from memviz.layers import Layer
from memviz.models import Model
from memviz.models.score_spec import IDENTITY
from memviz.progress import progress as show_progress


def build_index(
    model: Model,
    sources: str | Path | Iterable[str | Path],
    *,
    out: str | Path,
    layers: str | Iterable[str | Layer] | None = None,
    k: int = 16,
    batch_size: int = 16,
    progress: bool | None = None,
    workers: int = 2,
) -> Index:
    """Finds, in one pass, the photographs that excite each unit of the watched layers most and least.

    A unit's activation on a photograph is the spatial maximum of the signed output of its layer; its place is
    the first maximum in row order. The ranking is exact, and equal activations are ranked in the order of the
    photographs. Interrupted in whatever way, the same call continues from `<out>.partial`; `out` appears only
    when the index is complete, and from then on the same call returns it at once.

    Args:
        model: the network; it stays as it is.
        sources: files and folders; folders are searched with their subfolders.
        out: the index's folder.
        layers: addresses, ordinals or `Layer`s; None watches all convolutions and residual blocks.
        k: photographs kept at each side of each unit.
        batch_size: photographs in one forward pass.
        progress: None shows it on a terminal, True also in a log, False never.
        workers: threads that decode.

    Returns:
        The index. Unreadable files are named in its `images`, and a warning names the first.

    Raises:
        LayerError: a layer that the model does not have.
        ImageError: no photograph was found, or none could be read.
        ModelError: an activation is not finite, or a model with an `output` does not give one number a picture.
        StoreError: `out` or `<out>.partial` is of other weights, photographs or settings, or of something else.

    Example:
        >>> import memviz
        >>> model = memviz.load_model("resmem")  # doctest: +SKIP
        >>> index = memviz.build_index(model, "photos/", out="runs/photos")  # doctest: +SKIP
    """
    if k < 1:
        raise StoreError(f"k={k} keeps no photographs: give 1 or more.")
    out = Path(os.path.abspath(out))
    watched = _watched(model, layers)
    paths = [Path(os.path.abspath(path)) for path in list_images(sources)]
    root = Path(os.path.commonpath([path.parent for path in paths]))
    names = [path.relative_to(root).as_posix() for path in paths]
    key = {
        "weights": model.fingerprint(),
        "inputs": model.inputs.to_dict(),
        "target": model.target,
        # Null for most, so that indexes from before there was this field stay valid.
        "score_spec": None if model.score_spec == IDENTITY else model.score_spec.to_dict(),
        "layers": [layer.address for layer in watched],
        "k": k,
        "root": str(root),
        "files": _fingerprint(paths, names),
    }
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        return _existing(out, key)

    partial = partial_folder(out)
    _claim(partial, key)
    # Apple's GPUs lack the 64-bit floating point numbers in which means are taken.
    device = torch.device("cpu") if model.device.type == "mps" else model.device
    findings = _saved(partial, device) or ScanState(TopK(sum(layer.channels for layer in watched), k, device))
    with show_progress("Indexing", len(paths) - findings.done, "images", progress) as advance:
        scan(model, watched, paths, findings, lambda: _save(partial, findings), advance, batch_size, workers)
    if findings.errors:
        if len(findings.errors) == len(paths):
            shutil.rmtree(partial)
            raise ImageError(f"None of the {len(paths)} photographs can be read: {_named(findings.errors, names)}.")
        warnings.warn(
            f"{len(findings.errors)} of {len(paths)} photographs cannot be read and were left out of the index: "
            f"{_named(findings.errors, names)}.",
            stacklevel=2,
        )

    manifest = key | {
        "model": model.name,
        "images": len(paths),
        "unreadable": len(findings.errors),
        "layers": [layer.to_dict() for layer in watched],
        **provenance(),
    }
    columns: dict[str, list[Any]] = {
        "path": names,
        "width": [findings.sizes.get(image, (None, None))[0] for image in range(len(names))],
        "height": [findings.sizes.get(image, (None, None))[1] for image in range(len(names))],
        "prediction": [findings.predictions.get(image) for image in range(len(names))],
        "error": [findings.errors.get(image) for image in range(len(names))],
    }
    write_index(partial / "index", manifest, columns, watched, findings.state)
    os.replace(partial / "index", out)
    shutil.rmtree(partial)
    return load_index(out)


def _watched(model: Model, layers: str | Iterable[str | Layer] | None) -> list[Layer]:
    if layers is None:
        wanted = {layer.address for layer in model.layers.watched()}
    else:
        given = [layers] if isinstance(layers, str) else list(layers)
        wanted = {model.layers[each if isinstance(each, str) else each.address].address for each in given}
    if not wanted:
        reason = "none were given" if layers is not None else f"{model.name} has no convolution"
        raise LayerError(f"There is no layer to watch: {reason}. Give addresses of model.layers.")
    return [layer for layer in model.layers if layer.address in wanted]


def _fingerprint(paths: Sequence[Path], names: Sequence[str]) -> str:
    """SHA-256 of the photographs' names, sizes and times of change."""
    digest = hashlib.sha256()
    for path, name in zip(paths, names, strict=True):
        try:
            about = path.stat()
            entry = [name, about.st_size, about.st_mtime_ns]
        except OSError:  # a broken link, which the pass will report as unreadable
            entry = [name, None, None]
        digest.update(json.dumps(entry).encode())
    return digest.hexdigest()


def _named(errors: Mapping[int, str], names: Sequence[str]) -> str:
    """The first five unreadable photographs and why, and how many more there are."""
    few = "; ".join(f"{names[image]} ({reason})" for image, reason in list(errors.items())[:5])
    return f"{few}; and {len(errors) - 5} more" if len(errors) > 5 else few


def _existing(out: Path, key: Mapping[str, Any]) -> Index:
    """The index in `out`, if it is the one that is wanted."""
    if not (out / "manifest.json").is_file():
        raise StoreError(f"{out} exists and is not an index. Choose another folder for the index.")
    index = load_index(out)
    there = index.manifest | {"layers": [layer.address for layer in index.layers]}
    if differences := _differences(there, key):
        raise StoreError(
            f"{out} already holds another index: {differences}. Choose another folder, or delete that one."
        )
    return index


def _claim(partial: Path, key: Mapping[str, Any]) -> None:
    """Makes `<out>.partial` ours, or finds that it is."""
    mark = partial / "key.json"
    if mark.is_file():
        if differences := _differences(read_json(mark), key):
            raise StoreError(
                f"{partial} holds the beginning of another index: {differences}. Repeat the call that began it, "
                "delete it, or choose another folder."
            )
        return
    # Also a folder that a kill left before its first file was complete.
    if partial.exists() and not (
        partial.is_dir() and all(file.name.startswith(".writing-") for file in partial.iterdir())
    ):
        raise StoreError(f"{partial} is in the way and is no unfinished index. Move it, or choose another folder.")
    write_json(mark, key)


def _save(partial: Path, findings: ScanState) -> None:
    with replacing(partial / "state.pt") as temporary:
        torch.save(findings.to_dict(), temporary)


def _saved(partial: Path, device: torch.device) -> ScanState | None:
    path = partial / "state.pt"
    if not path.exists():
        return None
    try:
        return ScanState.from_dict(torch.load(path, weights_only=True), device)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, LookupError, TypeError) as error:
        raise StoreError(f"{path} is damaged ({error}). Delete {partial} to begin anew.") from error


def _differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """In which of the things that make an index two of them differ; "" if in none."""
    found = []
    for name, value in json.loads(json.dumps(wanted)).items():
        other = there.get(name)
        if other == value:
            continue
        if name == "weights":
            found.append(f"its weights are {str(other)[:12]}, not {value[:12]}")
        elif name == "layers":
            found.append(f"it watches {len(other or [])} layers that are not the {len(value)} asked for")
        elif name == "inputs":
            fields = [field for field in value | (other or {}) if value.get(field) != (other or {}).get(field)]
            found.append(f"its inputs differ in {', '.join(fields)}")
        elif name == "files":
            found.append("photographs were added, removed or changed since")
        else:
            found.append(f"its {name} is {other!r}, not {value!r}")
    return "; ".join(found)

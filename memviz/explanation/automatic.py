"""Automatic labels: the units of an index's layers named by a labeller, and kept beside the index."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memviz.artefacts import LOCK, MANIFEST, claim, locked, remove
from memviz.errors import LabelError
from memviz.explanation.labellers import Concepts, Labeller, NamedOutputs
from memviz.explanation.labels import FORMAT, KIND, NAMED, Label, LayerLabels, automatic_folders, labels_folder
from memviz.explanation.naming import LEAST, MEASURE, MINIMUM, QUANTILE, Named, can_judge, halves, name_units
from memviz.explanation.responses import Responses, Statistic, responses
from memviz.files import read_json, write_json
from memviz.index import Index
from memviz.layers import Layer
from memviz.models import Model
from memviz.progress import progress as show_progress

EVIDENCE = 5  # photographs that a label names
ACTIVATION: Statistic = "mean"  # of a unit on a photograph, as in CLIP-Dissect
HELD = 2**31  # bytes of activations that one pass keeps


def label_units(
    model: Model,
    index: Index,
    layers: Iterable[str] | None = None,
    labeller: Labeller | None = None,
    *,
    seed: int = 0,
    batch_size: int = 16,
    workers: int = 2,
    progress: bool | None = None,
) -> list[LayerLabels]:
    """Names the units of an index's layers, each by what it answers to, or by nothing.

    `memviz.explanation.naming.name_units` says how a name is chosen on half of the photographs, and accepted on the
    other half only above a threshold that a shuffled control sets. The labels are kept beside the index, a file a
    layer; what is there already is not made again.

    Args:
        model: of the index; it stays as it is.
        index: whose photographs are run through the network once more, since an index keeps only the best and lowest.
        layers: addresses of layers that the index watches; None for all.
        labeller: where names come from; None for the network's own named outputs. A unit of the named layer itself has
            its own name, which is no finding.
        seed: of the halves and the shuffles.
        batch_size: photographs in one forward pass.
        workers: threads that decode.
        progress: None shows it on a terminal, True also in a log, False never.

    Returns:
        The labels of each layer, in the order asked for.

    Raises:
        StoreError: an index of other weights; labels of another seed or other categories are there.
        LayerError: a layer that the index does not watch.
        LabelError: a model without named outputs, no concept that can be judged, too few photographs, or some that can
            not be read any more.

    Example:
        >>> found = label_units(model, memviz.load_index("runs/photos"), ["resnet.layer4.2"])  # doctest: +SKIP
        >>> print(found[0].labels[11])  # doctest: +SKIP
        beagle, basset, bluetick and 24 more (outputs of resnet.fc, correlation .52 (above .30))
    """
    index.check_model(model)
    labeller = labeller or NamedOutputs(model)
    halves(index.result.photographs, seed)  # too few are refused before the work
    reading = {"batch_size": batch_size, "workers": workers, "progress": progress}
    chosen = [index.layers[name] for name in dict.fromkeys(layers)] if layers is not None else list(index.layers)
    folder = _folder(index, labeller)
    config = {
        "photographs": index.config.photographs,
        "labeller": labeller.source,
        "statistic": ACTIVATION,
        "minimum": MINIMUM,
        "quantile": QUANTILE,
        **labeller.settings,
    }
    manifest = model.manifest(KIND, FORMAT, config, seed)
    claim(folder, manifest, {f"config.{name}": f"its {name} are others" for name in ("photographs", "categories")})
    with locked(folder):
        try:
            missing = [layer for layer in chosen if not _file(folder, layer).is_file()]
            for part in _parts(missing, index.result.photographs):
                for found in _find(part, model, index, labeller, seed, reading):
                    write_json(folder / f"{found.address}.json", asdict(found))
        except BaseException:
            # What holds no labels yet must not keep those of other settings out.
            if {path.name for path in folder.iterdir()} <= {MANIFEST, LOCK}:
                remove(folder)
            raise
    return [read_json(_file(folder, layer), LayerLabels) for layer in chosen]


def _find(
    layers: Sequence[Layer], model: Model, index: Index, labeller: Labeller, seed: int, reading: Mapping[str, Any]
) -> Iterator[LayerLabels]:
    """The labels of some layers, whose activations are measured together."""
    wanted: dict[str, None] = dict.fromkeys([*(layer.address for layer in layers), *labeller.layers])
    measured = responses(model, index, wanted, statistic=ACTIVATION, **reading)
    if measured.unreadable:
        path, why = next(iter(measured.unreadable.items()))
        raise LabelError(
            f"{len(measured.unreadable)} photographs of the index {index.path} cannot be read any more: {path}: {why}. "
            "Put them back, or build the index again."
        )
    concepts = _judged(labeller.concepts(measured), seed)
    units = sum(layer.channels for layer in layers)
    with show_progress("Naming units", units, "units", reading["progress"]) as advance:
        for layer in layers:
            yield _label(layer, model, index, labeller.source, measured, concepts, seed)
            advance(layer.channels)


def _folder(index: Index, labeller: Labeller) -> Path:
    """That of these photographs' labels of this labeller: the one that is there, or a new one."""
    known = {str(manifest.config.get("labeller")): folder for folder, manifest in automatic_folders(index)}
    name = f"{re.sub('[^A-Za-z0-9]+', '-', labeller.source)}-{index.config.photographs[:8]}"
    return known.get(labeller.source, labels_folder(index) / name)


def _file(folder: Path, layer: Layer) -> Path:
    return folder / f"{layer.address}.json"


def _parts(layers: Sequence[Layer], photographs: int) -> Iterator[list[Layer]]:
    """Layers whose activations are kept together in one pass."""
    part: list[Layer] = []
    for layer in layers:
        if part and 4 * photographs * (sum(each.channels for each in part) + layer.channels) > HELD:
            yield part
            part = []
        part.append(layer)
    if part:
        yield part


def _judged(concepts: Concepts, seed: int) -> Concepts:
    """Those that enough photographs of each half show, where that is known."""
    if concepts.probabilities is not None:
        return concepts
    enough = can_judge(concepts.values, seed)
    if not enough.any():
        raise LabelError(
            f"None of {len(enough)} names can be judged: {LEAST:g} photographs of each half must show what it means. "
            "Give more photographs, or fewer and broader categories."
        )
    names = tuple(name for name, known in zip(concepts.names, enough, strict=True) if known)
    return Concepts(names, concepts.values[:, enough])


def _label(
    layer: Layer, model: Model, index: Index, source: str, measured: Responses, concepts: Concepts, seed: int
) -> LayerLabels:
    units = measured.units[layer.address]
    if layer.address in model.named:
        named = zip(units, model.named[layer.address], strict=True)
        return LayerLabels(layer.address, None, None, tuple(Label(unit, name, NAMED) for unit, name in named))
    activations = measured.values[layer.address].astype(np.float64)
    shown = concepts.values if concepts.probabilities is None else concepts.probabilities
    found = name_units(activations, concepts.values, shown, seed)
    labels = [
        Label(
            unit=unit,
            text=concepts.names[found.candidate[place]] if found.accepted[place] else None,
            source=source,
            candidate=concepts.names[found.candidate[place]],
            figure=float(found.figure[place]),
            measure=MEASURE,
            threshold=found.threshold,
            evidence=tuple(_evidence(activations[:, place], found, measured, index)),
        )
        for place, unit in enumerate(units)
    ]
    return LayerLabels(layer.address, found.threshold, found.shuffled, tuple(labels))


def _evidence(activations: NDArray[np.float64], found: Named, measured: Responses, index: Index) -> Iterator[str]:
    """The photographs of the judging half that excite a unit most, as the index names them."""
    best = np.argsort(-activations[found.held_out], kind="stable")[:EVIDENCE]
    for photograph in found.held_out[best]:
        yield measured.paths[photograph].relative_to(index.photos).as_posix()

"""What units answer to, in words: a person's labels and automatic ones, kept apart, beside an index."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from memviz.artefacts import MANIFEST, Manifest
from memviz.errors import LabelError, shown
from memviz.explanation.handwritten import NONE, Entry, add_entries, read_entries
from memviz.files import read_json
from memviz.index import Index
from memviz.layers import Layer
from memviz.layers.unit import Unit, units_of

if TYPE_CHECKING:
    import pandas as pd

KIND, FORMAT = "memviz-labels", 1
PERSON, NAMED = "person", "named output"
FILES = ("labels.toml", "labels.csv")


@dataclass(frozen=True)
class Label:
    """What a unit answers to, where that comes from, and what speaks for it.

    Attributes:
        unit: which.
        text: in words; None where somebody, or something, looked and found no name.
        source: "person"; "named output" for a unit that has a name, as a class; else what the labeller calls itself.
        by, note: of a person's.
        candidate: the best name that an automatic labeller found, also where the figure is too low to accept it.
        figure, measure: of the candidate on photographs that were not used to choose it, and what it is, as
            "correlation"; None and empty for others.
        threshold: what the figure must exceed.
        evidence: of those photographs, the ones that excite the unit most, best first, as the index names them.
    """

    unit: Unit
    text: str | None
    source: str
    by: str = ""
    note: str = ""
    candidate: str = ""
    figure: float | None = None
    measure: str = ""
    threshold: float | None = None
    evidence: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Source and figure, in a phrase.

        >>> Label(Unit("conv", 3), "stripes", PERSON, by="AN").origin
        'person, AN'
        >>> Label(Unit("conv", 3), "zebra", "own classes", figure=0.6214, measure="correlation", threshold=0.4).origin
        'own classes, correlation .62 (above .40)'
        """
        if self.figure is None or self.threshold is None:
            return f"{self.source}, {self.by}" if self.by else self.source
        figure, threshold = (_decimal(value) for value in (self.figure, self.threshold))
        if figure == threshold:
            figure, threshold = (_decimal(value, 4) for value in (self.figure, self.threshold))
        return f"{self.source}, {self.measure} {figure} ({'above' if self.text else 'not above'} {threshold})"

    def __str__(self) -> str:
        return f"{self.text or NONE} ({self.origin})"


@dataclass(frozen=True)
class LayerLabels:
    """The automatic labels of a layer's units.

    Attributes:
        address: of the layer.
        threshold: what a label's figure must exceed; None where units have names of their own.
        shuffled: how many of as many units are labelled when photographs are shuffled, on average; likewise.
        labels: one a unit.
    """

    address: str
    threshold: float | None
    shuffled: float | None
    labels: tuple[Label, ...]

    @property
    def labelled(self) -> int:
        """How many units have a label."""
        return sum(label.text is not None for label in self.labels)


class Labels(Mapping[Unit, Label]):
    """The labels of an index's units: for each the person's, or, where there is none, the automatic one.

    Attributes:
        persons: what a person wrote, by unit.
        automatic: what a labeller found, by unit, also of units that a person labelled.
    """

    def __init__(self, persons: Mapping[Unit, Label] | None = None, automatic: Mapping[Unit, Label] | None = None):
        self.persons, self.automatic = dict(persons or {}), dict(automatic or {})
        self._all = {**self.automatic, **self.persons}

    def __getitem__(self, unit: Unit) -> Label:
        return self._all[unit]

    def __iter__(self) -> Iterator[Unit]:
        return iter(sorted(self._all))

    def __len__(self) -> int:
        return len(self._all)

    def text(self, unit: Unit) -> str | None:
        """A unit's label in words, or None.

        >>> unit = Unit("conv", 3)
        >>> Labels({unit: Label(unit, "stripes", PERSON)}).text(unit)
        'stripes'
        """
        label = self._all.get(unit)
        return label.text if label else None

    def told(self) -> dict[Unit, str]:
        """The units that have a label, each with its words, source and figure, as pages and tables tell them."""
        return {unit: str(label) for unit, label in self.items() if label.text}

    def lacking(self, layer: Layer) -> list[Unit]:
        """The units of a layer that have neither an automatic label nor a person's, who may have found none."""
        return [unit for unit in units_of(layer) if not self.text(unit) and unit not in self.persons]

    def summary(self, layers: Iterable[Layer]) -> pd.DataFrame:
        """A row a layer: address, units, person (labels of one), automatic (others that are shown), lacking."""
        import pandas as pd

        rows = []
        for layer in layers:
            units = units_of(layer)
            person, lacking = sum(unit in self.persons for unit in units), len(self.lacking(layer))
            rows.append((layer.address, len(units), person, len(units) - person - lacking, lacking))
        return pd.DataFrame(rows, columns=["address", "units", "person", "automatic", "lacking"])

    def frame(self) -> pd.DataFrame:
        """A row a unit: unit, label, source, by, note, candidate, figure, measure, threshold, evidence."""
        import pandas as pd

        rows = [
            asdict(label) | {"unit": str(unit), "evidence": "; ".join(label.evidence)} for unit, label in self.items()
        ]
        names = [name for name in Label.__dataclass_fields__ if name != "__doc__"]
        return pd.DataFrame(rows, columns=names).rename(columns={"text": "label"})


def labels_folder(index: Index) -> Path:
    """Where the labels of an index's network are kept, beside it: a person's in `labels.toml` and `labels.csv`."""
    return index.path.resolve().parent / "labels" / str(index.manifest.weights)[:12]


def load_labels(index: Index, layers: Iterable[str] | None = None) -> Labels:
    """The labels of an index's units; none where there are no files.

    Args:
        index: beside which they lie.
        layers: addresses of the layers whose automatic labels are read; None for all.

    Raises:
        LabelError: a person's file that cannot be read; the message names the line.
        StoreError: automatic labels that are damaged.

    Example:
        >>> import memviz
        >>> labels = load_labels(memviz.load_index("runs/photos"))  # doctest: +SKIP
        >>> print(labels[Unit("resnet.layer4.2", 7)])  # doctest: +SKIP
        dog faces (person, AN)
    """
    persons = {unit: _label(entry) for unit, entry in load_entries(index).items() if entry.label}
    automatic: dict[Unit, Label] = {}
    wanted = [layer.address for layer in index.layers] if layers is None else dict.fromkeys(layers)
    paths = [folder / f"{address}.json" for folder, _ in automatic_folders(index) for address in wanted]
    for path in paths:
        for label in read_json(path, LayerLabels).labels if path.is_file() else ():
            automatic[label.unit] = max(automatic.get(label.unit, label), label, key=_worth)
    return Labels(persons, automatic)


def automatic_folders(index: Index) -> list[tuple[Path, Manifest]]:
    """Where labels are kept that labellers made with an index's photographs, with their manifests.

    Raises:
        StoreError: one that is damaged.
    """
    found = []
    for path in sorted(labels_folder(index).glob(f"*/{MANIFEST}")):
        manifest = Manifest.read(path.parent, KIND, FORMAT)
        if (manifest.weights, manifest.config.get("photographs")) == (index.manifest.weights, index.config.photographs):
            found.append((path.parent, manifest))
    return found


def load_entries(index: Index) -> dict[Unit, Entry]:
    """What a person wrote, in both files together.

    Raises:
        LabelError: a file that cannot be read, or a unit that is in both.
    """
    found: dict[Unit, Entry] = {}
    for path in (labels_folder(index) / name for name in FILES):
        if path.is_file():
            entries = read_entries(path, index.layers)
            if both := sorted(found.keys() & entries.keys()):
                raise LabelError(
                    f"{path}, line {entries[both[0]].line}: {both[0]} is also labelled in {FILES[0]}, line "
                    f"{found[both[0]].line}. Keep one of the two."
                )
            found |= entries
    return found


def add_labels(index: Index, path: str | os.PathLike[str]) -> list[Entry]:
    """Takes the labels of a filled-in CSV, as a sheet of `memviz label` is, into the index's `labels.csv`.

    Rows without a label are left out, and those that are there already as they are.

    Returns:
        The labels that are new.

    Raises:
        LabelError: a file that cannot be read, or a unit that a person has labelled otherwise.
    """
    known = load_entries(index)
    new = []
    for unit, entry in read_entries(path, index.layers).items():
        there = known.get(unit)
        if not entry.label or (there and replace(there, line=0) == replace(entry, line=0)):
            continue
        if there:
            raise LabelError(
                f"{path}, line {entry.line}: {unit} is {shown(entry.label)} here and {shown(there.label)} in line "
                f"{there.line} of a file in {labels_folder(index)}. Change one of the two by hand."
            )
        new.append(entry)
    if new:
        add_entries(labels_folder(index) / FILES[1], new)
    return new


def _worth(label: Label) -> tuple[bool, float]:
    """Of a unit's automatic labels the best is shown: its own name, an accepted one, the one with the higher figure."""
    return label.text is not None, 1.0 if label.figure is None else label.figure


def _label(entry: Entry) -> Label:
    nothing = entry.label.strip().casefold() == NONE
    return Label(entry.unit, None if nothing else entry.label, PERSON, entry.by, entry.note)


def _decimal(value: float, digits: int = 2) -> str:
    """As statistics are written.

    >>> _decimal(0.6214), _decimal(-0.05), _decimal(1.0)
    ('.62', '-.05', '1.00')
    """
    return f"{value:.{digits}f}".replace("0.", ".", 1)

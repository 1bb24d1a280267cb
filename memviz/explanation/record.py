"""What is known of one explained photograph, as a value that lies in a folder."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from memviz.artefacts import read_result
from memviz.errors import ModelError, StoreError
from memviz.explanation.maps import DEFAULT, METHODS
from memviz.explanation.reference import References
from memviz.explanation.region import RegionCheck
from memviz.files import replacing, write_json
from memviz.images import open_image

if TYPE_CHECKING:
    import pandas as pd

KIND, FORMAT = "memviz-explanation", 1
DATA, PICTURE, MAP = "explanation.json", "photograph.png", "map.npy"
_LONGEST = 4096  # the side of a map: no input of a network is larger


@dataclass(frozen=True)
class ExplainConfig:
    """How photographs are explained.

    Attributes:
        layers: whose units are shown; None takes up to four of each branch that is not known to be without effect,
            from shallow to deep.
        units: how many that raise the score, and how many that lower it, are shown of each layer.
        classes: the same of layers whose units have names.
        references: how many photographs it is compared with.
        against: "photographs", those of an index or of installed packages, or "blurred", the photograph itself.
        steps, max_steps: on the path from each reference, at first and at most.
        method: of the map, a name in `memviz.explanation.METHODS`.
        share: of the picture, that is filled as a check.
        controls: random regions to compare with that.

    Raises:
        ModelError: a value of another type or out of range.
    """

    layers: tuple[str, ...] | None = None
    units: int = 3
    classes: int = 8
    references: int = 16
    against: Literal["photographs", "blurred"] = "photographs"
    steps: int = 16
    max_steps: int = 16
    method: str = DEFAULT
    share: float = 0.2
    controls: int = 8

    def __post_init__(self) -> None:
        for name, most in (("units", 100), ("classes", 1000), ("references", 1000), ("controls", 1000)):
            if not 1 <= getattr(self, name) <= most:
                raise ModelError(f"{name}={getattr(self, name)!r}: give a whole number from 1 to {most}.")
        if not 1 <= self.steps <= self.max_steps <= 4096:
            raise ModelError(f"steps={self.steps}, max_steps={self.max_steps}: give 1 <= steps <= max_steps <= 4096.")
        if not 0 < self.share <= 0.5:
            raise ModelError(f"share={self.share!r}: give a share of the picture above 0, of at most 0.5.")
        if self.against not in ("photographs", "blurred"):
            raise ModelError(f"against={self.against!r}: give photographs or blurred.")
        if self.method not in METHODS:
            raise ModelError(f"There is no method {self.method!r} for maps. The methods are: {', '.join(METHODS)}.")

    @property
    def passes(self) -> int:
        """How many times the network is run forward and backward for a photograph, unless steps are doubled.

        >>> ExplainConfig(references=8, steps=16).passes
        136
        """
        return (self.steps + 1) * (self.references if self.against == "photographs" else 1)


@dataclass(frozen=True)
class Contribution:
    """What a unit adds to the difference of the logits.

    Attributes:
        unit: as "resnet.layer4.2:5".
        name: of a unit that has one, as a class; else empty.
        contribution: its conductance, summed over positions: above 0 raises the score.
        value: its mean on the photograph, as `memviz.layers.unit` defines it.
        reference: the mean of that over the references.
    """

    unit: str
    name: str
    contribution: float
    value: float
    reference: float


@dataclass(frozen=True)
class LayerShare:
    """The units of a layer that raise and lower a score most.

    Attributes:
        address, channels: of the layer.
        total: of the contributions of all its units: what of the difference passes through the layer.
        raising, lowering: the strongest first; those that add 0 are left out.
        finding: what is known of the layer's part of the network; empty where it is as it should be.
    """

    address: str
    channels: int
    total: float
    raising: tuple[Contribution, ...]
    lowering: tuple[Contribution, ...]
    finding: str = ""


@dataclass(frozen=True)
class Explanation:
    """Why a photograph has its score, and not that of its references.

    Attributes:
        model, weights, target: of the network.
        photograph, sha256: the file's name and checksum.
        score: of the photograph, as `memviz score` gives it.
        scale, logit: what is explained: the "logit" before a final sigmoid, or else the "score" before it is clipped;
            of the crop in the photograph's centre, where the score is the mean over `crops` crops.
        crops: of which the score is the mean.
        percentile: of the photographs of the index, the percentage with a lower score; None where that is not known.
        ranked: among how many.
        references: with what it was compared.
        total: the sum of the contributions of all pixels.
        error: its distance from the difference of the logits, relative to the mean absolute difference from the single
            references; `complete` if that is within 1 %.
        complete, steps: whether, and with how many steps from each reference.
        named: layers whose units have names, through which the score sees the photograph; `layers` the others.
        regions: the checks of the map.
        findings: what is known of branches that are not as they should be, by their names.
        config, seed: how it was made.
        picture: the part of the photograph that the network sees, in its own proportions.
        map: (H, W) float32 of the network's input: above 0 raises the score.
    """

    model: str
    weights: str
    target: str | None
    photograph: str
    sha256: str
    score: float
    scale: Literal["logit", "score"]
    logit: float
    crops: int
    percentile: float | None
    ranked: int
    references: References
    total: float
    error: float
    complete: bool
    steps: int
    named: tuple[LayerShare, ...]
    layers: tuple[LayerShare, ...]
    regions: tuple[RegionCheck, ...]
    findings: dict[str, str]
    config: ExplainConfig
    seed: int
    picture: Image.Image | None = field(default=None, compare=False, repr=False)
    map: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    @property
    def what(self) -> str:
        """What the score means."""
        return (self.target or "score").replace("_", " ")

    @property
    def difference(self) -> float:
        """Of the photograph's logit from the mean of the references'."""
        return self.logit - self.references.logit

    @property
    def rank(self) -> str:
        """Its place among the photographs of the index, in words; empty where that is not known."""
        if self.percentile is None:
            return ""
        where = f"the {self.ranked} photographs of the index"
        if self.percentile in (0, 100):
            return f"{'lower' if self.percentile == 0 else 'higher'} than that of all {where[4:]}"
        # Not 0 or 100 by rounding.
        share = "less than 1" if self.percentile < 1 else "more than 99" if self.percentile > 99 else None
        return f"higher than that of {share or f'{self.percentile:.0f}'} % of {where}"

    @property
    def standing(self) -> str:
        """The score, its percentile and that of the references, in a sentence."""
        told = f"{self.what} {self.score:.3f}{', ' if self.rank else ''}{self.rank}"
        if self.references.source == "blurred":
            return f"{told}; {self.references.what}, has {self.references.score:.3f}."
        have = "has" if len(self.references.photographs) == 1 else "have"
        average = "" if have == "has" else " on average"
        return f"{told}; {self.references.what} {have} {self.references.score:.3f}{average}."

    @property
    def completeness(self) -> str:
        """Whether the contributions add up, in sentences."""
        told = f"The contributions of the pixels add up to {self.total:+.3f}, the {self.scale}s differ by "
        told += f"{self.difference:+.3f} ({self.logit:.3f} against {self.references.logit:.3f}): "
        told += f"{100 * self.error:.2f} % of the mean distance from the references lie between them, "
        if self.complete:
            told += f"with {self.steps} steps from each."
        else:
            told += f"more than the 1 % aimed at, although {self.steps} steps were taken from each."
        for layer in self.named:
            told += f" The {layer.channels:,} classes of {layer.address} add {layer.total:+.3f}."
        return told.replace("-", "−")

    @property
    def sentences(self) -> list[str]:
        """The result in words."""
        standing = f"{self.standing[0].upper()}{self.standing[1:]}"
        return [standing, self.completeness, *(each.sentence for each in self.regions)]

    def frame(self) -> pd.DataFrame:
        """The shown units, of layers with and without names: layer, unit, name, contribution, value, reference."""
        import pandas as pd

        rows = [
            {"layer": layer.address, **asdict(each)}
            for layer in (*self.named, *self.layers)
            for each in (*layer.raising, *layer.lowering[::-1])
        ]
        return pd.DataFrame(rows, columns=["layer", *Contribution.__annotations__])

    def region_frame(self) -> pd.DataFrame:
        """A row a filled region: side, region ("marked" or "random"), score and logit; "none" is the whole picture."""
        import pandas as pd

        rows = []
        for each in self.regions:
            levels = [("none", each.before), ("marked", each.filled), *(("random", level) for level in each.random)]
            rows += [(each.side, name, level.score, level.logit) for name, level in levels]
        return pd.DataFrame(rows, columns=["side", "region", "score", "logit"])

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON, without picture and map."""
        data = asdict(replace(self, picture=None, map=None))
        return {name: value for name, value in data.items() if name not in ("picture", "map")}

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes picture and map, and `explanation.json` last."""
        folder = Path(folder)
        assert self.picture is not None
        assert self.map is not None
        with replacing(folder / PICTURE) as temporary:
            self.picture.save(temporary, format="PNG")
        with replacing(folder / MAP) as temporary, temporary.open("wb") as file:
            np.save(file, self.map, allow_pickle=False)
        write_json(folder / DATA, self.to_dict())


def load_explanation(folder: str | os.PathLike[str]) -> Explanation:
    """An explanation that `memviz.explain` saved: the folder of one photograph.

    Raises:
        StoreError: there is none, it is damaged, or it is not finished.
    """
    folder = Path(folder)
    found = read_result(folder, KIND, FORMAT, DATA, Explanation, "explanation", "explain")
    return replace(found, picture=open_image(folder / PICTURE), map=_read_map(folder / MAP))


def _read_map(path: Path) -> NDArray[np.float32]:
    damaged = StoreError(f"{path} is missing or damaged. Delete {path.parent} and run `memviz explain` again.")
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise damaged from None
    if mapped.ndim != 2 or mapped.dtype != np.float32 or max(mapped.shape) > _LONGEST or not mapped.size:
        raise damaged
    found = np.array(mapped)
    if not np.isfinite(found).all():
        raise damaged
    return found

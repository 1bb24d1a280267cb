"""What would raise this score? A photograph changed towards a higher or a lower one, held near itself.

**Feature accentuation** (Hamblin, Fel, Saha, Konkle and Alvarez 2024, "Feature accentuation: revealing 'what' features
respond to in natural images") climbs from a photograph instead of noise, and penalizes the distance from it at an early
layer of the network. Here the distance is not penalized but prescribed: the ascent is held on spheres of growing radius
around the photograph. The two end in the same pictures, whose distance a penalty's weight would not tell; and pictures
at equal distances can be compared, also with controls: a random change, and the same change the other way.

The distance of a picture x from the photograph r is `sqrt(mean over layers of |h(x) - h(r)|^2 / |h(r)|^2)`, h being the
activations of a layer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from PIL import Image

from memviz.artefacts import check_folder, claim, inside, locked, read_result
from memviz.errors import LayerError, RenderError
from memviz.explanation.departure import Departure, Parameters
from memviz.explanation.subject import Measurement, Subject, to_pil
from memviz.files import replacing, utf8_name, write_json
from memviz.images import content_hash, open_image
from memviz.layers.unit import Unit, lies_in
from memviz.models import Model
from memviz.progress import progress as show_progress

if TYPE_CHECKING:
    import pandas as pd

Direction = Literal["up", "down"]
KIND, FORMAT = "memviz-accentuation", 1
DATA = "accentuation.json"
CAUTION = (
    "Such a picture shows what moves this network's number, within a small change that a search has chosen. It fools a "
    "network, and is no proof that people would remember it better or worse: what an optimized picture does to a "
    "network need not be what natural ones do (Geirhos et al. 2024, \"Don't trust your eyes: on the (un)reliability of "
    'feature visualizations"). Only an experiment with people can tell.'
)
RANDOM = 3  # random changes, as a control


@dataclass(frozen=True)
class AccentuateConfig:
    """How a photograph is changed.

    Attributes:
        strength: distance of the last picture from the photograph, at the layers `hold`.
        pictures: how many there are on the way, at equal distances.
        steps: of the ascent, at least one a picture.
        parameters: "fourier", or "phase", which leaves the photograph its spectrum.
        hold: addresses of the layers at which distances are taken; None is, in each branch, the last layer whose units
            see no more than an eighth of the picture's side.

    Raises:
        RenderError: a value of another type or out of range.
    """

    strength: float = 0.1
    pictures: int = 4
    steps: int = 20
    parameters: Parameters = "fourier"
    hold: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.strength, int | float) and 0 < self.strength <= 1):
            raise RenderError(f"strength={self.strength!r}: give a distance above 0, of at most 1.")
        if not 1 <= self.pictures <= 12 or not self.pictures <= self.steps <= 10_000:
            raise RenderError(
                f"pictures={self.pictures}, steps={self.steps}: give 1 to 12 pictures, and a step for each at least."
            )
        if self.parameters not in get_args(Parameters):
            raise RenderError(f"parameters={self.parameters!r}: give {' or '.join(get_args(Parameters))}.")


@dataclass(frozen=True)
class Shot:
    """One picture, and what the network makes of it as it is saved.

    Attributes:
        role: "before", "step", "opposite" (the same change the other way) or "random" (a random change).
        file: its name in the result's folder.
        radius: the distance that was asked for.
        measured: on the 8-bit picture.
    """

    role: Literal["before", "step", "opposite", "random"]
    file: str
    radius: float
    measured: Measurement


@dataclass(frozen=True)
class Accentuation:
    """A photograph on its way to a higher or lower score, or activation of a unit.

    Attributes:
        model, weights, target: of the network.
        photograph, sha256: the file's name and checksum.
        direction: "up" or "down".
        unit: whose mean activation is changed; None where it is the score.
        scale: what is climbed: the "logit" of the score, the "score", or the unit's "mean".
        held: the layers at which distances are taken.
        config: how it was made.
        shots: "before", the steps, "opposite", and the random ones.
        seed: of the transforms, the random changes and the cut pictures.
        caution: what such pictures do not tell.
    """

    model: str
    weights: str
    target: str | None
    photograph: str
    sha256: str
    direction: Direction
    unit: str | None
    scale: Literal["logit", "score", "mean"]
    held: tuple[str, ...]
    config: AccentuateConfig
    shots: tuple[Shot, ...]
    seed: int
    caution: str = CAUTION
    pictures: Mapping[str, Image.Image] = field(default_factory=dict, compare=False, repr=False)

    @property
    def strip(self) -> list[Shot]:
        """The photograph and the pictures on the way."""
        return [shot for shot in self.shots if shot.role in ("before", "step")]

    @property
    def controls(self) -> list[Shot]:
        """The change the other way, and the random ones."""
        return [shot for shot in self.shots if shot.role in ("opposite", "random")]

    @property
    def what(self) -> str:
        """What is raised or lowered, in words."""
        return f"mean activation of {self.unit}" if self.unit else (self.target or "score").replace("_", " ")

    @property
    def sentence(self) -> str:
        """The result in a sentence, with its controls."""
        first, last = self.strip[0], self.strip[-1]
        randoms = [shot for shot in self.controls if shot.role == "random"]
        values = [shot.measured.shown for shot in randoms]
        told = f"{self.what} {first.measured.shown:.3f} before and {last.measured.shown:.3f} after"
        told += f" ({first.measured.robust:.3f} and {last.measured.robust:.3f} on average over randomly cut pictures)"
        told += f"; with a random change at the same distance {min(values):.3f} to {max(values):.3f}. The pixels"
        told += f" changed by {last.measured.rms:.1f} of 255 levels (root mean square),"
        return f"{told} at random by {randoms[0].measured.rms:.1f}."

    def frame(self) -> pd.DataFrame:
        """A row a picture: role, file, and its measurements."""
        import pandas as pd

        names = ("score", "logit", "mean", "peak", "robust", "robust_low", "robust_high", "distance", "rms")
        rows = [[each.role, each.file, *(getattr(each.measured, name) for name in names)] for each in self.shots]
        return pd.DataFrame(rows, columns=["role", "file", *names]).dropna(axis="columns", how="all")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON, without the pictures."""
        data = asdict(replace(self, pictures={}))
        del data["pictures"]
        return data

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the pictures as PNG, and `accentuation.json` last."""
        for name, picture in self.pictures.items():
            with replacing(Path(folder) / name) as temporary:
                picture.save(temporary, format="PNG")
        write_json(Path(folder) / DATA, self.to_dict())


def accentuate(
    model: Model,
    photograph: str | os.PathLike[str],
    direction: Direction,
    unit: str | Unit | None = None,
    *,
    config: AccentuateConfig | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Accentuation:
    """Changes a photograph towards a higher or a lower score, or activation of a unit, step by step.

    The pictures have the photograph's proportions, and no more pixels than preprocessing leaves it. What is reported of
    them is measured on the saved 8-bit pictures, through the model's own preprocessing and on the plain network.

    Args:
        model: with a score, or with any output where a unit is given; it stays as it is.
        photograph: a picture file.
        direction: "up" or "down".
        unit: as "resnet.layer3.20:5", to change the mean of its activation, as `memviz.layers.unit` defines it.
        config: how, as `AccentuateConfig(strength=0.1)`.
        seed: of the random transforms through which each step sees the picture, and of the controls.
        out: a folder for the result; where the same is there already, it is read.
        progress: None shows it on a terminal, True also in a log, False never.

    Returns:
        The pictures, and what is measured on them.

    Raises:
        ImageError: no picture, or a damaged one.
        ModelError: the model does not give one number a picture.
        LayerError: a unit or a layer that the model does not have.
        RenderError: settings that do not work; no gradient reaches the photograph.
        StoreError: `out` holds another result; the message says in which fields.

    Example:
        >>> import memviz
        >>> from PIL import Image
        >>> from torch import nn
        >>> path = getfixture("tmp_path") / "grey.png"
        >>> Image.new("RGB", (16, 16), (99, 99, 99)).save(path)
        >>> network = nn.Sequential(nn.Conv2d(3, 1, 1), nn.AdaptiveAvgPool2d(1))
        >>> model = memviz.wrap(network, memviz.InputSpec(size=(16, 16), resize=16))
        >>> found = accentuate(model, path, "up", config=AccentuateConfig(pictures=2, steps=2))
        >>> found.strip[2].measured.score > found.strip[1].measured.score > found.strip[0].measured.score
        True
    """
    config = config or AccentuateConfig()
    if direction not in get_args(Direction):
        raise RenderError(f"direction={direction!r}: give {' or '.join(get_args(Direction))}.")
    picture = open_image(photograph)
    chosen = unit if isinstance(unit, Unit) or unit is None else Unit.parse(unit, model.layers)
    held = tuple(model.layers[address].address for address in config.hold) if config.hold else near_layers(model)
    digest = content_hash(photograph)
    asked = {"direction": direction, "unit": None if chosen is None else str(chosen), **asdict(config)}
    manifest = model.manifest(
        KIND,
        FORMAT,
        {"photograph": digest, **asked, "hold": list(held)},
        seed,
    )
    folder = None if out is None else Path(out)
    if folder is not None:
        check_folder(folder)
        if folder.is_dir() and os.listdir(folder):  # what holds something else is refused before the work is done
            claim(folder, manifest, {"config.photograph": "its photograph is another"})
        if (folder / DATA).is_file():
            return load_accentuation(folder)
    subject = Subject(model, chosen, held, seed)  # what cannot be done leaves no folder
    shots, pictures = _make(subject, picture, direction, config, progress)
    found = Accentuation(
        model.name,
        str(manifest.weights),
        model.target,
        utf8_name(Path(photograph).name),
        digest,
        direction,
        asked["unit"],
        subject.scale,
        held,
        config,
        shots,
        seed,
        pictures=pictures,
    )
    if folder is not None:
        claim(folder, manifest)
        with locked(folder, wait=True):
            found.save(folder)
    return found


def load_accentuation(folder: str | os.PathLike[str]) -> Accentuation:
    """The result that `accentuate` saved, with its pictures.

    Raises:
        StoreError: there is none, it is damaged, or it is not finished.
    """
    folder = Path(folder)
    found = read_result(folder, KIND, FORMAT, DATA, Accentuation, "accentuation", "accentuate")
    return replace(found, pictures={shot.file: open_image(inside(folder, shot.file)) for shot in found.shots})


def _make(
    subject: Subject, picture: Image.Image, direction: Direction, config: AccentuateConfig, progress: bool | None
) -> tuple[tuple[Shot, ...], dict[str, Image.Image]]:
    """The pictures, by file, and what is measured on them."""
    made: list[tuple[Literal["before", "step", "opposite", "random"], str, float, Image.Image]] = []
    with show_progress("Accentuating", config.steps + config.pictures + 2 + RANDOM, "steps", progress) as advance:
        before = subject.start(picture)
        made.append(("before", "before.png", 0.0, before))
        departure = Departure(subject.photograph, config.parameters, subject.distance)
        sign = 1 if direction == "up" else -1
        radii = [config.strength * (step + 1) / config.steps for step in range(config.steps)]
        kept = {round(config.steps * (number + 1) / config.pictures): number + 1 for number in range(config.pictures)}
        offset = departure.still
        for step, offset in enumerate(departure.climb(subject.value(sign, config.steps), radii), start=1):
            if step in kept:
                shown = to_pil(departure.picture(offset))
                made.append(("step", f"step-{kept[step]}.png", radii[step - 1], shown))
            advance()
        opposite = departure.at(-offset, config.strength)
        made.append(("opposite", "opposite.png", config.strength, to_pil(departure.picture(opposite))))
        for number in range(RANDOM):
            random = departure.at(subject.noise(offset), config.strength)
            made.append(("random", f"random-{number + 1}.png", config.strength, to_pil(departure.picture(random))))
        shots = []
        for role, file, radius, shown in made:
            shots.append(Shot(role, file, radius, subject.measure(shown)))
            advance()
    return tuple(shots), {file: shown for _, file, _, shown in made}


def near_layers(model: Model) -> tuple[str, ...]:
    """Where distances are taken by default: in each branch the layer that sees most, but no more than an eighth of the
    picture's side.

    So near the pixels that what a person sees is still there, and so far that what a person overlooks counts less. A
    branch without such a layer is held at its first one.

    Raises:
        LayerError: there is no convolution at all.
    """
    limit = min(model.inputs.size) / 8
    near = []
    for branch in model.branches or ("",):
        own = [layer for layer in model.layers.watched() if not branch or lies_in(layer.address, branch)]
        seen = [(max(each.receptive_field), each.block, each) for each in own if each.receptive_field is not None]
        small = [each for each in seen if each[0] <= limit]
        if own:
            near.append((max(small, key=lambda each: each[:2])[2] if small else own[0]).address)
    if not near:
        raise LayerError(f"{model.name} has no convolution to hold a photograph at. Name a layer: hold=[...].")
    return tuple(near)

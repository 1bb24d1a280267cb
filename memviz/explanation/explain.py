"""Why has this photograph its score? What raises and lowers it: classes, units, and parts of the picture.

The score's logit is compared with that of reference photographs, and the difference is shared out by expected gradients
(`memviz.explanation.attribution`) among the units of layers from shallow to deep; a map of the picture
(`memviz.explanation.maps`) says where it comes from, and is checked by filling what it marks
(`memviz.explanation.region`).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from memviz.artefacts import LOCK, MANIFEST, Manifest, check_folder, claim, locked
from memviz.errors import ImageError
from memviz.explanation.choice import chosen_layers
from memviz.explanation.explainer import Explainer
from memviz.explanation.record import DATA, FORMAT, KIND, ExplainConfig, Explanation, load_explanation
from memviz.files import utf8_name
from memviz.images import content_hash, list_images, open_image
from memviz.index import Index, load_index
from memviz.models import Model
from memviz.models.model import warn_unreadable
from memviz.progress import Advance
from memviz.progress import progress as show_progress

FOLDER_KIND = "memviz-explanations"  # the folder that holds those of several photographs
_WORDS = {"config.index": "the index is another"}


def explain(
    model: Model,
    photographs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    index: Index | str | os.PathLike[str] | None = None,
    *,
    config: ExplainConfig | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> list[Explanation]:
    """Says of photographs why they have their scores, and not those of reference photographs.

    Args:
        model: with a score; it stays as it is.
        photographs: files and folders.
        index: of the model's weights, or its folder: references are drawn from its photographs, and the percentile is
            among them. Without one the references are photographs of installed packages, and there is no percentile.
        config: how, as `ExplainConfig(layers=("resnet.layer4.2",))`.
        seed: of the references and of the random regions.
        out: a folder that gets a folder a photograph; those that are there already are read.
        progress: None shows it on a terminal, True also in a log, False never.

    Returns:
        One for each photograph that can be read, in the order given. A warning names the others.

    Raises:
        ImageError: no photograph was found, or none can be read.
        LayerError: a layer that the model does not have, or that the index does not watch.
        ModelError: the model does not give one finite number a picture, or its score has no gradient.
        StoreError: an index of other weights, or with no other photograph; `out` holds something else, and the message
            says in which fields.

    Example:
        >>> import memviz
        >>> from PIL import Image
        >>> from torch import nn
        >>> path = getfixture("tmp_path") / "red.png"
        >>> Image.new("RGB", (16, 16), (200, 9, 9)).save(path)
        >>> layers = nn.Conv2d(3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1), nn.Sigmoid()
        >>> model = memviz.wrap(nn.Sequential(*layers), memviz.InputSpec(size=(16, 16), resize=16))
        >>> [found] = explain(model, path, config=ExplainConfig(references=3, max_steps=64))
        >>> found.complete, found.layers[0].address, found.references.what
        (True, '0', '3 photographs drawn at random from the 17 that come with scikit-image and scikit-learn')
    """
    config = config or ExplainConfig()
    index = load_index(index) if isinstance(index, str | os.PathLike) else index
    if index is not None:
        index.check_model(model)
    weights = model.fingerprint()
    layers = chosen_layers(model, index, config.layers, weights)
    given = [photographs] if isinstance(photographs, str | os.PathLike) else photographs
    paths = list_images([Path(each) for each in given])
    asked = {**asdict(config), "layers": [layer.address for layer in layers], "index": _digest(index)}
    manifest = Manifest(FOLDER_KIND, FORMAT, model.name, weights, model.inputs.to_dict(), asked, seed)
    folder = None if out is None else Path(out)
    if folder is not None:
        check_folder(folder)
        if folder.is_dir() and set(os.listdir(folder)) - {LOCK}:  # something else is refused before the work is done
            claim(folder, manifest, _WORDS)
    explainer: Explainer | None = None
    done, unreadable = [], {}
    passes = config.passes
    with show_progress("Explaining", len(paths) * passes, "passes", progress) as advance:
        for path in paths:
            share = _Share(passes, advance)
            try:
                digest = ""
                with suppress(OSError):  # of what is no file, `open_image` says why
                    digest = content_hash(path)
                picture = open_image(path, digest or None)
            except (ImageError, OSError) as error:
                unreadable[str(path)] = str(error).removeprefix(f"{utf8_name(path)}: ")
                share.finish()
                continue
            own = replace(manifest, kind=KIND, config=asked | {"photograph": digest})
            place = None if folder is None else folder / photograph_folder(path, digest)
            if place is not None and (place / DATA).is_file():
                claim(place, own, _WORDS)
                done.append(load_explanation(place))
            else:
                explainer = explainer or Explainer(model, index, layers, config, seed)
                found = explainer.explain(picture, path.name, digest, share)
                if folder is not None and place is not None:
                    claim(folder, manifest, _WORDS)
                    claim(place, own, _WORDS)
                    with locked(place, wait=True):
                        found.save(place)
                done.append(found)
            share.finish()
    if not done:
        named = "; ".join(f"{utf8_name(path)}: {reason}" for path, reason in list(unreadable.items())[:5])
        raise ImageError(f"None of the {len(paths)} photographs can be read ({named}). Give others.")
    warn_unreadable(unreadable)
    return done


class _Share:
    """Counts the passes of one photograph: as many as were announced, also where there were more or none."""

    def __init__(self, passes: int, advance: Advance) -> None:
        self._left, self._advance = passes, advance

    def __call__(self, count: int = 1) -> None:
        count = min(count, self._left)
        self._left -= count
        self._advance(count)

    def finish(self) -> None:
        """Counts the rest."""
        self(self._left)


def photograph_folder(path: str | os.PathLike[str], digest: str) -> str:
    """The name of a photograph's folder: its file's, and the beginning of its checksum.

    >>> photograph_folder("photos/a b.jpg", "0123456789abcdef")
    'a_b-01234567'
    """
    stem = re.sub(r"[^\w.-]+", "_", Path(path).stem, flags=re.ASCII).strip("._") or "photograph"
    return f"{stem[:80]}-{digest[:8]}"


def load_explanations(folder: str | os.PathLike[str]) -> dict[str, Explanation]:
    """The finished explanations in a folder that was given to `explain` as `out`, by the name of their folders.

    Raises:
        StoreError: it is no such folder, or one of them is damaged.
    """
    folder = Path(folder)
    Manifest.read(folder, FOLDER_KIND, FORMAT)
    places = sorted(path.parent for path in folder.glob(f"*/{DATA}") if (path.parent / MANIFEST).is_file())
    return {place.name: load_explanation(place) for place in places}


def _digest(index: Index | None) -> str | None:
    """Tells one index from another."""
    if index is None:
        return None
    return hashlib.sha256(repr((index.config.photographs, index.result.photographs)).encode()).hexdigest()

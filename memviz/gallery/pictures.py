"""The saved pictures of a layer's units, from the folders that `memviz render` wrote."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from memviz.artefacts import MANIFEST
from memviz.errors import StoreError
from memviz.index import Index
from memviz.rendering.outcome import TABLE
from memviz.rendering.record import RenderRecord
from memviz.rendering.store import SavedRenders, load_renders

if TYPE_CHECKING:
    import pandas as pd


def jpeg(picture: Image.Image, quality: int, subsampling: int = -1) -> bytes:
    """A picture as JPEG, without its comments: a photograph's may say who took it, and where.

    >>> jpeg(Image.new("RGB", (3, 2)), 80)[:2]
    b'\\xff\\xd8'
    """
    buffer = io.BytesIO()
    picture.info.clear()
    picture.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return buffer.getvalue()


@dataclass(frozen=True)
class Picture:
    """A unit's picture, or that there is none.

    Attributes:
        saved: the folder in which it lies.
        record: what is known of it.
        made: how, in words; empty for the defaults.
        lowest: whether it lowers the unit.
    """

    saved: SavedRenders
    record: RenderRecord
    made: str
    lowest: bool

    @property
    def path(self) -> Path | None:
        """Its file; None where the picture shows nothing."""
        return self.saved.path(self.record)

    def read(self) -> Image.Image | None:
        """It as RGB; None where it shows nothing.

        Raises:
            StoreError: a file that is no PNG of a render any more.
        """
        return self.saved.picture(self.record)


class Renders:
    """A folder of `memviz render`, with a folder a layer in it.

    Args:
        folder: as was given with `--out`.

    Raises:
        StoreError: nothing is rendered there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not any(folder.glob(f"*/{MANIFEST}")):
            raise StoreError(
                f"No units are rendered in {folder}. `memviz render MODEL --all --out {folder}` does that."
            )
        self._best = _read_best(folder)

    @property
    def addresses(self) -> set[str]:
        """The layers that are there."""
        return {path.parent.name for path in self.folder.glob(f"*/{MANIFEST}")}

    def of(self, address: str, index: Index) -> dict[int, Picture]:
        """The pictures of a layer by channel; of a unit that was drawn several times, the best one.

        Raises:
            StoreError: renders of other weights than the index's, or damaged ones.
        """
        folders = {"first": self.folder / address}
        attempts = self._best.get(address, {})
        folders |= {name: self.folder / "retries" / name / address for name in set(attempts.values()) - {"first"}}
        saved = {name: load_renders(path) for name, path in folders.items() if (path / MANIFEST).is_file()}
        for each in saved.values():
            if each.manifest.weights != index.manifest.weights:
                raise StoreError(f"{each.folder} holds renders of other weights than the index {index.path}.")
        found: dict[int, Picture] = {}
        for channel, record in saved["first"].units.items() if "first" in saved else ():
            attempt = attempts.get(channel, "first")
            own = saved.get(attempt, saved["first"])
            found[channel] = _picture(own, own.units.get(channel, record))
        return found


def _picture(saved: SavedRenders, record: RenderRecord) -> Picture:
    config = saved.manifest.config
    objective, kind = str(config.get("objective", "")), str((config.get("parameterization") or {}).get("kind", ""))
    words = [kind if kind not in ("", "fourier") else "", objective if objective != "excitation" else ""]
    words += [
        f"seed {record.seed}" if record.seed else "",
        "gradient redirected" if record.state == "redirected" else "",
    ]
    return Picture(saved, record, ", ".join(filter(None, words)), objective == "inhibition")


def _read_best(folder: Path) -> dict[str, dict[int, str]]:
    """By layer and channel, the attempt that gave the best picture, where `memviz render --all` has judged them."""
    if not (folder / TABLE).is_file():
        return {}
    import pandas as pd

    try:
        table: pd.DataFrame = pd.read_parquet(folder / TABLE, columns=["layer", "unit", "attempt"])
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{folder / TABLE} is damaged ({error}). Delete it and render again.") from error
    table = table[table["unit"].notna() & table["attempt"].notna()]
    groups = table.groupby("layer")
    return {str(name): dict(zip(each["unit"].astype(int), each["attempt"], strict=True)) for name, each in groups}

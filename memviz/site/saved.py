"""A site that was built, as others link to it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from memviz.artefacts import Manifest
from memviz.errors import StoreError
from memviz.files import read_json
from memviz.layers.unit import Unit
from memviz.site.build import FORMAT, KIND
from memviz.site.photographs import FACE
from memviz.site.places import DATA, PAGE


@dataclass(frozen=True)
class _Picture:
    file: str | None
    lowest: bool


@dataclass(frozen=True)
class _Facts:
    """What is read of a unit's JSON."""

    pictures: tuple[_Picture, ...]


@dataclass(frozen=True)
class SavedSite:
    """The pages of a network.

    Attributes:
        folder: where they lie.
        weights: of the network.
        places: by address, the folder of each shown layer's page.
    """

    folder: Path
    weights: str
    places: dict[str, str]

    def page(self, unit: Unit) -> str | None:
        """The page of a unit, below the site's folder; None where there is none."""
        place = self.places.get(unit.address)
        if place is None or not (self.folder / place / str(unit.channel) / PAGE).is_file():
            return None
        return f"{place}/{unit.channel}/{PAGE}"

    def picture(self, unit: Unit) -> str | None:
        """The picture of what a unit wants to see, below the site's folder; None where there is none.

        Raises:
            StoreError: what the site says of the unit is damaged.
        """
        if (data := self._beside(unit, DATA)) is None:
            return None
        pictures = read_json(self.folder / data, _Facts).pictures
        file = next((each.file for each in pictures if each.file and not each.lowest), None)
        return None if file is None else self._beside(unit, file)

    def seen(self, unit: Unit) -> str | None:
        """What a unit without a picture saw of its best photograph; None where there is none either."""
        return self._beside(unit, FACE)

    def _beside(self, unit: Unit, name: str) -> str | None:
        file = f"{self.places.get(unit.address)}/{unit.channel}/{name}"
        return file if unit.address in self.places and (self.folder / file).is_file() else None


def load_site(folder: str | os.PathLike[str]) -> SavedSite:
    """The site in a folder that was given to `build_site` as `out`.

    Raises:
        StoreError: there is none, or its building was interrupted.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder, KIND, FORMAT)
    if not (places := manifest.result.get("places")):
        raise StoreError(f"The site in {folder} is not finished. Run `memviz site` again.")
    return SavedSite(folder, str(manifest.weights), dict(places))

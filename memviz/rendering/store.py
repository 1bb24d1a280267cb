"""Rendered pictures on disk: a folder a layer, with a PNG a unit and a manifest."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin
from torch import Tensor

from memviz.errors import StoreError
from memviz.files import provenance, read_json, replacing, write_json
from memviz.layers import Layer

MANIFEST = "manifest.json"
KIND, FORMAT = "memviz-renders", 1
_RECORD = ("activation", "peak", "steps", "seed", "state")


@dataclass(frozen=True)
class SavedRenders:
    """The pictures of one layer in a folder.

    Attributes:
        folder: where they lie.
        manifest: model, weights, layer, config, seed, versions.
        layer: whose units they show.
        units: unit to file, activation (mean over positions), peak, steps, seed and state; a dead unit
            has no file.
    """

    folder: Path
    manifest: dict[str, Any]
    layer: Layer
    units: dict[int, dict[str, Any]]

    def path(self, unit: int) -> Path | None:
        """A unit's picture; None if it is dead or not there."""
        file = self.units.get(unit, {}).get("file")
        return self.folder / file if file else None

    def picture(self, unit: int) -> Image.Image | None:
        """A unit's picture, read; None if it is dead or not there.

        Raises:
            StoreError: a file that is no picture any more.
        """
        path = self.path(unit)
        if path is None:
            return None
        try:
            with Image.open(path) as image:
                return image.convert("RGB")
        except (OSError, SyntaxError) as error:
            raise StoreError(f"{path} is damaged ({error}). Delete it and render again.") from error

    def add(self, unit: int, picture: Tensor, record: dict[str, Any]) -> None:
        """Saves the picture (3, H, W) in [0, 1] of a unit; of a dead unit only the record."""
        saved = dict(record)
        if record["state"] != "dead":
            saved["file"] = f"unit-{unit:04d}.png"
            text = PngImagePlugin.PngInfo()
            for key in ("model", "weights"):
                text.add_text(f"memviz:{key}", str(self.manifest[key]))
            text.add_text("memviz:unit", f"{self.layer.address}:{unit}")
            with replacing(self.folder / saved["file"]) as temporary:
                to_pil(picture).save(temporary, pnginfo=text)
        self.units[unit] = saved

    def save(self) -> None:
        """Writes the manifest; pictures count once it names them."""
        units = {str(unit): self.units[unit] for unit in sorted(self.units)}
        write_json(self.folder / MANIFEST, self.manifest | {"units": units})


def to_pil(picture: Tensor) -> Image.Image:
    """A picture (3, H, W) in [0, 1] as an 8-bit image."""
    array = picture.detach().float().cpu().clamp(0, 1).mul(255).round().permute(1, 2, 0).numpy()
    return Image.fromarray(array.astype(np.uint8))


def load_renders(folder: str | os.PathLike[str]) -> SavedRenders:
    """Opens a folder of one layer's pictures; a unit whose picture is gone counts as not drawn.

    Raises:
        StoreError: no manifest, or a damaged one.
    """
    path = Path(folder)
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND or manifest.get("format") != FORMAT:
        raise StoreError(f"{path / MANIFEST} is not a manifest of memviz renders of format {FORMAT}.")
    try:
        units = {int(unit): record for unit, record in manifest["units"].items()}
        for record in units.values():
            _ = [record[key] for key in _RECORD]
        layer = Layer.from_dict(manifest["layer"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{path / MANIFEST} is damaged ({error!r}). Delete the folder and render again.") from error
    kept = {u: r for u, r in units.items() if not r.get("file") or (path / r["file"]).is_file()}
    return SavedRenders(path, {key: value for key, value in manifest.items() if key != "units"}, layer, kept)


def open_renders(folder: Path, header: dict[str, Any], layer: Layer) -> SavedRenders:
    """Opens a folder to render more units into it, or starts one.

    Raises:
        StoreError: the folder holds pictures of other weights, another layer or another config.
    """
    header = {"kind": KIND, "format": FORMAT} | header | {"layer": layer.to_dict()}
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise StoreError(f"{existing} is a file, so it cannot hold pictures. Choose another folder.")
    if not (folder / MANIFEST).exists():
        return SavedRenders(folder, header | provenance(), layer, {})
    saved = load_renders(folder)
    if saved.layer.address != layer.address:
        raise StoreError(
            f"{folder} holds pictures of {saved.layer.address}, not of {layer.address}. Choose another folder."
        )
    for key in ("model", "weights", "config", "seed"):
        if saved.manifest.get(key) != header[key]:
            raise StoreError(
                f"{folder} holds pictures made with another {key}: "
                f"{_difference(saved.manifest.get(key), header[key])}. Choose another folder, or delete this one."
            )
    return saved


def _difference(old: Any, new: Any) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in new if old.get(key) != new[key]]
        return ", ".join(f"{key} {old.get(key)!r} there, {new[key]!r} now" for key in keys)
    return f"{old!r} there, {new!r} now"

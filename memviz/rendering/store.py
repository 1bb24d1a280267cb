"""Rendered pictures on disk: a folder with a PNG a picture, records of them, and a manifest.

Several processes may draw into one folder. Each finished batch adds its records as an immutable shard; whoever is done
merges what shards there are into `records.json` and draws the contact sheet.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from memviz.artefacts import SHARDS, Manifest, add_shard, inside, locked, shards
from memviz.errors import StoreError
from memviz.files import read_json, replacing, write_json
from memviz.layers import Layer
from memviz.models import InputSpec
from memviz.rendering.config import MOST
from memviz.rendering.engine import GREY, RenderResult
from memviz.rendering.job import FORMAT, KIND, RenderJob
from memviz.rendering.measure import to_pil
from memviz.rendering.record import RenderRecord
from memviz.rendering.sheet import contact_sheet

RECORDS, CONTACT_SHEET = "records.json", "contact_sheet.png"
# Of a sheet, at most so many pictures; what there are more come on sheets of their own.
PAGE = 1024
WORDS = {"weights": "other weights", "config.parameterization.magnitude": "the spectrum of other photographs"}


@dataclass(frozen=True)
class SavedRenders:
    """The pictures in a folder.

    Attributes:
        folder: where they lie.
        manifest: where they come from.
        records: one a picture; of a layer's, in the order of its units.
    """

    folder: Path
    manifest: Manifest
    records: tuple[RenderRecord, ...]

    @property
    def units(self) -> dict[int, RenderRecord]:
        """Of a layer's pictures, the record of each unit."""
        return {record.unit: record for record in self.records if record.unit is not None}

    def missing(self, job: RenderJob) -> tuple[int, ...]:
        """The units of a job that are not among these."""
        there = self.units
        return tuple(unit for unit in job.units if unit not in there)

    def path(self, record: RenderRecord) -> Path | None:
        """A record's picture; None if it has none.

        Raises:
            StoreError: a name that leads out of the folder.
        """
        return inside(self.folder, record.file) if record.shown and record.file else None

    def picture(self, record: RenderRecord) -> Image.Image | None:
        """A record's picture, read; None if it has none.

        Raises:
            StoreError: a file that is no PNG of a render any more.
        """
        path = self.path(record)
        if path is None:
            return None
        try:
            with Image.open(path, formats=("PNG",)) as image:
                if max(image.size) > MOST["size"]:
                    raise StoreError(f"{path} is {image.width}x{image.height} px, which no render is. Delete it.")
                return image.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise StoreError(f"{path} is damaged ({error}). Delete it and render again.") from error

    def images(self, records: Iterable[RenderRecord], size: tuple[int, int]) -> Tensor:
        """Pictures (N, 3, H, W) float32 in [0, 1]; mid-grey stands for one that there is not."""
        grey = torch.full((3, *size), GREY, dtype=torch.uint8, device="cpu")
        read = [self.picture(record) for record in records]
        return torch.stack([grey if picture is None else from_pil(picture) for picture in read]).float() / 255

    def differences(self, job: RenderJob, model: str, weights: str, layer: Layer, inputs: InputSpec) -> list[str]:
        """In what these pictures were made otherwise than `job` asks for; see `RenderJob.manifest`."""
        return self.manifest.differences(job.manifest(model, weights, layer, inputs))

    def add(self, results: Sequence[RenderResult], files: Sequence[str]) -> None:
        """Saves a finished batch; what another process has saved meanwhile stays."""
        with locked(self.folder, wait=True):
            known = {record.file for record in load_renders(self.folder).records}
            records = []
            for result, file in zip(results, files, strict=True):
                if file not in known:
                    records.append(replace(result.record, file=file))
                    if result.record.shown:
                        self._save_picture(result, file)
            if records:
                content = msgspec.json.format(msgspec.json.encode(records), indent=1)
                name = f"{hashlib.blake2b(content, digest_size=8).hexdigest()}.json"
                add_shard(self.folder, name, lambda path: path.write_bytes(content))

    def _save_picture(self, result: RenderResult, file: str) -> None:
        text = PngImagePlugin.PngInfo()
        for key in ("model", "weights"):
            text.add_text(f"memviz:{key}", str(getattr(self.manifest, key)))
        text.add_text("memviz:objective", result.record.objective)
        with replacing(self.folder / file) as temporary:
            to_pil(result.picture).save(temporary, format="PNG", pnginfo=text)

    def merge(self, title: str = "") -> SavedRenders:
        """Merges the shards into one file, and draws the contact sheet where it is older; returns what is there.

        Where nothing is to be done nothing is written: a finished folder may be read-only.
        """
        records, sheet = self.folder / RECORDS, self.folder / CONTACT_SHEET
        if not shards(self.folder) and records.is_file() and not _older(sheet, records):
            return load_renders(self.folder)
        with locked(self.folder, wait=True):
            merged = shards(self.folder)
            saved = load_renders(self.folder)
            if merged or not records.is_file():
                write_json(records, msgspec.to_builtins(saved.records))
                for shard in merged:
                    shard.unlink(missing_ok=True)
                with suppress(OSError):  # a process without locks may be adding another
                    (self.folder / SHARDS).rmdir()
            # An interrupted run leaves a sheet that is older than the records, or none; the first one is drawn last.
            if _older(sheet, records):
                for page in reversed(range(max(1, -(-len(saved.records) // PAGE)))):
                    drawn = saved.sheet(title, page)
                    path = sheet if page == 0 else sheet.with_stem(f"{sheet.stem}-{page + 1}")
                    with replacing(path) as temporary:
                        drawn.save(temporary)
        return saved

    def sheet(self, title: str = "", page: int = 0) -> Image.Image:
        """All pictures on one labelled sheet; of more than 1,024, those of a page."""
        records = self.records[page * PAGE : (page + 1) * PAGE]
        if len(self.records) > PAGE:
            title = f"{title}  {records[0].label} to {records[-1].label}"
        pictures = [self.picture(record) or record.state for record in records]
        return contact_sheet(pictures, [record.label for record in records], title)


def _older(sheet: Path, records: Path) -> bool:
    return not sheet.is_file() or sheet.stat().st_mtime_ns < records.stat().st_mtime_ns


def from_pil(picture: Image.Image) -> Tensor:
    """A picture (3, H, W) uint8."""
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.view(picture.height, picture.width, 3).permute(2, 0, 1).contiguous()


def load_renders(folder: str | os.PathLike[str]) -> SavedRenders:
    """Opens a folder of pictures, as `memviz.render` and `Renders.save` write them.

    A record whose picture is gone does not count.

    Raises:
        StoreError: no manifest, or damaged files.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder, KIND, FORMAT)
    found: list[RenderRecord] = []
    # Shards first: one that is merged meanwhile is then in the merged file.
    for shard in shards(folder):
        try:
            found += read_json(shard, list[RenderRecord])
        except StoreError:
            if shard.exists():
                raise
    if (folder / RECORDS).is_file():
        found = read_json(folder / RECORDS, list[RenderRecord]) + found
    kept: dict[str, RenderRecord] = {}
    for record in found:
        if not record.file:
            raise StoreError(f"{folder} has a record without a file's name. Delete the folder and render again.")
        path = inside(folder, record.file)
        if not record.shown or path.is_file():
            kept.setdefault(record.file, record)
    records = sorted(kept.values(), key=lambda record: (len(record.file or ""), record.file))
    return SavedRenders(folder, manifest, tuple(records))

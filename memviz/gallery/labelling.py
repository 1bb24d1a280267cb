"""A page of units that lack a label, with what each saw, and a CSV to fill in."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from memviz.artefacts import MANIFEST, Manifest, claim, locked
from memviz.errors import LabelError
from memviz.explanation.handwritten import NONE, Entry, add_entries
from memviz.files import replacing
from memviz.gallery.html import environment
from memviz.index import Index
from memviz.layers.unit import Unit

KIND, FORMAT = "memviz-label-sheet", 1
PAGE, TABLE, IMAGES = "index.html", "labels.csv", "images"
CROPS, SIDE, GAP = 9, 128, 6  # of a strip: photographs, and px


def label_sheet(index: Index, units: Sequence[Unit], out: str | os.PathLike[str]) -> Path:
    """Writes a page with the best photographs of units, and `labels.csv`, in which a person labels them.

    `memviz.explanation.labels.add_labels`, or `memviz label --read`, takes that file over. It is written once: what was
    filled in stays. Automatic labels are not shown, so that a person's do not depend on them.

    Args:
        index: whose units they are.
        units: what to show, in this order.
        out: folder of the page, the CSV and the pictures; new, or that of the same sheet.

    Returns:
        Path of the page, which opens from disk without a server.

    Raises:
        LabelError: no unit.
        StoreError: an `out` that holds something else, or a photograph that is gone or changed.
    """
    if not units:
        raise LabelError("No unit to label: name layers with --layer, of which some unit has no label yet.")
    out = Path(out)
    config = {"photographs": index.config.photographs, "units": [str(unit) for unit in units]}
    manifest = Manifest(KIND, FORMAT, str(index.manifest.model), str(index.manifest.weights), config=config)
    manifest = claim(out, manifest, {"config.units": "its units are others"})
    with locked(out):
        for unit in units:
            if not (path := out / strip_name(unit)).is_file():
                with replacing(path) as temporary:
                    _strip(index.crops(unit, CROPS, SIDE)).save(temporary, quality=90)
        if not (out / TABLE).is_file():
            add_entries(out / TABLE, [Entry(unit, "") for unit in units])
        groups = [
            (index.layers[address], list(each)) for address, each in itertools.groupby(units, lambda unit: unit.address)
        ]
        page = environment().get_template("labelling.html")
        text = page.render(
            groups=groups, count=len(units), photographs=index.result.photographs, manifest=manifest,
            table=TABLE, data=MANIFEST, nothing=NONE, name=strip_name,
        )  # fmt: skip
        with replacing(out / PAGE) as temporary:
            temporary.write_text(text.lstrip(), encoding="utf-8")
    return out / PAGE


def strip_name(unit: Unit) -> str:
    """The file of a unit's photographs, relative to the page."""
    return f"{IMAGES}/{unit.stem}.jpg"


def _strip(crops: Sequence[Image.Image]) -> Image.Image:
    strip = Image.new("RGB", (len(crops) * (SIDE + GAP) - GAP, SIDE), "white")
    for place, crop in enumerate(crops):
        strip.paste(ImageOps.pad(crop, (SIDE, SIDE), color="white"), (place * (SIDE + GAP), 0))
    return strip

"""Makes small SYNTHETIC data sets in the layouts of LaMem and MemCat, to try training and evaluation without them.

    uv run python experiments/fake_data/make.py OUT --lamem 200 --memcat 200

Each picture is one shape before a textured background. The larger, the more colourful and the higher in contrast the
shape is, the more of some 80 simulated participants recognize it: the scores depend on the pictures, and a model can
learn them. They say nothing about people. The folders carry a file SYNTHETIC.txt, by which memviz labels results.
"""

from __future__ import annotations

import argparse
import csv
import math
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SYNTHETIC = "SYNTHETIC.txt"  # memviz.images.scored looks for it
LAMEM_SET, MEMCAT_SET = 0, 1  # the same seed gives the two sets other pictures
LAMEM_PARTS = {"train": 45000, "val": 3741, "test": 10000}  # of 58,741
CATEGORIES = {
    "animal": ("bear", "wild boar"),
    "food": ("banana", "mashed potato"),
    "landscape": ("beach", "forest (broadleaf)"),
    "sports": ("golf", "ice hockey"),
    "vehicle": ("bus", "pleasure boat"),
}
MEMCAT_COLUMNS = [
    *("image_file", "category", "subcategory", "current_height", "current_width", "source", "searched_label"),
    *("resize_factor", "H", "FA", "n_resp", "memorability_wo_fa_correction", "memorability_w_fa_correction"),
]


@dataclass(frozen=True)
class RenderResult:
    """A picture, and how likely a participant is to recognize it: 0.35 to 0.98, by its shape's three properties."""

    image: Image.Image
    memorability: float


def draw(rng: np.random.Generator) -> RenderResult:
    """One shape of random size, colourfulness and contrast, each from 0 to 1, at a random place."""
    size, colour, contrast = rng.uniform(0, 1, 3)
    width, height = (int(side) for side in rng.integers(160, 321, 2))
    gray = rng.uniform(70, 150)
    ground = gray + np.kron(rng.normal(0, 8, (41, 41)), np.ones((8, 8)))[:height, :width]
    image = Image.fromarray(ground.clip(0, 255).astype(np.uint8)).convert("RGB")

    side = min(width, height) * (0.2 + 0.6 * size)
    left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
    tint = np.array(hsv_to_rgb(rng.uniform(), 1, 1))
    # The tint's own brightness is taken out, so that contrast does not come with colour.
    paint = gray + 100 * contrast + 110 * colour * (tint - tint @ (0.299, 0.587, 0.114))
    fill = tuple(int(value) for value in paint.clip(0, 255))
    pen, box = ImageDraw.Draw(image), (left, top, left + side, top + side)
    shape = rng.integers(3)
    if shape == 0:
        pen.ellipse(box, fill)
    elif shape == 1:
        pen.rectangle(box, fill)
    else:
        pen.regular_polygon((left + side / 2, top + side / 2, side / 2), 3, rotation=int(rng.integers(120)), fill=fill)
    return RenderResult(image, 0.35 + 0.63 * (0.4 * size + 0.35 * colour + 0.25 * contrast))


def make_lamem(folder: str | Path, count: int = 200, seed: int = 0) -> Path:
    """Writes `count` pictures and their scores as LaMem has them; gives the folder."""
    folder = _labelled(folder)
    lines = []
    for number in range(1, count + 1):
        rng = np.random.default_rng([seed, LAMEM_SET, number])
        drawn = draw(rng)
        _save(drawn.image, folder / "images" / f"{number:08}.jpg")
        lines.append(f"{number:08}.jpg {rng.binomial(80, drawn.memorability) / 80:.6f}\n")
    (folder / "splits").mkdir(exist_ok=True)
    ends = [math.ceil(count * share / 58741) for share in np.cumsum(list(LAMEM_PARTS.values()))]
    for split in range(1, 6):
        order = np.random.default_rng([seed, LAMEM_SET, 0, split]).permutation(count)
        for part, chosen in zip(LAMEM_PARTS, np.split(order, ends[:-1]), strict=True):
            (folder / "splits" / f"{part}_{split}.txt").write_text("".join(lines[place] for place in chosen))
    return folder


def make_memcat(folder: str | Path, count: int = 200, seed: int = 0) -> Path:
    """Writes `count` pictures and their scores as MemCat has them, the categories in turn; gives the folder."""
    folder = _labelled(folder)
    kinds = [(category, both[place]) for place in (0, 1) for category, both in CATEGORIES.items()]
    with (folder / "memcat_image_data.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["", *MEMCAT_COLUMNS])
        for number in range(1, count + 1):
            rng = np.random.default_rng([seed, MEMCAT_SET, number])
            drawn = draw(rng)
            category, subcategory = kinds[(number - 1) % len(kinds)]
            name = f"{number:012}.jpg"
            _save(drawn.image, folder / "images" / category / subcategory / name)
            n = int(rng.integers(80, 120))
            hits = int(rng.binomial(n, drawn.memorability))
            false_alarms = min(int(rng.binomial(n, 0.06)), hits)
            place = [name, category, subcategory, drawn.image.height, drawn.image.width, "synthetic", "synthetic", 1.0]
            counts = [hits, false_alarms, n, hits / n, (hits - false_alarms) / n]
            table.writerow([number, *place, *counts])
    return folder


def _labelled(folder: str | Path) -> Path:
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = "Made by experiments/fake_data/make.py of memviz: pictures and scores are synthetic, nobody was tested.\n"
    (folder / SYNTHETIC).write_text(text)
    return folder


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=92, comment=b"synthetic: experiments/fake_data/make.py of memviz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder in which lamem and memcat are made")
    parser.add_argument("--lamem", type=int, default=200, help="pictures in the fake LaMem; 0 makes none (200)")
    parser.add_argument("--memcat", type=int, default=200, help="pictures in the fake MemCat; 0 makes none (200)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for make, name in ((make_lamem, "lamem"), (make_memcat, "memcat")):
        if count := getattr(given, name):
            print(f"{make(given.out / name, count, given.seed)}: {count} synthetic pictures")


if __name__ == "__main__":
    main()

"""What the AlexNet branch of a distilled MemNet looks for, beside ResMem's own AlexNet branch.

    uv run python experiments/distillation/compare.py runs/distillation/memnet --photos ../shared/photos \\
        --out runs/distillation/branches

makes an index, renders and a gallery for each of the two, and `branches.png` and `.pdf` with the renders of both.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

import memviz
from memviz.evaluation.plots import save
from memviz.gallery import Recipe, Source, load_recipe, plan_gallery
from memviz.index import Index
from memviz.layers import LayerTable
from memviz.models import Model
from memviz.rendering.store import load_renders

RECIPE = Path(__file__).parent / "gallery.toml"
TITLE = "ResMem's own AlexNet branch"
INTRO = "The published ResMem's AlexNet branch, whose weights are at their random start, beside a distilled MemNet's."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the folder of the distilled model")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    shown = []
    for title, model in (
        ("Distilled MemNet", memviz.load_model(arguments.model)),
        ("ResMem", memviz.load_model("resmem")),
    ):
        recipe = load_recipe(RECIPE)
        if model.name != recipe.source.model:
            recipe = replace(recipe, source=Source(model.name), title=TITLE, intro=INTRO)
        shown.append((title, pictures(recipe, model, arguments.photos, arguments.out / model.name)))
    save(figure(shown), arguments.out / "branches")
    print(arguments.out / "branches.png")


def pictures(recipe: Recipe, model: Model, photos: Path, out: Path) -> dict[str, list[Image.Image]]:
    """Builds the gallery of a model, and gives its renders by layer."""
    layers: LayerTable = model.layers
    watched = [layer.address for layer in layers if layer.kind == "Conv2d" and layer.address.startswith("alexnet.")]
    index: Index = memviz.build_index(model, photos, out=out / "index", layers=watched, progress=True)
    plan = plan_gallery(recipe, index=index)
    print(memviz.make_gallery(plan, out=out / "gallery", models=[model], progress=True))
    saved = {job.layer.address: (load_renders(job.folder), job.job.units) for job in plan.jobs.values()}
    return {address: [found.picture(found.units[unit]) for unit in units] for address, (found, units) in saved.items()}


def figure(shown: list[tuple[str, dict[str, list[Image.Image]]]]) -> Figure:
    """A row a convolution, the two models side by side; 180 mm wide."""
    layers = list(shown[0][1])
    half = len(shown[0][1][layers[0]])
    drawn = Figure(figsize=(180 / 25.4, 108 / 25.4))
    # An empty column keeps the models apart.
    grid = drawn.add_gridspec(
        len(layers), 2 * half + 1, width_ratios=[1] * half + [0.25] + [1] * half,
        left=0.06, right=0.995, bottom=0.01, top=0.95, wspace=0.05, hspace=0.05,
    )  # fmt: skip
    for model, (title, found) in enumerate(shown):
        for row, address in enumerate(layers):
            for column, picture in enumerate(found[address]):
                axes = drawn.add_subplot(grid[row, model * (half + 1) + column])
                axes.imshow(picture, interpolation="none")
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                if not (model or column):
                    axes.set_ylabel(address.removeprefix("alexnet."), fontsize=7)
                if row == 0 and column == 0:
                    axes.set_title(title, fontsize=8, loc="left")
    return drawn


if __name__ == "__main__":
    main()

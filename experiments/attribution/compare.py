"""Which map of a photograph shows best what drives its score?

For each of some photographs and each method: the map is averaged over a grid of cells, the cells are replaced by the
blurred photograph, in the map's order and in the opposite one, and the logit is followed. Photographs that are done are
kept in --out, so that the same command continues; several processes may share them with --part.

    uv run python experiments/attribution/compare.py --photos PHOTOS --out runs/attribution
    uv run python experiments/attribution/compare.py --out runs/attribution --figure experiments/attribution/curves.png
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

import memviz
from memviz.explanation.logit import Logit
from memviz.explanation.maps import (
    ExpectedGradients,
    GradCam,
    IntegratedGradients,
    Method,
    Occlusion,
    blurred,
    image_map,
)
from memviz.explanation.twin import random_twin
from memviz.files import replacing
from memviz.images import list_images, open_image
from memviz.models import Model
from memviz.progress import progress

CELLS = 14  # a side: cells of 16 px in a picture of 227 px
SHARES = (0.1, 0.3, 0.5, 0.7)  # of the cells that are replaced
METHODS: dict[str, Method] = {
    "grad-cam, layer4.2": GradCam("resnet.layer4.2"),
    "grad-cam, layer3.35": GradCam("resnet.layer3.35"),
    "integrated gradients": IntegratedGradients(steps=4, samples=3),
    "expected gradients": ExpectedGradients(steps=2),  # three passes from each of four references
    "occlusion": Occlusion(window=0.2, stride=0.2),
}
REFERENCES = 4
Compute = Callable[[Model, Tensor], Tensor]


def cells(found: Tensor) -> Tensor:
    """The mean of a map (H, W) over the cells, (CELLS * CELLS,)."""
    return adaptive_avg_pool2d(found[None, None], CELLS).flatten()


def filling(picture: Tensor, fill: str) -> Tensor:
    """What cells are replaced by: the blurred photograph, or its mean colour."""
    return blurred(picture) if fill == "blurred" else picture.mean((1, 2), keepdim=True).expand_as(picture)


def curve(logit: Logit, picture: Tensor, fill: str, order: Tensor) -> list[float]:
    """The logits after the first cells of an order were replaced, for each of SHARES."""
    masks = []
    for share in SHARES:
        mask = torch.zeros(CELLS * CELLS)
        mask[order[: round(share * len(order))]] = 1
        masks.append(interpolate(mask.view(1, 1, CELLS, CELLS), picture.shape[1:], mode="nearest-exact")[0])
    chosen = torch.stack(masks)
    with torch.no_grad():
        found: list[float] = logit(picture * (1 - chosen) + filling(picture, fill) * chosen).tolist()
    return found


def control(seed: int, size: tuple[int, int]) -> Tensor:
    """A random map as smooth as a deep layer's: normal noise of 8 x 8 positions, interpolated."""
    noise = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return interpolate(noise, size, mode="bilinear")[0, 0]


def compare(
    model: Model, twin: Model | None, picture: Tensor, references: Tensor, seed: int, fill: str, names: list[str]
) -> dict[str, Any]:
    """The curves of a photograph for each method, and the agreement with the maps of the random twin."""
    logit = Logit(model)
    with torch.no_grad():
        ends = logit(torch.stack([picture, filling(picture, fill)])).tolist()
    results: dict[str, Any] = {"whole": ends[0], "filled": ends[1]}
    computes: dict[str, Compute] = {
        name: partial(image_map, method=METHODS[name], references=references, batch_size=4) for name in names
    }
    computes["random map"] = lambda model, picture: control(seed, model.inputs.size)
    for name, compute in computes.items():
        start = time.process_time()
        found = cells(compute(model, picture))
        seconds = time.process_time() - start
        order = found.argsort(descending=True)
        curves = [curve(logit, picture, fill, each) for each in (order, order.flip(0))]
        result: dict[str, Any] = {"most": curves[0], "least": curves[1], "seconds": seconds}
        if twin is not None and name in METHODS:
            result["twin"] = float(spearmanr(found, cells(compute(twin, picture))).statistic)
        results[name] = result
    return results


def gain(result: dict[str, Any]) -> float:
    """The symmetric relevance gain: mean logit with the least relevant cells replaced, less that with the most."""
    return float(np.mean(result["least"]) - np.mean(result["most"]))


def report(found: list[dict[str, Any]], methods: list[str]) -> None:
    """Prints a row a method, with percentile intervals from resampled photographs.

    The last difference is that to the best method, over the photographs that both were tried on.
    """
    names = [name for name in [*methods, "random map"] if any(name in each for each in found)]
    gains = {name: np.array([gain(each[name]) if name in each else np.nan for each in found]) for name in names}
    best = max(names, key=lambda name: float(np.nanmean(gains[name])))
    print("photographs, symmetric relevance gain in logits, share above 0, difference to the best, CPU time a map")
    for name in names:
        twins = [each[name]["twin"] for each in found if "twin" in each.get(name, ())]
        agreement = f"random weights: rho {np.mean(twins):.2f} (n={len(twins)})" if twins else ""
        seconds = np.median([each[name]["seconds"] for each in found if name in each])
        own = gains[name][~np.isnan(gains[name])]
        print(
            f"{name:22} {len(own):4} {interval(own)} {(own > 0).mean():5.0%} {interval(gains[name] - gains[best])} "
            f"{seconds:5.1f} s  {agreement}"
        )


def interval(values: NDArray[np.float64]) -> str:
    """The mean and its 95 % interval over photographs; NaN are left out."""
    values = values[~np.isnan(values)]
    means = values[np.random.default_rng(0).integers(len(values), size=(10_000, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{values.mean():6.3f} [{low:6.3f}, {high:6.3f}]"


def figure(found: list[dict[str, Any]], methods: list[str], path: Path) -> None:
    """Draws the mean curves: what becomes of the logit."""
    import matplotlib
    from matplotlib.figure import Figure

    from memviz.evaluation.plots import make_style

    shares = [0, *(100 * share for share in SHARES), 100]
    with matplotlib.rc_context(make_style()):
        drawn = Figure(figsize=(180 / 25.4, 75 / 25.4), layout="constrained")
        axes = drawn.subplots(1, 2, sharex=True, sharey=True)
        for axis, way, title in zip(
            axes, ("most", "least"), ("What raises it first", "What lowers it first"), strict=True
        ):
            for number, name in enumerate([*methods, "random map"]):
                if not any(name in each for each in found):
                    continue
                curves = [
                    np.array([each["whole"], *each[name][way], each["filled"]]) - each["whole"]
                    for each in found
                    if name in each
                ]
                colour = "0.6" if name == "random map" else f"C{number}"
                label = f"{name} ({len(curves)})"
                axis.plot(shares, np.mean(curves, 0), "o-", markersize=2, color=colour, label=label)
            axis.set_title(title, loc="left")
            axis.set_xlabel("Cells replaced (%)")
        axes[0].set_ylabel("Change of the logit")
        handles, labels = axes[1].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=3, title="Method (photographs)")
        drawn.savefig(path, dpi=200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--twins", type=int, default=5, help="photographs of the randomization test")
    parser.add_argument("--part", default="0/1", help="which of how many processes this is")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--fill", choices=["blurred", "mean"], default="blurred")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.photos:
        model = memviz.load_model("resmem")
        paths = list_images(options.photos)
        order = np.random.default_rng(options.seed).permutation(len(paths))
        twin = random_twin(model, [paths[place] for place in order], options.seed) if options.twins else None
        read = [model.inputs.from_pil(open_image(paths[place])) for place in order[-REFERENCES:]]
        part, parts = map(int, options.part.split("/"))
        mine = range(part, options.count, parts)
        options.out.mkdir(parents=True, exist_ok=True)
        with progress("Comparing", len(mine), "photographs", True) as advance:
            for number in mine:
                file = options.out / f"{number:04d}.json"
                if not file.exists():
                    picture = model.inputs.from_pil(open_image(paths[order[number]]))
                    own = twin if number < options.twins else None
                    result = compare(model, own, picture, torch.stack(read), number, options.fill, options.methods)
                    with replacing(file) as temporary:
                        temporary.write_text(json.dumps(result))
                advance(1)
    found = [json.loads(file.read_text()) for file in sorted(options.out.glob("*.json"))]
    report(found, options.methods)
    if options.figure:
        figure(found, options.methods, options.figure)


if __name__ == "__main__":
    main()

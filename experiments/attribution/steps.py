"""How many steps does the path from a reference photograph need?

Walks the path once in --finest steps, and compares what coarser walks, over some of its points, find for the pixels and
for the units of two deep layers.

    uv run python experiments/attribution/steps.py --photos PHOTOS
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import memviz
from memviz.explanation.gradients import LayerGradients
from memviz.images import list_images, open_image
from memviz.progress import progress

PIXELS, LAYERS = "pixels", ("resnet.layer4.2", "resnet.fc")
BATCH = 8


def walk(gradients: LayerGradients, reference: Tensor, picture: Tensor, steps: int) -> dict[str, list[Tensor]]:
    """By place, the activations and gradients at the points of a path; "logits" (steps + 1,) too."""
    found: dict[str, list[list[Tensor]]] = {place: [[], []] for place in (PIXELS, *LAYERS)}

    def receive(address: str, values: Tensor, gradient: Tensor) -> None:
        for kept, each in zip(found[address], (values, gradient), strict=True):
            kept.append(each.clone())

    logits = []
    with progress("Walking", steps + 1, "points", True) as advance, torch.enable_grad():
        for along in (torch.arange(steps + 1) / steps).split(BATCH):
            points = torch.lerp(reference[None], picture[None], along[:, None, None, None]).requires_grad_()
            logit, gradient, _ = gradients.run(points, receive)
            receive(PIXELS, points.detach(), gradient)
            logits.append(logit.double())
            advance(len(along))
    return {place: [torch.cat(each) for each in both] for place, both in found.items()} | {
        "logits": [torch.cat(logits)]
    }


def contributions(values: Tensor, gradients: Tensor) -> Tensor:
    """The trapezoidal rule over points (n, C, ...), as in `memviz.explanation.attribute`: (C,), or of each pixel."""
    total = torch.zeros(values.shape[1:], dtype=torch.float64)
    for before, after, one, two in zip(values[:-1], values[1:], gradients[:-1], gradients[1:], strict=True):
        total += (after - before).double() * (one + two).double() / 2
    return total if total.dim() < 2 or len(total) == 3 else total.flatten(1).sum(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--references", type=int, default=2)
    parser.add_argument("--finest", type=int, default=256, help="steps, a multiple of 128")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = memviz.load_model("resmem")
    paths = list_images(options.photos)
    order = np.random.default_rng(options.seed).permutation(len(paths))[: options.references + 1]
    picture, *references = (model.inputs.from_pil(open_image(paths[place])) for place in order)
    gradients = LayerGradients(model, LAYERS)
    for number, reference in enumerate(references):
        points = walk(gradients, reference, picture, options.finest)
        difference = float(points["logits"][0][-1] - points["logits"][0][0])
        truth = {place: contributions(*points[place]) for place in (PIXELS, *LAYERS)}
        print(f"reference {number}: the logits differ by {difference:+.3f}")
        for steps in (8, 16, 32, 64, 128):
            some = slice(None, None, options.finest // steps)
            row = []
            for place, finest in truth.items():
                own = contributions(*(each[some] for each in points[place]))
                error = float((own - finest).norm() / finest.norm())
                row.append(f"{place}: sum {float(own.sum()) - difference:+.3f} off, error {error:.1%}")
            print(f"{steps:4} steps  {'   '.join(row)}")


if __name__ == "__main__":
    main()

"""Do the convolutions of a MemNet learn? Recipes and starts of `memviz train`, compared on textures and photographs.

    uv run python experiments/learning/compare.py textures --recipe paper lars --seed 0 1 2
    uv run python experiments/learning/compare.py scores.csv --start he normalized

Prints, a line a run, the held-out Spearman rank correlation, that of a linear readout of the branch before and after
training, and by how much of its norm each convolution moved; then the means over seeds. Pictures are 99 px here, less
than half of MemNet's, and the head's hidden layers have 1,024 units instead of 4,096, so that a run takes one or two
minutes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional

from memviz.images import open_image, read_csv
from memviz.layers import replace_response_norms
from memviz.models.memnet import MemNet
from memviz.training import TrainConfig
from memviz.training.initialize import initialize, normalize, start_at
from memviz.training.movement import movement, trained_weights
from memviz.training.optimizers import optimizer, scale_gradients, schedule

SIDE, WIDTH = 99, 1024


def texture(number: int) -> tuple[Image.Image, float]:
    """Strokes on noise; the larger the share of horizontal ones, the higher the score, as 80 people would give it."""
    random = np.random.default_rng([7, number])
    share, count, contrast = random.uniform(0, 1), int(random.integers(40, 120)), random.uniform(40, 110)
    gray, tint = random.uniform(90, 165), random.normal(0, 12, 3)
    length, width = random.uniform(10, 26), int(random.integers(2, 5))
    ground = gray + tint + random.normal(0, random.uniform(4, 16), (256, 256, 3))
    picture = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(count):
        x, y = random.uniform(0, 256, 2)
        sign = random.choice((-1, 1))
        angle = (0 if random.uniform() < share else np.pi / 2) + random.normal(0, 0.12)
        across, down = np.cos(angle) * length / 2, np.sin(angle) * length / 2
        colour = tuple(int(value) for value in (gray + tint + sign * contrast).clip(0, 255))
        pen.line((x - across, y - down, x + across, y + down), colour, width)
    return picture, float(random.binomial(80, 0.35 + 0.63 * share) / 80)


def small(picture: Image.Image) -> Tensor:
    pixels = np.asarray(picture.resize((256, 256), Image.Resampling.BILINEAR).crop((14, 14, 241, 241)))
    whole = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    return functional.interpolate(whole, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)


def read(source: str) -> tuple[Tensor, Tensor, list[np.ndarray]]:
    """Pictures, scores, and which of them are for training, for validation and held out."""
    if source == "textures":
        pairs = [texture(number) for number in range(1200)]
        scores = torch.tensor([score for _, score in pairs])
        pictures = torch.cat([small(picture) for picture, _ in pairs])
        counts = [800, 150]
    else:
        table = read_csv(source)
        scores = torch.tensor(table["score"].to_numpy()).float()
        pictures = torch.cat([small(open_image(path)) for path in table["path"]])
        counts = [len(table) * 65 // 100, len(table) * 15 // 100]
    order = np.random.default_rng(0).permutation(len(scores))
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    return pictures, scores, np.split(order, np.cumsum(counts))


@torch.no_grad()
def outputs(network: nn.Module, pictures: Tensor) -> Tensor:
    network.eval()
    found = torch.cat([network(batch) for batch in pictures.split(50)])
    network.train()
    return found


def readout(network: MemNet, pictures: Tensor, scores: Tensor, subsets: list[np.ndarray]) -> float:
    """Held-out Spearman of a ridge regression on the branch's maps, averaged over positions; validation decides."""
    maps = outputs(network.alexnet, pictures).unflatten(1, (256, -1)).mean(2).double().numpy()
    train, validation, test = subsets
    features = (maps - maps[train].mean(0)) / (maps[train].std(0) + 1e-8)
    target = scores.double().numpy()
    found = []
    for penalty in (1, 10, 100, 1e3, 1e4):
        own = features[train].T @ features[train] + penalty * np.eye(256)
        fitted = features @ np.linalg.solve(own, features[train].T @ (target[train] - target[train].mean()))
        found.append([spearmanr(fitted[rows], target[rows])[0] for rows in (validation, test)])
    return float(max(found)[1])


def run(pictures: Tensor, scores: Tensor, subsets: list[np.ndarray], config: TrainConfig, steps: int) -> dict:
    """Trains as `memviz train` does, in a plain loop, and measures at the step with the best validation correlation."""
    train, validation, test = subsets
    network = MemNet()
    network.head.fc6, network.head.fc7 = nn.Linear(1024, WIDTH), nn.Linear(WIDTH, WIDTH)
    network.head.fc8 = nn.Linear(WIDTH, 1)
    initialize(network, config.seed)
    random, order = np.random.default_rng(config.seed), np.empty(0, dtype=int)
    if config.initialization == "normalized":
        batch = pictures[random.choice(train, 64, replace=False)]
        normalize(network, lambda: outputs(network, batch))
    start_at(network, float(scores[train].mean()))
    network = network.to(memory_format=torch.channels_last).train()
    replace_response_norms(network)
    begun, before = trained_weights(network), readout(network, pictures, scores, subsets)
    chosen = optimizer(network, config)
    planned = schedule(chosen, config, steps)
    torch.manual_seed(config.seed)
    best, clock = (-2.0, 0, network.state_dict()), time.monotonic()
    for step in range(1, steps + 1):
        if len(order) < config.batch_size:
            order = np.concatenate((order, random.permutation(train)))
        rows, order = order[: config.batch_size], order[config.batch_size :]
        mirrored = torch.rand(len(rows)) < 0.5
        seen = torch.where(mirrored[:, None, None, None], pictures[rows].flip(-1), pictures[rows])
        loss = functional.mse_loss(network(seen.contiguous(memory_format=torch.channels_last)).flatten(), scores[rows])
        chosen.zero_grad()
        loss.backward()
        scale_gradients(network, network.branches, config.branch_gradient_scale)
        chosen.step()
        planned.step()
        if step % max(1, steps // 8) == 0:
            predicted = outputs(network, pictures[validation]).flatten()
            if not bool(predicted.isfinite().all()):
                break
            found = float(spearmanr(predicted, scores[validation])[0])
            if found > best[0]:
                best = found, step, {name: value.clone() for name, value in network.state_dict().items()}
    seconds = time.monotonic() - clock
    network.load_state_dict(best[2])
    predicted = outputs(network, pictures[test]).flatten()
    moved = movement(network, begun)
    return {
        "recipe": config.recipe,
        "start": config.initialization,
        "rate": config.learning_rate,
        "scale": config.branch_gradient_scale,
        "seed": config.seed,
        "step": best[1],
        "validation": best[0],
        "test": float(spearmanr(predicted, scores[test])[0]),
        "mse": float(functional.mse_loss(predicted, scores[test])),
        "variance": float(scores[test].var()),
        "readout": [before, readout(network, pictures, scores, subsets)],
        "moved": [moved[f"alexnet.conv{number}"] for number in range(1, 6)],
        "seconds": seconds,
    }


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, and standard deviations of the held-out correlation; movements in percent."""
    runs = runs.assign(
        before=runs["readout"].str[0],
        after=runs["readout"].str[1],
        conv1=100 * runs["moved"].str[0],
        others=[100 * float(np.mean(moved[1:])) for moved in runs["moved"]],
        error=runs["mse"] / runs["variance"],
    )
    groups = runs.groupby(["data", "recipe", "start", "rate", "scale"])
    table = groups[["test", "error", "before", "after", "conv1", "others"]].mean()
    table.insert(0, "seeds", groups.size())
    table.insert(2, "deviation", groups["test"].std())
    return table.reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="'textures', or a CSV of photographs and scores, as `memviz score` writes it")
    parser.add_argument("--recipe", nargs="+", default=["paper", "lars", "adamw"])
    parser.add_argument("--start", nargs="+", default=["he", "normalized"])
    parser.add_argument("--learning-rate", nargs="+", type=float, default=[None])
    parser.add_argument("--branch-gradient-scale", nargs="+", type=float, default=[1.0])
    parser.add_argument("--seed", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path, help="a file to which the runs are added, a line of JSON each")
    given = parser.parse_args()
    pictures, scores, subsets = read(given.source)
    rows = []
    compared = given.seed, given.start, given.recipe, given.learning_rate, given.branch_gradient_scale
    for seed, start, recipe, rate, scale in itertools.product(*compared):
        config = TrainConfig(
            recipe=recipe, initialization=start, learning_rate=rate, branch_gradient_scale=scale, seed=seed
        )
        rows.append({"data": Path(given.source).stem} | run(pictures, scores, subsets, config, given.steps))
        line = json.dumps(rows[-1])
        print(line, flush=True)
        if given.out:
            with given.out.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
    print(summary(pd.DataFrame(rows)).to_string(float_format="{:.3g}".format))


if __name__ == "__main__":
    main()

"""Do the convolutions of a MemNet learn? The recipes of `memviz train`, compared on textures and on photographs.

    uv run python experiments/learning/compare.py textures --recipe lars
    uv run python experiments/learning/compare.py photos/ --recipe paper

Prints held-out Spearman rank correlation with its bootstrap interval, and by how much of its norm each layer moved.
Pictures are 115 px here, half of MemNet's own, so that a run takes two minutes; the head's first layer is smaller too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional

import memviz
from memviz.images import list_images, open_image
from memviz.layers import replace_response_norms
from memviz.models.memnet import MemNet
from memviz.training import TrainConfig
from memviz.training.initialize import initialize, start_at
from memviz.training.movement import movement, trained_weights
from memviz.training.optimizers import optimizer, schedule

SIDE = 115


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


def read(source: str) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Pictures, scores, and how many are for training and validation; ResMem gives the scores of photographs."""
    if source == "textures":
        pairs = [texture(number) for number in range(1200)]
        scores = torch.tensor([score for _, score in pairs])
        return torch.cat([small(picture) for picture, _ in pairs]), scores, (800, 150)
    paths = list_images(source)
    scored = memviz.load_model("resmem").score(paths)
    pictures = torch.cat([small(open_image(path)) for path in scored["path"]])
    return pictures, torch.tensor(scored["memorability"].to_numpy()), (len(scored) * 65 // 100, len(scored) * 15 // 100)


def predict(network: nn.Module, pictures: Tensor) -> np.ndarray:
    network.eval()
    with torch.no_grad():
        found = torch.cat([network(batch).flatten() for batch in pictures.split(50)]).numpy()
    network.train()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="'textures', or a folder of photographs")
    parser.add_argument("--recipe", default="lars")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    config = TrainConfig(recipe=given.recipe, learning_rate=given.learning_rate, seed=given.seed)
    pictures, scores, (count, more) = read(given.source)
    train, validation, test = np.split(np.random.default_rng(0).permutation(len(scores)), [count, count + more])

    network = MemNet()
    network.head.fc6 = nn.Linear(1024, 4096)
    initialize(network, given.seed)
    start_at(network, float(scores[train].mean()))
    network = network.to(memory_format=torch.channels_last).train()
    replace_response_norms(network)
    begun = trained_weights(network)
    chosen = optimizer(network, config)
    planned = schedule(chosen, config, given.steps)
    torch.manual_seed(given.seed)
    random, order = np.random.default_rng(given.seed), np.empty(0, dtype=int)
    best = (-2.0, 0, network.state_dict())
    for step in range(1, given.steps + 1):
        if len(order) < given.batch_size:
            order = np.concatenate((order, random.permutation(train)))
        rows, order = order[: given.batch_size], order[given.batch_size :]
        mirrored = torch.rand(len(rows)) < 0.5
        seen = torch.where(mirrored[:, None, None, None], pictures[rows].flip(-1), pictures[rows])
        outputs = network(seen.contiguous(memory_format=torch.channels_last)).flatten()
        loss = functional.mse_loss(outputs, scores[rows].float())
        chosen.zero_grad()
        loss.backward()
        chosen.step()
        planned.step()
        if step % max(1, given.steps // 8) == 0:
            found = float(spearmanr(predict(network, pictures[validation]), scores[validation])[0])
            print(f"step {step}: loss {float(loss.detach()):.4f}, validation Spearman {found:.3f}", flush=True)
            if found > best[0]:
                best = found, step, {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(best[2])
    found, truth = predict(network, pictures[test]), scores[test].numpy()
    draws = np.random.default_rng(0).integers(0, len(test), (1000, len(test)))
    low, high = np.percentile([spearmanr(found[rows], truth[rows])[0] for rows in draws], [2.5, 97.5])
    print(
        f"{Path(given.source).name}, {config.recipe}, learning rate {config.learning_rate:g}, step {best[1]}: held-out "
        f"Spearman {spearmanr(found, truth)[0]:.3f} [{low:.3f}, {high:.3f}]"
    )
    for address, share in movement(network, begun).items():
        print(f"  {address} moved by {share:.2%}")


if __name__ == "__main__":
    main()

"""What training is tried out with: toy models, and pictures whose score can be seen."""

import pandas as pd
import torch
from PIL import Image
from tiny import Toy

from memviz.images import read_csv
from memviz.models import InputSpec
from memviz.models.registry import Architecture

# Of "toy" the branch `resnet`, with a batch norm, stays frozen; of "toy-retrain" nothing does.
TOYS = {
    name: Architecture(name, "a toy", Toy, InputSpec(size=(16, 16), resize=18), "memorability", frozen=frozen)
    for name, frozen in (("toy", ("resnet",)), ("toy-retrain", ()))
}


def bright(folder, count, source="bright"):
    """Pictures, the brighter the more memorable."""
    folder.mkdir(parents=True)
    draws = torch.rand(count, 4, generator=torch.Generator().manual_seed(0))
    for number, (level, *colour) in enumerate(draws.tolist()):
        pixels = tuple(int(255 * (0.2 + 0.7 * level) * (0.8 + 0.2 * part)) for part in colour)
        # A faint pattern of its own, or all of them would be duplicates of one another.
        random = torch.Generator().manual_seed(number)
        pattern = torch.randint(-9, 10, (10, 12, 1), generator=random).repeat_interleave(2, 0).repeat_interleave(2, 1)
        picture = (torch.tensor(pixels) + pattern).clamp(0, 255).to(torch.uint8)
        Image.fromarray(picture.numpy()).save(folder / f"{number:03d}.png")
    rows = {"path": [f"{number:03d}.png" for number in range(count)], "score": (0.3 + 0.6 * draws[:, 0]).tolist()}
    pd.DataFrame(rows).to_csv(folder / f"{source}.csv", index=False)
    return read_csv(folder / f"{source}.csv")

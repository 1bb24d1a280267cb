"""How much should inhibition count when a unit's mean activation is maximized?

    uv run python experiments/objectives/inhibition.py

Renders a few units of convolutions of the published ResMem with what lies below zero counting fully
(the plain mean over positions), half, a tenth and a hundredth, and prints, for each layer, the mean over
the units of the mean activation and of the peak that the finished pictures reach. All steps are of the first kind, for
the mean alone.
"""

from __future__ import annotations

import argparse

import memviz
from memviz.rendering import RenderConfig, objectives

LAYERS = ("alexnet.conv1", "alexnet.conv2", "alexnet.conv4", "resnet.layer2.3.conv2")
SHARES = (1.0, 0.5, 0.1, 0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=8)
    parser.add_argument("--steps", type=int, default=RenderConfig().steps)
    arguments = parser.parse_args()
    model = memviz.load_model("resmem")
    print("| layer | " + " | ".join(f"{share:g}: mean, peak" for share in SHARES) + " |")
    print("|---|" + "---|" * len(SHARES))
    for layer in LAYERS:
        cells = []
        for share in SHARES:
            objectives.INHIBITION = share
            table = memviz.render(
                model, layer, range(arguments.units), config=RenderConfig(steps=arguments.steps, refinement=None)
            ).table
            cells.append(f"{table['mean'].mean():.3f}, {table['peak'].mean():.3f}")
        print(f"| {layer} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()

"""How perceptual or conceptual ResMem's layers are, with the classes of a network that shares no weights with it.

uv run --extra quality python experiments/depth/run.py --index runs/photos --out runs/depth
"""

import argparse
from pathlib import Path

from torchvision.models import ResNet152_Weights

import memviz
from memviz.explanation import DepthConfig, depth
from memviz.explanation.encoder import INPUTS, efficientnet_lite0


def load_concepts():
    """EfficientNet-Lite0 with ImageNet's 1000 classes (Apache-2.0), from the weights in the package."""
    names = ResNet152_Weights.IMAGENET1K_V1.meta["categories"]
    return memviz.wrap(efficientnet_lite0(), INPUTS, name="efficientnet-lite0", named={"_fc": names})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="resmem")
    parser.add_argument("--statistic", default="peak")
    parser.add_argument("--components", type=int, default=50)
    parser.add_argument("--layers", nargs="+", help="addresses; by default up to 14 of each branch")
    parser.add_argument("--no-twin", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    found = depth(
        memviz.load_model(arguments.model),
        memviz.load_index(arguments.index),
        concepts=load_concepts(),
        config=DepthConfig(
            layers=tuple(arguments.layers) if arguments.layers else None,
            statistic=arguments.statistic,
            components=arguments.components,
            twin=not arguments.no_twin,
        ),
        seed=arguments.seed,
        out=arguments.out,
        progress=True,
    )
    print(found)


if __name__ == "__main__":
    main()

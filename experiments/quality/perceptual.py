"""The forced choice with other eyes: oriented energy, colour, contrast and edges, of which nothing was learned.

uv run python experiments/quality/perceptual.py renders --index runs/photos --sample 400 --out runs/quality-perceptual
"""

import argparse
from pathlib import Path

import numpy as np

import memviz
from memviz.explanation.perceptual import describe, perceptual_features
from memviz.explanation.responses import draw_photographs


class Perceptual:
    """The features of `memviz depth`, each in standard deviations over some photographs."""

    licence = "none needed"

    def __init__(self, paths, inputs, name):
        values = perceptual_features(paths, inputs, progress=True).values
        self.name = f"perceptual-{name}"
        self._mean, spread = values.mean(0), values.std(0)
        self._scale = np.where(spread > 0, spread, 1)

    def pictures(self, pictures):
        found = [describe(np.asarray(picture, np.float32) / 255) for picture in pictures]
        return (np.stack(found) - self._mean) / self._scale


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("renders", type=Path, nargs="+")
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sample", type=int, default=2000)
    arguments = parser.parse_args()
    index = memviz.load_index(arguments.index)
    model = memviz.load_model(index.manifest.model)
    paths, _ = draw_photographs(index, arguments.sample, 0)
    eyes = Perceptual(paths, model.inputs, f"{index.config.photographs[:12]}-{arguments.sample}")
    config = memviz.QualityConfig(sample=arguments.sample)
    found = memviz.quality(
        model, arguments.renders, index, encoder=eyes, config=config, out=arguments.out, progress=True
    )
    print(found)


if __name__ == "__main__":
    main()

"""How much one random draw of ResMem's AlexNet branch differs from another, and the published one from them.

uv run --extra quality python -m experiments.depth.twins --index runs/photos --seeds 1 2 3 4 5
"""

import argparse
from pathlib import Path

import numpy as np

import memviz
from experiments.depth.run import load_concepts
from memviz.explanation import responses
from memviz.explanation.concepts import conceptual_features
from memviz.explanation.depth_layers import choose_units
from memviz.explanation.partition import held_out_errors
from memviz.explanation.perceptual import perceptual_features
from memviz.explanation.responses import find_photographs
from memviz.explanation.twin import random_twin

LAYERS = [f"conv{number}" for number in range(1, 6)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    arguments = parser.parse_args()
    model = memviz.load_model("resmem")
    branch = memviz.wrap(model.module.alexnet, model.inputs, name="alexnet")
    paths, _ = find_photographs(memviz.load_index(arguments.index), model)
    perceptual = perceptual_features(paths, model.inputs)
    conceptual = conceptual_features(load_concepts(), paths)
    for seed in (None, *arguments.seeds):
        network = branch if seed is None else random_twin(branch, paths, seed)
        found = responses(network, paths, dict.fromkeys(LAYERS)).values
        # The units and the folds of the profile, whose layers lie in a branch of that name.
        chosen = [choose_units(f"alexnet.{layer}", found[layer], 64, 0)[0] for layer in LAYERS]
        values = np.hstack([found[layer][:, units] for layer, units in zip(LAYERS, chosen, strict=True)])
        shares = held_out_errors(perceptual, conceptual, values, 50, 10, 0).shares()
        balance = 100 * (shares["conceptual"] - shares["perceptual"])
        layers = [part.mean() for part in np.split(balance, np.cumsum([len(units) for units in chosen])[:-1])]
        name = "published" if seed is None else f"seed {seed}"
        print(
            f"{name}: {np.mean(layers):.1f} points; by layer {', '.join(f'{each:.1f}' for each in layers)}", flush=True
        )


if __name__ == "__main__":
    main()

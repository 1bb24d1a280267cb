"""How long a step of each of the paper's five models takes, in how much memory, and what caching frozen parts saves.

    uv run python experiments/benchmarks/training.py [--models memnet resmem ...]

Each model is trained by `memviz.train` in a process of its own, for a few steps on SYNTHETIC pictures, with backbones
at random, since neither changes the speed. ResMem and M3M are also trained with their frozen parts run in each step.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import torch

from experiments.fake_data.make import make_lamem
from memviz.images import lamem
from memviz.training import Runtime, TrainConfig, train

MODELS = ("memnet-caffe", "memnet", "resmem", "resmem-retrain", "m3m")
PHOTOGRAPHS, BATCH, STEPS = 48, 8, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--batch-size", type=int, default=BATCH)
    parser.add_argument("--one", choices=("cached", "computed"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(
            json.dumps(measure(arguments.models[0], arguments.one == "cached", arguments.folder, arguments.batch_size))
        )
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make_lamem(Path(folder) / "lamem", PHOTOGRAPHS, seed=0)
        for model in arguments.models:
            for frozen in ("cached", "computed") if model in ("resmem", "m3m") else ("cached",):
                command = [sys.executable, __file__, "--models", model, "--one", frozen, "--folder", folder]
                command += ["--batch-size", str(arguments.batch_size)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                rows.append(json.loads(done.stdout.splitlines()[-1]))
                print(rows[-1], file=sys.stderr, flush=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"{device}, {platform.machine()}, torch {torch.__version__}, batches of {arguments.batch_size}\n")
    print(pd.DataFrame(rows).to_string(index=False))


def measure(model: str, cached: bool, folder: Path, batch_size: int) -> dict[str, object]:
    table = lamem(folder / "lamem")
    config = TrainConfig(
        learning_rate=1e-4, epochs=3, steps_per_epoch=STEPS, batch_size=batch_size, cache_frozen=cached, patience=9
    )
    out = folder / f"{model}-{cached}"
    trained = train(model, table, out, config, runtime=Runtime(), backbones={}, progress=False)
    history = pd.read_csv(out / "history.csv")
    # The first epoch pays for what is set up once.
    seconds = history["seconds"][1:].median()
    return {
        "model": model,
        "frozen parts": ("cached" if cached else "computed") if model in ("resmem", "m3m") else "none",
        "million parameters": round(sum(each.numel() for each in trained.module.parameters()) / 1e6, 1),
        "seconds a step": round(seconds / STEPS, 3),
        "training MSE": [round(value, 4) for value in history["train_mse"]],
        "GB of memory": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "GB on the GPU": round(torch.cuda.max_memory_allocated() / 1e9, 2) if torch.cuda.is_available() else None,
    }


if __name__ == "__main__":
    main()

"""How long a step of each of the paper's five models takes, in how much memory, and what a cache saves.

    uv run python experiments/benchmarks/training.py [--models memnet resmem ...]

Each model is trained by `memviz.train` in a process of its own, for a few steps on SYNTHETIC pictures, with backbones
at random, since neither changes the speed. Beside it stands the same step in a plain loop, without Lightning, on a
batch that is already in memory. ResMem and M3M are also trained with their frozen submodules run in each step.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from torch.nn import functional

from experiments.fake_data.make import make_lamem
from memviz.images import lamem
from memviz.models.registry import architecture
from memviz.training import Start, TrainConfig, TrainingJob, train
from memviz.training.module import Examples, Regression, without

MODELS = ("memnet-caffe", "memnet", "resmem", "resmem-retrain", "m3m")
PHOTOGRAPHS, BATCH, STEPS = 80, 8, 6


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
    config = TrainConfig(
        recipe="paper",
        learning_rate=1e-4,
        epochs=2,
        steps_per_epoch=STEPS,
        batch_size=batch_size,
        cache_frozen=cached,
        patience=9,
    )
    starts: list[float] = []
    seeded = Regression.on_train_batch_start

    def noted(module: Regression, batch: Examples, number: int) -> None:
        starts.append(time.perf_counter())
        seeded(module, batch, number)

    Regression.on_train_batch_start = noted  # type: ignore[method-assign]
    out = folder / f"{model}-{cached}"
    job = TrainingJob(model, lamem(folder / "lamem"), config, Start(backbones={}))
    trained = train(job, out, progress=False)
    # The first epoch pays for what is set up once.
    step = median(later - earlier for earlier, later in pairwise(starts[STEPS:]))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    graphics = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None
    alone = step_alone(job)
    return {
        "model": model,
        "frozen submodules": ("cached" if cached else "computed") if architecture(model).frozen else "none",
        "million parameters": round(sum(each.numel() for each in trained.module.parameters()) / 1e6, 1),
        "seconds a step": round(step, 3),
        "the step alone": round(alone, 3),
        "ratio": round(step / alone, 2),
        "training MSE": [round(value, 4) for value in pd.read_csv(out / "history.csv")["train_mse"]],
        "GB of memory": round(memory, 2),
        "GB on the GPU": None if graphics is None else round(graphics, 2),
    }


def step_alone(job: TrainingJob) -> float:
    """Forward, backward and SGD on one batch that is already in memory, in a plain loop: the floor."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config, start = job.config, job.untrained()
    frozen = architecture(job.model).frozen
    cached = without(start.module, frozen) if config.cache_frozen else {}
    with torch.inference_mode():
        picture = torch.zeros(1, 3, *start.inputs.size)
        shapes = {address: submodule(picture).shape[1:] for address, submodule in cached.items()}
    count = config.batch_size
    examples = Examples(
        torch.randint(256, (count, 3, *start.inputs.size), dtype=torch.uint8, device=device),
        torch.rand(count, device=device),
        {address: torch.rand(count, 2, *shape, device=device) for address, shape in shapes.items()},
    )
    module = Regression(start.module, start.inputs, start.score_spec, () if cached else frozen, config).to(device)
    optimizer = module.configure_optimizers()
    seconds = []
    for _ in range(2 * STEPS):
        begin = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16, enabled=device.type == "cuda"):
            loss = functional.mse_loss(module(examples), examples.scores)
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return median(seconds[STEPS:])


if __name__ == "__main__":
    main()

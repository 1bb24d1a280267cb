"""Trains the paper's four models on the same photographs, and prints our Table 1 beside the paper's.

    uv run python experiments/table1/run.py --data lamem=DIR --data memcat=DIR --out runs/table1

Every model has its settings in MODEL.toml here. Interrupted, the same command goes on from there.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import pandas as pd
import torch

from memviz.cli.common import read_data
from memviz.cli.train import read_backbones
from memviz.evaluation import evaluate
from memviz.files import provenance, replacing, write_json
from memviz.images import Split
from memviz.models import load_model
from memviz.models.registry import architecture
from memviz.training import Runtime, Start, TrainConfig, TrainingJob, train
from memviz.training.data import draw_split

HERE = Path(__file__).parent
# The paper tested on 5,000 of 68,741 photographs.
FRACTIONS = ["fractions=[0.86, 0.07, 0.07]"]
# Needell and Bainbridge 2022, Table 1: MSE, Spearman rank correlation, seconds for 20 epochs on a GTX 1080 Ti. Of the
# original MemNet the text gives the correlation, on LaMem.
PAPER: dict[str, tuple[float | None, float, float]] = {
    "memnet-caffe": (None, 0.565, 0),
    "memnet": (0.012, 0.55, 2500),
    "resmem": (0.008, 0.66, 8900),
    "resmem-retrain": (0.008, 0.67, 24000),
    "m3m": (0.009, 0.68, 24600),
}
MODELS = ("memnet", "resmem", "resmem-retrain", "m3m")
COLUMNS = [
    "model",
    "MSE",
    "paper's MSE",
    "Spearman",
    "95 %",
    "paper's Spearman",
    "epochs",
    "hours in epochs",
    "paper's, 20 epochs",
]


def main() -> None:
    arguments = parser().parse_args()
    table = read_data(arguments.data)
    divided = one_split(table, arguments.out / "split.json", TrainConfig.read(changes=FRACTIONS + arguments.set))
    given = read_backbones(arguments.backbone)
    rows = []
    for name in arguments.models:
        # MemNet has no pretrained parts, ResMem not all that are given.
        backbones = (
            {} if isinstance(given, str) else {a: f for a, f in given.items() if a in architecture(name).backbones}
        )
        job = TrainingJob(
            name,
            table,
            TrainConfig.read(HERE / f"{name}.toml", arguments.set),
            Start(
                backbones={} if arguments.random_backbones else backbones or "torchvision",
                options={"head": "small"} if arguments.small and name == "m3m" else {},
            ),
            divided,
            Runtime(arguments.accelerator, arguments.devices, logger=arguments.logger, cache=arguments.out / "cache"),
        )
        train(job, arguments.out / name, progress=True)
        history = pd.read_csv(arguments.out / name / "history.csv")
        rows.append(
            [*measured(name, arguments.out), len(history), history["seconds"].sum() / 3600, PAPER[name][2] / 3600]
        )
    if arguments.caffe:
        model = load_model("memnet-caffe", weights=arguments.caffe, mean=arguments.mean)
        evaluate(model, divided.subset(table, "test"), progress=True).save(arguments.out / model.name / "test")
        rows.append([*measured(model.name, arguments.out), None, None, None])
    synthetic = bool(table.attrs["dataset"]["synthetic"])
    write(pd.DataFrame(rows, columns=COLUMNS), arguments.out, synthetic)


def parser() -> argparse.ArgumentParser:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--data", action="append", required=True, help="lamem=DIR, memcat=DIR, csv=FILE; repeated")
    given.add_argument("--out", type=Path, required=True)
    given.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    given.add_argument("--set", action="append", default=[], help="a setting over all files', as epochs=40")
    given.add_argument("--caffe", type=Path, help="MIT's .caffemodel: a row for the original MemNet, not trained here")
    given.add_argument("--mean", type=Path, help="its mean image")
    given.add_argument("--accelerator", default="auto")
    given.add_argument("--devices", type=int, default=1)
    given.add_argument("--logger", choices=("csv", "tensorboard", "wandb"), default="csv")
    given.add_argument("--backbone", action="append", help="ADDRESS=FILE, as resnet=resnet152.pth; repeated")
    given.add_argument("--random-backbones", action="store_true", help="to try out where torchvision cannot download")
    given.add_argument("--small", action="store_true", help="M3M with its small head")
    return given


def one_split(table: pd.DataFrame, path: Path, config: TrainConfig) -> Split:
    """The split of all models, whichever of them is trained first; near-duplicates between sets stay in one subset."""
    if not path.is_file():
        draw_split(table, path.parent, config, workers=2, progress=True).save(path)
    return Split.load(path)


def measured(name: str, out: Path) -> list[object]:
    report = json.loads((out / name / "test/report.json").read_text())["groups"][0]
    mse, spearman, _ = PAPER[name]
    interval = f"{report['spearman_low']:.3f} to {report['spearman_high']:.3f}"
    return [name, report["mse"], mse, report["spearman"], interval, spearman]


def write(table: pd.DataFrame, out: Path, synthetic: bool) -> None:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU ({platform.machine()})"
    heading = f"Table 1, trained on {device}"
    if synthetic:
        heading = f"SYNTHETIC DATA: nothing here tells anything about memorability. {heading}"
    with replacing(out / "table1.csv") as temporary:
        table.to_csv(temporary, index=False)
    content = {"heading": heading, "synthetic": synthetic, "device": device, "rows": table.to_dict("records")}
    # NaN, for what the paper does not give, is not JSON.
    write_json(out / "table1.json", json.loads(pd.Series(content).to_json()) | provenance())
    # As text, since the original MemNet has no training time.
    shown = table.map(lambda value: "" if pd.isna(value) else f"{value:.4g}" if isinstance(value, float) else value)
    print(heading, shown.to_string(index=False), sep="\n\n")


if __name__ == "__main__":
    main()

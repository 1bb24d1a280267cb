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
from memviz.evaluation import evaluate
from memviz.files import provenance, replacing, write_json
from memviz.images import Split
from memviz.models import load_model
from memviz.training import Runtime, TrainConfig, train

HERE = Path(__file__).parent
# Needell and Bainbridge 2022, Table 1: MSE, Spearman rank correlation, seconds for 20 epochs on a GTX 1080 Ti.
PAPER = {
    "memnet": (0.012, 0.55, 2500),
    "resmem": (0.008, 0.66, 8900),
    "resmem-retrain": (0.008, 0.67, 24000),
    "m3m": (0.009, 0.68, 24600),
}
COLUMNS = ["model", "MSE", "paper's MSE", "Spearman", "95 %", "paper's Spearman", "epochs", "hours", "paper's hours"]


def main() -> None:
    arguments = parser().parse_args()
    table = read_data(arguments.data)
    folders: dict[str, Path] = {}
    split = None
    for name in arguments.models:
        folders[name] = arguments.out / name
        train(
            name,
            table,
            folders[name],
            TrainConfig.read(HERE / f"{name}.toml", arguments.set),
            runtime=Runtime(arguments.accelerator, arguments.devices, logger=arguments.logger),
            split=split,
            backbones={} if arguments.random_backbones else "torchvision",
            cache=arguments.out / "cache",
            progress=True,
            **({"head": "small"} if arguments.small and name == "m3m" else {}),
        )
        # The first model's split is that of all.
        split = split or Split.load(folders[name] / "split.json")
    rows = [row(name, folder) for name, folder in folders.items()]
    if arguments.caffe:
        assert split is not None
        rows.append(original(arguments.caffe, arguments.mean, split.part(table, "test")))
    synthetic = bool(table.attrs["dataset"]["synthetic"])
    write(pd.DataFrame(rows, columns=COLUMNS), arguments.out, synthetic)


def parser() -> argparse.ArgumentParser:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--data", action="append", required=True, help="lamem=DIR, memcat=DIR, csv=FILE; repeated")
    given.add_argument("--out", type=Path, required=True)
    given.add_argument("--models", nargs="+", choices=PAPER, default=list(PAPER))
    given.add_argument("--set", action="append", default=[], help="a setting over all files', as epochs=40")
    given.add_argument("--caffe", type=Path, help="MIT's .caffemodel: a row for the original MemNet, not trained here")
    given.add_argument("--mean", type=Path, help="its mean image")
    given.add_argument("--accelerator", default="auto")
    given.add_argument("--devices", type=int, default=1)
    given.add_argument("--logger", choices=("csv", "tensorboard", "wandb"), default="csv")
    given.add_argument("--random-backbones", action="store_true", help="to try out where torchvision cannot download")
    given.add_argument("--small", action="store_true", help="M3M with its small head")
    return given


def row(name: str, folder: Path) -> list[object]:
    report = json.loads((folder / "test/report.json").read_text())["groups"][0]
    history = pd.read_csv(folder / "history.csv")
    mse, spearman, seconds = PAPER[name]
    interval = f"{report['spearman_low']:.3f} to {report['spearman_high']:.3f}"
    ours = [report["mse"], mse, report["spearman"], interval, spearman]
    return [name, *ours, len(history), history["seconds"].sum() / 3600, seconds / 3600]


def original(caffe: Path, mean: Path | None, test: pd.DataFrame) -> list[object]:
    report = evaluate(load_model("memnet-caffe", weights=caffe, mean=mean), test, progress=True).frame().iloc[0]
    interval = f"{report['spearman_low']:.3f} to {report['spearman_high']:.3f}"
    return ["memnet-caffe", report["mse"], None, report["spearman"], interval, 0.565, None, None, None]


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

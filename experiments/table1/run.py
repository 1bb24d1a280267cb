"""Trains the paper's four models on the same photographs, and prints our Table 1 beside the paper's.

    uv run python experiments/table1/run.py --data lamem=DIR --data memcat=DIR --out runs/table1

Every model has its settings in MODEL.toml here. Interrupted, the same command continues from there.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

import pandas as pd
import typer

from memviz.artefacts import check_folder
from memviz.cli.common import read_data
from memviz.cli.train import read_backbones
from memviz.errors import MemvizError
from memviz.evaluation import SavedReport, evaluate
from memviz.files import provenance, replacing, write_json
from memviz.images import Split
from memviz.models import ModelCard, load_model
from memviz.models.card import is_trained, read_trained
from memviz.models.registry import architecture
from memviz.training import Runtime, Start, TrainConfig, TrainingJob, train
from memviz.training.data import draw_split
from memviz.training.store import first_process

HERE, REPORT = Path(__file__).parent, "test/report.json"
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
    "special",
    "MSE",
    "paper's MSE",
    "Spearman",
    "95 %",
    "paper's Spearman",
    "epochs",
    "hours in epochs",
    "paper's, 20 epochs",
    "device",
    "torch",
]


def main() -> None:
    arguments = parser().parse_args()
    code = 130

    def stop(*_: object) -> None:
        """SIGTERM, as a cluster sends it, ends a training as Ctrl-C does: between two files."""
        nonlocal code
        code = 143
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        table1(arguments)
    except MemvizError as error:
        sys.exit(f"Error: {error}")
    except typer.BadParameter as error:
        sys.exit(f"Error: {error.format_message()}")
    except KeyboardInterrupt:
        print("\nInterrupted. What was finished is kept; the same command continues from there.", file=sys.stderr)
        sys.exit(code)
    finally:
        signal.signal(signal.SIGTERM, before)


def table1(arguments: argparse.Namespace) -> None:
    """Trains what is missing, and prints the rows of all models that are finished in the folder."""
    check_folder(arguments.out)
    table = read_data(arguments.data)
    changes = FRACTIONS + arguments.set
    divided = one_split(table, arguments.out / "split.json", TrainConfig.read(changes=changes))
    given = read_backbones(arguments.backbone)
    for name in arguments.models:
        # MemNet has no pretrained submodules, ResMem not all that are given.
        backbones = (
            {} if isinstance(given, str) else {a: f for a, f in given.items() if a in architecture(name).backbones}
        )
        job = TrainingJob(
            name,
            table,
            TrainConfig.read(HERE / f"{name}.toml", changes),
            Start(
                backbones={} if arguments.random_backbones else backbones or "torchvision",
                options={"head": "small"} if arguments.small and name == "m3m" else {},
            ),
            divided,
            Runtime(arguments.accelerator, arguments.devices, logger=arguments.logger, cache=arguments.out / "cache"),
        )
        train(job, arguments.out / name, progress=True)
    if arguments.caffe:
        model = load_model("memnet-caffe", weights=arguments.caffe, mean=arguments.mean)
        evaluate(model, divided.subset(table, "test"), progress=True).save(arguments.out / model.name / "test")
    if first_process():
        rows = [row(arguments.out / name) for name in PAPER if (arguments.out / name / REPORT).is_file()]
        write(pd.DataFrame(rows, columns=COLUMNS), arguments.out, bool(table.attrs["dataset"]["synthetic"]))


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
    """The split of all models, whichever of them is trained first; near-duplicates stay in one subset."""
    if not path.is_file():
        draw_split(table, path.parent, config, workers=2, progress=True).save(path)
    return Split.load(path)


def row(folder: Path) -> list[object]:
    """A model's row of the table, from what its own training says."""
    name, report = folder.name, SavedReport.read(folder / REPORT)
    measures, (mse, spearman, seconds) = report.groups[0], PAPER[name]
    interval = (
        "" if measures["spearman"] is None else f"{measures['spearman_low']:.3f} to {measures['spearman_high']:.3f}"
    )
    found = [measures["mse"], mse, measures["spearman"], interval, spearman]
    if not is_trained(folder):
        return [name, "not trained here", *found, None, None, None, "", report.versions["torch"]]
    card, history = read_trained(folder)[0], pd.read_csv(folder / "history.csv")
    duration = history["seconds"].sum() / 3600
    used = [card.runtime["device"], card.versions["torch"]]
    return [name, special(card), *found, len(history), duration, seconds / 3600, *used]


def special(card: ModelCard) -> str:
    """In what a training differs from the paper's, beside its settings.

    >>> special(ModelCard("m3m", {"head": "small"}, start={"backbones": {}}))
    'head=small; random instead of pretrained: resnet, segmentation.fcn'
    """
    told = [f"{name}={value}" for name, value in card.options.items() if value != "paper"]
    pretrained = (card.start or {}).get("backbones", {})
    if random := [address for address in architecture(card.architecture).backbones if address not in pretrained]:
        told.append(f"random instead of pretrained: {', '.join(random)}")
    if card.runtime.get("devices", 1) * card.runtime.get("nodes", 1) > 1:
        told.append(f"{card.runtime['nodes']} x {card.runtime['devices']} devices")
    return "; ".join(told)


def write(table: pd.DataFrame, out: Path, synthetic: bool) -> None:
    heading = "SYNTHETIC DATA: nothing here tells anything about memorability. Table 1" if synthetic else "Table 1"
    with replacing(out / "table1.csv") as temporary:
        table.to_csv(temporary, index=False)
    content = {"heading": heading, "synthetic": synthetic, "rows": table.to_dict("records")}
    # NaN, for what the paper does not give, is not JSON.
    write_json(out / "table1.json", json.loads(pd.Series(content).to_json()) | provenance())
    # As text, since the original MemNet has no training time.
    shown = table.map(lambda value: "" if pd.isna(value) else f"{value:.4g}" if isinstance(value, float) else value)
    print(heading, shown.to_string(index=False), sep="\n\n")


if __name__ == "__main__":
    main()

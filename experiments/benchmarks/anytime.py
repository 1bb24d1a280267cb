"""Activation against seconds: memviz, torch-lucent and dreamlens on the same units of the same weights, in one run.

    uv run --with dreamlens==0.1.1 python experiments/benchmarks/anytime.py --threads 2 --out runs/anytime

Every picture, whoever drew it, is measured as memviz measures its own: 8 bits, as a photograph, on the plain network,
mean and peak over interior positions; of a peer's picture, what serves it best of several ways to show it and of its
snapshots. memviz draws the units anew with each number of steps. Its seconds are those of a picture among them, without
what is paid once a layer (copying, tracing and folding the network), which is given apart.

A peer's pictures are drawn on the network up to the layer, since its own steps would take hours, and kept. Its seconds
are the median of some of its steps on the whole network, which it runs at each, taken in turns with memviz's runs,
times their number; `--timed 511 --turns 1` times all of lucent's. Writes a file a layer, all pictures, `anytime.png`
and `.pdf`, and prints tables.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

import memviz
from experiments.benchmarks.curves import STATISTICS, costs, draw_figure, table
from experiments.benchmarks.peers import Peer, Seconds, UpTo, peers, time_steps, to_bytes
from memviz.files import replacing
from memviz.layers import ChannelsLast, private_copy, truncate
from memviz.layers.unit import Unit
from memviz.rendering import RenderConfig
from memviz.rendering.engine import Engine
from memviz.rendering.measure import measure, to_pil

LAYERS = (
    "alexnet.conv2", "alexnet.conv4", "alexnet.conv5", "resnet.layer1.1", "resnet.layer2.3", "resnet.layer3.20"
)  # fmt: skip
STEPS = (4, 8, 16, 32, 54, 128, 256, 512, 1024)


def read(network: nn.Module, model: memviz.Model, layer: str, shown: Sequence[Sequence[Tensor]], units: Sequence[int]):
    """Of each unit, mean and peak, each the best over the ways (3, H, W) uint8 in which its picture is shown."""
    found = []
    for ways, unit in zip(shown, units, strict=True):
        readings = measure(network, model, ways, [Unit(layer, unit)] * len(ways))
        found.append({name: max(getattr(each, name) for each in readings) for name in STATISTICS})
    return found


@contextmanager
def drawing() -> Iterator[list[Seconds]]:
    """Seconds of each batch that the engine draws; the rest of a call of `memviz.render` is paid once a layer."""
    found, draw = [], Engine.draw

    def timed(*arguments: Any) -> Any:
        start = Seconds.now()
        results = draw(*arguments)
        found.append(Seconds.now() - start)
        return results

    with mock.patch.object(Engine, "draw", timed):
        yield found


def draw(
    model: memviz.Model, network: nn.Module, layer: str, units: Sequence[int], steps: int
) -> tuple[dict[str, Any], Tensor]:
    """One run of memviz: seconds in all and a picture, what the units make of their pictures, and these."""
    start = Seconds.now()
    with drawing() as batches:
        renders = memviz.render(model, layer, units, config=RenderConfig(steps=steps), progress=False)
    whole = Seconds.now() - start
    drawn = {clock: sum(getattr(each, clock) for each in batches) for clock in ("wall", "cpu")}
    found = {
        "steps": steps,
        "setup": {clock: getattr(whole, clock) - seconds for clock, seconds in drawn.items()},
        "seconds": {clock: seconds / len(units) for clock, seconds in drawn.items()},
        "units": read(network, model, layer, [[to_bytes(each)] for each in renders.images], units),
    }
    return found, renders.images


def snapshots(
    peer: Peer, model: memviz.Model, network: nn.Module, layer: str, units: Sequence[int]
) -> tuple[dict[str, Any], Tensor]:
    """What a peer's pictures of some units reach, after each of its snapshots' steps, and the last ones."""
    short = UpTo(model.module, layer)
    peer.draw(short, "map", units, [1])  # imports the tool
    start = Seconds.now()
    drawn = peer.draw(short, "map", units, peer.snapshots)
    kept = {
        "steps": peer.snapshots,
        "cut": (Seconds.now() - start).cpu / len(units),
        "units": [
            read(network, model, layer, [peer.photographs(picture, model.inputs) for picture in pictures], units)
            for pictures in drawn
        ],
    }
    return kept, drawn[-1]


def reached(
    peer: Peer, model: memviz.Model, network: nn.Module, layer: str, units: Sequence[int], folder: Path
) -> Iterator[dict[str, Any]]:
    """`snapshots` of groups of units, kept in a folder; lucent draws one unit after the other, dreamlens together."""
    groups = [[unit] for unit in units] if peer.name == "torch-lucent" else [list(units)]
    for group in groups:
        name = "-".join([layer, *map(str, group), peer.name, metadata.version(peer.name)])
        file = folder / f"{name}.json"
        if not file.exists():
            kept, pictures = snapshots(peer, model, network, layer, group)
            show(pictures, folder / f"{name}.png")
            write(file, kept)
        yield json.loads(file.read_text())


def compare(model: memviz.Model, layer: str, units: Sequence[int], options: argparse.Namespace) -> dict[str, Any]:
    """All that is measured of a layer."""
    network = ChannelsLast(truncate(private_copy(model.module), [layer]))
    others = peers(model.inputs.size[0])
    found: dict[str, Any] = {"layer": layer, "units": list(units), "memviz": [], "peers": {}} | circumstances()
    for peer in others:
        groups = list(reached(peer, model, network, layer, units, options.out / "peers"))
        rows = zip(*(group["units"] for group in groups), strict=True)
        found["peers"][peer.name] = {
            "steps": groups[0]["steps"],
            "cut": statistics.median(group["cut"] for group in groups),
            "units": [[unit for part in row for unit in part] for row in rows],
        }
    memviz.render(model, layer, units, config=RenderConfig(steps=1), progress=False)  # warms up
    times: dict[tuple[str, int], list[Seconds]] = {}
    for turn, steps in enumerate(options.steps):
        row, pictures = draw(model, network, layer, units, steps)
        found["memviz"].append(row)
        show(pictures, options.out / "memviz" / f"{layer}-{steps:04d}.png")
        print(f"{layer}, {steps} steps: {row['seconds']['cpu']:.2f} CPU s a picture", flush=True)
        for peer in others if turn < options.turns else ():
            for together in dict.fromkeys((1, len(units))):
                steps_of = time_steps(peer, model.module, layer, units[:together], options.timed)
                times.setdefault((peer.name, together), []).extend(steps_of)
    start = Seconds.now()
    memviz.render(model, layer, units[:1], progress=False)
    found["alone"] = asdict(Seconds.now() - start)
    for (name, together), each in times.items():
        # Of a picture, alone or together with the others.
        found["peers"][name][f"step of {together}"] = {
            clock: statistics.median(getattr(seconds, clock) for seconds in each) / together
            for clock in ("wall", "cpu")
        }
    return found


def circumstances() -> dict[str, Any]:
    described = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    cpu = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "date": datetime.datetime.now().isoformat(timespec="minutes"),
        "commit": described.stdout.strip(),
        "machine": cpu[0] if cpu else platform.processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def show(pictures: Tensor, path: Path) -> None:
    """Saves pictures (N, 3, H, W) in [0, 1] side by side as a PNG."""
    with replacing(path) as temporary:
        to_pil(to_bytes(torch.cat(list(pictures), dim=2))).save(temporary)


def write(path: Path, value: object) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", nargs="*", default=LAYERS, help="none: only tables and figure of what is there")
    parser.add_argument("--units", type=int, nargs="+", default=range(4), help="of each layer, drawn together")
    parser.add_argument("--steps", nargs="+", type=int, default=STEPS, help="of memviz's runs; the last is 100 %")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--timed", type=int, default=2, help="steps of each peer that are timed in a turn")
    parser.add_argument("--turns", type=int, default=3, help="at so many of memviz's first runs peers are timed")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = memviz.load_model("resmem") if options.layers else None
    for layer in options.layers:
        assert model is not None
        write(options.out / f"{layer}.json", compare(model, layer, list(options.units), options))
    results = [json.loads(file.read_text()) for file in options.out.glob("*.json")]
    places = {layer: place for place, layer in enumerate(LAYERS)}
    results.sort(key=lambda found: (places.get(found["layer"], len(places)), found["layer"]))
    draw_figure(results, options.out / "anytime")
    runs = {(each["machine"], each["threads"], each["torch"], each["date"][:10], each["commit"]) for each in results}
    print("\n".join(" / ".join(map(str, run)) for run in sorted(runs)))
    print(f"\n{table(results)}\n\n{costs(results)}")


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    main()

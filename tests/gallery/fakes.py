"""A small index and renders on disk, as a ResMem would give them, made without a network."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from memviz.artefacts import claim
from memviz.explanation.record import Contribution, ExplainConfig, Explanation, LayerShare
from memviz.explanation.reference import References
from memviz.explanation.region import Level, RegionCheck
from memviz.files import sha256
from memviz.gallery.page import Card, Group, NetworkFacts, Page, Photo, Section
from memviz.index import Index, load_index
from memviz.layers import Layer
from memviz.layers.unit import Unit
from memviz.models import InputSpec
from memviz.rendering import RenderConfig, RenderJob, RenderRecord, load_renders
from memviz.rendering.engine import RenderResult
from memviz.rendering.store import from_pil

SIZE = 227
CHANNELS = 12
WEIGHTS = "1f" * 32
DEAD, REDIRECTED = 1, 4
INPUTS = {"size": [SIZE, SIZE], "resize": [256, 256], "mean": None, "std": None, "channels": "rgb", "scale": 1.0}


# A page of one unit.
PHOTO = Photo("images/top1.jpg", 'a "b" <i>&.jpg', 2.0, 0.81234, ring=(40.0, 60.0))
CARD = Card("net.conv", 5, "net.conv:5", True, "a", "ok", "images/net.conv-0005.png", 4.6, 1.0, True, (PHOTO,))
GROUP = Group("", "memorability", "net.conv", "net@1", "Conv2d", False, 8, (9, 9), (11, 11), 0.05, True, (CARD,))
NETWORK = NetworkFacts("net", "ab" * 32, 7, (227, 227))


def page(*groups: Group, layout: str = "grid", networks: tuple[NetworkFacts, ...] = (NETWORK,)) -> Page:
    sections = (Section("First", groups),)
    return Page("<T>", layout, 5, "One.\n\nTwo & three.", "", networks, sections, "2026-01-01T00:00:00+00:00", "0")


def page_of(*cards: Card, layout: str = "grid") -> Page:
    return page(dataclasses.replace(GROUP, cards=cards), layout=layout)


def surveyed(folder: Path) -> Index:
    """An index with photographs and a survey of drivers, in a folder of its own."""
    saved = index(folder / "index", photos(folder / "pictures"))
    drivers(saved)
    return load_index(saved)


def others(folder: Path, count: int = 12) -> Index:
    """An index of another network, with photographs of its own."""
    pictures = photos(folder / "others-pictures", count)
    return load_index(index(folder / "memnet-caffe", pictures, model="memnet-caffe", weights="2e" * 32))


def layers() -> list[Layer]:
    """The layers that the published recipes name, and their neighbours, with ResMem's own receptive fields."""
    rows = [
        _layer("alexnet.conv1", 55, 4, 11, 5, "alexnet@1"),
        _layer("alexnet.conv2", 27, 8, 51, 9, "alexnet@2"),
        _layer("alexnet.conv3", 13, 16, 99, 17, "alexnet@3"),
        _layer("alexnet.conv4", 13, 16, 131, 17, "alexnet@4"),
        _layer("alexnet.conv5", 13, 16, 163, 17, "alexnet@5"),
        _layer("resnet.conv1", 114, 2, 7, 0, "resnet@1"),
        _layer("resnet.layer1.0.conv1", 57, 4, 11, 0, "resnet@2"),
        *(_layer(f"resnet.layer1.{n}", 57, 4, 19 + 8 * n, 0) for n in range(3)),
        _layer("resnet.layer2.0.conv3", 29, 8, 43, 0, "resnet@13"),
        *(_layer(f"resnet.layer2.{n}", 29, 8, 43 + 16 * n, 0) for n in range(8)),
        _layer("resnet.layer3.0.conv1", 29, 8, 155, 0, "resnet@35"),
        _layer("resnet.layer3.15.conv2", 15, 16, 651, 0, "resnet@81"),
        _layer("resnet.layer3.20.conv2", 15, 16, 811, 0, "resnet@96"),
        _layer("resnet.layer3.23.conv2", 15, 16, 907, 0, "resnet@105"),
        _layer("resnet.layer3.30.conv2", 15, 16, 1131, 0, "resnet@126"),
        _layer("resnet.layer3.34.conv3", 15, 16, 1259, 0, "resnet@139"),
        *(_layer(f"resnet.layer3.{n}", 15, 16, 171 + 32 * n, 0) for n in (0, 8, 20, 34)),
        _layer("resnet.layer4.2", 8, 32, 1451, 0),
    ]
    score = _layer("head.fc12", 1, 1, 1, 0)
    whole: dict[str, Any] = {"stride": None, "receptive_field": None, "offset": None}
    return [*rows, dataclasses.replace(score, kind="Linear", block=False, **whole)]


def _layer(address: str, size: int, stride: int, field: int, offset: int, ordinal: str | None = None) -> Layer:
    return Layer(
        address=address,
        kind="Conv2d" if ordinal else "Bottleneck",
        channels=CHANNELS,
        height=size,
        width=size,
        stride=(float(stride), float(stride)),
        receptive_field=(field, field),
        offset=(float(offset), float(offset)),
        ordinal=ordinal,
        block=ordinal is None,
    )


def photos(folder: Path, count: int = 12) -> list[Path]:
    """Generated pictures of two sizes: coloured waves."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for place in range(count):
        generator = np.random.default_rng(place)
        width, height = _size(place)
        y, x = np.mgrid[:height, :width]
        angle, pace = generator.uniform(0, np.pi), generator.uniform(0.05, 0.3)
        wave = np.sin(pace * (x * np.cos(angle) + y * np.sin(angle)))[..., None]
        pixels = 127 + 100 * wave * generator.uniform(-1, 1, 3)
        made.append(folder / f"wave_{place:02d}.jpg")
        Image.fromarray(pixels.astype(np.uint8)).save(made[-1])
    return made


def _size(place: int) -> tuple[int, int]:
    return (160, 120) if place % 2 else (110, 150)


def index(folder: Path, pictures: list[Path], k: int = 9, model: str = "resmem", weights: str = WEIGHTS) -> Path:
    """An index of random activations; unit 0 of each layer is never positive, unit 1 never varies."""
    folder.mkdir(parents=True)
    root = pictures[0].parent
    generator = np.random.default_rng(0)
    predictions = generator.uniform(0.4, 0.95, len(pictures)).astype(np.float32)
    top, stats = [], []
    for layer in layers():
        values = generator.gamma(2.0, 1.0, (CHANNELS, len(pictures))).astype(np.float32)
        values[0] = -values[0]
        values[1:2] = 0.5
        y, x = generator.integers(0, layer.height, (2, CHANNELS, len(pictures)))
        for unit in range(CHANNELS):
            for side, order in (
                ("top", np.argsort(-values[unit], kind="stable")),
                ("bottom", np.argsort(values[unit], kind="stable")),
            ):
                for rank, image in enumerate(order[:k]):
                    row = (layer.address, unit, side, rank, values[unit, image], image, y[unit, image], x[unit, image])
                    top.append(row)
            stats.append((layer.address, unit, values[unit].mean(), values[unit].std()))
    images = pd.DataFrame(
        {
            "image": np.arange(len(pictures), dtype=np.int32),
            "path": [path.name for path in pictures],
            "width": [_size(place)[0] for place in range(len(pictures))],
            "height": [_size(place)[1] for place in range(len(pictures))],
            "prediction": predictions,
            "error": pd.Series([None] * len(pictures), dtype="string"),
            "sha256": [sha256(path) for path in pictures],
            "copy_of": pd.Series([None] * len(pictures), dtype="string"),
        }
    )
    images.to_parquet(folder / "images.parquet")
    types = {"channel": "int32", "rank": "int16", "value": "float32", "image": "int32", "y": "int32", "x": "int32"}
    names = ["address", "channel", "side", "rank", "value", "image", "y", "x"]
    pd.DataFrame(top, columns=names).astype(types).to_parquet(folder / "top.parquet")
    types = {"channel": "int32", "mean": "float32", "std": "float32"}
    pd.DataFrame(stats, columns=["address", "channel", "mean", "std"]).astype(types).to_parquet(
        folder / "stats.parquet"
    )
    _write(folder / "manifest.json", {
        "kind": "memviz-index", "format": 2, "model": model, "weights": weights, "inputs": INPUTS,
        "config": {
            "layers": [layer.to_dict() for layer in layers()], "k": k, "photographs": "0" * 64,
            "target": "memorability", "score_spec": {},
        },
        "result": {"photographs": len(pictures), "unreadable": 0, "copies": 0, "root": str(root)},
        "created": "2026-01-01T00:00:00+00:00", "versions": {}, "platform": "",
    })  # fmt: skip
    return folder


def drivers(index: Path, photographs: int = 12, weights: str = WEIGHTS) -> Path:
    """A survey of a fake index: units 0 to 5 of each layer raise the score, the more the higher, 6 to 11 lower it."""
    folder = index / "drivers" / f"{photographs}-0"
    folder.mkdir(parents=True)
    drive = np.array([*range(1, 7), *range(-6, 0)]) / 100
    rows = [pd.DataFrame({"address": layer.address, "channel": range(CHANNELS), "drive": drive}) for layer in layers()]
    table = pd.concat(rows, ignore_index=True).assign(name="")
    for figure in ("mean", "contribution", "sd", "strength", "consistency"):
        table[figure] = 0.5
    table.to_parquet(folder / "drivers.parquet")
    config = {"photographs": "0" * 64, "layers": {layer.address: CHANNELS for layer in layers()}, "sample": None}
    _write(folder / "manifest.json", {
        "kind": "memviz-drivers", "format": 1, "model": "resmem", "weights": weights, "inputs": INPUTS, "seed": 0,
        "config": config, "result": {"photographs": photographs, "unreadable": {}}, "created": "2026-01-01",
    })  # fmt: skip
    return folder


def renders(folder: Path, units: dict[str, tuple[int, ...]], **config: Any) -> Path:
    """Renders of the given units: noise; unit 1 is dead, unit 4 redirected."""
    table = {layer.address: layer for layer in layers()}
    render = RenderConfig(**{"size": 32, "steps": 128} | config)
    for address, chosen in units.items():
        job = RenderJob(address, chosen, config=render)
        claim(folder / address, job.manifest("resmem", WEIGHTS, table[address], InputSpec.from_dict(INPUTS)))
        results, files = [], []
        for unit in chosen:
            generator = np.random.default_rng(unit)
            dead = unit == DEAD
            record = RenderRecord(
                objective=f"excitation({address}:{unit})",
                unit=unit,
                value=0.0,
                mean=0.0 if dead else float(generator.uniform(0, 3)),
                peak=0.0 if dead else float(generator.uniform(0, 12)),
                position=(0, 0),
                steps=render.steps,
                seed=0,
                state="dead" if dead else "redirected" if unit == REDIRECTED else "ok",
            )
            noise = generator.normal(size=(5, 5, 3)) * generator.uniform(20, 60, 3) + 128
            blurred = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
            side = render.size or 128
            results.append(RenderResult(from_pil(blurred.resize((side, side), Image.Resampling.BICUBIC)), record))
            files.append(f"{Unit(address, unit).stem}.png")
        load_renders(folder / address).add(results, files)
    return folder


def contribution(unit: str, amount: float, name: str = "") -> Contribution:
    """A unit that is twice as active as on the references."""
    return Contribution(unit, name, amount, 0.5, 0.25)


def explanation(photograph: str = "a <b>.jpg", score: float = 0.7, digest: str = "0" * 64) -> Explanation:
    """Of noise, with units of two layers and three classes that raise and lower its score."""
    picture = Image.effect_noise((120, 80), 90).convert("RGB")
    mapped = np.zeros((227, 227), dtype=np.float32)
    mapped[:60, :60], mapped[160:, 160:] = 1.0, -0.5
    levels = [Level(0.7, 0.85), Level(0.6, 0.4), Level(0.69, 0.8), Level(0.72, 0.9)]
    checks = tuple(RegionCheck(side, 0.07, levels[0], levels[1], tuple(levels[2:])) for side in ("raises", "lowers"))
    names = (contribution("resnet.fc:1", 0.5, 'tench "<i>"'), contribution("resnet.fc:2", 0.25, "goldfish"))
    fc = LayerShare("resnet.fc", 1000, 0.4, names, (contribution("resnet.fc:3", -0.125, "shark"),))
    units = [
        LayerShare(
            address,
            CHANNELS,
            0.1,
            (contribution(f"{address}:2", 0.3),),
            (contribution(f"{address}:1", -0.2),) if address.startswith("alexnet") else (),
            "no effect on the score" if address.startswith("alexnet") else "",
        )
        for address in ("alexnet.conv4", "resnet.layer3.20")
    ]
    return Explanation(
        "resmem", WEIGHTS, "memorability", photograph, digest, score, "logit", 0.85, 1, 41.5, 12,
        References("index", ("x.jpg", "y.jpg"), 12, 0.6, 0.4), 0.44, 0.02, False, 32, (fc,), tuple(units), checks,
        {"alexnet": "weights at their random start; no effect on the score"}, ExplainConfig(), 0, picture, mapped,
    )  # fmt: skip


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, default=str), encoding="utf-8")

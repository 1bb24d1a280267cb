"""What reading photographs costs, what other ways of reading would save, and what they would change.

    uv run --with torchcodec python experiments/benchmarks/photographs.py PHOTOS [--rate-only]

Each way reads the same photographs in the same threads, as they are and enlarged four times (as a camera's), and hands
batches to the device, where they become the network's inputs. Rates are taken in turns. Where a way gives other pixels
than Pillow, the network says what that does: to its score, and to the best photographs of every unit. Without
torchcodec, its rows are left out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

import memviz
from experiments.benchmarks.watching import machine, now, since
from memviz.images import content_hash, list_images, open_image
from memviz.index.scan import Maxima
from memviz.index.topk import TopK
from memviz.layers import ChannelsLast, observe, private_copy
from memviz.models import InputSpec, Model

try:
    from torchcodec.decoders import decode_jpeg
except ImportError:
    decode_jpeg = None

SCALE, QUALITY = 4, 90  # of the enlarged ones
K, BATCH, AHEAD = 5, 16, 2
Ways = dict[str, tuple[Callable[[Path], Tensor], int]]  # a photograph's reader, and how many a thread takes at once


def draft(path: Path, size: tuple[int, int]) -> Image.Image:
    """JPEG decoded at the smallest of libjpeg's scales that is not below the size to which it is resized."""
    with Image.open(path) as image:
        image.draft("RGB", size)
        return image.convert("RGB")


def whole(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def resized_bytes(picture: Tensor, inputs: InputSpec) -> Tensor:
    """Resized by torch as 8 bits, and cropped: (1, H, W, 3) uint8."""
    found = functional.interpolate(picture[None], inputs.resize, mode="bilinear", antialias=True)
    (left, top), (height, width) = inputs.centre_corner((found.shape[3], found.shape[2])), inputs.size
    return found[0, :, top : top + height, left : left + width].permute(1, 2, 0).contiguous()[None]


def ways(inputs: InputSpec) -> Ways:
    """Every way gives bytes of the crop (1, H, W, 3), inputs (1, 3, H, W), or the whole photograph (3, h, w) uint8."""
    size = inputs.resize[::-1]
    pillow = lambda path: inputs.pixels_from_pil(open_image(path))  # noqa: E731
    found: Ways = {
        "Pillow": (pillow, 1),
        "Pillow, normalized in the threads (before)": (lambda path: inputs.crops_from_pil(open_image(path)), 1),
        "Pillow, 8 a thread at once": (pillow, 8),
        "Pillow, JPEG draft": (lambda path: inputs.pixels_from_pil(draft(path, size)), 1),
        "Pillow, resized by torch in the threads": (lambda path: resized_bytes(whole(open_image(path)), inputs), 1),
        "Pillow, resized on the device": (lambda path: whole(open_image(path)), 1),
    }
    if decode_jpeg is not None:
        read: Callable[[Path], Tensor] = lambda path: decode_jpeg(path, mode="RGB")  # noqa: E731
        to_pil = lambda path: Image.fromarray(read(path).permute(1, 2, 0).numpy())  # noqa: E731
        found |= {
            "torchcodec, resized by Pillow": (lambda path: inputs.pixels_from_pil(to_pil(path)), 1),
            "torchcodec, resized by torch in the threads": (lambda path: resized_bytes(read(path), inputs), 1),
        }
    return found


def batches(read: Callable[[Path], Tensor], share: int, paths: Sequence[Path], workers: int) -> Iterator[list[Tensor]]:
    """As `memviz.images.stream` reads: in threads, two batches ahead."""
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[list[object]] = deque()
        shares = [paths[first : first + share] for first in range(0, len(paths), share)]
        for first in range(0, len(shares), BATCH // share):
            ahead.append(
                [
                    pool.submit(lambda some: [read(path) for path in some], each)
                    for each in shares[first:][: BATCH // share]
                ]
            )
            if len(ahead) > AHEAD:
                yield [picture for future in ahead.popleft() for picture in future.result()]
        while ahead:
            yield [picture for future in ahead.popleft() for picture in future.result()]


def to_inputs(pictures: list[Tensor], model: Model) -> Tensor:
    """What the network gets, on its device: (N, 3, H, W) float32, channels last."""
    inputs, device = model.inputs, model.device
    if pictures[0].dim() == 3:
        made = torch.cat([inputs.from_tensor(each[None].to(device).float() / 255) for each in pictures])
    elif pictures[0].dtype == torch.uint8:
        made = inputs.from_pixels(torch.stack(pictures).to(device))
    else:
        made = torch.stack(pictures)[:, 0].to(device)
    return made.contiguous(memory_format=torch.channels_last)


def rates(model: Model, paths: Sequence[Path], workers: int, rounds: int) -> pd.DataFrame:
    tried = ways(model.inputs)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in tried}
    for number in range(rounds + 1):
        for name, (read, share) in tried.items():
            start = now()
            for pictures in batches(read, share, paths, workers):
                to_inputs(pictures, model)
            if number:  # the first fills the disk's cache
                times[name].append(since(start))
    wall, cpu = ({name: median(each[part] for each in found) for name, found in times.items()} for part in (0, 1))
    count = len(paths)
    return pd.DataFrame(
        {
            "photographs/s": {name: round(count / wall[name], 1) for name in wall},
            "ms of a processor each": {name: round(1000 * cpu[name] / count, 2) for name in wall},
            "ratio": {name: round(cpu["Pillow"] / cpu[name], 2) for name in wall},
        }
    )


def judged(model: Model, batched: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """Scores (N,), and the best photographs of every unit of every watched layer (units, K)."""
    layers = list(model.layers.watched())
    private = private_copy(model.module)
    network, ranking = ChannelsLast(private), TopK(sum(layer.channels for layer in layers), K, model.device)
    maxima = Maxima(layers, model.inputs.size, BATCH, model.device)
    scores, done = [], 0
    with torch.inference_mode(), observe(private, maxima.callbacks()):
        for inputs in batched:
            count = len(inputs)
            scores += model.scores([network(inputs)], count)
            ranking.update(maxima.values[:count], maxima.positions[:count], torch.arange(done, done + count))
            done += count
    return torch.tensor(scores), ranking.top().images


def apart(one: list[Tensor], other: list[Tensor]) -> float:
    """The largest difference of two lists of inputs, in levels of 255."""
    return 255 * max(float((here - there).abs().max()) for here, there in zip(one, other, strict=True))


def changes(model: Model, paths: Sequence[Path], workers: int) -> pd.DataFrame:
    """How far each way is from Pillow's pixels, scores and rankings."""

    def read(name: str) -> list[Tensor]:
        return [to_inputs(each, model) for each in batches(*tried[name], paths, workers)]

    tried = ways(model.inputs)
    reference = read("Pillow")
    scores, best = judged(model, iter(reference))
    rows = {}
    known = [(reference, scores, best)]
    for name in tried:
        given = read(name)
        level = apart(given, reference)
        row = {"pixels, of 255": round(level, 2), "score": 0.0, "same of the best": 1.0, "same first": 1.0}
        if level:
            if not (same_pixels := [each for each in known if not apart(given, each[0])]):
                known.append((given, *judged(model, iter(given))))
                same_pixels = known[-1:]
            _, other_scores, other_best = same_pixels[0]
            same = (best[:, :, None] == other_best[:, None]).any(2).float().mean()
            row |= {
                "score": round(float((scores - other_scores).abs().max()), 6),
                "same of the best": round(float(same), 4),
                "same first": round(float((best[:, 0] == other_best[:, 0]).float().mean()), 4),
            }
        rows[name] = row
        print(name, row, flush=True)
    return pd.DataFrame(rows).T


def parts(model: Model, paths: Sequence[Path]) -> pd.Series:
    """Milliseconds of a processor for each part of the pass, one after the other in one thread."""
    inputs, made = model.inputs, {}
    some = paths[:BATCH]
    network = ChannelsLast(private_copy(model.module))

    def timed(name: str, call: Callable[[], object], count: int) -> object:
        start = time.process_time()
        found = call()
        made[name] = round(1000 * (time.process_time() - start) / count, 3)
        return found

    [content_hash(path) for path in paths]
    timed("hash", lambda: [content_hash(path) for path in paths], len(paths))
    photos = timed("decode", lambda: [open_image(path) for path in paths], len(paths))
    height, width = inputs.resize
    small = timed(
        "resize", lambda: [each.resize((width, height), Image.Resampling.BILINEAR) for each in photos], len(paths)
    )
    left, top = inputs.centre_corner((width, height))
    box = (left, top, left + inputs.size[1], top + inputs.size[0])
    pixels = timed(
        "crop, as bytes", lambda: [torch.from_numpy(np.array(each.crop(box)))[None] for each in small], len(paths)
    )
    timed("normalization before", lambda: [inputs.crops_from_pil(each) for each in small], len(paths))
    batch = timed("normalization", lambda: [to_inputs(pixels[:BATCH], model) for _ in range(8)], 8 * BATCH)[0]
    with ThreadPoolExecutor(1) as pool:
        timed("hand-over between threads", lambda: list(pool.map(lambda path: path, paths)), len(paths))
    with torch.inference_mode():
        network(batch)
        timed("network", lambda: network(batch), len(some))
    return pd.Series(made)


def enlarge(paths: Sequence[Path], folder: Path) -> list[Path]:
    made = []
    for path in paths:
        photo = open_image(path)
        made.append(folder / f"{path.stem}.jpg")
        photo.resize((photo.width * SCALE, photo.height * SCALE), Image.Resampling.BICUBIC).save(
            made[-1], quality=QUALITY
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of JPEG photographs")
    parser.add_argument("--model", default="resmem")
    parser.add_argument("--count", type=int, default=96, help="photographs that are judged and read, evenly taken")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="of rates; 0 for none")
    parser.add_argument("--rate-only", action="store_true", help="without the network")
    options = parser.parse_args()
    paths = list_images(options.photos)
    paths = [paths[place] for place in np.linspace(0, len(paths) - 1, options.count).round().astype(int)]
    model = memviz.load_model(options.model)
    print(f"{machine()}; {options.workers} threads read; device {model.device}; {len(paths)} photographs")
    if options.rounds:
        print(f"\nms of a processor a photograph, by part\n{parts(model, paths).to_string()}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, some in (("as they are", paths), (f"enlarged {SCALE} times", enlarge(paths[::2], Path(folder)))):
            print(f"\n{name}, {len(some)} photographs", flush=True)
            if options.rounds:
                print(rates(model, some, options.workers, options.rounds).to_string(), flush=True)
            if not options.rate_only:
                print(changes(model, some, options.workers).to_string(), flush=True)


if __name__ == "__main__":
    main()

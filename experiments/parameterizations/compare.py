"""Do pictures with the magnitude of photographs (MACO) show more of what a unit wants than free ones?

    uv run memviz index resmem PHOTOS --out runs/photos
    uv run python experiments/parameterizations/compare.py --index runs/photos --out runs/parameterizations

Renders the first units of layers of the published ResMem with each parameterization and otherwise today's defaults,
into one folder a parameterization; interrupted, the same command goes on. Prints for each layer: how many pictures of
live units beat the best photograph of the index (peak, like with like), the median of that ratio, peak and mean as a
multiple of the first parameterization's (medians), the contrast of the pictures (standard deviation of their values),
and the processor's seconds a unit in this run. A unit is live if the best photograph excites it above 1e-6. Saves the
first pictures side by side.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import memviz
from memviz.rendering import Maco, Pixel, RenderConfig, against_photographs
from memviz.rendering.sheet import contact_sheet

LAYERS = ("resnet.layer1.1", "resnet.layer2.3", "resnet.layer3.20", "resnet.layer4.1")
SHOWN = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--units", type=int, default=20, help="of each layer")
    parser.add_argument("--layers", nargs="+", default=LAYERS)
    parser.add_argument("--kinds", nargs="+", default=["fourier", "maco", "pixel"])
    arguments = parser.parse_args()
    model, index = memviz.load_model("resmem"), memviz.load_index(arguments.index)
    maco = Maco.from_photographs(map(index.photo, index.ranked["image"]), index.inputs)
    configs = {
        "fourier": RenderConfig(),
        "maco": RenderConfig(parameterization=maco),
        "pixel": RenderConfig(parameterization=Pixel()),
    }
    units = list(range(arguments.units))
    print("| layer | parameterization | beat the best photograph | ratio | peak, mean / Fourier | contrast | CPU s |")
    print("|---|---|---|---|---|---|---|")
    for layer in arguments.layers:
        best = index.stats(layer).set_index("channel")["peak"].to_dict()
        pictures, labels, first = [], [], None
        for kind in arguments.kinds:
            start = time.process_time()
            renders = memviz.render(model, layer, units, config=configs[kind], out=arguments.out / kind)
            seconds = (time.process_time() - start) / len(units)
            table = against_photographs(renders.table, best)
            first = table if first is None else first
            live = (table["best_photograph"] > 1e-6).to_numpy()
            peak, mean = (np.median((table[name] / first[name])[live]) for name in ("peak", "mean"))
            print(
                f"| {layer} | {kind} | {int(table['succeeds'][live].sum())} of {live.sum()} "
                f"| {table['ratio'][live].median():.2f} | {peak:.2f}, {mean:.2f} "
                f"| {renders.images.std((2, 3)).mean():.3f} | {seconds:.2f} |",
                flush=True,
            )
            pictures += renders.pil()[:SHOWN]
            labels += [f"{unit} {kind}" for unit in units[:SHOWN]]
        sheet = contact_sheet(pictures, labels, layer, columns=min(SHOWN, len(units)))
        sheet.convert("RGB").save(arguments.out / f"{layer}.jpg", quality=85)


if __name__ == "__main__":
    main()

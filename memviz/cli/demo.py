"""`memviz demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memviz.cli.common import Device


def demo(
    out: Annotated[Path, typer.Option(help="Folder for all that the demo makes.")] = Path("memviz-demo"),
    device: Device = "auto",
) -> None:
    """The whole main job on sample photographs: index, renders, and an AlexNet-against-ResNet gallery."""
    from memviz.cli.common import read_model
    from memviz.images import sample_photos
    from memviz.index import build_index
    from memviz.workflow import make_gallery

    photographs = sample_photos(out / "photographs")
    typer.echo(f"{len(photographs)} sample photographs and crops of scikit-image and scikit-learn", err=True)
    model = read_model("resmem", "published", device)
    index = build_index(model, out / "photographs", out=out / "index", progress=True)
    recipe = Path(__file__).with_name("demo.toml")
    page = make_gallery(recipe, out=out / "gallery", index=index, models=[model], progress=True)
    typer.echo(f"\nThe gallery is ready. Open it in a browser:\n{page.absolute()}")

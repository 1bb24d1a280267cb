"""`memviz demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memviz.cli.common import Device

DRIVEN = 60  # photographs: enough for a first look, in half a minute


def demo(
    out: Annotated[Path, typer.Option(help="Folder for all that the demo makes.")] = Path("memviz-demo"),
    device: Device = "auto",
) -> None:
    """The whole main job on sample photographs: index, drivers, labels, renders, a gallery, and a small microscope."""
    from memviz.cli.common import read_model
    from memviz.explanation import drivers, label_units
    from memviz.gallery.plan import plan_gallery
    from memviz.images import sample_photos
    from memviz.index import build_index
    from memviz.site import build_site
    from memviz.workflow import make_gallery

    photographs = sample_photos(out / "photographs")
    typer.echo(f"{len(photographs)} sample photographs and crops of scikit-image and scikit-learn", err=True)
    model = read_model("resmem", "published", device)
    index = build_index(model, out / "photographs", out=out / "index", progress=True)
    drivers(model, index, sample=DRIVEN, progress=True)
    plan = plan_gallery(Path(__file__).with_name("demo.toml"), index=index, renders=out / "renders")
    layers = list(dict.fromkeys(planned.layer.address for planned in plan.jobs.values()))
    if model.named:
        label_units(model, index, layers, progress=True)
    page = make_gallery(plan, out=out / "gallery", models=[model], progress=True)
    home = build_site(index, renders=[out / "renders"], layers=layers, out=out / "site", progress=True)
    typer.echo(f"\nOpen these in a browser. The gallery:\n{page.absolute()}")
    typer.echo(f"The microscope, with a page for each unit of {len(layers)} layers:\n{home.absolute()}")

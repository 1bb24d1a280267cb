"""`memviz demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memviz.cli.common import Device

if TYPE_CHECKING:
    from memviz.index import Index

DRIVEN = 60  # photographs: enough for a first look, in half a minute


def demo(
    out: Annotated[Path, typer.Option(help="Folder for all that the demo makes.")] = Path("memviz-demo"),
    device: Device = "auto",
) -> None:
    """The whole main job on sample photographs: index, drivers, labels, renders, a gallery, and a small microscope."""
    from memviz.cli.common import read_model
    from memviz.explanation import drivers
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
    _give_labels(index)
    page = make_gallery(plan, out=out / "gallery", models=[model], progress=True)
    home = build_site(index, renders=[out / "renders"], layers=layers, out=out / "site", progress=True)
    typer.echo(f"\nOpen these in a browser. The gallery:\n{page.absolute()}")
    typer.echo(f"The microscope, with a page for each unit of {len(layers)} layers:\n{home.absolute()}")


def _give_labels(index: Index) -> None:
    """Puts labels beside an index of the published ResMem, unless somebody has written some there.

    Automatic ones of the sample photographs would be untrue: most are crops of the same few, so that the half that is
    to judge a name holds what the other half chose it by; random filters got names, too.
    """
    from memviz.explanation.labels import FILES, labels_folder
    from memviz.files import replacing
    from memviz.models.weights import RESMEM

    folder = labels_folder(index)
    if index.manifest.weights == RESMEM.fingerprint and not any((folder / name).exists() for name in FILES):
        with replacing(folder / FILES[0]) as temporary:
            temporary.write_bytes(Path(__file__).with_name("demo_labels.toml").read_bytes())

"""`memviz label`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memviz.cli.common import Device, Mean, ModelName, Options, Weights
from memviz.cli.top import Photos

if TYPE_CHECKING:
    import torch

    from memviz.explanation import Labeller
    from memviz.index import Index


def label(
    model: ModelName,
    index: Annotated[Path, typer.Option(help="Folder of an index; labels are kept beside it.", show_default=False)],
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layer", help="A layer; may be repeated. By default all, or, without --auto, those with labels."
        ),
    ] = None,
    auto: Annotated[bool, typer.Option("--auto", help="Make automatic labels.")] = False,
    categories: Annotated[
        str | None,
        typer.Option(
            help="Name units by photographs' categories, not by the network's named outputs: 'folders', or a CSV with "
            "the columns path and category; FILE:COLUMN names another one.",
            show_default=False,
        ),
    ] = None,
    words: Annotated[
        Path | None,
        typer.Option(help="Name units by CLIP, with the words of a file, one a line; needs the extra clip."),
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Folder for a page of units that lack a label, and a CSV to fill in.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Units of a layer on the sheet.")] = 40,
    read: Annotated[Path | None, typer.Option(help="A filled-in CSV, whose labels are taken over.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write all labels to this file.")] = None,
    seed: Annotated[int, typer.Option(help="Of which photographs choose a name and which judge it.")] = 0,
    photos: Photos = None,
    weights: Weights = "published",
    mean: Mean = None,
    options: Options = None,
    device: Device = "auto",
) -> None:
    """Label units in words: what a person wrote, automatic labels, and which units still lack one."""
    from memviz.cli.common import echo_table, read_model
    from memviz.errors import StoreError
    from memviz.explanation.automatic import label_units
    from memviz.explanation.labels import add_labels, labels_folder, load_labels
    from memviz.files import check_file, replacing
    from memviz.gallery.labelling import label_sheet
    from memviz.index import load_index

    if (categories or words) and not auto:
        raise typer.BadParameter("--categories and --words go with --auto.", param_hint="--auto")
    if categories and words:
        raise typer.BadParameter("Give --categories or --words, not both.", param_hint="--words")
    if csv:
        check_file(csv)
    opened = load_index(index, photos)
    if "/" not in model and model != opened.manifest.model:
        raise StoreError(f"The index {index} is of {opened.manifest.model}, not of {model}. Give an index of {model}.")
    chosen = [opened.layers[name] for name in dict.fromkeys(layers or ())]
    if read:
        new = add_labels(opened, read)
        typer.echo(f"{len(new)} new labels: {labels_folder(opened) / 'labels.csv'}")
    if auto:
        loaded = read_model(model, weights, device, mean, options)
        addresses = [layer.address for layer in chosen] or None
        for found in label_units(
            loaded, opened, addresses, _labeller(opened, categories, words, loaded.device), seed=seed, progress=True
        ):
            control = "" if found.shuffled is None else f" (shuffled {found.shuffled:.2g})"
            typer.echo(f"{found.address}: {found.labelled:,} of {len(found.labels):,} units{control}")
    labels = load_labels(opened)
    known = {unit.address for unit in labels}
    table = labels.summary(chosen or [layer for layer in opened.layers if layer.address in known])
    if len(table):
        echo_table(table)
    else:
        typer.echo("No unit has a label yet. Make automatic ones with --auto, or a sheet with --sheet and --layer.")
    if csv:
        with replacing(csv) as temporary:
            labels.frame().to_csv(temporary, index=False)
    if sheet:
        units = [unit for layer in chosen for unit in labels.lacking(layer)[:most]]
        typer.echo(f"\n{label_sheet(opened, units, sheet).absolute()}")


def _labeller(index: Index, categories: str | None, words: Path | None, device: torch.device) -> Labeller | None:
    """Where the names come from that the options tell; None for the network's named outputs."""
    from memviz.explanation.clip import Words, open_clip_encoder, read_words
    from memviz.explanation.labellers import Categories, folder_categories, read_categories
    from memviz.explanation.responses import find_photographs

    if words is not None:
        chosen = read_words(words)
        return Words(open_clip_encoder(device=device), chosen)
    if categories is None:
        return None
    if categories == "folders":
        return Categories(folder_categories(find_photographs(index)[0], index.photos), "folders")
    file, _, column = categories.rpartition(":")
    if not file or Path(categories).exists():
        file, column = categories, "category"
    return Categories(read_categories(file, index.photos, column), column)

"""`memviz app`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memviz.cli.common import Device, Mean, Options, Weights
from memviz.cli.top import Photos


def app(
    model: Annotated[str, typer.Argument(help="A model, see `memviz models`, or a trained one's folder.")] = "resmem",
    index: Annotated[
        Path | None,
        typer.Option(help="An index: percentiles are among its photographs, and references drawn from them."),
    ] = None,
    site: Annotated[
        Path | None, typer.Option(help="Folder of `memviz site`, which is served too, and to which units are linked.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; 0.0.0.0 for all networks, and then visitors need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar="MEMVIZ_TOKEN", help="What visitors must give; made up where --host is not this machine."),
    ] = None,
    no_token: Annotated[bool, typer.Option("--no-token", help="Let everybody in who reaches it.")] = False,
    references: Annotated[int, typer.Option(help="Photographs that one is compared with.")] = 8,
    steps: Annotated[int, typer.Option(help="On the path from each: more are truer, and take longer.")] = 16,
    megabytes: Annotated[float, typer.Option(help="Of an upload, at most.")] = 32.0,
    memory: Annotated[float, typer.Option(help="Megabytes of photographs and results that are held.")] = 512.0,
    photos: Photos = None,
    weights: Weights = "published",
    mean: Mean = None,
    options: Options = None,
    device: Device = "auto",
) -> None:
    """Serve the web application: upload photographs, and see their scores and what they come from."""
    from memviz.app import AppConfig, serve
    from memviz.app.config import MEGABYTE
    from memviz.cli.common import read_model
    from memviz.explanation import ExplainConfig
    from memviz.index import load_index

    if token is not None and no_token:
        raise typer.BadParameter("give --token or --no-token.", param_hint="--no-token")
    config = AppConfig(
        explain=ExplainConfig(references=references, steps=steps, max_steps=steps),
        body=int(megabytes * MEGABYTE),
        bodies=max(8 * int(megabytes * MEGABYTE), AppConfig.bodies),
        held=int(memory * MEGABYTE),
    )
    typer.echo("Loading the model ...", err=True)
    loaded = read_model(model, weights, device, mean, options)
    indexed = load_index(index, photos) if index is not None else None

    def tell(address: str) -> None:
        typer.echo(f"Open {address}\nCtrl-C ends it.")

    token = "" if no_token else token
    serve(loaded, index=indexed, site=site, host=host, port=port, token=token, config=config, ready=tell)

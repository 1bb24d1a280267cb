"""The command-line application with all its commands."""

from __future__ import annotations

import typer

from memviz.cli import (
    accentuate,
    cache,
    checkup,
    demo,
    depth,
    drivers,
    evaluate,
    explain,
    gallery,
    index,
    label,
    layers,
    map,
    models,
    quality,
    render,
    score,
    search,
    site,
    top,
    train,
)
from memviz.cli import app as web
from memviz.cli.threads import computing_threads

app = typer.Typer(
    name="memviz",
    help="See what networks that predict image memorability look at.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    models.models,
    layers.layers,
    checkup.checkup,
    drivers.drivers,
    label.label,
    explain.explain,
    accentuate.accentuate,
    depth.depth,
    score.score,
    evaluate.evaluate,
    train.train,
    search.search,
    cache.cache,
    render.render,
    quality.quality,
    index.index,
    top.top,
    gallery.gallery,
    site.site,
    demo.demo,
):
    app.command()(command)
app.command("map")(map.network_map)
app.command("app")(web.app)


def _show_version(wanted: bool) -> None:
    if wanted:
        import memviz

        typer.echo(f"memviz {memviz.__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    threads: int | None = typer.Option(
        None,
        min=1,
        max=1024,
        help="Threads that compute; by default OMP_NUM_THREADS, or the cores that this process may use. Where others "
        "use them too, fewer may be quicker.",
        show_default=False,
    ),
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    if not context.resilient_parsing:
        context.with_resource(computing_threads(threads))

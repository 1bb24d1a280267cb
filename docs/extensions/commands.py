"""A hook of MkDocs: the page of the command line, written by typer from the commands themselves."""

import re
from typing import Any

import typer
from typer.cli import get_docs_for_click

from memviz.cli.commands import app

MARK = "<!-- the commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for each page."""
    return markdown.replace(MARK, commands()) if MARK in markdown else markdown


def commands() -> str:
    """What `typer utils docs` writes, without its list of commands, whose sentences are cut short."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="memviz")
    text = re.sub(r"\*\*Commands\*\*:.*?(?=^## )", "", text, flags=re.DOTALL | re.MULTILINE)
    text = text.replace("* `--help`: Show this message and exit.\n", "")
    text = re.sub(r"\*\*Options\*\*:\n+(?=\n## |\Z)", "", text)
    return re.sub(r"^## `memviz (\w+)`", r"## \1", text.removeprefix("# `memviz`\n\n"), flags=re.MULTILINE)

"""A hook of MkDocs: what a page of the reference lists is what the package makes public."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MARK = re.compile(r"<!-- (the names|a table) of ([\w.]+) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for each page."""
    return MARK.sub(lambda found: (described if found[1] == "the names" else table)(found[2]), markdown)


def described(room: str) -> str:
    """What tells mkdocstrings to describe each public name of a package."""
    names = sorted(public(room).items(), key=_calls_first)
    return "\n\n".join(f"::: {home}\n    options: {{show_root_heading: true}}" for _, home in names)


def table(package: str) -> str:
    """A row for each public name, with the first sentence about it."""
    names = sorted(public(package).items(), key=_calls_first)
    rows = [
        f"| [`{name}`]{f'({name}.md)' if is_package(home) else f'[{home}]'} | {sentence(home)} |"
        for name, home in names
    ]
    return "\n".join(["| name | what |", "|---|---|", *rows])


def _calls_first(item: tuple[str, str]) -> tuple[bool, str]:
    name, _ = item
    return name[0].isupper(), name


def public(package: str) -> dict[str, str]:
    """Where the names that a package imports in its `__init__.py` are defined, as `memviz.site.build.build_site`."""
    found = {}
    body = source(package).body
    for node in [*body, *(each for block in body if isinstance(block, ast.If | ast.Try) for each in block.body)]:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("memviz"):
            for each in node.names:
                name = each.asname or each.name
                # A room's own name, or one that a room passes on.
                inside = public(str(node.module)) if node.module != package and is_package(str(node.module)) else {}
                found[name] = inside.get(each.name, f"{node.module}.{each.name}")
    listed = next((node.value for node in body if isinstance(node, ast.Assign) and _names(node) == ["__all__"]), None)
    if isinstance(listed, ast.List):  # errors are imported besides, to be raised
        found = {name: found[name] for name in ast.literal_eval(listed)}
    return found


def _names(node: ast.Assign) -> list[str]:
    return [each.id for each in node.targets if isinstance(each, ast.Name)]


def sentence(home: str) -> str:
    """The first sentence of a docstring."""
    module, _, name = home.rpartition(".")
    nodes = ast.walk(source(module))
    kinds = (ast.ClassDef, ast.FunctionDef)
    node = next((each for each in nodes if isinstance(each, kinds) and each.name == name), None)
    text = ast.get_docstring(node if node is not None else source(home)) or ""
    return " ".join(text.split("\n\n")[0].split()).partition(". ")[0].replace("|", "\\|").rstrip(".") + "."


def is_package(name: str) -> bool:
    """Whether it is a folder of modules."""
    return (ROOT / name.replace(".", "/")).is_dir()


@cache
def source(module: str) -> ast.Module:
    """The code of a module, which is read and not imported: that would import torch."""
    place = ROOT / module.replace(".", "/")
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))

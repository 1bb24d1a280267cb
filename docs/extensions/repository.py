"""A hook of MkDocs: READMEs of the repository that hold measurements and recipes are pages too, where they lie."""

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
EXPERIMENT = ("README.md", "*.png", "*.jpg", "*.csv")
TAKEN = ("galleries/README.md", "galleries/preview.png", *(f"experiments/*/{each}" for each in EXPERIMENT))
MARK = "<!-- the experiments -->"


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Called by MkDocs once it has found the pages."""
    for path in (each for pattern in TAKEN for each in sorted(ROOT.glob(pattern))):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for each page."""
    return markdown.replace(MARK, questions()) if MARK in markdown else markdown


def questions() -> str:
    """A link to each experiment, by its title."""
    found = []
    for readme in sorted(ROOT.glob("experiments/*/README.md")):
        title = readme.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        found.append(f"- [{title}]({readme.relative_to(ROOT).as_posix()})")
    return "\n".join(found)

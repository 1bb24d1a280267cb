"""Reads a page of the documentation as its reader does: what its blocks of code say is done, from top to bottom.

- `python` runs, in one namespace a page; `sh` runs line by line, `memviz` in this process, since torch takes its time.
- `text` is what the block before it prints; `...` stands for anything.
- A block with `title="FILE"` is written into that file.
- After `<!-- only parsed: REASON -->` a block of `sh` is not run, but Bash and the commands must understand it.
- `<!-- continues: PAGE -->` says in whose folder a page goes on.
"""

import contextlib
import doctest
import io
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import typer
from sybil import Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import DirectiveInHTMLCommentLexer, FencedCodeBlockLexer

FOLDER = Path(__file__).parents[1] / "docs/pages"
COMMAND = re.compile(r"(?:uv run (?:--extra \S+ )?)?memviz (?!demo$)")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Pages:
    """The folder in which each page was read."""

    def __init__(self, tmp_path_factory):
        self._factory, self._read = tmp_path_factory, {}

    def read(self, name):
        """Does what the page says, unless it was done already."""
        if name not in self._read:
            self._read[name] = None
            before = re.search(r"<!-- continues: (\S+) -->", (FOLDER / name).read_text())
            folder = self.read(before[1]) if before else self._factory.mktemp(name.replace("/", "-"))
            with contextlib.chdir(folder):
                document = Sybil([_blocks, _reasons]).parse(FOLDER / name)
                for example in document.examples():
                    try:
                        example.evaluate()
                    except BaseException as error:
                        error.add_note(f"In the block of {name} at line {example.line}.")
                        raise
            self._read[name] = folder
        if self._read[name] is None:
            pytest.fail(f"{name} cannot be read.")
        return self._read[name]


def _blocks(document):
    lexer = FencedCodeBlockLexer(".+", {"language": "info", "source": "source"})
    for region in lexer(document):
        language, _, rest = region.lexemes["info"].partition(" ")
        title = re.fullmatch(r'title="([^"]+)"', rest)
        region.parsed = title[1] if title else region.lexemes["source"]
        region.evaluator = _write if title else EVALUATORS[language]
        yield region


def _reasons(document):
    for region in DirectiveInHTMLCommentLexer("only parsed", r"\S.*?")(document):
        region.evaluator = lambda example: example.namespace.update(parse=True)
        region.parsed = ""
        yield region


def _write(example):
    Path(example.parsed).write_text(example.region.lexemes["source"])


def _python(example):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        PythonEvaluator()(example)
    example.namespace["printed"] = out.getvalue()


def _shell(example):
    only_parsed = example.namespace.pop("parse", False)
    printed = ""
    for line in lines(example.parsed):
        if only_parsed:
            parse(line)
        elif COMMAND.match(line):
            printed += run(arguments(line))
        else:
            printed += subprocess.run(["bash", "-ec", line], check=True, capture_output=True, text=True).stdout
    example.namespace["printed"] = printed


def _text(example):
    printed = example.namespace["printed"]
    if not doctest.OutputChecker().check_output(example.parsed, printed, FLAGS):
        return f"expected:\n{example.parsed}\nprinted:\n{printed}"
    return None


EVALUATORS = {"python": _python, "sh": _shell, "text": _text}


def lines(source):
    """The commands of a block of `sh`, each on one line."""
    return [line for line in source.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]


def arguments(line):
    """What the shell makes of a command's line: its arguments, without comments, with patterns filled in."""
    words = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], check=True, capture_output=True, text=True).stdout
    words = words.split("\0")[:-1]
    return words[words.index("memviz") + 1 :]


def run(words):
    """Runs `memviz WORDS` in this process; what it prints."""
    from memviz.cli import main

    given, shown = sys.argv, warnings.showwarning  # which main replaces
    out, err = io.StringIO(), io.StringIO()
    code = None
    try:
        sys.argv = ["memviz", *words]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv, warnings.showwarning = given, shown
    assert not code, f"memviz {' '.join(words)}\n{out.getvalue()}\n{err.getvalue()}\n{code}"
    return out.getvalue()


def parse(line):
    """Fails where Bash does not understand the line, or the command line its command."""
    subprocess.run(["bash", "-nc", line], check=True)
    if found := COMMAND.search(line):
        understand(arguments(line[found.start() :]))


def understand(words):
    """Fails on a command, an option or a value that the command line does not know; runs nothing."""
    from memviz.cli.commands import app

    group = typer.main.get_command(app)
    context = group.make_context("memviz", list(words), resilient_parsing=False)
    name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
    command.make_context(name, rest, parent=context)

"""Commands in the repository's other Markdown files: understood, not run."""

import re
import subprocess
from pathlib import Path

import pytest
from documentation import COMMAND, arguments, lines, understand
from sybil import Document
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

ROOT = Path(__file__).parents[2]
FILES = ["README.md", "CONTRIBUTING.md", *(str(path.relative_to(ROOT)) for path in ROOT.glob("*/**/README.md"))]
BLOCKS = RawFencedCodeBlockLexer(re.compile(r"(?:sh)?$\n", re.MULTILINE))


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith(".")])
def test_the_command_line_understands_its_examples(name):
    for block in BLOCKS(Document((ROOT / name).read_text(), name)):
        for line in lines(block.lexemes["source"]):
            for found in COMMAND.finditer(line):
                try:
                    understand(arguments(line[found.start() :]))
                except SystemExit as end:
                    pytest.fail(f"{line}: {end}")
                except subprocess.CalledProcessError:
                    pytest.fail(f"Bash does not understand: {line}")


def test_the_python_of_the_readme_compiles():
    for source in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        compile(source, "README.md", "exec")

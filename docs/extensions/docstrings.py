"""Docstrings as memviz writes them, made ready for Griffe and Markdown."""

import re

import griffe

DOCTEST = re.compile(r"^( *)>>> .*(?:\n\1.*\S.*)*", re.MULTILINE)
TOGETHER = re.compile(r"^ {4}(\w+(?:, \w+)+): (.*(?:\n {5,}.*)*)", re.MULTILINE)


def prepared(docstring: str) -> str:
    """The docstring with doctests in fences, else quotations in Markdown, and each parameter on a line of its own.

    >>> print(prepared("Args:\\n    low, high: limits."))
    Args:
        low: limits.
        high: limits.
    """
    text = re.sub(r"^Example:$", "Examples:", docstring, flags=re.MULTILINE)
    text = re.sub(r"::\n\n(?= {4})", ":\n\n", text)  # reStructuredText's sign for what Markdown tells by the indent
    text = TOGETHER.sub(lambda item: "\n".join(f"    {name}: {item[2]}" for name in item[1].split(", ")), text)
    text = re.sub(r" *# doctest: .*", "", text)
    return DOCTEST.sub(lambda found: f"{found[1]}```pycon\n{found[0]}\n{found[1]}```", text)


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Called by Griffe for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = prepared(obj.docstring.value)

"""Writing what is new."""

from __future__ import annotations

from pathlib import Path

from memviz.files import replacing


def exists(path: Path) -> bool:
    """Whether a file is there, and not empty, as one is that a failing machine had no time to write."""
    return path.is_file() and path.stat().st_size > 0


def write(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all, unless it is there and the same."""
    if path.is_file() and path.read_bytes() == content:
        return
    # The disk is waited for once, when the site is complete.
    with replacing(path, durable=False) as temporary:
        temporary.write_bytes(content)

"""Writing what is new."""

from __future__ import annotations

from pathlib import Path

from memviz.files import replacing


def write(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all, unless it is there and the same."""
    if path.is_file() and path.read_bytes() == content:
        return
    with replacing(path) as temporary:
        temporary.write_bytes(content)

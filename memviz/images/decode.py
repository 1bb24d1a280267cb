"""Decodes one picture file to an upright RGB image."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from memviz.errors import FormatError, ImageError
from memviz.files import MISNAMED, utf8_name
from memviz.images.archive import member, read_member
from memviz.images.formats import formats

# The size at which Pillow itself refuses a file (twice its MAX_IMAGE_PIXELS): 0.7 GB once decoded.
MAX_PIXELS = 178_956_970
# Pillow keeps an address for each row: of a picture of 1 x 100,000,000 pixels they take another 0.8 GB.
MAX_SIDE = 1_000_000

# EXIF 2.3, tag Orientation: the transposition that makes the stored picture upright.
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(path: str | os.PathLike[str], sha256: str | None = None) -> Image.Image:
    """Reads a picture file, or one in a tar archive, as an upright 8-bit RGB image, loaded and closed.

    EXIF rotation is applied; grayscale, palette and CMYK become RGB; 16 bits are scaled to 8 (65535 to 255);
    transparency is laid over white; an animation gives its first frame. Safe to call from several threads.

    With `sha256`, that of the file's bytes, the bytes that are decoded are those that have it: the file is read once.

    Raises `ImageError` with the file's name and the reason for whatever cannot be read: a missing, empty, truncated or
    damaged file, a folder, another format, a path that is not UTF-8, other bytes than `sha256` says, more than
    `MAX_PIXELS` pixels, or a side above `MAX_SIDE`.

    >>> from PIL import Image
    >>> path = getfixture("tmp_path") / "clear.png"
    >>> Image.new("LA", (3, 2), (0, 0)).save(path)
    >>> open_image(path).getpixel((0, 0))
    (255, 255, 255)
    """
    return _named(utf8_name(path), lambda: _load(Path(path), sha256))


def decode_image(content: bytes, name: str, most_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture that a file of these bytes holds, as `open_image` gives it; nothing is written to disk.

    Args:
        content: of the file.
        name: of the file, for the message.
        most_pixels: that the picture may have; told by its header, before anything is decoded.

    Raises:
        ImageError: it cannot be read, as `open_image` says; `FormatError` where it is no picture in a known format.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (3, 2)).save(file, "PNG")
        >>> decode_image(file.getvalue(), "a.png").size
        (3, 2)
    """
    return _named(utf8_name(name), lambda: _decode(io.BytesIO(content), len(content), most_pixels))


def _named(name: str, load: Callable[[], Image.Image]) -> Image.Image:
    """What `load` gives; whatever it raises becomes an `ImageError` with the file's name."""
    kind = ImageError
    try:
        with _mute_pillow():
            return load()
    except ImageError as error:
        reason = str(error)
    except UnidentifiedImageError:
        kind, reason = FormatError, f"not a picture in a format that memviz reads ({', '.join(formats())})"
    except Image.DecompressionBombError as error:
        reason = f"too large ({error})"
    # On damaged bytes Pillow's readers raise nearly any exception: struct.error, SyntaxError, MemoryError ...
    except Exception as error:
        reason = getattr(error, "strerror", None) or f"damaged ({str(error) or type(error).__name__})"
    raise kind(f"{name}: {reason}")


def _load(path: Path, sha256: str | None) -> Image.Image:
    if utf8_name(path) != str(path):
        raise ImageError(MISNAMED)  # no table, JSON or CSV file could name it
    content: bytes | None = None
    try:
        about = path.stat()
    except OSError:
        if (place := member(str(path))) is None:
            raise
        content = read_member(place)
    else:
        if stat.S_ISDIR(about.st_mode):
            raise ImageError("a folder, not a picture file")
        if not stat.S_ISREG(about.st_mode):
            raise ImageError("not a regular file")  # opening a pipe would block
        if sha256 is not None:
            content = path.read_bytes()
    if sha256 is not None and hashlib.sha256(content or b"").hexdigest() != sha256:
        raise ImageError("its contents were changed meanwhile")
    return _decode(path, about.st_size) if content is None else _decode(io.BytesIO(content), len(content))


def _decode(source: Path | io.BytesIO, size: int, most_pixels: int = MAX_PIXELS) -> Image.Image:
    if size == 0:
        raise ImageError("an empty file")
    with Image.open(source, formats=formats()) as image:
        if image.width * image.height > most_pixels or max(image.size) > MAX_SIDE:
            limit = f"{most_pixels:,} pixels, {MAX_SIDE:,} on a side"
            raise ImageError(f"too large ({image.width} x {image.height} pixels; the limit is {limit})")
        image.load()
        # After load(): Pillow turns a TIFF itself there and drops the tag.
        turn = UPRIGHT.get(_read_orientation(image))
        picture = _to_rgb(image)
    return picture if turn is None else picture.transpose(turn)


def _read_orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # damaged metadata around a sound picture
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ImageError("32-bit pixels beyond the range 0 to 65535; save it with 8 or 16 bits")
        return Image.fromarray(((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ImageError("floating-point pixels, whose black and white are unknown; save it with 8 or 16 bits")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    # A copy where the file is RGB already, since `image` is closed.
    return image.convert("RGB")


_muting = threading.Lock()
_muted = 0
_MUTE = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


@contextmanager
def _mute_pillow() -> Iterator[None]:
    """Suppresses Pillow's warnings about odd metadata in usable files.

    `warnings.catch_warnings` saves and restores the process's one list of filters: used in several threads it may
    bring back filters that another thread has since dropped. So one entry, for Pillow alone, is added and taken away.
    """
    global _muted
    with _muting:
        filters: Any = warnings.filters
        _muted += 1
        if _MUTE not in filters:
            filters.insert(0, _MUTE)
    try:
        yield
    finally:
        with _muting:
            filters = warnings.filters
            _muted -= 1
            while _muted == 0 and _MUTE in filters:
                filters.remove(_MUTE)

"""Which formats of pictures are read, and which files are taken for pictures."""

from __future__ import annotations

from PIL import Image

# Only formats that Pillow decodes itself: its EPS and WMF plugins start other programs.
FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
# Listed although not every build of Pillow reads them, so that they are reported and not silently missed.
ALWAYS_LISTED = frozenset({".avif", ".heic", ".heif"})


def formats() -> list[str]:
    """Pillow's names of the formats that `open_image` reads."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]  # AVIF is not in every build


def extensions() -> frozenset[str]:
    """The extensions of files that are taken for pictures, in lower case, as ".jpg"."""
    readable = formats()  # which also makes Pillow know its extensions
    return ALWAYS_LISTED.union(extension for extension, name in Image.EXTENSION.items() if name in readable)

"""Where on the site a layer and a unit have their pages."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import quote

PAGE, DATA = "index.html", "unit.json"


def picture_file(number: int) -> str:
    """The name of a unit's picture beside its page, of the folder of renders with this number.

    >>> picture_file(0), picture_file(1)
    ('picture.jpg', 'picture-2.jpg')
    """
    return f"picture{f'-{number + 1}' if number else ''}.jpg"


def layer_place(address: str, addresses: Collection[str]) -> str:
    """The folder of a layer's page, below the site's; that of unit 5 is `<folder>/5`.

    The first part of an address, a branch, is a folder of its own, unless it is a layer itself: its unit 5 would have
    the place of its part 5.

    >>> layer_place("resnet.layer3.20", ["resnet.layer3.20"]), layer_place("conv.5", ["conv", "conv.5"])
    ('resnet/layer3.20', 'conv.5')
    """
    first, dot, rest = address.partition(".")
    return f"{first}/{rest}" if dot and first not in addresses else address


def link(source: str, target: str) -> str:
    """The relative link from a page in one folder of the site to a file.

    >>> link("resnet/layer3.20/5", "resnet/layer3.20/6/index.html"), link("", "style.css"), link("a/b", "style.css")
    ('../6/index.html', 'style.css', '../../style.css')
    """
    here, there = source.split("/") if source else [], target.split("/")
    shared = 0
    while shared < min(len(here), len(there) - 1) and here[shared] == there[shared]:
        shared += 1
    return quote("/".join([".."] * (len(here) - shared) + there[shared:]))

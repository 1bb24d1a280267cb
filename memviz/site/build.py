"""From saved results to the folder of a site."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jinja2
import msgspec

from memviz.artefacts import Manifest, claim, inside, locked
from memviz.errors import StoreError, did_you_mean
from memviz.explanation.ablation import Ablation, load_ablations
from memviz.explanation.depth import load_depth
from memviz.gallery.describe import field_share
from memviz.gallery.html import environment
from memviz.gallery.page import field_words
from memviz.gallery.pictures import Picture, Renders, jpeg
from memviz.gallery.plan import Network
from memviz.gallery.recipe import Source
from memviz.index import Index, IndexedLayer, load_index
from memviz.layers import Layer
from memviz.progress import progress as show_progress
from memviz.site.describe import PhotographRow, Sources, photograph_rows
from memviz.site.files import write
from memviz.site.layer_page import LayerPage, write_sheets
from memviz.site.neighbours import neighbours
from memviz.site.photographs import FACE, STRIP, write_photographs
from memviz.site.places import DATA, PAGE, layer_place, link, picture_file

KIND, FORMAT = "memviz-site", 1
STYLE, SCRIPT, SEARCH = "style.css", "site.js", "search.js"
DEPTH = "depth.png"
_WORDS = {"weights": "the index of other weights", "config.photographs": "an index of other photographs"}
_QUALITY = 82  # of a render, whose file is a quarter of the PNG's


def build_site(
    index: Index | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    renders: Sequence[str | os.PathLike[str]] = (),
    layers: Iterable[str] | None = None,
    depth: str | os.PathLike[str] | None = None,
    photographs: bool = True,
    progress: bool | None = None,
) -> Path:
    """Builds a page for each unit of a network, a page a layer, and a home page that maps them, from saved results.

    What is kept beside the index is shown where it is there: labels, the survey of drivers with its ablations, and the
    checkup. Given again, only what has changed is written, and a build that was interrupted goes on.

    Args:
        index: of the network.
        out: folder of the site, which opens from disk and from any static host.
        renders: folders of `memviz render`; those of the first stand for the units, the others' are shown beside.
        layers: addresses; None takes those that are rendered, or all without renders.
        depth: folder of `memviz depth`, whose figure and verdict the home page shows.
        photographs: whether the photographs are shown, and their names.
        progress: None shows it where there is a terminal.

    Returns:
        Path of the home page.

    Raises:
        LayerError: a layer that the index does not watch.
        StoreError: an `out` that holds something else or the site of another index, renders of other weights, or a
            photograph that is gone or changed.

    Example:
        >>> import memviz
        >>> memviz.build_site("runs/photos", renders=["runs/whole"], out="site")  # doctest: +SKIP
        PosixPath('site/index.html')
    """
    index = index if isinstance(index, Index) else load_index(index)
    found = [Renders(Path(folder)) for folder in renders]
    rendered = set().union(*(each.addresses for each in found))
    chosen = _choose(index, layers, rendered)
    profile = None if depth is None else _read_depth(Path(depth), index)
    site = Path(out)
    about = {"photographs": index.config.photographs, "k": index.config.k, "shown": photographs}
    manifest = claim(site, Manifest(KIND, FORMAT, index.manifest.model, index.manifest.weights, config=about), _WORDS)
    with locked(site):
        builder = _Builder(index, found, chosen, site, photographs)
        _remove_others(site, manifest, chosen)
        # Before the pages, so that what an interrupted build leaves can be read.
        builder.write_shared()
        with show_progress("Building pages", sum(each.channels for each in chosen), "units", progress) as advance:
            pages = [builder.layer(layer, advance) for layer in chosen]
        builder.home(pages, profile)
        places = {each.address: each.place for each in pages}
        os.sync()
        manifest.finished(places=places, units=sum(len(each.cells) for each in pages)).write(site)
    return site / PAGE


def _choose(index: Index, layers: Iterable[str] | None, rendered: set[str]) -> list[Layer]:
    if layers is not None:
        wanted = {index.layers[address].address for address in layers}
    else:
        known = {layer.address for layer in index.layers}
        if rendered and not rendered & known:
            raise StoreError(f"No rendered layer is in {index.path}. {did_you_mean(min(rendered), known)}")
        wanted = rendered & known or known
    return [layer for layer in index.layers if layer.address in wanted]


def _read_depth(folder: Path, index: Index) -> tuple[list[str], bytes]:
    """The verdict of a depth profile, and its figure."""
    found = load_depth(folder)
    if found.weights != index.manifest.weights:
        raise StoreError(f"The depth profile {folder} is of other weights than the index {index.path}. Give its own.")
    return found.verdict, (folder / DEPTH).read_bytes()


def _remove_others(site: Path, manifest: Manifest, chosen: list[Layer]) -> None:
    """Removes the layers that were on the site before, and are not any more."""
    before = manifest.result.get("places", {})
    for address in before.keys() - {layer.address for layer in chosen}:
        shutil.rmtree(inside(site, before[address]), ignore_errors=True)


@dataclass
class _Builder:
    """Writes page after page."""

    index: Index
    renders: list[Renders]
    chosen: list[Layer]
    site: Path
    photographs: bool

    @cached_property
    def places(self) -> dict[str, str]:
        """By address, the folder of each watched layer's page."""
        addresses = {layer.address for layer in self.index.layers}
        return {address: layer_place(address, addresses) for address in addresses}

    @cached_property
    def _pages(self) -> jinja2.Environment:
        pages = environment("memviz.site")
        pages.globals |= {
            "model": str(self.index.manifest.model),
            "target": self.index.config.target or "score",
            "photographs": self.photographs,
            "count": self.index.result.photographs,
            "surveyed": self._network.drivers.photographs if self._network.drivers else 0,
            "style": STYLE, "script": SCRIPT, "search": SEARCH, "strip": STRIP,
        }  # fmt: skip
        return pages

    @cached_property
    def _network(self) -> Network:
        """The index with what is kept beside it."""
        name = str(self.index.manifest.model)
        return Network(Source(name), name, self.index)

    @cached_property
    def _ablations(self) -> dict[str, Ablation]:
        surveyed = self._network.drivers
        return {each.address: each for each in load_ablations(surveyed)} if surveyed else {}

    @cached_property
    def _rows(self) -> list[PhotographRow]:
        return photograph_rows(self.index)

    def write_shared(self) -> None:
        """Style, script, and what the search looks through."""
        pages = self._pages
        style = pages.get_template("page.css").render() + pages.get_template("site.css").render()
        write(self.site / STYLE, style.encode())
        write(self.site / SCRIPT, pages.get_template(SCRIPT).render().encode())
        layers = {each.address: [self.places[each.address], each.channels] for each in self.chosen}
        labels = [
            [str(unit), label.text]
            for unit, label in self._network.labels.items()
            if label.text and unit.address in layers
        ]
        content = {"layers": layers, "labels": labels}
        # A script and not JSON, since pages that are opened from disk may not fetch files.
        write(self.site / SEARCH, f"window.memviz = {json.dumps(content, ensure_ascii=False)};\n".encode())

    def layer(self, layer: Layer, advance: Callable[[int], None]) -> LayerPage:
        """Writes the pages of a layer and its units."""
        place = self.places[layer.address]
        folder, indexed = self.site / place, self.index.layer(layer.address)
        folders = {channel: folder / str(channel) for channel in range(layer.channels)}
        pictures = tuple(each.of(layer.address, self.index) for each in self.renders)
        drawn = {channel for each in pictures for channel, picture in each.items() if picture.path is not None}
        with self._beside(indexed, folders, folders.keys() - drawn, advance):
            page = self._units(indexed, place, folders, pictures, advance)
        write_sheets(folder, page)
        html = self._pages.get_template("layer.html").render(page=page, here=place, link=link, driven=page.driven)
        write(folder / PAGE, html.encode())
        return page

    @contextmanager
    def _beside(
        self, indexed: IndexedLayer, folders: dict[int, Path], faces: set[int], advance: Callable[[int], None]
    ) -> Iterator[None]:
        """Writes photographs while the block writes pages, since Pillow works without Python's lock."""
        if not self.photographs:
            yield
            return
        ended = False

        def count(units: int) -> None:
            if ended:
                raise InterruptedError
            advance(units)

        with ThreadPoolExecutor(1) as thread:
            written = thread.submit(write_photographs, indexed, folders, faces, self.site, count)
            try:
                yield
                written.result()
            except BaseException:
                ended = True
                raise

    def _units(
        self,
        indexed: IndexedLayer,
        place: str,
        folders: dict[int, Path],
        pictures: tuple[dict[int, Picture], ...],
        advance: Callable[[int], None],
    ) -> LayerPage:
        """Writes the units' pages; gives what the layer's page says."""
        layer, folder = indexed.layer, self.site / place
        ablation = self._ablations.get(layer.address)
        drivers = self._network.driven(layer.address)
        sources = Sources(indexed, pictures, drivers, ablation, self._network.labels, self._rows, self.photographs)
        alike, template = neighbours(indexed), self._pages.get_template("unit.html")
        shown = {
            channel: tuple(
                self._write_picture(folder, channel, number, each.get(channel)) for number, each in enumerate(pictures)
            )
            for channel in folders
        }
        facts = {"model": self.index.manifest.model, "weights": self.index.manifest.weights, "layer": layer.to_dict()}
        share, finding = field_share(layer, self.index), self._network.finding(layer.address)
        field = field_words(layer.receptive_field, share)
        units = []
        for channel, own in folders.items():
            unit = sources.unit(channel, alike[channel], shown[channel])
            units.append(unit)
            here = f"{place}/{channel}"
            html = template.render(
                unit=unit, layer=layer, field=field, finding=finding, here=here, place=place, link=link,
                before=channel - 1 if channel else None,
                after=channel + 1 if channel + 1 < layer.channels else None,
                replaced=ablation.photographs if ablation else 0,
                pictures={each: self._face(shown[each]) for each in alike[channel]},
            )  # fmt: skip
            write(own / PAGE, html.encode())
            write(own / DATA, msgspec.json.format(msgspec.json.encode(unit.to_json(facts)), indent=1) + b"\n")
            if not self.photographs:
                advance(1)
        faces = [self._face(shown[each]) for each in folders]
        return LayerPage.of(layer, place, finding, field, units, faces)

    def home(self, pages: list[LayerPage], depth: tuple[list[str], bytes] | None) -> None:
        """Writes the home page; `depth` is the verdict on how perceptual and conceptual layers are, and its figure."""
        if depth is not None:
            write(self.site / DEPTH, depth[1])
        branches: dict[str, list[LayerPage]] = {}
        for page in pages:
            first, dot, _ = page.address.partition(".")
            branches.setdefault(first if dot else "", []).append(page)
        html = self._pages.get_template("home.html").render(
            branches=branches,
            shown=len(pages),
            here="",
            link=link,
            verdict=self._network.checkup.verdict if self._network.checkup else [],
            weights=str(self.index.manifest.weights),
            units=sum(len(page.cells) for page in pages),
            watched=len(self.index.layers),
            drivers=self._network.drivers,
            labels=sum(page.labelled for page in pages),
            depth=depth[0] if depth else [],
            figure=DEPTH,
        )
        write(self.site / PAGE, html.encode())

    def _write_picture(self, folder: Path, channel: int, number: int, picture: Picture | None) -> str:
        """The name of a picture's file beside its unit's page; empty where there is none."""
        drawn = None if picture is None else picture.read()
        if drawn is None:
            return ""
        name = picture_file(number)
        write(folder / str(channel) / name, jpeg(drawn, _QUALITY, subsampling=0))
        return name

    def _face(self, files: tuple[str, ...]) -> str:
        """What stands for a unit where it is shown small: its picture, or else what it saw; empty without both."""
        return next(filter(None, files), FACE if self.photographs else "")

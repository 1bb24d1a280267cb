"""An opened index: what it answers without a network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from memviz.artefacts import MANIFEST, partial_folder
from memviz.errors import ImageError, ModelError, StoreError
from memviz.images import content_hash, open_image
from memviz.index.crops import crop, seen_box
from memviz.index.store import IMAGES, REBUILD, SIDES, STATS, TOP, check_columns, positive, read_manifest, read_rows
from memviz.layers import Layer, LayerTable
from memviz.layers.unit import Unit, units_of
from memviz.models import InputSpec, Model
from memviz.models.inputs import MAX_SIDE

if TYPE_CHECKING:
    import pandas as pd


class Index:
    """The photographs that excite each unit of a network most and least.

    Made by `memviz.build_index` and `memviz.load_index`. A unit's activation on a photograph is its peak, as
    `memviz.layers.unit` defines it.

    Attributes:
        path: the index's folder.
        photos: the folder below which its photographs lie.
        manifest: where it came from: model, weights, preprocessing, versions.
        config: what decided it: layers, k, photographs, target.
        result: how many photographs it ranks, and how many were left out.
        layers: the watched layers, in executed order.
        inputs: the preprocessing of the photographs.
    """

    def __init__(self, path: Path, photos: Path | None = None) -> None:
        self.path = path
        self.manifest, self.config, self.result = read_manifest(path)
        self.photos = Path(self.result.root) if photos is None else photos
        self.layers = LayerTable(self.config.layers)
        try:
            self.inputs = InputSpec.from_dict(self.manifest.inputs or {})
        except (ModelError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"{path / MANIFEST} is damaged ({error}). {REBUILD}") from error
        self._latest: IndexedLayer | None = None

    def __repr__(self) -> str:
        about = f"{self.manifest.model}, {len(self.layers)} layers, {self.result.photographs} photographs"
        return f"Index({str(self.path)!r}: {about})"

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row a file: image (its number), path, width, height, prediction, error, sha256, copy_of.

        `path` is relative to `photos`; `prediction` is the model's own score, NaN if it gives none; `error` says why a
        file could not be read; `copy_of` names the photograph with the same bytes that is ranked in this one's place.
        """
        import pandas as pd

        columns = read_rows(self.path / IMAGES, self.result.files)
        if len(columns["image"]) != self.result.files or not np.array_equal(
            columns["image"], np.arange(self.result.files)
        ):
            raise StoreError(f"{self.path / IMAGES} lacks rows. {REBUILD}")
        for name in columns["path"]:
            if not name or "\0" in name or os.path.isabs(name) or ".." in name.split("/"):
                raise StoreError(f"{self.path / IMAGES} names a photograph {name!r}. {REBUILD}")
        return pd.DataFrame(columns)

    @property
    def ranked(self) -> pd.DataFrame:
        """The rows of `images` that are ranked: photographs that could be read, each once."""
        return self.images[self.images["error"].isna() & self.images["copy_of"].isna()]

    def layer(self, address: str) -> IndexedLayer:
        """Reads a layer's rows once, for questions about many of its units.

        Args:
            address: a layer, as "alexnet.conv4" or "resnet@139".

        Raises:
            LayerError: a layer that is not watched.
            StoreError: a damaged index.

        Example:
            >>> layer = load_index("runs/photos").layer("alexnet.conv4")  # doctest: +SKIP
            >>> best = [layer.top(channel, k=1) for channel in range(layer.layer.channels)]  # doctest: +SKIP
        """
        layer = self.layers[address]
        latest = self._latest
        if latest is None or latest.layer != layer:
            # The last one is kept, so that a loop over a layer's units reads it once, and memory stays flat.
            self._latest = latest = IndexedLayer.read(self, layer)
        return latest

    def top(self, unit: str | Unit, k: int | None = None) -> pd.DataFrame:
        """The photographs that excite a unit most, best first.

        Args:
            unit: as "resnet.layer3.20:5", "resnet@139:5", or a `Unit`.
            k: at most how many; None gives all that are kept.

        Returns:
            rank (from 0), value (activation), image (its number), path, y and x (the place of the maximum in
            the layer's map), prediction. Equal values are ranked by image.

        Raises:
            LayerError: a layer that is not watched, or a channel that it does not have.
            StoreError: a damaged index, or a `k` that is no number.
        """
        return self._of(unit).top(self._unit(unit).channel, k)

    def bottom(self, unit: str | Unit, k: int | None = None) -> pd.DataFrame:
        """The photographs that excite a unit least, lowest first; otherwise as `top`."""
        return self._of(unit).bottom(self._unit(unit).channel, k)

    def stats(self, address: str) -> pd.DataFrame:
        """Over all photographs, the activation of each unit of a layer: channel, mean, std (divided by n), peak."""
        return self.layer(address).stats()

    def best_peaks(self) -> dict[str, dict[int, float]]:
        """By address and channel, the largest activation that a photograph reaches."""
        return {layer.address: dict(enumerate(self.stats(layer.address)["peak"].tolist())) for layer in self.layers}

    def crops(
        self, unit: str | Unit, k: int | None = 9, size: int | None = None, lowest: bool = False
    ) -> list[Image.Image]:
        """What a unit saw in its best photographs: its receptive field, cut out in full resolution.

        Where the field sticks out of the picture the window is moved inside; where it is larger, the crop is all
        that the network saw.

        Args:
            unit: as "resnet.layer3.20:5", "resnet@139:5", or a `Unit`.
            k: at most how many.
            size: the crops' longer side in pixels; None keeps the photographs' pixels.
            lowest: of the photographs that excite it least instead.

        Returns:
            RGB images in the order of `top`, or of `bottom`.

        Raises:
            LayerError: a layer that is not watched, or a channel that it does not have.
            StoreError: a photograph is gone, cannot be read any more, or is another one now.
        """
        return self._of(unit).crops(self._unit(unit).channel, k, size, lowest)

    def check_model(self, model: Model) -> None:
        """Refuses a model whose weights are not those that the index was built with.

        Raises:
            StoreError: the fingerprints of the weights differ.
        """
        given, built = model.fingerprint(), str(self.manifest.weights)
        if given != built:
            raise StoreError(
                f"The index {self.path} was built with other weights ({self.manifest.model}, {built[:12]}) than "
                f"those of {model.name} ({given[:12]}). Build an index with this model, or load the index's weights."
            )

    def photo(self, image: int) -> Image.Image:
        """A photograph as it was indexed, upright RGB, by its number.

        Raises:
            StoreError: it is gone, cannot be read any more, or has other bytes than when it was indexed.
        """
        row = self.images.iloc[image]
        path = self.photos / row["path"]
        try:
            same = content_hash(path) == row["sha256"]
            photo = open_image(path) if same else None
        except (OSError, ImageError) as error:
            reason = error if isinstance(error, ImageError) else f"{path}: {error.strerror}"
            raise StoreError(
                f"A photograph of the index {self.path} cannot be read any more: {reason}. Put it back, build the "
                "index again, or say where the photographs lie now: load_index(folder, photos=...), or --photos."
            ) from error
        if photo is None:
            raise StoreError(
                f"{path} is not the photograph that the index {self.path} ranks: it was changed or replaced since. "
                "Put the old one back, or build the index again."
            )
        return photo

    def _unit(self, unit: str | Unit) -> Unit:
        if isinstance(unit, Unit):
            return units_of(self.layers[unit.address], unit.channel)[0]
        return Unit.parse(unit, self.layers)

    def _of(self, unit: str | Unit) -> IndexedLayer:
        return self.layer(self._unit(unit).address)


@dataclass(frozen=True, eq=False)
class IndexedLayer:
    """The answers of an index about one layer, held in memory; `Index.layer` gives it.

    Attributes:
        index: that it belongs to.
        layer: whose units are asked for.
        values, images, y, x: (channels, 2, kept), of the highest and the lowest photographs of each unit.
        mean, std: (channels,), over all photographs.
    """

    index: Index
    layer: Layer
    values: NDArray[np.float32]
    images: NDArray[np.int32]
    y: NDArray[np.int32]
    x: NDArray[np.int32]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    @classmethod
    def read(cls, index: Index, layer: Layer) -> IndexedLayer:
        """Reads and checks the rows of a layer.

        Raises:
            StoreError: rows are missing, or what they hold cannot be.
        """
        kept = min(index.config.k, index.result.photographs)
        units = sum(each.channels for each in index.layers)
        shape = (layer.channels, len(SIDES), kept)
        top = read_rows(index.path / TOP, units * len(SIDES) * kept, layer.address)
        stats = read_rows(index.path / STATS, units, layer.address)
        # Before arrays of that shape are made: the manifest may say anything.
        if len(top["rank"]) != layer.channels * len(SIDES) * kept or len(stats["channel"]) != layer.channels:
            raise StoreError(f"The rows of {layer.address} in {index.path} are damaged. {REBUILD}")
        channels, sides, ranks = np.indices(shape, dtype=np.int32).reshape(3, -1)
        whole = (
            np.array_equal(top["channel"], channels)
            and np.array_equal(top["rank"], ranks)
            and np.array_equal(top["side"], np.array(SIDES, dtype=object)[sides])
            and np.array_equal(stats["channel"], np.arange(layer.channels))
        )
        limits = {"image": index.result.files, "y": layer.height, "x": layer.width}
        if (
            not whole
            or any(((top[name] < 0) | (top[name] >= limit)).any() for name, limit in limits.items())
            or not all(np.isfinite(each).all() for each in (top["value"], stats["mean"], stats["std"]))
        ):
            raise StoreError(f"The rows of {layer.address} in {index.path} are damaged. {REBUILD}")
        values, images, y, x = (top[name].reshape(shape) for name in ("value", "image", "y", "x"))
        return cls(index, layer, values, images, y, x, stats["mean"], stats["std"])

    def top(self, channel: int, k: int | None = None) -> pd.DataFrame:
        """The photographs that excite a unit most, as `Index.top` gives them."""
        return self._side(0, channel, k)

    def bottom(self, channel: int, k: int | None = None) -> pd.DataFrame:
        """The photographs that excite a unit least, as `Index.bottom` gives them."""
        return self._side(1, channel, k)

    def stats(self) -> pd.DataFrame:
        """Over all photographs, the activation of each unit, as `Index.stats` gives it."""
        import pandas as pd

        channels = np.arange(self.layer.channels, dtype=np.int32)
        return pd.DataFrame({"channel": channels, "mean": self.mean, "std": self.std, "peak": self.values[:, 0, 0]})

    def crops(
        self, channel: int, k: int | None = 9, size: int | None = None, lowest: bool = False
    ) -> list[Image.Image]:
        """What a unit saw in its best photographs, as `Index.crops` gives it."""
        if size is not None and (size := positive(size, "size", "pixels")) > MAX_SIDE:
            raise StoreError(f"size={size} is too large for a crop: give {MAX_SIDE} pixels at most.")
        found = self._side(int(lowest), channel, k)
        inputs = self.index.inputs
        return [
            crop(self.index.photo(image), seen_box(self.layer, y, x, inputs.size), inputs, size)
            for image, y, x in zip(found["image"].tolist(), found["y"].tolist(), found["x"].tolist(), strict=True)
        ]

    def _side(self, side: int, channel: int, k: int | None) -> pd.DataFrame:
        import pandas as pd

        place = (
            units_of(self.layer, channel)[0].channel,
            side,
            slice(None if k is None else positive(k, "k", "photographs")),
        )
        images = self.images[place]
        table: dict[str, Any] = {"rank": np.arange(len(images)), "value": self.values[place], "image": images}
        table["path"] = self.index.images["path"].to_numpy()[images]
        table |= {"y": self.y[place], "x": self.x[place]}
        table["prediction"] = self.index.images["prediction"].to_numpy()[images]
        return pd.DataFrame(table)


def load_index(path: str | os.PathLike[str], photos: str | os.PathLike[str] | None = None) -> Index:
    """Opens an index that `memviz.build_index` or `memviz index` made.

    Args:
        path: its folder.
        photos: the folder below which its photographs lie now, if they were moved; None for where they were.

    Raises:
        StoreError: there is no index, it is unfinished, or files are missing or damaged.

    Example:
        >>> import memviz
        >>> memviz.load_index("runs/photos").top("resnet.layer3.20:5", k=3)  # doctest: +SKIP
           rank     value  image            path  y  x  prediction
        0     0  6.127353    412  n02100735.jpg  7  9    0.874102
    """
    folder = Path(path)
    if not (folder / MANIFEST).is_file():
        hint = (
            "It was interrupted: run the same command again, which continues it."
            if partial_folder(folder).is_dir()
            else "Build it with memviz.build_index or `memviz index MODEL PHOTOS --out FOLDER`."
        )
        raise StoreError(f"There is no index in {folder}. {hint}")
    if photos is not None and not Path(photos).exists():  # an archive, too
        raise StoreError(f"There is no folder {photos}. Give the folder below which the photographs of {folder} lie.")
    index = Index(folder, None if photos is None else Path(photos))
    # A missing or damaged file is better noticed now than after an hour.
    for name in (IMAGES, TOP, STATS):
        check_columns(folder / name)
    return index

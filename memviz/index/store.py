"""An index on disk: four files in a folder, written whole and queried without a network.

`manifest.json` says where the index came from. `images.parquet` has a row a photograph, `top.parquet` the
best and the lowest photographs of each unit, `stats.parquet` a row a unit. `top.parquet` has a row group a
layer, so that asking for one unit of a whole ResMem (77 thousand) reads only its layer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from memviz.errors import ImageError, LayerError, ModelError, StoreError
from memviz.files import read_json, replacing, write_json
from memviz.images import open_image
from memviz.index.crops import crop, seen_box
from memviz.index.topk import TopK
from memviz.layers import Layer, LayerTable
from memviz.models import InputSpec, Model

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

KIND, FORMAT = "memviz-index", 1
_COLUMNS = {
    "images.parquet": {"image", "path", "width", "height", "prediction", "error"},
    "top.parquet": {"address", "unit", "side", "rank", "value", "image", "y", "x"},
    "stats.parquet": {"address", "unit", "mean", "std", "images"},
}
_T = TypeVar("_T")


class Index:
    """The photographs that excite each unit of a network most and least.

    Made by `memviz.build_index` and `memviz.load_index`. A unit's activation on a photograph is the spatial
    maximum of the signed output of its layer.

    Attributes:
        path: the index's folder.
        manifest: where it came from: model, weights, preprocessing, layers, versions.
        layers: the watched layers, in executed order.
        inputs: the preprocessing of the photographs.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.layers = LayerTable(Layer.from_dict(layer) for layer in manifest["layers"])
        self.inputs = InputSpec.from_dict(manifest["inputs"])
        # How many images each unit keeps at each side.
        self._kept = min(manifest["k"], manifest["images"] - manifest["unreadable"])

    def __repr__(self) -> str:
        about = self.manifest
        return f"Index({str(self.path)!r}: {about['model']}, {len(self.layers)} layers, {about['images']} images)"

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row a photograph: image, path, width, height, prediction, error.

        `path` is relative to `manifest["root"]`; `prediction` is the model's own score, NaN if it gives none;
        `error` says why a photograph could not be read.
        """
        return _guarded(self.path / "images.parquet", lambda path: _read(path, None))

    def top(self, address: str, unit: int, k: int | None = None) -> pd.DataFrame:
        """The photographs that excite a unit most, best first.

        Args:
            address: a layer, as "alexnet.conv4" or "resnet@139".
            unit: its channel.
            k: at most how many; None gives all that are kept.

        Returns:
            rank (from 0), value (activation), image (its number), path, y and x (the place of the maximum in
            the layer's map), prediction. Equal values are ranked by image.

        Raises:
            LayerError: a layer that is not watched, or a unit that it does not have.
            StoreError: a damaged index.
        """
        return self._side("top", address, unit, k)

    def bottom(self, address: str, unit: int, k: int | None = None) -> pd.DataFrame:
        """The photographs that excite a unit least, lowest first; otherwise as `top`."""
        return self._side("bottom", address, unit, k)

    def stats(self, address: str) -> pd.DataFrame:
        """Over all photographs, each unit's activation: unit, mean, std (around that mean, divided by n), peak."""
        layer = self.layers[address]
        table, top = self._rows("stats.parquet", layer), self._rows("top.parquet", layer)
        best = top[(top["side"] == "top") & (top["rank"] == 0)].rename(columns={"value": "peak"})
        return (
            table[["unit", "mean", "std"]]
            .merge(best[["unit", "peak"]], on="unit")
            .sort_values("unit", ignore_index=True)
        )

    def crops(
        self, address: str, unit: int, k: int = 9, size: int | None = None, lowest: bool = False
    ) -> list[Image.Image]:
        """What the unit saw in its best photographs: its receptive field, cut out in full resolution.

        Where the field sticks out of the picture the window is moved inside; where it is larger, the crop is all
        that the network saw.

        Args:
            address: a layer, as "alexnet.conv4" or "resnet@139".
            unit: its channel.
            k: at most how many.
            size: the crops' longer side in pixels; None keeps the photographs' pixels.
            lowest: of the photographs that excite it least instead.

        Returns:
            RGB images in the order of `top`, or of `bottom`.

        Raises:
            LayerError: a layer that is not watched, or a unit that it does not have.
            StoreError: a photograph is gone or cannot be read any more.
        """
        layer = self.layers[address]
        best = self._side("bottom" if lowest else "top", address, unit, k)
        places = zip(best.path, best.y, best.x, strict=True)
        boxes = [(path, seen_box(layer, int(y), int(x), self.inputs.size)) for path, y, x in places]
        return [crop(self._photo(path), box, self.inputs, size) for path, box in boxes]

    def check_model(self, model: Model) -> None:
        """Refuses a model whose weights are not those that the index was built with.

        Raises:
            StoreError: the fingerprints of the weights differ.
        """
        given, built = model.fingerprint(), self.manifest["weights"]
        if given != built:
            raise StoreError(
                f"The index {self.path} was built with other weights ({self.manifest['model']}, {built[:12]}) than "
                f"those of {model.name} ({given[:12]}). Build an index with this model, or load the index's weights."
            )

    def _side(self, side: str, address: str, unit: int, k: int | None) -> pd.DataFrame:
        layer = self.layers[address]
        if not 0 <= unit < layer.channels:
            raise LayerError(f"{layer.address} has no unit {unit}: its units are 0 to {layer.channels - 1}.")
        if k is not None and k < 1:
            raise StoreError(f"k={k} is no number of images: give 1 or more, up to the {self._kept} that are kept.")
        rows = self._rows("top.parquet", layer)
        table = rows[(rows["unit"] == unit) & (rows["side"] == side)].sort_values("rank", ignore_index=True)
        if len(table) != self._kept:
            raise StoreError(f"{self.path / 'top.parquet'} lacks rows of {layer.address}:{unit}. {_REBUILD}")
        of_image = self.images.set_index("image").loc[table["image"], ["path", "prediction"]]
        table["path"], table["prediction"] = of_image["path"].to_numpy(), of_image["prediction"].to_numpy()
        return table[["rank", "value", "image", "path", "y", "x", "prediction"]].iloc[:k]

    def _photo(self, path: str) -> Image.Image:
        full = Path(self.manifest["root"], path)
        try:
            return open_image(full)
        except ImageError as error:
            raise StoreError(
                f"A photograph of the index {self.path} cannot be read any more: {error}. Put it back, or build the "
                "index again."
            ) from error

    def _rows(self, name: str, layer: Layer) -> pd.DataFrame:
        return _guarded(self.path / name, lambda path: _read(path, layer.address))


def _read(path: Path, address: str | None) -> pd.DataFrame:
    """The rows of one layer, or all: only row groups that may hold the layer are read.

    `pyarrow.parquet.read_table` with a filter reads them all when the column is a dictionary, which takes
    hundreds of times longer.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        if address is None:
            return file.read().to_pandas()
        column = file.schema_arrow.get_field_index("address")
        bounds = [file.metadata.row_group(group).column(column).statistics for group in range(file.num_row_groups)]
        groups = [
            group
            for group, bound in enumerate(bounds)
            if bound is None or not bound.has_min_max or bound.min <= address <= bound.max
        ]
        rows = file.read_row_groups(groups, use_threads=False).to_pandas()
    return rows[rows["address"] == address]


_REBUILD = "Delete the folder and build the index again."


def _guarded(path: Path, read: Callable[[Path], _T]) -> _T:
    """What `read` gives of a Parquet file; whatever is wrong with the file is a `StoreError`."""
    import pyarrow as pa

    try:
        return read(path)
    except FileNotFoundError:
        raise StoreError(f"{path} is missing. {_REBUILD}") from None
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path} is damaged ({error}). {_REBUILD}") from error


def load_index(path: str | os.PathLike[str]) -> Index:
    """Opens an index that `memviz.build_index` or `memviz index` made.

    Args:
        path: its folder.

    Raises:
        StoreError: there is no index, it is unfinished, or files are missing or damaged.

    Example:
        >>> import memviz
        >>> memviz.load_index("runs/photos").top("resnet.layer3.20", 5, k=3)  # doctest: +SKIP
           rank     value  image            path  y  x  prediction
        0     0  6.127353    412  n02100735.jpg  7  9    0.874102
    """
    import pyarrow.parquet as pq

    folder = Path(path)
    if not (folder / "manifest.json").is_file():
        hint = (
            "It was interrupted: run the same command again, which continues it."
            if partial_folder(folder).is_dir()
            else "Build it with memviz.build_index or `memviz index MODEL PHOTOS --out FOLDER`."
        )
        raise StoreError(f"There is no index in {folder}. {hint}")
    manifest = read_json(folder / "manifest.json")
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise StoreError(f"{folder} is not an index: its manifest is of another kind.")
    if manifest.get("format") != FORMAT:
        raise StoreError(
            f"The index {folder} has format {manifest.get('format')}; this memviz reads {FORMAT}. Build it again."
        )
    try:
        index = Index(folder, manifest)
    except (LookupError, TypeError, AttributeError, ModelError) as error:
        raise StoreError(f"{folder / 'manifest.json'} is damaged ({error!r}). {_REBUILD}") from error
    for name, columns in _COLUMNS.items():
        lacking = columns - set(_guarded(folder / name, lambda file: pq.read_schema(file).names))
        if lacking:
            raise StoreError(f"{folder / name} has no column {', '.join(sorted(lacking))}. {_REBUILD}")
    return index


def partial_folder(out: Path) -> Path:
    """Where an index is built until it is complete."""
    return out.with_name(f"{out.name}.partial")


def write_index(
    folder: Path, manifest: Mapping[str, Any], images: Mapping[str, list[Any]], layers: Sequence[Layer], state: TopK
) -> None:
    """Writes the files of an index into `folder`, the manifest last.

    Args:
        folder: made where it is missing.
        manifest: without kind and format.
        images: path, width, height, prediction and error of each photograph, None where there is none.
        layers: the watched layers; their units lie in `state` one layer after the other.
        state: positions are `y * width + x`.
    """
    import pyarrow as pa

    folder.mkdir(parents=True, exist_ok=True)
    images_table = pa.table(
        {
            "image": pa.array(range(len(images["path"])), pa.int32()),
            "path": pa.array(images["path"], pa.string()),
            "width": pa.array(images["width"], pa.int32()),
            "height": pa.array(images["height"], pa.int32()),
            "prediction": pa.array(images["prediction"], pa.float32()),
            "error": pa.array(images["error"], pa.string()),
        }
    )
    _write_groups(folder / "images.parquet", [images_table])
    starts = np.cumsum([0, *(layer.channels for layer in layers)])
    parts = [(layer, slice(start, start + layer.channels)) for layer, start in zip(layers, starts[:-1], strict=True)]
    top, bottom = ([tensor.cpu().numpy() for tensor in ranking] for ranking in (state.top(), state.bottom()))
    _write_groups(
        folder / "top.parquet",
        (
            _top_table(layer, *(np.stack((a[part], b[part]), 1) for a, b in zip(top, bottom, strict=True)))
            for layer, part in parts
        ),
    )
    mean, std = state.mean().cpu().numpy(), state.std().cpu().numpy()
    _write_groups(
        folder / "stats.parquet",
        (_stats_table(layer, mean[part], std[part], state.count) for layer, part in parts),
    )
    write_json(folder / "manifest.json", {"kind": KIND, "format": FORMAT, **manifest})


def _top_table(layer: Layer, values: NDArray[Any], images: NDArray[Any], positions: NDArray[Any]) -> pa.Table:
    """The rows of a layer, from three arrays (channels, 2 sides, kept)."""
    import pyarrow as pa

    units, sides, ranks = np.indices(values.shape, dtype=np.int32).reshape(3, -1)
    y, x = np.divmod(positions.ravel(), np.int32(layer.width))
    return pa.table(
        {
            "address": _repeated(layer.address, values.size),
            "unit": units,
            "side": pa.DictionaryArray.from_arrays(sides.astype(np.int8), ["top", "bottom"]),
            "rank": ranks.astype(np.int16),
            "value": values.ravel(),
            "image": images.ravel().astype(np.int32),
            "y": y.astype(np.int32),
            "x": x.astype(np.int32),
        }
    )


def _stats_table(layer: Layer, mean: NDArray[Any], std: NDArray[Any], count: int) -> pa.Table:
    import pyarrow as pa

    return pa.table(
        {
            "address": _repeated(layer.address, len(mean)),
            "unit": np.arange(len(mean), dtype=np.int32),
            "mean": mean.astype(np.float32),
            "std": std.astype(np.float32),
            "images": np.full(len(mean), count, dtype=np.int64),
        }
    )


def _repeated(text: str, count: int) -> pa.DictionaryArray:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(np.zeros(count, dtype=np.int32), [text])


def _write_groups(path: Path, groups: Iterable[pa.Table]) -> None:
    """Writes tables of one schema as the row groups of a Parquet file."""
    import pyarrow.parquet as pq

    writer = None
    with replacing(path) as temporary:
        try:
            for table in groups:
                writer = writer or pq.ParquetWriter(temporary, table.schema)
                writer.write_table(table, row_group_size=max(1, table.num_rows))
        finally:
            if writer is not None:
                writer.close()

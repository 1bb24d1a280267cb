"""The files of an index: four in a folder, which any reader of JSON and Parquet can open.

`manifest.json` says where the index came from. `images.parquet` has a row a photograph, `top.parquet` the best and the
lowest photographs of each unit, `stats.parquet` a row a unit. The latter two have a row group a layer, so that asking
for one layer of a whole ResMem (77 thousand units) reads only its rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from memviz.artefacts import MANIFEST, Manifest
from memviz.errors import StoreError
from memviz.files import replacing
from memviz.index.topk import TopK
from memviz.layers import Layer

if TYPE_CHECKING:
    import pyarrow as pa

KIND, FORMAT = "memviz-index", 2
IMAGES, TOP, STATS = "images.parquet", "top.parquet", "stats.parquet"
FILES = (MANIFEST, IMAGES, TOP, STATS)
SIDES = ("top", "bottom")
REBUILD = "Delete the folder and build the index again."


@dataclass(frozen=True)
class IndexConfig:
    """What decides an index beside the model.

    Attributes:
        layers: the watched ones, in executed order.
        k: photographs kept at each side of each unit.
        photographs: SHA-256 of their names, sizes and times of change.
        target: what the model's score means; None if it gives none.
        score_spec: how its outputs become the score, as `ScoreSpec.to_dict()`.
    """

    layers: tuple[Layer, ...]
    k: int
    photographs: str
    target: str | None
    score_spec: dict[str, Any]

    def __post_init__(self) -> None:
        """Refuses what no index has."""
        if self.k < 1 or not self.layers:
            raise ValueError(f"an index of {len(self.layers)} layers with k={self.k}")


@dataclass(frozen=True)
class IndexResult:
    """What a finished index has.

    Attributes:
        photographs: how many are ranked.
        unreadable: files that were left out, since they cannot be read.
        copies: files that were left out, since another one has the same bytes.
        root: the folder in which all of them lay.
    """

    photographs: int
    unreadable: int
    copies: int
    root: str

    @property
    def files(self) -> int:
        """Rows of `images.parquet`."""
        return self.photographs + self.unreadable + self.copies

    def __post_init__(self) -> None:
        """Refuses what no index has."""
        if min(self.photographs - 1, self.unreadable, self.copies) < 0:
            raise ValueError(f"an index of {self.photographs} photographs")
        if "\0" in self.root:
            raise ValueError("a folder of no name")


def positive(number: int, name: str, what: str) -> int:
    """The number, if it counts something; else a `StoreError`."""
    if not hasattr(number, "__index__") or number < 1:
        raise StoreError(f"{name}={number!r} is no number of {what}: give a whole number, 1 or more.")
    return index(number)


def read_manifest(folder: Path) -> tuple[Manifest, IndexConfig, IndexResult]:
    """The manifest of a finished index, and what is special to indexes in it, checked.

    Raises:
        StoreError: it is missing, damaged, or of something else.
    """
    manifest = Manifest.read(folder, KIND, FORMAT)
    try:
        config = msgspec.convert(manifest.config, IndexConfig)
        return manifest, config, msgspec.convert(manifest.result, IndexResult)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise StoreError(f"{folder / MANIFEST} is damaged ({error}). {REBUILD}") from error


def schemas() -> dict[str, pa.Schema]:
    """The columns of each Parquet file; those that may be empty are marked as nullable."""
    import pyarrow as pa

    def schema(required: Mapping[str, Any], optional: Mapping[str, Any]) -> pa.Schema:
        fields = [pa.field(name, kind, nullable=False) for name, kind in required.items()]
        return pa.schema([*fields, *(pa.field(name, kind) for name, kind in optional.items())])

    text, name = pa.string(), pa.dictionary(pa.int32(), pa.string())
    integer, real = pa.int32(), pa.float32()
    unit = {"address": name, "channel": integer}
    place = {"side": name, "rank": pa.int16(), "value": real, "image": integer, "y": integer, "x": integer}
    about = {"width": integer, "height": integer, "prediction": real, "error": text, "sha256": text, "copy_of": text}
    return {
        IMAGES: schema({"image": integer, "path": text}, about),
        TOP: schema(unit | place, {}),
        STATS: schema(unit | {"mean": pa.float32(), "std": pa.float32()}, {}),
    }


def write_tables(
    folder: Path,
    images: Iterable[Mapping[str, Any]],
    layers: Sequence[Layer],
    ranking: TopK,
    numbers: Sequence[int] | None = None,
) -> None:
    """Writes the Parquet files of an index.

    Args:
        folder: that exists.
        images: the columns of `images.parquet`, None where there is nothing, in parts of some rows.
        layers: the watched layers; their units lie in `ranking` one layer after the other.
        ranking: positions are `y * width + x`.
        numbers: the row in `images` of each image of `ranking`; None where they are the same.
    """
    _write(folder / IMAGES, images)
    starts = np.cumsum([0, *(layer.channels for layer in layers)])
    parts = [(layer, slice(start, start + layer.channels)) for layer, start in zip(layers, starts[:-1], strict=True)]
    top, bottom = ([tensor.cpu().numpy() for tensor in side] for side in (ranking.top(), ranking.bottom()))
    if numbers is not None:
        top[1], bottom[1] = (np.asarray(numbers)[side[1]] for side in (top, bottom))
    _write(
        folder / TOP,
        (
            _top_rows(layer, *(np.stack((a[part], b[part]), 1) for a, b in zip(top, bottom, strict=True)))
            for layer, part in parts
        ),
    )
    mean, std = ranking.mean().cpu().numpy(), ranking.std().cpu().numpy()
    _write(
        folder / STATS,
        (
            {
                "address": _repeated([layer.address], np.zeros(layer.channels)),
                "channel": np.arange(layer.channels),
                "mean": mean[part],
                "std": std[part],
            }
            for layer, part in parts
        ),
    )


def _top_rows(
    layer: Layer, values: NDArray[Any], images: NDArray[Any], positions: NDArray[Any]
) -> Mapping[str, NDArray[Any]]:
    """The columns of a layer, from three arrays (channels, 2 sides, kept)."""
    channels, sides, ranks = np.indices(values.shape).reshape(3, -1)
    y, x = np.divmod(positions.ravel(), layer.width)
    return {
        "address": _repeated([layer.address], np.zeros(values.size)),
        "channel": channels,
        "side": _repeated(SIDES, sides),
        "rank": ranks,
        "value": values.ravel(),
        "image": images.ravel(),
        "y": y,
        "x": x,
    }


def _repeated(texts: Sequence[str], which: NDArray[Any]) -> pa.DictionaryArray:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(which.astype(np.int32), list(texts))


def _write(path: Path, groups: Iterable[Mapping[str, Any]]) -> None:
    """Writes columns as the row groups of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = schemas()[path.name]
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for columns in groups:
            table = pa.table({name: _array(columns[name], schema.field(name).type) for name in schema.names}, schema)
            writer.write_table(table, row_group_size=max(1, table.num_rows))


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if isinstance(values, np.ndarray):
        values = values.astype(kind.to_pandas_dtype())
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def read_rows(path: Path, most: int, address: str | None = None) -> dict[str, NDArray[Any]]:
    """The columns of a Parquet file of an index as arrays, of one layer or of all.

    Only row groups that may hold the layer are read: `pyarrow.parquet.read_table` with a filter reads them all when the
    column is a dictionary, which takes hundreds of times longer.

    Args:
        path: of one of the three files.
        most: rows that the file may have; one with more is damaged, and not read.
        address: of a layer; None for all rows.

    Raises:
        StoreError: the file is missing, damaged, or has other columns.
    """
    import pyarrow.compute as pc

    schema = schemas()[path.name]
    with _opened(path) as file:
        if file.metadata.num_rows > most:
            raise StoreError(f"{path} has {file.metadata.num_rows} rows; {most} belong to it. {REBUILD}")
        groups = list(range(file.num_row_groups) if address is None else _groups_of(file, address))
        table = file.read_row_groups(groups, columns=schema.names, use_threads=False)
        if address is not None:
            table = table.filter(pc.equal(table["address"], address))
        table = table.select(schema.names).cast(schema)
        return {name: table[name].to_numpy() for name in schema.names}


def check_columns(path: Path) -> None:
    """Raises a `StoreError` for a Parquet file of an index that is missing, damaged, or has other columns."""
    with _opened(path):
        pass


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A Parquet file that has its columns; whatever is wrong with it, here or in the block, is a `StoreError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if lacking := set(schemas()[path.name].names) - set(file.schema_arrow.names):
                raise StoreError(f"{path} has no column {', '.join(sorted(lacking))}. {REBUILD}")
            yield file
    except FileNotFoundError:
        raise StoreError(f"{path} is missing. {REBUILD}") from None
    except (OSError, pa.ArrowException, ValueError) as error:
        raise StoreError(f"{path} is damaged ({error}). {REBUILD}") from error


def _groups_of(file: Any, address: str) -> Iterable[int]:
    column = file.schema_arrow.get_field_index("address")
    for group in range(file.num_row_groups):
        bound = file.metadata.row_group(group).column(column).statistics
        if bound is None or not bound.has_min_max or bound.min <= address <= bound.max:
            yield group

"""Reads Caffe's files: weights (.caffemodel) and mean images, without Caffe.

Source of the field numbers and of the shapes: `caffe.proto` of Caffe 1.0 (BVLC).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from memviz.errors import WeightsError

Array = npt.NDArray[np.float32]

_FIELD = descriptor_pb2.FieldDescriptorProto
# Packed floats are bytes on the wire. Declared as such they are read at once, not number by number; protobuf
# allows a packed field to come in several pieces, hence "repeated".
_FLOATS = "repeated bytes"
_MESSAGES = {
    "Shape": {"dim": (1, "repeated int64")},
    "Blob": {
        "num": (1, "int64"),
        "channels": (2, "int64"),
        "height": (3, "int64"),
        "width": (4, "int64"),
        "data": (5, _FLOATS),
        "shape": (7, "Shape"),
    },
    "LayerV1": {"name": (4, "string"), "type": (5, "int64"), "blobs": (6, "repeated Blob")},
    "Layer": {"name": (1, "string"), "type": (2, "string"), "blobs": (7, "repeated Blob")},
    "Net": {"name": (1, "string"), "layers": (2, "repeated LayerV1"), "layer": (100, "repeated Layer")},
}
_FORMS = {"layers": "LayerV1", "layer": "Layer"}
_INNER_PRODUCT = (14, "InnerProduct")  # as V1 layers and as new layers say it


@cache
def message_class(name: str) -> type[Any]:
    """The protobuf class of one of Caffe's messages: "Net", "Layer", "LayerV1", "Blob" or "Shape".

    >>> message_class("Shape")(dim=[2, 3]).SerializeToString()
    b'\\n\\x02\\x02\\x03'
    """
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for field, (number, kind) in fields.items():
            repeated, kind = kind.startswith("repeated "), kind.removeprefix("repeated ")
            entry = described.field.add(name=field, number=number)
            entry.label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            if kind in _MESSAGES:
                entry.type, entry.type_name = _FIELD.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                entry.type = getattr(_FIELD, f"TYPE_{kind.upper()}")
                if repeated and kind == "int64":
                    entry.options.packed = True
    pool.Add(file)
    made: type[Any] = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}"))
    return made


def read_caffemodel(path: str | Path) -> dict[str, list[Array]]:
    """The weights of a Caffe network: for each layer that has any, its arrays by the layer's name.

    Both formats of layers are read (V1 of 2013 to 2014, and the current one), and both formats of shapes. Weights have
    the shape (out, in / groups, height, width) for a convolution and (out, in) for a fully connected layer, as in
    PyTorch; a bias is (out,). The input channels of a first convolution are in Caffe's order, blue first.

    Raises:
        WeightsError: the file is missing, truncated (with the layer in which it ends), no Caffe model, or a layer's
            numbers do not fill its shape.
    """
    path = Path(path)
    net = _parse("Net", path)
    weights = {
        layer.name: [_to_array(blob, path, layer.name, part, layer.type) for part, blob in enumerate(layer.blobs)]
        for layer in (*net.layers, *net.layer)
        if layer.blobs
    }
    if not weights:
        raise WeightsError(f"{path} holds no layer with weights: it is empty, or no .caffemodel.")
    return weights


def read_mean(path: str | Path) -> Array:
    """The mean image (height, width, 3) of a Caffe network, in blue, green, red, from 0 to 255.

    Files are `.binaryproto`, Caffe's own; `.npy`, (3, height, width) as Caffe's Python writes it, or (height, width,
    3); `.mat`, whose `mean_data` is (width, height, 3), as in Caffe's MATLAB of 2015, and whose `image_mean`, older,
    is (height, width, 3).

    Raises:
        WeightsError: the file is missing, damaged, or holds something else.
    """
    path = Path(path)
    if path.suffix == ".binaryproto":
        mean = _to_array(_parse("Blob", path), path, "the mean image", 0)
    elif path.suffix == ".npy":
        mean = _read_with(np.load, path)
    elif path.suffix == ".mat":
        import scipy.io

        content = _read_with(scipy.io.loadmat, path)
        names = [name for name in ("mean_data", "image_mean") if name in content]
        if not names:
            raise WeightsError(f"{path} holds neither mean_data nor image_mean, but {', '.join(content) or 'nothing'}.")
        mean = content[names[0]]
        mean = mean.swapaxes(0, 1) if names[0] == "mean_data" and mean.ndim == 3 else mean
    else:
        raise WeightsError(f"{path} is no mean image: give a .npy, .binaryproto or .mat file.")
    image = mean[0] if mean.ndim == 4 and len(mean) == 1 else mean
    if image.ndim == 3 and image.shape[2] != 3:
        image = image.transpose(1, 2, 0)
    if image.ndim != 3 or image.shape[2] != 3 or not np.issubdtype(image.dtype, np.number):
        raise WeightsError(f"{path} is {mean.dtype} of shape {mean.shape}; a mean image is numbers (3, height, width).")
    return np.ascontiguousarray(image, dtype=np.float32)


def _parse(message: str, path: Path) -> Any:
    """The message in a file."""

    def parse(path: Path) -> Any:
        data = path.read_bytes()
        try:
            return message_class(message).FromString(data)
        except DecodeError as error:
            raise ValueError(_find_end(memoryview(data)) or error) from error

    return _read_with(parse, path)


def _find_end(data: memoryview) -> str | None:
    """In which layer a network's file ends, if it ends in one."""
    names = {_MESSAGES["Net"][form][0]: _MESSAGES[kind]["name"][0] for form, kind in _FORMS.items()}
    for field, length, content in _iterate_fields(data):
        if field in names and len(content) < length:
            for part, whole, name in _iterate_fields(content):
                if part == names[field] and len(name) == whole:
                    called = bytes(name).decode(errors="replace")
                    return f"it ends within the layer {called!r}, after {len(content)} of that layer's {length} bytes"
    return None


def _iterate_fields(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """The fields of a message that may be cut off, but for numbers: field, length, and what there is of it.

    Source: https://protobuf.dev/programming-guides/encoding
    """
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while place < len(data) and shift < 70:  # ten bytes are the most
            byte = data[place]
            value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
            if byte < 128:
                break
        return value

    while place < len(data):
        field, wire = divmod(number(), 8)
        if wire == 0:
            number()
        elif wire in (1, 2, 5):
            length = number() if wire == 2 else 8 if wire == 1 else 4
            yield field, length, data[place : place + length]
            place += length
        else:
            return


def _read_with(read: Callable[[Path], Any], path: Path) -> Any:
    try:
        return read(path)
    except FileNotFoundError:
        raise WeightsError(f"There is no file {path}.") from None
    except Exception as error:  # Reading damaged bytes may raise anything, as an IndexError.
        raise WeightsError(
            f"{path} cannot be read; it is damaged, truncated or of another kind. Copy it again. ({error})"
        ) from error


def _to_array(blob: Any, path: Path, layer: str, part: int, kind: int | str | None = None) -> Array:
    """The numbers of a blob, `part` of a layer, in the shape that PyTorch gives them."""
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else (blob.num, blob.channels, blob.height, blob.width)
    data = b"".join(blob.data)
    if len(data) != 4 * math.prod(shape):
        raise WeightsError(
            f"{path} is damaged: blob {part} of {layer!r} has {len(data) / 4:g} numbers, but its shape {shape} holds "
            f"{math.prod(shape)}. Copy it again."
        )
    # In the older form every shape has four axes, of which vectors and matrices fill the last.
    axes = 1 if part else 2 if kind in _INNER_PRODUCT else len(shape)
    while len(shape) > axes and shape[0] == 1:
        shape = shape[1:]
    return np.frombuffer(data, "<f4").astype(np.float32).reshape(shape)

"""Plain data from a file as a frozen dataclass, with its types checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from memviz.errors import ModelError, shown

T = TypeVar("T")


def read_fields(
    fields: object, kind: type[T], what: str, readers: Mapping[type, Callable[[Any], Any]] | None = None
) -> T:
    """The dataclass that plain data describe.

    Args:
        fields: as JSON has them.
        kind: the dataclass.
        what: what data that do not fit describe, for the error: "no input".
        readers: how a type of its own, that a field has, is made of plain data.

    Raises:
        ModelError: a field that is unknown, missing or of another type.
    """
    try:
        names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
        if isinstance(fields, Mapping) and (unknown := sorted(map(str, fields.keys() - set(names)))):
            raise ModelError(f"{unknown[0]!r} describes {what}. Its fields are {', '.join(names)}.")
        return msgspec.convert(fields, kind, dec_hook=lambda type_, value: (readers or {})[type_](value))
    except (msgspec.MsgspecError, OverflowError, ValueError) as error:
        raise ModelError(f"{shown(fields)} describes {what}: {error}.") from error

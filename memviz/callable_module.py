"""A subpackage that can be called, since an attribute cannot be both a function and a subpackage."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def make_callable(module_name: str, function: Callable[..., Any]) -> None:
    """Makes the imported module `module_name` call `function` when it is called.

    >>> import memviz.gallery
    >>> callable(memviz.gallery)
    True
    """

    class CallableModule(ModuleType):
        def __call__(self, *args: Any, **options: Any) -> Any:
            return function(*args, **options)

    module = sys.modules[module_name]
    module.__class__ = CallableModule
    # What help() and notebooks show as the call's arguments.
    module.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]

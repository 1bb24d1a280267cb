"""A copy of a network that may be modified, and shares the memory of the caller's weights."""

from __future__ import annotations

import copy
import dis
import functools
import pickle
from collections.abc import Iterator
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, TypeVar

from torch import Tensor, fx, nn

from memviz.errors import ModelError
from memviz.layers.capture import check_uncompiled

Network = TypeVar("Network", bound=nn.Module)

_FORWARD_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_HOOK_FLAGS = ("_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs")
_OTHER_HOOKS = (
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)
# What copying an object that cannot be copied raises.
_UNCOPYABLE = (TypeError, RuntimeError, AttributeError, copy.Error, pickle.PicklingError)


def private_copy(module: Network) -> Network:
    """A frozen copy in evaluation mode, whose parameters share the caller's memory.

    Forward hooks and forward pre-hooks belong to what a network computes (`torch.nn.utils.spectral_norm` is one), so
    they are copied, and then the parameters have memory of their own, since a hook may write to them. Whatever a hook
    refers to is copied with it: submodules become those of the copy, and a list in which the hook records outputs
    becomes another list. Only global variables are shared. Backward hooks and hooks of `state_dict` are dropped.

    Args:
        module: any module; it stays as it is.

    Raises:
        ModelError: the network or a forward hook cannot be copied; a module was compiled by `torch.jit`; or a hook
            refers to the network by the name of a global variable, so that the copy's hook would act on the caller's
            network.

    Example:
        >>> module = nn.Linear(2, 2)
        >>> copied = private_copy(module)
        >>> copied.weight.data_ptr() == module.weight.data_ptr(), copied.weight.requires_grad
        (True, False)
    """
    check_uncompiled(module)
    memo: dict[int, Any] = {}
    hooked = any(map(has_forward_hooks, module.modules()))
    for parameter in module.parameters():
        # A hook may write into a parameter.
        values = parameter.detach().clone() if hooked else parameter.detach()
        memo[id(parameter)] = nn.Parameter(values, requires_grad=False)
    for buffer in module.buffers():
        # A forward pass may update a buffer.
        memo[id(buffer)] = buffer.detach().clone()
    for child in module.modules():
        for value in vars(child).values():
            # deepcopy refuses results of a forward pass, such as the weight that an old weight norm stores.
            if isinstance(value, Tensor):
                memo[id(value)] = value.detach().clone()
        for name in (*_FORWARD_HOOKS, *_OTHER_HOOKS):
            memo[id(getattr(child, name))] = type(getattr(child, name))()
    try:
        copied = copy.deepcopy(module, memo).eval()
    except _UNCOPYABLE as error:
        raise ModelError(
            f"{type(module).__name__} cannot be copied ({error}), and memviz works on a copy of the network. Remove "
            "from its modules what copy.deepcopy refuses."
        ) from error
    _copy_hooks(module, memo)
    free_without_collection(copied)
    return copied


def has_forward_hooks(module: nn.Module) -> bool:
    """Whether hooks may change what a module computes."""
    return any(getattr(module, name) for name in _FORWARD_HOOKS)


def free_without_collection(network: nn.Module) -> None:
    """Breaks reference cycles, so that a network is freed with its last reference and not by the garbage collector.

    A traced module (`torch.fx.GraphModule`) and its graph refer to each other; the graph works without.
    """
    for child in network.modules():
        if isinstance(child, fx.GraphModule):
            child.graph.owning_module = None


def _copy_hooks(module: nn.Module, memo: dict[int, Any]) -> None:
    """Gives the copies of modules, which are in `memo`, copies of their forward hooks."""
    owned = {id(each) for each in (*module.modules(), *module.parameters(), *module.buffers())}
    for address, child in module.named_modules():
        for name in _HOOK_FLAGS:
            getattr(memo[id(child)], name).update(getattr(child, name))
        for name in _FORWARD_HOOKS:
            for key, hook in getattr(child, name).items():
                try:
                    getattr(memo[id(child)], name)[key] = _deepcopy(hook, memo, owned)
                except _UNCOPYABLE as error:
                    raise ModelError(
                        f"The forward hook {hook!r} of the module {address!r} cannot be copied ({error}), and memviz "
                        "works on a copy of the network. Remove the hook, or replace it by a module."
                    ) from error


def _deepcopy(value: Any, memo: dict[int, Any], owned: set[int]) -> Any:
    """Like `copy.deepcopy`, but also copies closures; `owned` holds the ids of the caller's modules and tensors."""
    if isinstance(value, functools.partial):
        function = _deepcopy(value.func, memo, owned)
        return functools.partial(function, *copy.deepcopy(value.args, memo), **copy.deepcopy(value.keywords, memo))
    if isinstance(value, Tensor) and not value.is_leaf:
        return value.detach().clone()
    if isinstance(value, ModuleType):
        return value
    if not isinstance(value, FunctionType):
        return copy.deepcopy(value, memo)
    if id(value) in memo:
        return memo[id(value)]
    for name in _find_globals(value.__code__):
        if id(value.__globals__.get(name)) in owned:
            raise TypeError(f"it refers to the network by the global name {name!r}; use the hook's own arguments")
    cells = value.__closure__ or ()
    new = [memo.setdefault(id(cell), CellType()) for cell in cells]
    function = FunctionType(value.__code__, value.__globals__, value.__name__, closure=tuple(new))
    memo[id(value)] = function  # before its closure, which may contain the function itself
    function.__defaults__ = copy.deepcopy(value.__defaults__, memo)
    function.__kwdefaults__ = copy.deepcopy(value.__kwdefaults__, memo)
    vars(function).update(copy.deepcopy(vars(value), memo))
    for cell, empty in zip(cells, new, strict=True):
        if not _is_empty(cell) and _is_empty(empty):
            empty.cell_contents = _deepcopy(cell.cell_contents, memo, owned)
    return function


def _is_empty(cell: CellType) -> bool:
    try:
        return cell.cell_contents is cell
    except ValueError:
        return True


def _find_globals(code: CodeType) -> Iterator[str]:
    """The names of the global variables that a function and the functions defined in it use."""
    yield from (step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _find_globals(constant)

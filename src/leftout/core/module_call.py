"""One call of a module: f(inputs; parameters), whatever names share its tensors; nothing else changes.

A tensor is kept in a *slot*: a submodule and the name it has there. A parameter may lie in several slots
(tied weights), and a submodule may have several names (registered twice). `torch.func.functional_call` fills
a slot once for every name of its submodule, and then restores the wrong tensor; here each is filled once.
"""

import copy
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from leftout.core.errors import LeftoutError, OptionError, ShapeError
from leftout.core.wording import exception_text

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")

CONTAINERS = (dict, list, set)
"""Attributes of a module whose contents are put back after a call; OrderedDict is a dict."""

DEPTH = 3
"""How far they are followed into each other."""

KEPT = "_kept_by_module"
"""Attribute that marks the copies of tensors which a module computed and keeps."""


def call(module: nn.Module, tensors: Mapping[str, Tensor], inputs: Tensor) -> Any:
    """Return what the module returns with these parameters and buffers; the module itself is not written to.

    Args:
        tensors: by the names of `named_parameters()` and `named_buffers()`; others stay as they are.

    Raises:
        ShapeError: its forward raised an exception, which is the cause of ours.

    Cost:
        a forward pass, and a few microseconds for each submodule.
    """
    with attributes_kept(module):
        return call_with_effects(module, tensors, inputs)


def call_with_effects(module: nn.Module, tensors: Mapping[str, Tensor], inputs: Tensor) -> Any:
    """Return the same; attributes that the forward sets, and buffers that it changes, stay changed.

    Args:
        tensors: a dict of buffers holds what they have become.
    """
    slots = _slots(module)
    filled = {slot: tensors[name] for slot, name in slots.items() if name in tensors}
    try:
        with outside_inference_mode():
            return functional_call(module, filled, (as_ordinary(inputs),), tie_weights=False)
    except LeftoutError:
        raise
    except Exception as error:
        raise ShapeError(forward_error("inputs", inputs, error)) from error
    finally:
        if isinstance(tensors, dict):
            tensors.update({slots[slot]: tensor for slot, tensor in filled.items()})


@contextmanager
def derivatives(module: nn.Module) -> Iterator[None]:
    """Turn what is raised while the outputs of a module are differentiated into an error of ours.

    Raises:
        OptionError: an operation without a (second) derivative, or a backward of the user's own that fails.
    """
    try:
        yield
    except (LeftoutError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise OptionError(
            "`module` must have derivatives by its parameters, and for training second ones; differentiating "
            f"{type(module).__name__} raised {exception_text(error)}"
        ) from error


def forward_error(name: str, inputs: Tensor, error: BaseException, advice: str = "") -> str:
    """Return the sentence about an exception that a module raised on some inputs."""
    return (
        f"`{name}` must hold inputs that `module` takes; on inputs of shape {tuple(inputs.shape)} it raised "
        f"{exception_text(error)}{advice}"
    )


def _slots(module: nn.Module) -> dict[str, str]:
    """Return the name of the tensor in each slot, by one name of the slot."""
    slots: dict[str, str] = {}
    names: dict[int, str] = {}
    for prefix, submodule in module.named_modules():
        for key, tensor in [*submodule._parameters.items(), *submodule._buffers.items()]:
            if tensor is not None:
                slot = f"{prefix}.{key}" if prefix else key
                slots[slot] = names.setdefault(id(tensor), slot)
    return slots


@contextmanager
def attributes_kept(module: nn.Module) -> Iterator[None]:
    """Put attributes of all submodules back as they were, whatever is done to them inside.

    A module may keep activations of a forward pass: of ours they would be in its next copy, graph and all.
    """
    before = [container for submodule in module.modules() for container in _containers(vars(submodule))]
    try:
        yield
    finally:
        for container, contents in before:
            if len(container) != len(contents) or not all(
                map(operator.is_, _members(container), _members(contents))
            ):
                container.clear()
                container.extend(contents) if isinstance(container, list) else container.update(contents)


def _containers(attributes: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the attributes of a submodule, and each dict, list or set inside them, with what they hold."""
    waiting: list[tuple[Any, int]] = [(attributes, 0)]
    while waiting:
        container, depth = waiting.pop()
        yield container, tuple(container) if isinstance(container, list) else container.copy()
        if depth < DEPTH:
            waiting += [
                (member, depth + 1) for member in _members(container) if isinstance(member, CONTAINERS)
            ]


def _members(container: Any) -> Any:
    return container.values() if isinstance(container, dict) else container


def copy_module(module: nn.Module) -> nn.Module:
    """Return a deep copy; activations that it keeps of a forward pass are copied without their graph.

    Raises:
        OptionError: it holds something that cannot be copied, such as a lock or an open file; names it.
    """
    memo: dict[int, Any] = {}
    for submodule in module.modules():
        for tensor in _tensors_inside(vars(submodule), depth=DEPTH):
            if not tensor.is_leaf:
                memo[id(tensor)] = _kept_alone(tensor)
    try:
        with outside_inference_mode():
            copied = copy.deepcopy(module, dict(memo))
    except Exception as error:
        raise OptionError(
            f"`module` must be one that copy.deepcopy can copy; {_uncopyable(module, memo)}copying it raised "
            f"{exception_text(error)}. Take out what cannot be copied, such as a lock or an open file, or "
            "give its class a __deepcopy__."
        ) from error
    for submodule in copied.modules():
        if isinstance(submodule, nn.Embedding | nn.EmbeddingBag):
            submodule.sparse = False  # the same gradient, which second derivatives and vmap then take
    return copied


def _kept_alone(tensor: Tensor) -> Tensor:
    """Return a copy of a tensor that a module computed and keeps, with a graph of its own.

    The copy is no leaf, as the tensor is none, so that a forward may write to it; `is_kept` knows the leaf.
    """
    copied = tensor.detach().clone()
    if not tensor.requires_grad:
        return copied
    with torch.enable_grad():
        leaf = copied.requires_grad_()
        setattr(leaf, KEPT, True)
        return leaf.view_as(leaf)


def is_kept(leaf: Tensor) -> bool:
    """Return whether a leaf stands for what a module computed from its weights before it was copied."""
    return hasattr(leaf, KEPT)


def _tensors_inside(container: Any, depth: int) -> Iterator[Tensor]:
    members = container.values() if isinstance(container, dict) else container
    for member in members:
        if isinstance(member, Tensor):
            yield member
        elif depth and isinstance(member, dict | list | tuple | set):
            yield from _tensors_inside(member, depth - 1)


def _uncopyable(module: nn.Module, memo: dict[int, Any]) -> str:
    """Return which attribute cannot be copied, as the beginning of a clause; "" where it is not one alone."""
    for prefix, submodule in module.named_modules():
        for key, attribute in vars(submodule).items():
            if key.startswith("_") and key in vars(nn.Module()):
                continue
            try:
                copy.deepcopy(attribute, dict(memo))
            except Exception:
                return f"of its attribute {f'{prefix}.{key}' if prefix else key!r}, "
    return ""


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Leave torch.inference_mode(); without it do nothing, and gradients are recorded or not as before."""
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield


@contextmanager
def gradients_recorded() -> Iterator[None]:
    """Record gradients, whether the caller does or not: under torch.no_grad() and torch.inference_mode()."""
    with outside_inference_mode(), torch.enable_grad():
        yield


def in_any_mode(function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """Return the function run outside torch.inference_mode(): its results can be differentiated."""

    @wraps(function)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
        with outside_inference_mode():
            return function(*args, **kwargs)

    return run


def with_gradients(function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """Return the function run with gradients recorded, whatever mode the caller is in."""

    @wraps(function)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
        with gradients_recorded():
            return function(*args, **kwargs)

    return run


def as_ordinary(tensor: Tensor) -> Tensor:
    """Return a tensor that autograd may save and a forward may mark; of inference mode, a copy."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()

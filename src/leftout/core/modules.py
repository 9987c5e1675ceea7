"""A PyTorch module as a function f(x; w) of its trained parameters w.

Parameters with `requires_grad=False` and buffers are constants of the function. What a module must be so that
it is such a function is checked in `module_checks`.
"""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from leftout.core.checks import shown
from leftout.core.errors import OptionError, ShapeError
from leftout.core.module_call import call, gradients_recorded
from leftout.core.wording import dtype_name

Parameters = dict[str, Tensor]

REAL = (torch.float32, torch.float64)

ALL = "all"
LAST = "last:"
"""What stands for all parameters, and before a number of last layers, among patterns of names."""

PARALLEL = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel")
"""Modules of torch that run another one on several devices; it is their attribute `module`."""


def parameters_of(module: nn.Module) -> Parameters:
    """Return the parameters that are trained, by name, detached; they share the module's memory.

    Parameters without numbers are none of them.

    Raises:
        OptionError: none of them is trained, they are not all real and of one precision, they hold no
            numbers, a hook changes their gradients, or they share memory with other tensors; or a compiled
            module, or one that only runs another on several devices.
    """
    _check_eager(module)
    named = dict(module.named_parameters())
    for name, parameter in named.items():
        if is_lazy(parameter):
            raise OptionError(
                f"`module` must have parameters of known shapes; {name!r} is lazy. Call the module once "
                "on an input first."
            )
    _check_memory_apart(module)
    trained = {name: weight.detach() for name, weight in named.items() if weight.requires_grad}
    if not trained:
        raise OptionError("`module` must have parameters that are trained; got none with requires_grad=True.")
    for name, weight in trained.items():
        if named[name]._backward_hooks:
            raise OptionError(
                "`module` must have parameters whose gradients are derivatives; one of register_hook may "
                f"change that of {name!r}. Take the hook off (`handle.remove()`); a mask of weights belongs "
                "into the forward."
            )
        if weight.dtype not in REAL:
            raise OptionError(
                f"`module` must have float32 or float64 parameters; {name!r} is "
                f"{dtype_name(weight.dtype)}. Call module.float() or module.double() first, or set its "
                "requires_grad to False."
            )
    dtypes = sorted({dtype_name(weight.dtype) for weight in trained.values()})
    if len(dtypes) > 1:
        raise OptionError(
            f"`module` must have parameters of one precision; got {' and '.join(dtypes)}. Call "
            "module.double() or module.float()."
        )
    devices = sorted({str(weight.device) for weight in trained.values()})
    if len(devices) > 1:
        raise OptionError(f"`module` must lie on one device; its parameters are on {' and '.join(devices)}.")
    if devices == ["meta"]:
        raise OptionError(
            "`module` must hold numbers; its parameters are on the meta device, which keeps shapes only. "
            'Call module.to_empty(device="cpu") and load its weights first.'
        )
    numbers = {name: weight for name, weight in trained.items() if weight.numel()}
    if not numbers:
        raise OptionError(
            "`module` must have parameters that hold numbers; those with requires_grad=True, such as "
            f"{next(iter(trained))!r}, are empty."
        )
    return numbers


def _check_memory_apart(module: nn.Module) -> None:
    """Raise where a trained parameter lies in the memory of another tensor, so that a step moves both."""
    by_storage: dict[int, list[tuple[str, Tensor]]] = {}
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if (
            not is_lazy(tensor)
            and tensor.layout == torch.strided
            and tensor.device.type != "meta"
            and tensor.numel()
        ):
            by_storage.setdefault(tensor.untyped_storage().data_ptr(), []).append((name, tensor))
    for members in by_storage.values():
        for (name, tensor), (other_name, other) in combinations(members, 2):
            if (tensor.requires_grad or other.requires_grad) and _overlap(tensor, other):
                raise OptionError(
                    f"`module` must keep each tensor in memory of its own; {name!r} and {other_name!r} "
                    "are two tensors in one, so that a step of one moves the other. Tie parameters by giving "
                    "both places one Parameter (self.b.weight = self.a.weight) or by computing one from the "
                    "other in forward; or clone one of them."
                )


def _overlap(tensor: Tensor, other: Tensor) -> bool:
    """Return whether two tensors in one storage share a number; two rows or columns of a matrix do not."""
    (first, last), (other_first, other_last) = _bytes_within(tensor), _bytes_within(other)
    return (
        first < other_last and other_first < last and bool(torch.isin(_places(tensor), _places(other)).any())
    )


def _bytes_within(tensor: Tensor) -> tuple[int, int]:
    """Return the first byte of a tensor in its storage, and the one after its last."""
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    offset = int(tensor.storage_offset())
    return offset * tensor.itemsize, (offset + reach + 1) * tensor.itemsize


def _places(tensor: Tensor) -> Tensor:
    """Return the byte at which each number of a tensor begins in its storage."""
    places = torch.full((), int(tensor.storage_offset()), device="cpu")
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        places = places[..., None] + stride * torch.arange(size, device="cpu")
    return places.flatten() * tensor.itemsize


def _check_eager(module: nn.Module) -> None:
    """Raise unless the module is called in Python, with its parameters as attributes."""
    for name, submodule in module.named_modules():
        where = f"its submodule {name!r} is" if name else "got"
        if isinstance(submodule, torch.jit.ScriptModule):
            raise OptionError(
                "`module` must be an nn.Module in Python, whose parameters can be exchanged; "
                f"{where} a torch.jit.ScriptModule. Pass the module that it was compiled from."
            )
        if type(submodule).__name__ in PARALLEL:
            raise OptionError(
                f"`module` must be the network itself; {where} a {type(submodule).__name__}, which runs it "
                "on several devices. Pass its attribute `module`."
            )


def outputs_of(
    module: nn.Module, parameters: Mapping[str, Tensor], inputs: Tensor, *, outputs: int
) -> Float[Tensor, "n k"]:
    """Return f(inputs; parameters), one row for each input.

    Raises:
        ShapeError: not one row of `outputs` numbers for each input.
        OptionError: outputs that are not float32 or float64.
    """
    return checked_outputs(call(module, parameters, inputs), inputs, outputs=outputs)


def checked_outputs(returned: object, inputs: Tensor, *, outputs: int) -> Float[Tensor, "n k"]:
    """Return what a module returned for some inputs, once it is one row for each.

    Raises:
        ShapeError, OptionError: as `outputs_of`.
    """
    if not isinstance(returned, Tensor):
        raise ShapeError(f"`module` must return a tensor (n, k); got {type(returned).__name__}.")
    if tuple(returned.shape) != (len(inputs), outputs):
        raise ShapeError(
            f"`module` must return (n, k), one row for each input and one column for each target: "
            f"({len(inputs)}, {outputs}); got {tuple(returned.shape)}."
        )
    if returned.dtype not in REAL:
        raise OptionError(f"`module` must return float32 or float64; got {dtype_name(returned.dtype)}.")
    return returned


def parameters_matching(module: nn.Module, patterns: Sequence[str] | None) -> Parameters:
    """Return the trained parameters whose names match one of the patterns.

    Args:
        patterns: as in shells, such as "layer4.*" or "*.weight"; "last:3" for those of the last three layers,
            as `layers_of` has them; None or "all" takes all trained parameters.

    Raises:
        OptionError: a pattern that no trained parameter matches, fewer layers than are asked for, or
            parameters as in `parameters_of`.
    """
    if patterns is None or list(patterns) == [ALL]:
        return parameters_of(module)
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise OptionError(
            "`parameters` must be one or more patterns of names, such as 'layer4.*', or None for all; "
            f"got {shown(patterns)}."
        )
    chosen = {name for pattern in patterns for name in _names_of_last(pattern, module)}
    patterns = [pattern for pattern in patterns if not pattern.startswith(LAST)]
    is_trained = {
        name: weight.requires_grad and weight.numel() > 0 for name, weight in module.named_parameters()
    }
    for pattern in patterns:
        matching = [name for name in is_trained if fnmatchcase(name, pattern)]
        if not any(is_trained[name] for name in matching):
            listed = ", ".join(repr(name) for name, trained in is_trained.items() if trained)
            why = (
                f"matches only {matching[0]!r}, which has requires_grad=False or no numbers"
                if len(matching) == 1
                else f"matches only parameters with requires_grad=False, such as {matching[0]!r}"
                if matching
                else "matches none"
            )
            raise OptionError(
                f"`parameters` must be patterns of names of trained parameters; {pattern!r} {why}. "
                f"There are {_shorten(listed)}."
            )
    return {
        name: weight
        for name, weight in parameters_of(module).items()
        if name in chosen or any(fnmatchcase(name, pattern) for pattern in patterns)
    }


def layers_of(parameters: Iterable[str]) -> dict[str, list[str]]:
    """Return names of parameters by layer: by the submodule that owns them, in their order.

    Args:
        parameters: names, in the order in which the module registered them.
    """
    layers: dict[str, list[str]] = {}
    for name in parameters:
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    return layers


def last_layers(count: int) -> str:
    """Return the pattern of the parameters of so many last layers."""
    return f"{LAST}{count}"


def _names_of_last(pattern: str, module: nn.Module) -> list[str]:
    """Return the names that "last:N" stands for; of another pattern none."""
    if not pattern.startswith(LAST):
        return []
    number, layers = pattern.removeprefix(LAST), layers_of(parameters_of(module))
    if not number.isdecimal() or not 1 <= int(number) <= len(layers):
        raise OptionError(
            f"`parameters` must be {LAST}N with N from 1 to {len(layers)}, the layers with trained "
            f"parameters; got {pattern!r}."
        )
    return [name for names in list(layers.values())[-int(number) :] for name in names]


def _shorten(text: str, most: int = 300) -> str:
    return text if len(text) <= most else text[:most].rpartition(",")[0] + ", …"


def flatten_parameters(parameters: Mapping[str, Tensor]) -> Float[Tensor, " p"]:
    """Return all numbers of parameters or of (sparse) gradients, in the order of their names here: a copy."""
    return torch.cat([weight.to_dense().reshape(-1) for weight in parameters.values()])


def unflatten_parameters(vector: Float[Tensor, " p"], like: Mapping[str, Tensor]) -> Parameters:
    """Return a vector as parameters of these shapes: views of it."""
    vectors = torch.split(vector, [weight.numel() for weight in like.values()])
    return {name: row.view(weight.shape) for (name, weight), row in zip(like.items(), vectors, strict=True)}


def bytes_per_row(module: nn.Module, inputs: Tensor) -> int:
    """Return the bytes that a forward pass saves of each input for the gradient.

    Args:
        inputs: one or two; with two, the difference is what a row takes and not the weights.
    """
    sizes = [_saved_bytes(module, inputs[:count]) for count in range(1, len(inputs) + 1)]
    return max(8, sizes[-1] - sizes[0] if len(sizes) > 1 else sizes[0])


def _saved_bytes(module: nn.Module, inputs: Tensor) -> int:
    sizes = [inputs.numel() * inputs.itemsize]

    def pack(saved: Tensor) -> Tensor:
        sizes.append(saved.numel() * saved.itemsize)
        # Detached: an output that its own graph holds would never be freed. A forward that takes
        # derivatives asks for it back.
        return saved.detach()

    with gradients_recorded(), torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        weights = {name: weight.detach().requires_grad_() for name, weight in parameters_of(module).items()}
        outputs = call(module, weights, inputs)
    return sum(sizes) + (outputs.numel() * outputs.itemsize if isinstance(outputs, Tensor) else 0)

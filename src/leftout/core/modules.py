"""A PyTorch module as a function f(x; w) of its trained parameters w.

Parameters with `requires_grad=False` and buffers are constants of the function. A module is a function
only if its outputs are repeatable and each depends on its own row alone: see `check_function`.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from leftout.core.checks import check_whole_kept
from leftout.core.errors import LeftoutError, OptionError, ShapeError

Parameters = dict[str, Tensor]

REAL = (torch.float32, torch.float64)

REPEATABLE = 1e-3
"""Largest difference between two calls, relative to the outputs, that is taken for rounding."""

ROWS_TRIED = 3
"""Inputs on which a module is tried before it is called on all."""

FLOOR = 0.01
"""Smallest scale of the outputs for relative differences: where f_0 = 0 they are all rounding."""


def parameters_of(module: nn.Module) -> Parameters:
    """Return the parameters that are trained, by name, detached; they share the module's memory.

    Raises:
        OptionError: none of them is trained, or they are not all real and of one precision.
    """
    named = dict(module.named_parameters())
    for name, parameter in named.items():
        if is_lazy(parameter):
            raise OptionError(
                f"`module` must have parameters of known shapes; {name!r} is lazy. Call the module once "
                "on an input first."
            )
    trained = {name: weight.detach() for name, weight in named.items() if weight.requires_grad}
    if not trained:
        raise OptionError("`module` must have parameters that are trained; got none with requires_grad=True.")
    for name, weight in trained.items():
        if weight.dtype not in REAL:
            raise OptionError(
                f"`module` must have float32 or float64 parameters; {name!r} is "
                f"{_short(weight.dtype)}. Call module.float() or module.double() first, or set its "
                "requires_grad to False."
            )
    dtypes = sorted({_short(weight.dtype) for weight in trained.values()})
    if len(dtypes) > 1:
        raise OptionError(
            f"`module` must have parameters of one precision; got {' and '.join(dtypes)}. Call "
            "module.double() or module.float()."
        )
    devices = sorted({str(weight.device) for weight in trained.values()})
    if len(devices) > 1:
        raise OptionError(f"`module` must lie on one device; its parameters are on {' and '.join(devices)}.")
    return trained


def call(module: nn.Module, parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Return f(inputs; parameters); the module itself is not written to."""
    return functional_call(module, dict(parameters), (inputs,))


def outputs_of(
    module: nn.Module, parameters: Mapping[str, Tensor], inputs: Tensor, *, outputs: int
) -> Float[Tensor, "n k"]:
    """Return f(inputs; parameters), one row for each input.

    Raises:
        ShapeError: not one row of `outputs` numbers for each input.
        OptionError: outputs that are not float32 or float64.
    """
    returned = functional_call(module, dict(parameters), (inputs,))
    if not isinstance(returned, Tensor):
        raise ShapeError(f"`module` must return a tensor (n, k); got {type(returned).__name__}.")
    if tuple(returned.shape) != (len(inputs), outputs):
        raise ShapeError(
            f"`module` must return (n, k), one row for each input and one column for each target: "
            f"({len(inputs)}, {outputs}); got {tuple(returned.shape)}."
        )
    if returned.dtype not in REAL:
        raise OptionError(f"`module` must return float32 or float64; got {_short(returned.dtype)}.")
    return returned


def output_count(module: nn.Module, inputs: Tensor) -> int:
    """Return k, how many numbers the module returns for each input.

    Args:
        inputs: one or more valid inputs, of its dtype and on its device.

    Raises:
        ShapeError: not one row of numbers for each input.
        OptionError: outputs that are not float32 or float64.
    """
    outputs = _outputs_without_effects(module, [inputs])[0][0]
    if isinstance(outputs, Tensor) and outputs.ndim == 2 and len(outputs) == len(inputs) and outputs.numel():
        return outputs_of(module, {}, inputs, outputs=outputs.shape[1]).shape[1]
    came = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    raise ShapeError(
        "`module` must return a tensor (n, k), one row for each input and k outputs in columns: "
        f"({len(inputs)}, k); got {came}."
    )


def check_differentiable(module: nn.Module, weights: Mapping[str, Tensor], inputs: Tensor) -> None:
    """Raise unless outputs have a gradient in the weights.

    Raises:
        OptionError: inference mode is on, or the module detaches its outputs from its weights.
    """
    if torch.is_inference_mode_enabled():
        raise OptionError(
            "A tangent kernel needs gradients, and torch.inference_mode() is on. Call it outside."
        )
    leaves = {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}
    with torch.enable_grad():
        outputs = functional_call(module, leaves, (inputs.clone(),))
    if not outputs.requires_grad:
        raise OptionError(
            "`module` must have outputs with a gradient in its trained parameters; they have none. Look "
            "for no_grad, detach or .data in its forward, or choose other `parameters`."
        )


def parameters_matching(module: nn.Module, patterns: Sequence[str] | None) -> Parameters:
    """Return the trained parameters whose names match one of the patterns.

    Args:
        patterns: as in shells, such as "layer4.*" or "*.weight"; None takes all trained parameters.

    Raises:
        OptionError: a pattern that no trained parameter matches, or parameters as in `parameters_of`.
    """
    if patterns is None:
        return parameters_of(module)
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise OptionError(
            "`parameters` must be one or more patterns of names, such as 'layer4.*', or None for all; "
            f"got {patterns!r}."
        )
    is_trained = {name: weight.requires_grad for name, weight in module.named_parameters()}
    for pattern in patterns:
        matching = [name for name in is_trained if fnmatchcase(name, pattern)]
        if not any(is_trained[name] for name in matching):
            listed = ", ".join(repr(name) for name, trained in is_trained.items() if trained)
            why = (
                f"matches only {matching[0]!r}, which has requires_grad=False"
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
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    }


def _shorten(text: str, most: int = 300) -> str:
    return text if len(text) <= most else text[:most].rpartition(",")[0] + ", …"


def flatten_parameters(parameters: Mapping[str, Tensor]) -> Float[Tensor, " p"]:
    """Return all numbers of the parameters, in the order of their names here: a copy."""
    return torch.cat([weight.reshape(-1) for weight in parameters.values()])


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

    def pack(saved: Tensor) -> None:
        # The size alone: an output that its own graph holds would never be freed.
        sizes.append(saved.numel() * saved.itemsize)

    weights = {name: weight.requires_grad_() for name, weight in parameters_of(module).items()}
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        outputs = functional_call(module, weights, (inputs,))
    return sum(sizes) + (outputs.numel() * outputs.itemsize if isinstance(outputs, Tensor) else 0)


def check_takes(module: nn.Module, inputs: Tensor, *, name: str, as_given: bool = False) -> None:
    """Raise one clear error where torch would raise its own about inputs that do not fit.

    Args:
        inputs: all of them; the first three are tried.
        name: their name in messages.
        as_given: do not convert them to the module's dtype and device.

    Raises:
        ShapeError: the module fails on them; its exception is the cause of ours.
        DataError: whole numbers that the module's dtype does not hold.
    """
    like = next(iter(parameters_of(module).values()))
    check_whole_kept(name, inputs, like.dtype)
    try:
        # A tensor without an axis of rows has no first three.
        first = inputs[:ROWS_TRIED] if inputs.ndim > 1 else inputs
        _outputs_without_effects(module, [first if as_given else first.to(like)])
    except LeftoutError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        looks_up = any(isinstance(layer, nn.Embedding | nn.EmbeddingBag) for layer in module.modules())
        advice = (
            ". Inputs come as floats; write x.long() in its forward, before the embedding" if looks_up else ""
        )
        raise ShapeError(
            f"`{name}` must hold inputs that `module` takes; on inputs of shape "
            f"{tuple(inputs.shape)} it raised {type(error).__name__}: {error}{advice}"
        ) from error


def check_function(module: nn.Module, inputs: Tensor) -> None:
    """Raise unless the module is a function of each row: repeatable, and the same in any batch.

    Args:
        inputs: a few valid inputs, of its dtype and on its device.

    Raises:
        OptionError: outputs vary, by dropout, batch statistics or the like.
    """
    batched = any(
        layer.training and isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules()
    )
    same = not batched
    if same:
        singly = [row[None] for row in inputs]
        (once, again, *alone), constant = _outputs_without_effects(module, [inputs, inputs, *singly])
        same = constant and _are_close(once, again) and _are_close(once, torch.cat(alone))
    if not same:
        raise OptionError(
            "`module` must be a function of each input alone; it gives other outputs when it is "
            "called again or with other rows: dropout, batch statistics or the like. "
            + (
                "Call module.eval() first."
                if any(layer.training for layer in module.modules())
                else "Take such layers out."
            )
        )


def _outputs_without_effects(module: nn.Module, batches: Sequence[Tensor]) -> tuple[list[Any], bool]:
    """Return outputs, and whether all buffers stay constant; module and random state are not changed."""
    before = dict(module.named_buffers())
    buffers = {name: buffer.clone() for name, buffer in before.items()}
    with torch.random.fork_rng(), torch.no_grad():
        outputs = [functional_call(module, buffers, (batch.clone(),)) for batch in batches]
    return outputs, all(torch.equal(buffers[name], buffer) for name, buffer in before.items())


def _are_close(first: Any, second: Any) -> bool:
    if not isinstance(first, Tensor) or not isinstance(second, Tensor) or first.shape != second.shape:
        return False
    scale = float(first.nan_to_num().abs().max()) if first.numel() else 0.0
    near = (first - second).abs() <= REPEATABLE * (scale + FLOOR)
    return bool((near | (first.isnan() & second.isnan())).all())


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

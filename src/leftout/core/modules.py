"""What is a PyTorch module, as a function of its weights? f(x; w), w the parameters that are trained.

Parameters with `requires_grad=False` and buffers are constants of the function. A module is a
function only if calling it twice gives the same, each row for itself: see `check_function`.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from leftout.core.errors import LeftoutError, OptionError, ShapeError

Parameters = dict[str, Tensor]

REAL = (torch.float32, torch.float64)

REPEATABLE = 1e-3
"""Difference between two calls, relative to the outputs, beyond which it is no rounding."""

ROWS_TRIED = 3
"""Inputs on which a module is tried before all are handed to it."""

FLOOR = 0.01
"""Outputs below which differences are taken as of this size: f_0 = 0 is rounding and nothing else."""


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
    found = {name: one.detach() for name, one in named.items() if one.requires_grad}
    if not found:
        raise OptionError("`module` must have parameters that are trained; got none with requires_grad=True.")
    for name, one in found.items():
        if one.dtype not in REAL:
            raise OptionError(
                f"`module` must have float32 or float64 parameters; {name!r} is "
                f"{_short(one.dtype)}. Call module.float() or module.double() first, or set its "
                "requires_grad to False."
            )
    dtypes = sorted({_short(one.dtype) for one in found.values()})
    if len(dtypes) > 1:
        raise OptionError(
            f"`module` must have parameters of one precision; got {' and '.join(dtypes)}. Call "
            "module.double() or module.float()."
        )
    if len({one.device for one in found.values()}) > 1:
        raise OptionError(
            "`module` must lie on one device; its parameters are on "
            f"{' and '.join(sorted({str(one.device) for one in found.values()}))}."
        )
    return found


def call(module: nn.Module, parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Return f(inputs; parameters); the module itself is not written to."""
    return functional_call(module, dict(parameters), (inputs,))


def outputs_of(
    module: nn.Module, parameters: Mapping[str, Tensor], inputs: Tensor, *, outputs: int
) -> Float[Tensor, "n k"]:
    """Return f(inputs; parameters), one row for each input.

    Raises:
        ShapeError: not one row of `outputs` numbers for each input.
        OptionError: no real numbers.
    """
    value = functional_call(module, dict(parameters), (inputs,))
    if not isinstance(value, Tensor):
        raise ShapeError(f"`module` must return a tensor (n, k); got {type(value).__name__}.")
    if tuple(value.shape) != (len(inputs), outputs):
        raise ShapeError(
            f"`module` must return (n, k), one row for each input and one column for each target: "
            f"({len(inputs)}, {outputs}); got {tuple(value.shape)}."
        )
    if value.dtype not in REAL:
        raise OptionError(f"`module` must return float32 or float64; got {_short(value.dtype)}.")
    return value


def output_count(module: nn.Module, inputs: Tensor) -> int:
    """Return k, how many numbers the module gives for each input.

    Args:
        inputs: one or more that it takes, of its dtype and on its device.

    Raises:
        ShapeError: not one row of numbers for each input.
        OptionError: no real numbers.
    """
    value = _apart(module, [inputs])[0][0]
    if isinstance(value, Tensor) and value.ndim == 2 and len(value) == len(inputs) and value.numel():
        return outputs_of(module, {}, inputs, outputs=value.shape[1]).shape[1]
    came = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    raise ShapeError(
        "`module` must return a tensor (n, k), one row for each input and k outputs in columns: "
        f"({len(inputs)}, k); got {came}."
    )


def check_differentiable(module: nn.Module, weights: Mapping[str, Tensor], few: Tensor) -> None:
    """Raise unless outputs have a gradient in the weights.

    Raises:
        OptionError: inference mode is on, or the module detaches its outputs from its weights.
    """
    if torch.is_inference_mode_enabled():
        raise OptionError(
            "A tangent kernel needs gradients, and torch.inference_mode() is on. Call it outside."
        )
    leaves = {name: one.detach().clone().requires_grad_() for name, one in weights.items()}
    with torch.enable_grad():
        value = functional_call(module, leaves, (few.clone(),))
    if not value.requires_grad:
        raise OptionError(
            "`module` must have outputs with a gradient in its trained parameters; they have none. Look "
            "for no_grad, detach or .data in its forward, or choose other `parameters`."
        )


def parameters_matching(module: nn.Module, patterns: Sequence[str] | None) -> Parameters:
    """Return the parameters that are trained and whose names match one of the patterns.

    Args:
        patterns: as of shells, such as "layer4.*" or "*.weight"; None takes all that are trained.

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
    trained = {name: one.requires_grad for name, one in module.named_parameters()}
    for pattern in patterns:
        matching = [name for name in trained if fnmatchcase(name, pattern)]
        if not any(trained[name] for name in matching):
            listed = ", ".join(repr(name) for name, each in list(trained.items()) if each)
            why = (
                f"matches only {matching[0]!r}, which has requires_grad=False"
                if len(matching) == 1
                else f"matches only parameters with requires_grad=False, such as {matching[0]!r}"
                if matching
                else "matches none"
            )
            raise OptionError(
                f"`parameters` must be patterns of names of trained parameters; {pattern!r} {why}. "
                f"There are {_cut(listed)}."
            )
    found = parameters_of(module)
    return {
        name: one for name, one in found.items() if any(fnmatchcase(name, pattern) for pattern in patterns)
    }


def _cut(text: str, most: int = 300) -> str:
    return text if len(text) <= most else text[:most].rpartition(",")[0] + ", …"


def flatten_parameters(parameters: Mapping[str, Tensor]) -> Float[Tensor, " p"]:
    """Return all numbers of the parameters, in the order of their names here: a copy."""
    return torch.cat([one.reshape(-1) for one in parameters.values()])


def unflatten_parameters(vector: Float[Tensor, " p"], like: Mapping[str, Tensor]) -> Parameters:
    """Return a vector as parameters of these shapes: views of it."""
    parts = torch.split(vector, [one.numel() for one in like.values()])
    return {name: part.view(one.shape) for (name, one), part in zip(like.items(), parts, strict=True)}


def bytes_per_row(module: nn.Module, two: Tensor) -> int:
    """Return the bytes that a forward pass keeps of each input for the gradient.

    Args:
        two: one or two inputs; a second tells what belongs to the weights and not to a row.
    """
    counts = [_kept(module, two[:count]) for count in range(1, len(two) + 1)]
    return max(8, counts[-1] - counts[0] if len(counts) > 1 else counts[0])


def _kept(module: nn.Module, inputs: Tensor) -> int:
    sizes = [inputs.numel() * inputs.itemsize]

    def pack(kept: Tensor) -> None:
        # The size alone: an output that its own graph holds would never be freed.
        sizes.append(kept.numel() * kept.itemsize)

    weights = {name: one.requires_grad_() for name, one in parameters_of(module).items()}
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
        value = functional_call(module, weights, (inputs,))
    return sum(sizes) + (value.numel() * value.itemsize if isinstance(value, Tensor) else 0)


def check_takes(module: nn.Module, inputs: Tensor, *, name: str, as_given: bool = False) -> None:
    """Raise our sentence where torch would raise its own about inputs that do not fit.

    Args:
        inputs: all of them; the first three are tried.
        name: what messages call them.
        as_given: do not turn them into numbers of the module's dtype, on its device.

    Raises:
        ShapeError: the module fails on them; its exception is the cause of ours.
    """
    like = next(iter(parameters_of(module).values()))
    try:
        # Without an axis of rows there is nothing to take the first three of.
        few = inputs[:ROWS_TRIED] if inputs.ndim > 1 else inputs
        _apart(module, [few if as_given else few.to(like)])
    except LeftoutError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        looks_up = any(isinstance(one, nn.Embedding | nn.EmbeddingBag) for one in module.modules())
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
        inputs: a few that it takes, of its dtype and on its device.

    Raises:
        OptionError: dropout, batch statistics or the like are at work.
    """
    batched = any(
        one.training and isinstance(one, nn.modules.batchnorm._BatchNorm) for one in module.modules()
    )
    same = not batched
    if same:
        singly = [row[None] for row in inputs]
        (once, again, *alone), kept = _apart(module, [inputs, inputs, *singly])
        same = kept and _close(once, again) and _close(once, torch.cat(alone))
    if not same:
        raise OptionError(
            "`module` must be a function of each input alone; it gives other outputs when it is "
            "called again or with other rows: dropout, batch statistics or the like. "
            + (
                "Call module.eval() first."
                if any(one.training for one in module.modules())
                else "Take such layers out."
            )
        )


def _apart(module: nn.Module, batches: Sequence[Tensor]) -> tuple[list[Any], bool]:
    """Return outputs, and whether all buffers stayed as they are; nothing of the caller's changes."""
    before = dict(module.named_buffers())
    buffers = {name: one.clone() for name, one in before.items()}
    # The caller's random numbers are not ours to draw from.
    with torch.random.fork_rng(), torch.no_grad():
        outputs = [functional_call(module, buffers, (batch.clone(),)) for batch in batches]
    kept = all(torch.equal(buffers[name], one) for name, one in before.items())
    return outputs, kept


def _close(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one.shape != other.shape:
        return False
    scale = float(one.nan_to_num().abs().max()) if one.numel() else 0.0
    near = (one - other).abs() <= REPEATABLE * (scale + FLOOR)
    return bool((near | (one.isnan() & other.isnan())).all())


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

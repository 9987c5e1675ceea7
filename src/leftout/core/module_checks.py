"""Is a module a function f(x; w) of one input and its weights, so that it can be differentiated by row?

Its outputs must be repeatable, a number for each input and target, and each must depend on its own input
alone. Kinds of outputs, randomness and gradients are looked at on three inputs; whether an output depends on
other inputs of its batch is looked at for all of them, at the price of two forward passes.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from leftout.core.checks import check_whole_kept
from leftout.core.errors import LeftoutError, OptionError, ShapeError
from leftout.core.module_call import (
    attributes_kept,
    call,
    call_with_effects,
    forward_error,
    gradients_recorded,
    is_kept,
)
from leftout.core.modules import Parameters, checked_outputs, parameters_of

REPEATABLE = 1e-3
"""Largest difference between two calls, relative to the outputs, that is taken for rounding."""

ROWS_TRIED = 3
"""Inputs on which a module is tried before it is called on all."""

FLOOR = 0.01
"""Smallest scale of the outputs for relative differences: where f_0 = 0 they are all rounding."""

MOVED = 0.01
"""By how much weights are moved, relative to the largest of a parameter."""

SHARE = 3
"""Inputs of a batch are divided into a third and the rest to see whether they depend on each other."""


def sample_rows(inputs: Tensor) -> Tensor:
    """Return three inputs to try a module on: the first, the middle one and the last."""
    n = len(inputs)
    return inputs if n <= ROWS_TRIED else inputs[[0, n // 2, n - 1]]


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
        return checked_outputs(outputs, inputs, outputs=outputs.shape[1]).shape[1]
    came = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    raise ShapeError(
        "`module` must return a tensor (n, k), one row for each input and k outputs in columns: "
        f"({len(inputs)}, k); got {came}."
    )


def evaluate(module: nn.Module, tensors: Mapping[str, Tensor], inputs: Tensor) -> Any:
    """Return what the module returns, without a graph.

    Gradients are recorded only where the forward raises without them, as one that takes derivatives does.

    Raises:
        ShapeError: the forward raised an exception, which is the cause of ours.
    """
    try:
        with torch.no_grad():
            returned = call(module, tensors, inputs)
    except ShapeError as error:
        if error.__cause__ is None:
            raise
        returned = _evaluate_with_gradients(module, tensors, inputs, error)
    # A forward may record gradients by itself.
    return returned.detach() if isinstance(returned, Tensor) else returned


def _evaluate_with_gradients(
    module: nn.Module, tensors: Mapping[str, Tensor], inputs: Tensor, refused: ShapeError
) -> Any:
    """Return what the module returns where gradients are recorded; or raise the first error."""
    try:
        with gradients_recorded():
            return call(module, tensors, inputs)
    except LeftoutError:
        raise refused from refused.__cause__


@dataclass(frozen=True)
class Graph:
    """The graph that outputs were computed by.

    Attributes:
        nodes: its operations.
        leaves: tensors that gradients are taken in, by id.
        uses: how often an operation takes each of them, by id.
    """

    nodes: Collection[Any]
    leaves: Mapping[int, Tensor]
    uses: Mapping[int, int]


def graph_of(outputs: Tensor) -> Graph:
    """Return the graph of some outputs; its size does not depend on the number of inputs."""
    leaves: dict[int, Tensor] = {}
    uses: Counter[int] = Counter()
    nodes = {outputs.grad_fn}
    waiting = [outputs.grad_fn]
    while waiting:
        node = waiting.pop()
        for after, _ in node.next_functions if node is not None else ():
            if after is None:
                continue
            variable = getattr(after, "variable", None)
            if variable is not None:
                leaves[id(variable)] = variable
                uses[id(variable)] += 1
            if after not in nodes:
                nodes.add(after)
                waiting.append(after)
    return Graph(nodes, leaves, uses)


def check_differentiable(
    module: nn.Module, weights: Mapping[str, Tensor], inputs: Tensor, *, original: Collection[int] = ()
) -> None:
    """Raise unless outputs have a gradient in the weights, and the forward finds weights where they are kept.

    Args:
        original: ids of the parameters of the module that this one is a copy of.

    Raises:
        OptionError: the module detaches its outputs from its weights; or its forward also reaches them
            otherwise than as an attribute of a submodule, by a list, a closure or a hook, where other weights
            cannot be put; or uses what was computed from them before and kept.
    """
    with gradients_recorded():
        leaves = {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}
        outputs = call(module, leaves, inputs.clone())
        graph = graph_of(outputs)
    by_id = {id(tensor): name for name, tensor in module.named_parameters()}
    elsewhere = [repr(by_id[i]) for i in graph.leaves if by_id.get(i) in weights]
    # An id may be that of another tensor by now, but hardly of a parameter which the module does not have.
    elsewhere += [
        f"one of shape {tuple(leaf.shape)}"
        for i, leaf in graph.leaves.items()
        if i in original and i not in by_id and isinstance(leaf, nn.Parameter)
    ]
    if elsewhere:
        raise OptionError(
            "`module` must reach its parameters as attributes of its submodules only; its forward also uses "
            f"{elsewhere[0]} by a list, a closure or a hook, where other weights cannot be put. Write "
            "self.layer.weight there."
        )
    kept = [leaf for leaf in graph.leaves.values() if is_kept(leaf)]
    if kept:
        raise OptionError(
            "`module` must compute its outputs from its weights at every call; its forward uses a tensor of "
            f"shape {tuple(kept[0].shape)} that it computed before and keeps as an attribute, which other "
            "weights do not change: a cache, or a view made in __init__. Compute it in forward."
        )
    if not outputs.requires_grad:
        raise OptionError(
            "`module` must have outputs with a gradient in its trained parameters; they have none. Look "
            "for no_grad, detach or .data in its forward, or choose other `parameters`."
        )


def check_takes(module: nn.Module, inputs: Tensor, *, name: str, as_given: bool = False) -> None:
    """Raise one clear error where the module raises its own about inputs that do not fit.

    Args:
        inputs: all of them; three are tried.
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
        sample = sample_rows(inputs) if inputs.ndim > 1 else inputs
        _outputs_without_effects(module, [sample if as_given else sample.to(like)])
    except ShapeError as error:
        if error.__cause__ is None:
            raise
        looks_up = any(isinstance(layer, nn.Embedding | nn.EmbeddingBag) for layer in module.modules())
        advice = (
            ". Inputs come as floats; write x.long() in its forward, before the embedding" if looks_up else ""
        )
        raise ShapeError(forward_error(name, inputs, error.__cause__, advice)) from error.__cause__


def check_function(module: nn.Module, inputs: Tensor) -> None:
    """Raise unless the module is a function of each row: repeatable, and the same in any batch.

    Args:
        inputs: a few valid inputs, of its dtype and on its device.

    Raises:
        OptionError: outputs vary, by dropout, batch statistics or the like.
    """
    batched = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    if any(layer.training or layer.running_mean is None for layer in batched):
        raise _no_function(module)
    singly = [row[None] for row in inputs]
    (once, again, *alone), constant = _outputs_without_effects(module, [inputs, inputs, *singly])
    if not (constant and are_close(once, again) and are_close(once, torch.cat(alone))):
        raise _no_function(module)
    # A coupling behind a weight of zero shows once the weight is moved.
    (together, *alone), _ = _outputs_without_effects(module, [inputs, *singly], _moved_weights(module))
    if not are_close(together, torch.cat(alone)):
        raise _no_function(module, ", once its weights have moved")


def check_apart(module: nn.Module, inputs: Tensor, chunks: Iterable[slice], *, outputs: int) -> None:
    """Raise unless no output depends on the other inputs of its batch, for all inputs.

    Args:
        inputs: all of them, in the module's dtype or not.
        chunks: which of them to take together.
        outputs: k, how many numbers the module returns for each input.

    Raises:
        OptionError: outputs depend on other inputs, names the first such row; or the forward writes to them.
        ShapeError: the forward raises on some of them, or returns another shape.

    Cost:
        two forward passes.
    """
    like = next(iter(parameters_of(module).values()))
    for rows in chunks:
        batch = inputs[rows].to(like, copy=True)
        together = checked_outputs(evaluate(module, {}, batch), batch, outputs=outputs)
        apart = torch.empty_like(together)
        for members in parts_of_batch(together, batch):
            members_alone = batch[members]
            apart[members] = checked_outputs(
                evaluate(module, {}, members_alone), members_alone, outputs=outputs
            )
        check_unwritten(batch, inputs[rows].to(like))
        check_same_apart(module, together, apart, first=rows.start)


def check_unwritten(inputs: Tensor, before: Tensor) -> None:
    """Raise unless inputs that a module was called on are what they were before."""
    if not torch.equal(inputs, before):
        raise OptionError(
            "`module` must not write to its inputs, which are asked for again; it does. Write "
            "x = x - 1 in its forward instead of x -= 1."
        )


def parts_of_batch(outputs: Float[Tensor, "c k"], inputs: Tensor) -> list[Tensor]:
    """Return the rows of a batch in two parts of other size and mean: a third of low outputs, and the rest.

    The division follows from what the rows hold, not from their order; a batch of one row is one part.
    """
    order = outputs.detach().double().sum(1)
    if bool((order == order[0]).all()):
        order = inputs.detach().double().flatten(1).sum(1)
    ranked = order.argsort(stable=True)
    third = max(1, len(ranked) // SHARE)
    return [rows for rows in (ranked[:third], ranked[third:]) if len(rows)]


def check_same_apart(module: nn.Module, together: Tensor, apart: Tensor, *, first: int) -> None:
    """Raise unless outputs of a batch are those of its parts.

    Args:
        first: number of the first row, for messages.

    Raises:
        OptionError: they are not; names the first row that differs.
    """
    same = near(together, apart)
    if not bool(same.all()):
        row = int((~same).flatten(1).any(1).nonzero()[0])
        raise _no_function(module, f" (row {first + row})")


def near(values: Tensor, expected: Tensor) -> Bool[Tensor, "..."]:
    """Return which numbers agree to `REPEATABLE` of the largest; two NaN do."""
    values, expected = values.detach(), expected.detach()
    scale = float(values.nan_to_num().abs().max()) if values.numel() else 0.0
    close = (values - expected).abs() <= REPEATABLE * (scale + FLOOR)
    return close | (values.isnan() & expected.isnan()) | (values == expected)


def are_close(values: Any, expected: Any) -> bool:
    """Return whether two outputs are tensors of one shape, and all their numbers `near`."""
    if not isinstance(values, Tensor) or not isinstance(expected, Tensor) or values.shape != expected.shape:
        return False
    return bool(near(values, expected).all())


def _no_function(module: nn.Module, where: str = "") -> OptionError:
    advice = (
        "Call module.eval() first."
        if any(layer.training for layer in module.modules())
        else "Take such layers out."
    )
    return OptionError(
        "`module` must be a function of each input alone; it gives other outputs when it is "
        f"called again or with other rows{where}: dropout, batch statistics or the like. {advice}"
    )


def _moved_weights(module: nn.Module) -> Parameters:
    """Return the trained parameters moved by a hundredth of their largest number, or of 1 where all are 0."""
    generator = torch.Generator().manual_seed(0)
    moved = {}
    for name, weight in parameters_of(module).items():
        noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype, device="cpu")
        moved[name] = weight + MOVED * (float(weight.abs().max()) or 1.0) * noise.to(weight.device)
    return moved


def _outputs_without_effects(
    module: nn.Module, batches: Sequence[Tensor], weights: Parameters | None = None
) -> tuple[list[Any], bool]:
    """Return outputs, and whether all buffers stay constant; module and random state are not changed."""
    before = dict(module.named_buffers())
    buffers = {name: buffer.clone() for name, buffer in before.items()} | (weights or {})
    modes = (torch.no_grad, gradients_recorded)  # a forward that takes derivatives needs the second
    with torch.random.fork_rng(), attributes_kept(module):
        for mode in modes:
            try:
                with mode():
                    outputs = [call_with_effects(module, buffers, batch.clone()) for batch in batches]
                break
            except ShapeError as error:
                if mode is modes[-1] or error.__cause__ is None:
                    raise
    outputs = [returned.detach() if isinstance(returned, Tensor) else returned for returned in outputs]
    return outputs, all(torch.equal(buffers[name], buffer) for name, buffer in before.items())

"""What does a finite network become? Trained on its full batch, it stays near its kernel's prediction.

    L(w) = ½ Σ (f − y)² + ½ λ ‖w − w_0‖²,        w_0 the weights as given

`loss="mean"` divides the data term by n. What is followed is ∇L, with one exception: of a
TwoLayerNetwork under `Ridge` it is ∇L with gates that open over a width of O(m^-1/2) instead of at
once, for ∇L has no zero where minima lie, at kinks. Its zero is near the minimum, not at it. Of 20
examples of ±1 in 5 dimensions, λ = 0.5, plain descent with falling rates goes on from there to

    width    64      L 8.030 → 7.855    f of the examples moves by at most 0.031
             1024      7.558 → 7.476                                       0.012
             8192      7.375 → 7.345                                       0.005

A network says how its training ended: `status` is a sentence,
and whatever uses it for influence warns where it did not converge.
"""

import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from leftout.core.blocks import blocks, memory_budget
from leftout.core.checks import check_finite, check_kind
from leftout.core.device import usable_device
from leftout.core.errors import NotConvergedWarning, ShapeError
from leftout.core.fingerprint import fingerprint
from leftout.core.module_call import copy_module, in_any_mode, with_gradients
from leftout.core.module_checks import (
    check_apart,
    check_differentiable,
    check_function,
    check_takes,
    evaluate,
    sample_rows,
)
from leftout.core.modules import bytes_per_row, checked_outputs, parameters_of
from leftout.core.wording import dtype_name
from leftout.data.examples import Examples
from leftout.data.pairs import Data, examples_of, inputs_of
from leftout.dynamics.descend import Descent
from leftout.dynamics.descend_module import ModuleObjective
from leftout.dynamics.descend_two_layer import TwoLayerObjective
from leftout.dynamics.feasible import check_rule, goal_of, limit_of, rate_of
from leftout.dynamics.objective import Look, Objective
from leftout.dynamics.rules import GradientDescent, Ridge
from leftout.dynamics.two_layer import TwoLayerNetwork

_MODULE = "a network, a torch.nn.Module; a trained one is `trained.module`"


@with_gradients
def train(
    module: nn.Module,
    train: Data,
    *,
    rule: Ridge | GradientDescent,
    steps: int | None = None,
    tolerance: float | None = 1e-6,
    start: nn.Module | None = None,
    memory: int | float | str | None = None,
    device: torch.device | str | None = None,
) -> "Trained":
    """Return the network that full-batch gradient descent makes of a module.

    Args:
        module: any network with outputs (n, k), in `eval` mode where that makes a difference. It is
            copied, never written to; its weights are where training starts and what the ridge
            holds on to. A `TwoLayerNetwork` is trained by a method of its own.
        train: Examples, a pair (inputs, targets) of arrays, or a Dataset.
        rule: Ridge for the minimiser, at a rate chosen from the tangent kernel; GradientDescent for
            plain steps at its rate.
        steps: the most steps; the paper's 5000 if not said, 20 000 for a minimiser.
        tolerance: ‖gradient‖ relative to that at w_0 at which to stop; None takes all steps. The
            gradient is that of a `Trained`'s `gradient_norm`.
        start: a network of the same shape to begin from; the ridge still holds on to `module`.
        memory: budget, in bytes or as "4GB"; 60 % of what is free if not said.
        device: where to train; where the module is if not said.

    Returns:
        The network, and how its training went.

    Raises:
        OptionError: a rule, steps or tolerance that cannot be; a module that is none, no function of
            its input, or not of real numbers.
        ShapeError: outputs that are not (n, k), inputs that are not the module's.
        DataError: targets so large that the objective or its gradient overflows.
        DivergenceError: a rate at or above the critical rate, or an objective that grows.
        MemoryBudgetError: a two-layer network that would not fit.

    Cost:
        a step of a TwoLayerNetwork: 4 n d m flops, or 2 n² m where that is less; of other modules: a
        forward and a backward pass. Largest eigenvalue: 16 to 60 steps.

    Accuracy:
        at the tolerance ε, predictions are within about ε · max |y − f_0| of where the gradient is
        0: the minimiser, but for a TwoLayerNetwork under Ridge. Minima of ReLU networks lie at
        kinks, where no gradient is small; its gates therefore open over 0 < z < |c|/2,
        c = O(m^-1/2), see `descend_two_layer`, and the two points are O(m^-1/2) apart. Under
        GradientDescent gates are exact and the mean gradient since the last look counts.

    Example:
        >>> import leftout as lo, torch
        >>> examples, _ = lo.load("digits", n_train=20, n_query=5, classes=[3, 8])
        >>> network = lo.TwoLayerNetwork(200, 64, generator=torch.Generator().manual_seed(0))
        >>> trained = lo.train(network, examples, rule=lo.Ridge(1.0), tolerance=1e-4)
        >>> trained.converged
        True

    Source:
        Rethinking influence functions, equation 2 and appendix A.
    """
    check_kind("module", module, nn.Module, what=_MODULE)
    examples = examples_of(train, name="train")
    check_rule(rule, tolerance)
    limit = limit_of(rule, steps)
    initial = _copy(module, device)
    begin = None if start is None else _start(start, initial)
    budget = memory_budget(memory, device=next(iter(parameters_of(initial).values())).device)
    _check_data(initial, examples, budget, original=frozenset(map(id, module.parameters())))
    objective = _objective(initial, examples, rule, start=None, memory=budget)
    check_finite("module outputs", objective.residual)
    rate = rate_of(objective, rule, limit, tolerance if begin is None else None)
    goal = goal_of(objective, rule, limit, tolerance)
    if begin is not None:
        del objective  # two of them would not fit where one does
        objective = _objective(initial, examples, rule, start=begin, memory=budget)
    descent = Descent(objective, goal, rate=rate, settling=isinstance(rule, Ridge))
    descent.descend()
    return _trained_record(descent, initial, examples, rule, budget)


@final
@dataclass(frozen=True, eq=False)
class Trained:
    """A network that was trained, and how that went. Made by `train`.

    Attributes:
        module: with its weights at the end.
        initial: as it was given.
        train: the examples.
        rule: how.
        steps: taken.
        limit: the most steps that it could take.
        rate: of the steps, in the reading of the rule.
        loss: the objective L at the end, ridge included.
        gradient_norm: ‖∇L‖ there; under GradientDescent with a tolerance the mean over the last steps,
            if smaller, which is small at kinks too. Of a TwoLayerNetwork under Ridge not of ∇L, which
            jumps at kinks, but of what training follows: ∇L with gates opened over O(m^-1/2).
        relative_gradient: that, relative to the same at w_0.
        tolerance: what it was to fall to; None where steps were asked for.
        converged: whether it did.
        status: how training ended, and what to do about it; "gradient" is that of `gradient_norm`.
        memory: budget in bytes.
    """

    module: nn.Module
    initial: nn.Module
    train: Examples
    rule: Ridge | GradientDescent
    steps: int
    limit: int
    rate: float
    loss: float
    gradient_norm: float
    relative_gradient: float
    tolerance: float | None
    converged: bool
    status: str
    memory: int

    def __repr__(self) -> str:
        return (
            f"Trained({type(self.module).__name__}, {len(self.train)} examples, rule={self.rule!r}, "
            f"{self.status})"
        )

    def predict(self, inputs: Any) -> Float64[Tensor, "m k"]:
        """Return f at the inputs, in centred target units, as the module's own arithmetic has it."""
        rows = inputs_of(inputs)
        if rows.ndim == 1 < self.train.inputs.ndim:
            each = ", ".join(map(str, self.train.inputs.shape[1:]))
            raise ShapeError(
                f"`inputs` must have an axis of rows, shape (m, {each}) as in training; got "
                f"{tuple(rows.shape)}. Write inputs[None] for a single one."
            )
        return predictions(self.module, rows, outputs=self.train.targets.shape[1], memory=self.memory)

    @property
    def as_asked(self) -> bool:
        """Return whether training did what was asked: reached its tolerance, or took its steps."""
        return self.converged or self.tolerance is None

    def check_converged(self) -> None:
        """Warn where training ended short of its tolerance.

        Warns:
            NotConvergedWarning: with the status.
        """
        if not self.converged:
            warnings.warn(
                f"The network is not trained to convergence: {self.status}", NotConvergedWarning, stacklevel=3
            )

    @cached_property
    def record(self) -> dict[str, Any]:
        """Return what this network is and how it was trained, JSON-like, with fingerprints."""
        weights = parameters_of(self.initial)
        like = next(iter(weights.values()))
        return {
            "module": type(self.initial).__name__,
            "shape": str(self.initial),
            "parameters": sum(weight.numel() for weight in weights.values()),
            "dtype": dtype_name(like.dtype),
            "device": like.device.type,
            "rule": self.rule.record,
            "rate": self.rate,
            "steps": self.steps,
            "tolerance": self.tolerance,
            "relative_gradient": self.relative_gradient,
            "converged": self.converged,
            "status": self.status,
            "train": self.train.fingerprint,
            "initial": state_fingerprint(self.initial),
            "weights": state_fingerprint(self.module),
        }


@in_any_mode
def predictions(module: nn.Module, inputs: Tensor, *, outputs: int, memory: int) -> Float64[Tensor, "m k"]:
    """Return f at the inputs, in float64, in as many passes as the memory asks for."""
    parameters = parameters_of(module)
    like = next(iter(parameters.values()))
    check_takes(module, inputs, name="inputs")
    size = max(1, memory // (2 * bytes_per_row(module, inputs[:2].to(like))))
    predicted = []
    for rows in blocks(len(inputs), size):
        batch = inputs[rows].to(like)
        block = checked_outputs(evaluate(module, parameters, batch), batch, outputs=outputs)
        predicted.append(block.double())
    return torch.cat(predicted)


def state_fingerprint(module: nn.Module) -> str:
    """Return a hash of all weights and buffers by name."""
    state = module.state_dict()
    return fingerprint(list(state), *state.values())


def _copy(module: nn.Module, device: torch.device | str | None) -> nn.Module:
    parameters_of(module)
    copied = copy_module(module)
    return copied if device is None else copied.to(usable_device(device))


def _start(start: nn.Module, initial: nn.Module) -> nn.Module:
    """Return the network to begin from, once it is one of the same parameters."""
    check_kind("start", start, nn.Module, what=_MODULE)
    theirs, ours = parameters_of(start), parameters_of(initial)
    shapes = [{name: tuple(weight.shape) for name, weight in weights.items()} for weights in (theirs, ours)]
    if type(start) is not type(initial) or shapes[0] != shapes[1]:
        raise ShapeError(
            "`start` must be the same network as `module` with other weights; got "
            f"{type(start).__name__} with {shapes[0]} against {type(initial).__name__} with "
            f"{shapes[1]}."
        )
    return start


def _check_data(module: nn.Module, train: Examples, memory: int, *, original: frozenset[int]) -> None:
    """Raise unless the module is a function of such inputs, with as many outputs as targets."""
    parameters = parameters_of(module)
    like = next(iter(parameters.values()))
    sample = sample_rows(train.inputs).to(like)
    check_takes(module, train.inputs, name="train")
    check_function(module, sample)
    checked_outputs(evaluate(module, parameters, sample), sample, outputs=train.targets.shape[1])
    if isinstance(module, TwoLayerNetwork):  # whose rows are their own
        return
    check_differentiable(module, {}, sample, original=original)
    chunk = max(1, memory // (2 * bytes_per_row(module, sample[:2])))
    check_apart(module, train.inputs, blocks(len(train), chunk), outputs=train.targets.shape[1])


def _objective(
    module: nn.Module, train: Examples, rule: Ridge | GradientDescent, *, start: nn.Module | None, memory: int
) -> Objective:
    ridge = rule.effective_ridge(len(train))
    if isinstance(module, TwoLayerNetwork):
        assert start is None or isinstance(start, TwoLayerNetwork)
        return TwoLayerObjective(
            module,
            train.inputs,
            train.targets,
            ridge,
            start=start,
            rounded=isinstance(rule, Ridge),
            memory=memory,
        )
    return ModuleObjective(module, train.inputs, train.targets, ridge, start=start, memory=memory)


def _trained_record(
    descent: Descent, initial: nn.Module, train: Examples, rule: Ridge | GradientDescent, memory: int
) -> Trained:
    look: Look = descent.look
    unit, tolerance = descent.goal.unit, descent.goal.tolerance
    relative = descent.relative_gradient
    return Trained(
        module=descent.objective.trained_module(),
        initial=initial,
        train=train,
        rule=rule,
        steps=descent.steps,
        limit=descent.goal.steps,
        rate=descent.rate * unit,
        loss=look.loss / unit,
        gradient_norm=look.norm / unit,
        relative_gradient=relative,
        tolerance=tolerance,
        converged=tolerance is not None and relative <= tolerance,
        status=_status(descent),
        memory=memory,
    )


def _status(descent: Descent) -> str:
    """Return how it ended: a sentence, with advice where it ended short."""
    steps, relative, tolerance = descent.steps, descent.relative_gradient, descent.goal.tolerance
    if tolerance is None:
        return f"took the {steps} steps asked for, to a relative gradient of {relative:.2g}."
    if relative <= tolerance:
        return f"converged after {steps} steps: relative gradient {relative:.2g} ≤ {tolerance:g}."
    short = f"stopped after {steps} steps at relative gradient {relative:.2g} > {tolerance:g}"
    needed = descent.steps_needed(tolerance)
    if descent.has_stalled or not math.isfinite(needed):
        return (
            f"{short}; it falls no further, as gates keep switching or rounding is reached: raise "
            "the width or the scale of the initial weights, lower the rate, train in float64, or "
            "accept a larger tolerance."
        )
    return f"{short}; at the observed pace about {needed:.2g} steps are needed."

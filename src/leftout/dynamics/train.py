"""What does a finite network become? Trained on its full batch, it stays near its kernel's prediction.

    L(w) = ½ Σ (f − y)² + ½ λ ‖w − w_0‖²,        w_0 the weights as given

`loss="mean"` divides the data term by n. A network says how its training ended: `status` is a sentence,
and whatever uses it for influence warns where it did not converge.
"""

import copy
import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from leftout.core.blocks import blocks, memory_budget
from leftout.core.checks import check_between, check_count, check_finite
from leftout.core.device import usable_device
from leftout.core.errors import NotConvergedWarning, OptionError, ShapeError
from leftout.core.fingerprint import fingerprint
from leftout.core.modules import (
    bytes_a_row,
    check_function,
    check_takes,
    outputs_of,
    parameters_of,
)
from leftout.data.examples import Examples
from leftout.data.pairs import Data, examples_of, inputs_of
from leftout.dynamics.descend import Descent, Goal, settling_rate
from leftout.dynamics.descend_module import ModuleObjective
from leftout.dynamics.descend_two_layer import TwoLayerObjective
from leftout.dynamics.objective import Look, Objective
from leftout.dynamics.rules import GradientDescent, Ridge
from leftout.dynamics.two_layer import TwoLayerNetwork

PAPER_STEPS = 5000
"""Steps of GradientDescent if not said: the epochs of the paper."""

MANY_STEPS = 20_000
"""The same for a minimiser, which stops when it is there."""

MARGIN = 4
"""Times the kernel at w_0 that one in training is allowed to become, before a run is refused."""


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
        tolerance: ‖gradient‖ relative to that at w_0 at which to stop; None takes all steps.
        start: a network of the same shape to begin from; the ridge still holds on to `module`.
        memory: budget, in bytes or as "4GB"; 60 % of what is free if not said.
        device: where to train; where the module is if not said.

    Returns:
        The network, and how its training went.

    Raises:
        OptionError: a rule, steps or tolerance that cannot be; a module that is no function of its
            input, or not of real numbers.
        ShapeError: outputs that are not (n, k), inputs that are not the module's.
        DivergenceError: a rate at or above the critical rate, or an objective that grows.
        MemoryBudgetError: a two-layer network that would not fit.

    Cost:
        a step of a TwoLayerNetwork: 4 n d m flops, or 2 n² m where that is less; of other modules: a
        forward and a backward pass. Largest eigenvalue: 16 to 60 steps.

    Accuracy:
        at the tolerance ε, predictions are within about ε · max |y − f_0| of the minimiser's. Minima
        of ReLU networks lie at kinks, where no gradient is small. For a TwoLayerNetwork under
        Ridge, gates open over 0 < z < |c|/2, c = O(m^-1/2), instead: see `descend_two_layer`.
        Under GradientDescent gates are exact and the mean gradient since the last look counts.

    Source:
        Rethinking influence functions, equation 2 and appendix A.
    """
    examples = examples_of(train, name="train")
    _check_rule(rule, tolerance)
    limit = _limit(rule, steps)
    initial = _copy(module, device)
    begin = None if start is None else _start(start, initial)
    _check_data(initial, examples)
    budget = memory_budget(memory, device=next(iter(parameters_of(initial).values())).device)
    objective = _objective(initial, examples, rule, start=None, memory=budget)
    check_finite("module outputs", objective.residual)
    rate = _rate(objective, rule, limit, tolerance if begin is None else None)
    goal = _goal(objective, rule, limit, tolerance)
    if begin is not None:
        del objective  # two of them would not fit where one does
        objective = _objective(initial, examples, rule, start=begin, memory=budget)
    descent = Descent(objective, goal, rate=rate, settling=isinstance(rule, Ridge))
    descent.run()
    return _trained(descent, initial, examples, rule, budget)


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
        loss: the objective at the end, ridge included.
        gradient_norm: its gradient there; at kinks the mean over the last steps, if smaller.
        relative_gradient: that, relative to the gradient at w_0.
        tolerance: what it was to fall to; None where steps were asked for.
        converged: whether it did.
        status: how training ended, and what to do about it.
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
        return predictions(
            self.module, inputs_of(inputs), outputs=self.train.targets.shape[1], memory=self.memory
        )

    def check_converged(self) -> None:
        """Warn where training ended short of its tolerance.

        Warns:
            NotConvergedWarning: with the status.
        """
        if not self.converged:
            warnings.warn(
                f"The network is not trained to convergence: {self.status}",
                NotConvergedWarning, stacklevel=3,
            )  # fmt: skip

    @cached_property
    def record(self) -> dict[str, Any]:
        """Return what this network is and how it was trained, JSON-like, with fingerprints."""
        weights = parameters_of(self.initial)
        one = next(iter(weights.values()))
        return {
            "module": type(self.initial).__name__,
            "shape": str(self.initial),
            "parameters": sum(each.numel() for each in weights.values()),
            "dtype": str(one.dtype).removeprefix("torch."),
            "device": one.device.type,
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


def predictions(
    module: nn.Module, inputs: Tensor, *, outputs: int, memory: int
) -> Float64[Tensor, "m k"]:
    """Return f at the inputs, in float64, in as many passes as the memory asks for."""
    parameters = parameters_of(module)
    like = next(iter(parameters.values()))
    check_takes(module, inputs[:2].to(like), name="inputs")
    size = max(1, memory // (2 * bytes_a_row(module, inputs[:2].to(like))))
    parts = []
    with torch.no_grad():
        for rows in blocks(len(inputs), size):
            value = outputs_of(module, parameters, inputs[rows].to(like), outputs=outputs)
            parts.append(value.double())
    return torch.cat(parts)


def state_fingerprint(module: nn.Module) -> str:
    """Return a hash of all weights and buffers by name."""
    state = module.state_dict()
    return fingerprint(list(state), *state.values())


def _check_rule(rule: object, tolerance: float | None) -> None:
    if not isinstance(rule, Ridge | GradientDescent):
        raise OptionError(
            "`rule` must be Ridge or GradientDescent, which finite networks can follow; got "
            f"{rule!r}. GradientDescent with a small rate takes the place of a flow."
        )
    if tolerance is not None:
        check_between("tolerance", tolerance, 0, 1)
    elif isinstance(rule, Ridge):
        raise OptionError(
            "`tolerance` must be given under Ridge, which asks for the minimiser; got None. For a "
            "number of steps use GradientDescent."
        )


def _limit(rule: Ridge | GradientDescent, steps: int | None) -> int:
    if steps is None:
        return MANY_STEPS if isinstance(rule, Ridge) else PAPER_STEPS
    check_count("steps", steps)
    return int(steps)


def _copy(module: nn.Module, device: torch.device | str | None) -> nn.Module:
    parameters_of(module)
    found = copy.deepcopy(module)
    return found if device is None else found.to(usable_device(device))


def _start(start: nn.Module, initial: nn.Module) -> nn.Module:
    """Return the network to begin from, once it is one of the same parameters."""
    theirs, ours = parameters_of(start), parameters_of(initial)
    shapes = [{name: tuple(one.shape) for name, one in each.items()} for each in (theirs, ours)]
    if type(start) is not type(initial) or shapes[0] != shapes[1]:
        raise ShapeError(
            "`start` must be the same network as `module` with other weights; got "
            f"{type(start).__name__} with {shapes[0]} against {type(initial).__name__} with "
            f"{shapes[1]}."
        )
    return start


def _check_data(module: nn.Module, train: Examples) -> None:
    """Raise unless the module is a function of such inputs, with as many outputs as targets."""
    parameters = parameters_of(module)
    like = next(iter(parameters.values()))
    few = train.inputs[:3].to(like)
    check_takes(module, few, name="train")
    check_function(module, few)
    with torch.no_grad():
        outputs_of(module, parameters, few, outputs=train.targets.shape[1])


def _objective(
    module: nn.Module,
    train: Examples,
    rule: Ridge | GradientDescent,
    *,
    start: nn.Module | None,
    memory: int,
) -> Objective:
    ridge = rule.shifted(len(train))
    if isinstance(module, TwoLayerNetwork):
        assert start is None or isinstance(start, TwoLayerNetwork)
        return TwoLayerObjective(
            module, train.inputs, train.targets, ridge,
            start=start, rounded=isinstance(rule, Ridge), memory=memory,
        )  # fmt: skip
    return ModuleObjective(module, train.inputs, train.targets, ridge, start=start, memory=memory)


def _rate(
    objective: Objective, rule: Ridge | GradientDescent, limit: int, tolerance: float | None
) -> float:
    """Return the rate as it multiplies the gradient of the sum, once it can lead anywhere.

    Args:
        tolerance: None where nothing can be said beforehand of how many steps it takes.
    """
    if isinstance(rule, Ridge):
        return settling_rate(objective)
    n = len(objective.targets)
    high = objective.largest(rtol=1e-6)
    rule.check_converges(high, n)
    rate = rule.step(n)
    reach = rate * (high + objective.ridge)
    if tolerance is not None and 0 < MARGIN * reach < 1:
        fewest = math.log(tolerance) / math.log1p(-MARGIN * reach)
        if limit < fewest:
            alone = math.ceil(math.log(tolerance) / math.log1p(-reach))
            raise OptionError(
                f"`steps` = {limit} at `rate` = {rule.rate:g} cannot bring the gradient to the "
                f"tolerance {tolerance:g}: the fastest of all modes takes {alone} steps, and slow "
                f"ones many more. Raise the rate (critical: {2 * rule.rate / reach:.3g}) or the "
                "steps, or pass tolerance=None to take the steps and no more."
            )
    return rate


def _goal(
    objective: Objective, rule: Ridge | GradientDescent, limit: int, tolerance: float | None
) -> Goal:
    """Return what is to be reached, in units of what there is at the initial weights."""
    first = objective.look()
    # Where f_0 = y but for rounding there is nothing to learn, and no gradient to compare with.
    known = float(objective.residual.abs().max()) <= objective.rounding
    reference = 0.0 if known else first.gradient_norm
    unit = float(len(objective.targets)) if rule.loss == "mean" else 1.0
    return Goal(limit, tolerance, reference, first.loss, unit)


def _trained(
    descent: Descent,
    initial: nn.Module,
    train: Examples,
    rule: Ridge | GradientDescent,
    memory: int,
) -> Trained:
    look: Look = descent.look
    unit, tolerance = descent.goal.unit, descent.goal.tolerance
    relative = descent.relative_gradient
    return Trained(
        module=descent.objective.trained(),
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
    needed = descent.needed(tolerance)
    if descent.stalled or not math.isfinite(needed):
        return (
            f"{short}; it falls no further, as gates keep switching or rounding is reached: raise "
            "the width or the scale of the initial weights, lower the rate, train in float64, or "
            "accept a larger tolerance."
        )
    return f"{short}; at the observed pace about {needed:.2g} steps are needed."

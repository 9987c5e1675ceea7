"""How are hundreds of small networks trained at once? Stacked, by full-batch descent, each at its own rate.

What is trained is f − f_0, as in the paper, on ½ Σ (f − f_0 − y)²; each network at the inverse of the largest
eigenvalue of its tangent kernel, halved whenever its loss has risen, until its mean squared error is
small. Networks that are there are put aside, so that few hard ones do not hold up the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vjp, vmap

LOOK = 25
"""Steps between looks at who is done."""

POWERS = 12
"""Steps of the power method; a rate twice too high is found out by the loss."""

Weights = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Gained:
    """What trained networks have learned.

    Attributes:
        queries: f − f_0 at the queries.
        train_error: mean squared error on the examples.
        steps: the most that any of them took.
        left: how many are not at the tolerance.
    """

    queries: Float[Tensor, "b m"]
    train_error: Float[Tensor, " b"]
    steps: int
    left: int


def gained(
    networks: Sequence[nn.Module],
    inputs: Float[Tensor, "b n d"],
    targets: Float[Tensor, "b n"],
    queries: Float[Tensor, "m d"],
    *,
    steps: int,
    tolerance: float,
) -> Gained:
    """Return what networks of one shape, each with data of its own, are after training.

    Args:
        steps: the most.
        tolerance: mean squared error at which a network is done.
    """
    template = networks[0]
    stacked, _ = stack_module_state(list(networks))
    weights = {name: value.detach() for name, value in stacked.items()}

    def one(parameters: Weights, rows: Tensor) -> Tensor:
        outputs: Tensor = functional_call(template, parameters, (rows,))
        return outputs

    each = vmap(one)
    shared = vmap(one, in_dims=(0, None))
    with torch.no_grad():
        before, start = shared(weights, queries), each(weights, inputs)
    state = _State(each, weights, inputs, targets + start)
    after, error = torch.zeros_like(before), torch.full((len(networks),), torch.inf)
    alive, taken = torch.arange(len(networks)), 0
    while len(alive) and taken < steps:
        for _ in range(min(LOOK, steps - taken)):
            state.step()
            taken += 1
        mean = state.loss / inputs.shape[1]
        done = mean <= tolerance if taken < steps else torch.ones_like(mean, dtype=torch.bool)
        if bool(done.any()):
            with torch.no_grad():
                final = {name: value[done] for name, value in state.weights.items()}
                after[alive[done]] = shared(final, queries)
            error[alive[done]] = mean[done]
            state.keep(~done)
            alive = alive[~done]
    return Gained(after - before, error, taken, int((error > tolerance).sum()))


class _State:
    """Networks in training."""

    def __init__(
        self,
        each: Callable[[Weights, Tensor], Tensor],
        weights: Weights,
        inputs: Float[Tensor, "b n d"],
        targets: Float[Tensor, "b n"],
    ) -> None:
        self.each, self.weights, self.inputs, self.targets = each, weights, inputs, targets
        self.rate = 1 / self._largest()
        self.loss = torch.full_like(self.rate, torch.inf)  # Σ (f − y)² of each

    def step(self) -> None:
        """Take one step; where the loss has risen, the rate is halved from here on."""
        outputs, pull = _pulled(lambda weights: self.each(weights, self.inputs), self.weights)
        residual = outputs - self.targets
        loss = residual.square().sum(1)
        self.rate = torch.where(loss > self.loss, self.rate / 2, self.rate)
        self.loss = loss
        (gradient,) = pull(residual * self.rate[:, None])
        self.weights = {name: value - gradient[name] for name, value in self.weights.items()}

    def keep(self, some: Tensor) -> None:
        """Put aside all others."""
        self.weights = {name: value[some] for name, value in self.weights.items()}
        self.inputs, self.targets = self.inputs[some], self.targets[some]
        self.rate, self.loss = self.rate[some], self.loss[some]

    def _largest(self) -> Float[Tensor, " b"]:
        """Return the largest eigenvalue of J Jᵀ of each network, by the power method."""

        def outputs(weights: Weights) -> Tensor:
            return self.each(weights, self.inputs)

        _, pull = _pulled(outputs, self.weights)
        # J v is the derivative of Jᵀu in u, on v: forward mode is not needed.
        _, push = _pulled(lambda vector: pull(vector)[0], torch.zeros_like(self.targets))
        vector = torch.ones_like(self.targets)
        for _ in range(POWERS):
            vector = vector / vector.norm(dim=1, keepdim=True)
            (direction,) = pull(vector)
            (vector,) = push(direction)
        found: Tensor = vector.norm(dim=1)
        return found


def _pulled(function: Callable[..., Any], at: Any) -> tuple[Any, Callable[..., Any]]:
    """Return the value of a function, and its product of a vector and the Jacobian."""
    found: Any = vjp(function, at)
    return found[0], found[1]

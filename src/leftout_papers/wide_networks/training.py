"""Training of hundreds of small networks at once: stacked, by full-batch descent, each at its own rate.

What is trained is f − f_0, as in the paper, on ½ Σ (f − f_0 − y)²; each network at the inverse of the largest
eigenvalue of its tangent kernel, halved whenever its loss has risen, until its mean squared error is
small. Networks that have converged are set aside, so that a few slow ones do not hold up the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vjp, vmap

LOOK = 25
"""Steps between checks for networks that have converged."""

POWERS = 12
"""Steps of the power method; a rate twice too high makes the loss rise."""

Weights = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class TrainedStack:
    """Outcome of training networks.

    Attributes:
        queries: f − f_0 at the queries.
        train_error: mean squared error on the examples.
        steps: the largest number that any of them took.
        unfinished: how many are not at the tolerance.
    """

    queries: Float[Tensor, "b m"]
    train_error: Float[Tensor, " b"]
    steps: int
    unfinished: int


def train_stacked(
    networks: Sequence[nn.Module],
    inputs: Float[Tensor, "b n d"],
    targets: Float[Tensor, "b n"],
    queries: Float[Tensor, "m d"],
    *,
    steps: int,
    tolerance: float,
) -> TrainedStack:
    """Return the outcome of training networks of one shape, each on data of its own.

    Args:
        steps: the largest number.
        tolerance: mean squared error at which a network is done.
    """
    template = networks[0]
    stacked, _ = stack_module_state(list(networks))
    weights = {name: weight.detach() for name, weight in stacked.items()}

    def output(parameters: Weights, rows: Tensor) -> Tensor:
        outputs: Tensor = functional_call(template, parameters, (rows,))
        return outputs

    network = vmap(output)
    shared = vmap(output, in_dims=(0, None))
    with torch.no_grad():
        before, start = shared(weights, queries), network(weights, inputs)
    state = _State(network, weights, inputs, targets + start)
    after, error = torch.zeros_like(before), torch.full((len(networks),), torch.inf)
    alive, steps_taken = torch.arange(len(networks)), 0
    while len(alive) and steps_taken < steps:
        for _ in range(min(LOOK, steps - steps_taken)):
            state.step()
            steps_taken += 1
        mean = state.loss / inputs.shape[1]
        done = mean <= tolerance if steps_taken < steps else torch.ones_like(mean, dtype=torch.bool)
        if bool(done.any()):
            with torch.no_grad():
                final = {name: weight[done] for name, weight in state.weights.items()}
                after[alive[done]] = shared(final, queries)
            error[alive[done]] = mean[done]
            state.keep(~done)
            alive = alive[~done]
    return TrainedStack(after - before, error, steps_taken, int((error > tolerance).sum()))


class _State:
    """Networks in training."""

    def __init__(
        self,
        network: Callable[[Weights, Tensor], Tensor],
        weights: Weights,
        inputs: Float[Tensor, "b n d"],
        targets: Float[Tensor, "b n"],
    ) -> None:
        self.network, self.weights, self.inputs, self.targets = network, weights, inputs, targets
        self.rate = 1 / self._largest()
        self.loss = torch.full_like(self.rate, torch.inf)  # Σ (f − y)² of each

    def step(self) -> None:
        """Take one step; where the loss has risen, the rate is halved from here on."""
        outputs, pull = _value_and_pullback(lambda weights: self.network(weights, self.inputs), self.weights)
        residual = outputs - self.targets
        loss = residual.square().sum(1)
        self.rate = torch.where(loss > self.loss, self.rate / 2, self.rate)
        self.loss = loss
        (gradient,) = pull(residual * self.rate[:, None])
        self.weights = {name: weight - gradient[name] for name, weight in self.weights.items()}

    def keep(self, rows: Tensor) -> None:
        """Keep only some of the networks in training."""
        self.weights = {name: weight[rows] for name, weight in self.weights.items()}
        self.inputs, self.targets = self.inputs[rows], self.targets[rows]
        self.rate, self.loss = self.rate[rows], self.loss[rows]

    def _largest(self) -> Float[Tensor, " b"]:
        """Return the largest eigenvalue of J Jᵀ of each network, by the power method."""

        def outputs(weights: Weights) -> Tensor:
            return self.network(weights, self.inputs)

        _, pull = _value_and_pullback(outputs, self.weights)
        # J v is the derivative of Jᵀu in u, on v: forward mode is not needed.
        _, push = _value_and_pullback(lambda vector: pull(vector)[0], torch.zeros_like(self.targets))
        vector = torch.ones_like(self.targets)
        for _ in range(POWERS):
            vector = vector / vector.norm(dim=1, keepdim=True)
            (direction,) = pull(vector)
            (vector,) = push(direction)
        norms: Tensor = vector.norm(dim=1)
        return norms


def _value_and_pullback(function: Callable[..., Any], at: Any) -> tuple[Any, Callable[..., Any]]:
    """Return the value of a function, and its product of a vector and the Jacobian."""
    pulled: Any = vjp(function, at)
    return pulled[0], pulled[1]

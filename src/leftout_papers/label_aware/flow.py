"""Two-layer networks from many random initial weights, trained side by side by gradient flow.

f(x) = m^-1/2 Σ_r a_r σ(w_r·x) − f_0(x), both layers drawn from N(0, 1), follows the gradient flow of
½ Σ (f − y)² by Runge and Kutta's steps of fourth order. Networks come in pairs of opposite readouts, (w, a)
and (w, −a): K₂ and K₄ are even in a and K₃ is odd, so the mean of a pair is free of K₃, which would otherwise
dominate the mean over initial weights.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Generator, Tensor
from torch.func import vjp

Activation = Literal["relu", "tanh", "erf", "gelu"]
ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "erf": torch.erf, "gelu": torch.nn.functional.gelu}

STEP = 0.1
"""Step of time times the largest eigenvalue of any initial kernel: the residual is then right to 1e-6."""


@dataclass(frozen=True, eq=False)
class Networks:
    """Weights of several networks of one architecture."""

    activation: Activation
    weights: Float64[Tensor, "s r d"]
    readout: Float64[Tensor, "s r"]

    @property
    def width(self) -> int:
        """Return m."""
        return self.readout.shape[1]

    def outputs(self, inputs: Float64[Tensor, "n d"]) -> Float64[Tensor, "s n"]:
        """Return Σ a σ / √m."""
        activation = self._hidden_layer(inputs)[0]
        outputs: Tensor = (activation @ self.readout[..., None])[..., 0] / math.sqrt(self.width)
        return outputs

    def slope(self, inputs: Float64[Tensor, "n d"], residual: Float64[Tensor, "s n"]) -> "Networks":
        """Return minus the gradient of ½ Σ residual²."""
        activation, derivative = self._hidden_layer(inputs)
        pull = residual[..., None] / math.sqrt(self.width)  # (s, n, 1)
        weights = (derivative * self.readout[:, None] * pull).mT @ inputs
        return Networks(self.activation, weights, (activation * pull).sum(1))

    def step_along(self, slope: "Networks", time: float) -> "Networks":
        """Return the networks moved along a slope for some time."""
        return Networks(
            self.activation, self.weights + time * slope.weights, self.readout + time * slope.readout
        )

    def kernels(self, inputs: Float64[Tensor, "n d"]) -> Float64[Tensor, "s n n"]:
        """Return the tangent kernel of each network."""
        activation, derivative = self._hidden_layer(inputs)
        derivative = derivative * self.readout[:, None]
        kernels: Tensor = activation @ activation.mT + (inputs @ inputs.T) * (derivative @ derivative.mT)
        return kernels / self.width

    def _hidden_layer(self, inputs: Tensor) -> tuple[Float64[Tensor, "s n r"], Float64[Tensor, "s n r"]]:
        preactivation = inputs @ self.weights.mT  # (s, n, r)
        activation, pull = vjp(ACTIVATIONS[self.activation], preactivation)[:2]
        return activation, pull(torch.ones_like(activation))[0]


def draw_networks(
    activation: Activation, width: int, features: int, *, pairs: int, generator: Generator
) -> Networks:
    """Return random networks in pairs: the second half has the first half's weights and opposite readouts."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weights, readout = normal(pairs, width, features), normal(pairs, width)
    return Networks(activation, torch.cat([weights] * 2), torch.cat([readout, -readout]))


def follow_flow(
    start: Networks, inputs: Float64[Tensor, "n d"], targets: Float64[Tensor, " n"], time: float
) -> Networks:
    """Return networks trained by gradient flow, targets counted from each network's initial outputs."""
    goal = targets + start.outputs(inputs)
    largest = float(torch.linalg.eigvalsh(start.kernels(inputs))[:, -1].max())
    steps = math.ceil(time * largest / STEP)
    step, networks = time / steps, start

    def slope(at: Networks) -> Networks:
        return at.slope(inputs, goal - at.outputs(inputs))

    for _ in range(steps):
        first = slope(networks)
        second = slope(networks.step_along(first, step / 2))
        third = slope(networks.step_along(second, step / 2))
        fourth = slope(networks.step_along(third, step))
        for weight, direction in ((1, first), (2, second), (2, third), (1, fourth)):
            networks = networks.step_along(direction, step * weight / 6)
    return networks

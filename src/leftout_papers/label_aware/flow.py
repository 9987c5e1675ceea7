"""Two-layer networks of every start trained side by side: what have their kernels become?

f(x) = m^-1/2 Σ_r a_r σ(w_r·x) − f_0(x), both layers drawn from N(0, 1), follows the gradient flow of
½ Σ (f − y)² by Runge and Kutta's steps of fourth order. Networks come in pairs of opposite readouts, (w, a)
and (w, −a): K₂ and K₄ are even in a and K₃ is odd, so the mean of a pair is free of K₃, which else would hide
what the mean over starts is.
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
"""Of time, over the largest eigenvalue of any kernel at the start: the residual is then right to 1e-6."""


@dataclass(frozen=True, eq=False)
class Networks:
    """Weights of networks side by side."""

    activation: Activation
    weights: Float64[Tensor, "s r d"]
    readout: Float64[Tensor, "s r"]

    @property
    def width(self) -> int:
        """Return m."""
        return self.readout.shape[1]

    def outputs(self, inputs: Float64[Tensor, "n d"]) -> Float64[Tensor, "s n"]:
        """Return Σ a σ / √m."""
        value = self._seen(inputs)[0]
        found: Tensor = (value @ self.readout[..., None])[..., 0] / math.sqrt(self.width)
        return found

    def slope(self, inputs: Float64[Tensor, "n d"], residual: Float64[Tensor, "s n"]) -> "Networks":
        """Return minus the gradient of ½ Σ residual²."""
        value, steep = self._seen(inputs)
        along = residual[..., None] / math.sqrt(self.width)  # (s, n, 1)
        weights = (steep * self.readout[:, None] * along).mT @ inputs
        return Networks(self.activation, weights, (value * along).sum(1))

    def moved(self, slope: "Networks", time: float) -> "Networks":
        """Return the networks some time along a slope."""
        return Networks(
            self.activation, self.weights + time * slope.weights, self.readout + time * slope.readout
        )

    def kernels(self, inputs: Float64[Tensor, "n d"]) -> Float64[Tensor, "s n n"]:
        """Return the tangent kernel of each."""
        value, steep = self._seen(inputs)
        steep = steep * self.readout[:, None]
        found: Tensor = value @ value.mT + (inputs @ inputs.T) * (steep @ steep.mT)
        return found / self.width

    def _seen(self, inputs: Tensor) -> tuple[Float64[Tensor, "s n r"], Float64[Tensor, "s n r"]]:
        before = inputs @ self.weights.mT  # (s, n, r)
        value, pull = vjp(ACTIVATIONS[self.activation], before)[:2]
        return value, pull(torch.ones_like(value))[0]


def drawn(activation: Activation, width: int, features: int, *, pairs: int, generator: Generator) -> Networks:
    """Return pairs of random networks of opposite readouts: the second half is the first's other."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weights, readout = normal(pairs, width, features), normal(pairs, width)
    return Networks(activation, torch.cat([weights] * 2), torch.cat([readout, -readout]))


def flowed(
    start: Networks, inputs: Float64[Tensor, "n d"], targets: Float64[Tensor, " n"], time: float
) -> Networks:
    """Return networks after the gradient flow, each less its start."""
    wanted = targets + start.outputs(inputs)
    largest = float(torch.linalg.eigvalsh(start.kernels(inputs))[:, -1].max())
    steps = math.ceil(time * largest / STEP)
    step, now = time / steps, start

    def slope(at: Networks) -> Networks:
        return at.slope(inputs, wanted - at.outputs(inputs))

    for _ in range(steps):
        one = slope(now)
        two = slope(now.moved(one, step / 2))
        three = slope(now.moved(two, step / 2))
        four = slope(now.moved(three, step))
        for weight, part in ((1, one), (2, two), (2, three), (1, four)):
            now = now.moved(part, step * weight / 6)
    return now

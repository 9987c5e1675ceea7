"""How is the two-layer network trained at full width, without autograd and any (n, m, d) tensor?

With z_ri = w_r·x_i, error e = f − y and c_ri = (a_r·e_i) / √m, what example i pulls at neuron r is

    P_ri = c_ri 1{z_ri > 0},        ∂L/∂W = P X + λ (W − W_0),        f = relu(Z)ᵀ a / √m.

Neurons meet only in f. Blocks of them therefore take their step one after the other, while they are
in cache: gradient at the old f, move, contribution to the new f. One visit a step.

Kinks. At a minimum many z_ri are zero, held there from both sides (c_ri > 0): the gradient jumps,
and descent chatters at a fixed rate for ever. With `rounded`, the gate opens over 0 < z < c/2:

    P_ri = min(c_ri, 2 z_ri) where z_ri > 0.

Fixed points are then held by gates between 0 and 1, as those of a minimum are, and are reached; they
lie within |c_ri|/2 = O(m^-1/2) of the kink. The added stiffness, 2 ‖G_SS‖ over the kinks S of one
neuron, is of the order of s_max.
"""

import copy
import math
from typing import final

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from leftout.core.blocks import blocks, check_fits
from leftout.dynamics.neuron_spaces import RowSpace, Space, WeightSpace
from leftout.dynamics.objective import Look, Objective, as_targets
from leftout.dynamics.two_layer import TwoLayerNetwork

CACHE = 2**20
"""Bytes of a block's largest tensor on a CPU: the few of a visit stay in the second-level cache."""

LAUNCH = 2**29
"""The same on a GPU, where a few large blocks are fastest."""

STEEPNESS = 2.0
"""How fast a rounded gate opens: independent of rate and width, so minima do not depend on the rate."""


@final
class TwoLayerObjective(Objective):
    """The objective of a two-layer network, in the cheaper of two spaces.

    Args:
        network: as it was given, the centre of the ridge.
        inputs: (n, d…), of any dtype; used in that of the network.
        start: where to begin instead; None for the network itself.
        rounded: open gates over a width instead of at once, to settle at kinks.
        memory: bytes it may take.
    """

    def __init__(
        self,
        network: TwoLayerNetwork,
        inputs: Tensor,
        targets: Float[Tensor, "n k"],
        ridge: float,
        *,
        start: TwoLayerNetwork | None,
        rounded: bool,
        memory: int,
    ) -> None:
        weights = network.weights.detach()
        super().__init__(as_targets(targets, weights.device), ridge)
        self.network = network
        self.rounded = rounded
        self.signs = network.signs.to(weights) / math.sqrt(network.width)  # (m, k)
        rows = inputs.flatten(1).to(weights)
        begin = None if start is None else start.weights.detach().to(weights)
        self.space = _space(rows, weights, begin, memory)
        self.previous: Tensor | None = None
        self.marked: Tensor | None = None
        self.values = torch.empty(network.width, len(rows), dtype=rows.dtype, device=rows.device)
        self.size = _block_size(self.space, self.values)
        self._refresh()

    def advance(self, rate: float, momentum: float = 0.0) -> None:
        if momentum and self.previous is None:
            self.previous = self.space.point.clone()
        error = self.residual.T.to(self.values)  # (k, n)
        total = torch.zeros_like(self.residual)
        for rows in blocks(len(self.values), self.size):
            change = self._gradient(rows, error)
            self._move(rows, change, rate, momentum)
            total += self._contribution(rows)
        if not momentum:
            self.previous = None
        self.residual = total - self.targets

    def look(self) -> Look:
        error = self.residual.T.to(self.values)
        steep = far = 0.0
        for rows in blocks(len(self.values), self.size):
            steep += self.space.squared_norm(self._gradient(rows, error))
            far += self.space.squared_norm(self.space.point[rows])
        return Look(self.data_loss + self.ridge * far / 2, math.sqrt(steep))

    @property
    def rounding_error(self) -> float:
        # Of a sum of m terms that may cancel, as those of antisymmetric pairs do.
        terms = self.values.clamp_min(0).sum(0, dtype=torch.float64)  # (n,)
        size = float(terms.max()) / math.sqrt(self.network.width)
        return torch.finfo(self.values.dtype).eps * size

    def mark(self) -> None:
        self.marked = self.space.point.clone()

    def mean_gradient(self, rate: float, steps: int) -> float:
        assert self.marked is not None, "nothing was marked"
        total = sum(
            self.space.squared_norm(self.marked[rows] - self.space.point[rows])
            for rows in blocks(len(self.values), self.size)
        )
        return math.sqrt(total) / (rate * steps)

    def tangent(self, vector: Float64[Tensor, "n k"]) -> Float64[Tensor, "n k"]:
        across = vector.T.to(self.values)
        total = torch.zeros_like(vector)
        for rows in blocks(len(self.values), self.size):
            pull = (self.signs[rows] @ across).mul_(self.values[rows] > 0)
            moved = self.space.times_gram(pull).mul_(self.values[rows] > 0)
            total += moved.T @ self.signs[rows]
        return total

    def rewind(self) -> None:
        self.previous = None
        self.space.rewind()
        self._refresh()

    def trained_module(self) -> nn.Module:
        network = copy.deepcopy(self.network)
        network.weights.data.copy_(self.space.weights())
        return network

    def _gradient(self, rows: slice, error: Float[Tensor, "k n"]) -> Float[Tensor, "b e"]:
        values = self.values[rows]
        pull = self.signs[rows] @ error  # c, (b, n)
        if self.rounded:
            torch.minimum(pull, values * STEEPNESS, out=pull)
        # One vectorised pass: the pull where z > 0, else 0; at z = 0 the derivative is 0, as torch's.
        pull = torch.ops.aten.threshold_backward(pull, values, 0)
        slope = self.space.slope(pull)
        return slope.add_(self.space.point[rows], alpha=self.ridge) if self.ridge else slope

    def _move(self, rows: slice, change: Float[Tensor, "b e"], rate: float, momentum: float) -> None:
        point = self.space.point[rows]
        point.add_(change, alpha=-rate)
        if momentum:
            assert self.previous is not None
            last = self.previous[rows]
            ahead = torch.lerp(last, point, 1 + momentum)
            last.copy_(point)
            point.copy_(ahead)

    def _contribution(self, rows: slice) -> Float64[Tensor, "n k"]:
        """Return what some neurons add to f, and keep their pre-activations."""
        values = self.space.preactivations(rows)
        self.values[rows] = values
        return (values.clamp_min_(0).T @ self.signs[rows]).double()

    def _refresh(self) -> None:
        """Compute pre-activations and residual at the point."""
        total = torch.zeros_like(self.targets)
        for rows in blocks(len(self.values), self.size):
            total += self._contribution(rows)
        self.residual = total - self.targets


def _space(
    inputs: Float[Tensor, "n d"],
    weights: Float[Tensor, "m d"],
    start: Float[Tensor, "m d"] | None,
    memory: int,
) -> Space:
    """Return the space in which a step is cheapest, of those that fit.

    A start elsewhere need not lie in the span of the examples, so it is taken in the weights.
    """
    n, d = inputs.shape
    m = len(weights)
    each = weights.itemsize * m
    # Copies of the point (itself, one before it, one marked), Z, Z_0, and the weights to return.
    needs = {"rows": each * (5 * n + d), "weights": each * (2 * n + 4 * d)}
    if start is None and n < 2 * d and needs["rows"] <= memory:
        return RowSpace(inputs, weights)
    check_fits(
        f"Training {m} neurons on {n} examples",
        needs["weights"],
        memory,
        advice="Take a smaller width or fewer examples, float32 weights, or raise `memory`.",
    )
    return WeightSpace(inputs, weights, start)


def _block_size(space: Space, values: Float[Tensor, "m n"]) -> int:
    """Return how many neurons take their step at a time."""
    room = CACHE if values.device.type == "cpu" else LAUNCH
    longest = max(values.shape[1], space.point.shape[1])
    return max(64, room // (values.itemsize * longest))

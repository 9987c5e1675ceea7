"""What is the expected pull of K₄ over networks? A mean over drawn neurons, with its standard error.

K₄'s expectation is m^-1 times that of one neuron: E over a is exact (a² and a⁴ have means 1 and 3), E over
w ~ N(0, I) is a mean over drawn w. They come from a seed in groups, and in pieces of a fixed number: whatever
pairs are asked for, in whatever order, the same neurons answer, so values of one kernel fit together. How far
the groups differ says how well the mean is known.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.progress import with_progress
from leftout.kernels.hierarchy.fourth_order import Factors, Pullers, along, between, itself, second_factors
from leftout.kernels.wide.activations import Activation, response

GROUPS = 16
"""Independent parts of the neurons; what they differ by is known to 1/√30, 18 %."""

PIECE = 1024
"""Neurons at a time: of 200 inputs, responses and factors take 1.6 MB each."""

HELD = 24
"""Numbers for each neuron at hand and point, at the most: responses, factors and what they are made of."""

SECOND, FOURTH = 1.0, 3.0
"""E a² and E a⁴ of a ~ N(0, 1)."""


@dataclass(frozen=True, eq=False)
class SampledMean:
    """A mean, and its standard error entry by entry (0 where nothing was drawn)."""

    value: Tensor
    standard_error: Tensor


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Which neurons the expectation is over.

    Attributes:
        neurons: how many, to the next multiple of `GROUPS`.
        seed: of their weights.
    """

    activation: Activation
    neurons: int
    seed: int

    def weights(self, group: int, features: int) -> Iterator[Float64[Tensor, "r d"]]:
        """Yield the weights of one group, in pieces."""
        # Inputs that somebody drew with the seed 3 must not be the weights of group 3.
        digest = hashlib.sha256(f"neurons {self.seed} {group}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        left = math.ceil(self.neurons / GROUPS)
        while left > 0:
            count = min(PIECE, left)
            yield torch.randn(count, features, generator=generator, dtype=torch.float64)
            left -= count


def expected_change(
    draw: Draw, examples: Pullers, queries: Float64[Tensor, "m d"], inputs: Float64[Tensor, "n d"]
) -> SampledMean:
    """Return m E Σ_ij C_ij K₄(x, z, x_i, x_j) for all pairs of queries and inputs.

    Args:
        inputs: the very tensor of the queries where all their pairs are asked for: half the work.

    Cost:
        As the floor of `fourth_order`, for each neuron.

    Accuracy:
        The standard error falls like 1 / √neurons; those of two entries are not independent.
    """
    dots = queries @ inputs.T

    def whole(factors: Callable[[Tensor], Factors]) -> Tensor:
        left = factors(queries)
        return between(left, left if inputs is queries else factors(inputs), dots)

    return _mean(draw, examples, whole)


def expected_own_change(draw: Draw, examples: Pullers, inputs: Float64[Tensor, "n d"]) -> SampledMean:
    """Return the same for every input with itself: the diagonal, without the pairs."""
    squares = inputs.square().sum(1)
    return _mean(draw, examples, lambda factors: itself(factors(inputs), squares))


def _mean(
    draw: Draw, examples: Pullers, sum_of: Callable[[Callable[[Tensor], Factors]], Tensor]
) -> SampledMean:
    """Return the mean over neurons of a sum over neurons, and its standard error over groups."""
    features, device = examples.inputs.shape[1], examples.inputs.device
    count = math.ceil(draw.neurons / GROUPS)
    mean: Tensor | None = None
    squares: Tensor | None = None
    for group in with_progress(range(GROUPS), what="neurons"):
        total: Tensor | None = None
        for drawn in draw.weights(group, features):
            found = sum_of(_factors_by(draw.activation, examples, drawn.to(device)))
            total = found if total is None else total.add_(found)
        assert total is not None
        total.div_(count)
        if mean is None or squares is None:
            mean, squares = torch.zeros_like(total), torch.zeros_like(total)
        # Welford: the sum of squared differences from the mean, without a difference of large sums.
        off = total - mean
        mean += off / (group + 1)
        squares += off * (total - mean)
    assert mean is not None
    assert squares is not None
    return SampledMean(mean, (squares / (GROUPS * (GROUPS - 1))).sqrt())


def _factors_by(
    activation: Activation, examples: Pullers, weights: Float64[Tensor, "r d"]
) -> Callable[[Tensor], Factors]:
    """Return what gives the factors of these neurons at points."""
    of, seen = along(examples, activation, weights)

    def factors(points: Float64[Tensor, "n d"]) -> Factors:
        at_examples = points is examples.inputs
        there = seen if at_examples else response(activation, points @ weights.T)
        links = examples.gram if at_examples else points @ examples.inputs.T
        return second_factors(there, links, of, SECOND, FOURTH)

    return factors

"""The expected sum over K₄ of networks: a mean over drawn neurons, with its standard error.

K₄'s expectation is m^-1 times that of one neuron: E over a is exact (a² and a⁴ have means 1 and 3), E over
w ~ N(0, I) is a mean over drawn w. They are drawn from a seed in groups, and in pieces of a fixed number: the
same neurons serve all pairs in every order, so values of one kernel are consistent. The standard error comes
from the differences between the groups.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.progress import with_progress
from leftout.kernels.hierarchy.fourth_order import Factors, WeightedExamples, between, itself, second_factors
from leftout.kernels.wide.activations import response
from leftout.kernels.wide.options import Activation

GROUPS = 16
"""Independent groups of neurons; their standard deviation is known to 1/√30, 18 %."""

PIECE = 1024
"""Neurons at a time: of 200 inputs, responses and factors take 1.6 MB each."""

HELD = 24
"""Numbers held for each neuron and point, at the most: responses, factors and intermediates."""

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
        # Inputs drawn with torch seed 3 must not equal the weights of group 3.
        digest = hashlib.sha256(f"neurons {self.seed} {group}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        remaining = math.ceil(self.neurons / GROUPS)
        while remaining > 0:
            count = min(PIECE, remaining)
            yield torch.randn(count, features, generator=generator, dtype=torch.float64, device="cpu")
            remaining -= count


def expected_change(
    draw: Draw, examples: WeightedExamples, queries: Float64[Tensor, "m d"], inputs: Float64[Tensor, "n d"]
) -> SampledMean:
    """Return m E Σ_ij C_ij K₄(x, z, x_i, x_j) for all pairs of queries and inputs.

    Args:
        inputs: the same tensor object as the queries for all pairs of them: half the work.

    Cost:
        As the floor of `fourth_order`, for each neuron.

    Accuracy:
        The standard error falls like 1 / √neurons; those of two entries are not independent.
    """
    dots = queries @ inputs.T

    def all_pairs(factors: Callable[[Tensor], Factors]) -> Tensor:
        query_factors = factors(queries)
        return between(query_factors, query_factors if inputs is queries else factors(inputs), dots)

    return _mean(draw, examples, all_pairs)


def expected_own_change(
    draw: Draw, examples: WeightedExamples, inputs: Float64[Tensor, "n d"]
) -> SampledMean:
    """Return the same for every input with itself: the diagonal, without the pairs."""
    squares = inputs.square().sum(1)
    return _mean(draw, examples, lambda factors: itself(factors(inputs), squares))


def _mean(
    draw: Draw, examples: WeightedExamples, sum_of: Callable[[Callable[[Tensor], Factors]], Tensor]
) -> SampledMean:
    """Return the mean over neurons of a sum over neurons, and its standard error over groups."""
    features, device = examples.inputs.shape[1], examples.inputs.device
    count = math.ceil(draw.neurons / GROUPS)
    mean: Tensor | None = None
    squares: Tensor | None = None
    for group in with_progress(range(GROUPS), what="neurons"):
        total: Tensor | None = None
        for weights in draw.weights(group, features):
            sums = sum_of(_factors_by(draw.activation, examples, weights.to(device)))
            total = sums if total is None else total.add_(sums)
        assert total is not None
        total.div_(count)
        if mean is None or squares is None:
            mean, squares = torch.zeros_like(total), torch.zeros_like(total)
        # Welford: the sum of squared differences from the mean, without a difference of large sums.
        difference = total - mean
        mean += difference / (group + 1)
        squares += difference * (total - mean)
    assert mean is not None
    assert squares is not None
    return SampledMean(mean, (squares / (GROUPS * (GROUPS - 1))).sqrt())


def _factors_by(
    activation: Activation, examples: WeightedExamples, weights: Float64[Tensor, "r d"]
) -> Callable[[Tensor], Factors]:
    """Return a function of points: the factors of these neurons there."""
    sums, responses = examples.sums(activation, weights)

    def factors(points: Float64[Tensor, "n d"]) -> Factors:
        at_examples = points is examples.inputs
        there = responses if at_examples else response(activation, points @ weights.T)
        links = examples.gram if at_examples else points @ examples.inputs.T
        return second_factors(there, links, sums, SECOND, FOURTH)

    return factors

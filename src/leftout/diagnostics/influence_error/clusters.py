"""When do clusters of inputs bound the leverage? Definition 1 and the condition of theorem 4.

Inputs within r of the mean of their cluster have kernel features within ε of the mean of theirs,

    ε² = 2r² + arccos(1 − 2r²),

so the features of one of n_k of them are nearly the mean of all n_k, with weights 1/n_k. With
λ > s_max √2 ε / (1 − √2 ε) ridge regression, which minimises the weights α(x_i), has no larger ones, and the
leverage, which is one of them, is at most √(γ/n) times 1/√n_k. This is the geometry of TwoLayerReLU on unit
inputs.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.checks import check_at_least
from leftout.core.errors import OptionError, ShapeError
from leftout.data.conversion import as_array
from leftout.diagnostics.influence_error.decomposition import InfluenceDecomposition
from leftout.dynamics.fitted import Fitted

ROWS = 512


def cluster_numbers(clusters: Sequence[int] | np.ndarray | Tensor, n: int) -> Int64[Tensor, " n"]:
    """Return cluster numbers from 0 on without gaps."""
    values = as_array("clusters", clusters)
    if values.dtype.kind not in "iu":
        raise OptionError(f"`clusters` must be whole numbers; got {values.dtype}.")
    if values.shape != (n,):
        raise ShapeError(
            f"`clusters` must hold one number for each of the {n} training examples; got {values.shape}."
        )
    return torch.from_numpy(np.unique(values, return_inverse=True)[1])


def condition(
    fitted: Fitted, decomposition: InfluenceDecomposition, number: Int64[Tensor, " n"], radius: float | None
) -> dict[str, Any]:
    """Return whether theorem 4 applies, and the numbers that decide it."""
    measured = _largest_distance(fitted, number)
    if radius is None:
        r = _radius(fitted.train.inputs.flatten(1), number)
    else:
        check_at_least("radius", radius, 0)
        r = float(radius)
    # arccos(1 − 2r²) = 2 arcsin r, without the difference; two unit vectors are never further apart.
    epsilon = math.sqrt(2 * r * r + 2 * math.asin(min(r, 1.0)))
    if measured**2 > epsilon**2 + 16 * torch.finfo(fitted.kernel_dtype).eps:
        raise OptionError(
            f"`radius` must be that of every cluster; with {r:g} the features of a cluster lie within "
            f"{epsilon:.3g} of their mean, and one is at {measured:.3g}. Pass a larger one, or None "
            "to measure it."
        )
    largest, root = fitted.largest, math.sqrt(2) * epsilon
    threshold = largest * root / (1 - root) if root < 1 else math.inf
    applies = decomposition.ridge > threshold
    return {
        "applies": int(applies),
        "why": f"ridge {decomposition.ridge:.4g} is {'' if applies else 'not '}above "
        f"s_max √2 ε / (1 − √2 ε) = {threshold:.4g}",
        "radius": r,
        "epsilon": epsilon,
        "epsilon_measured": measured,
        "s_max": largest,
        "ridge": decomposition.ridge,
        "threshold": threshold,
    }


def _radius(inputs: Float64[Tensor, "n d"], number: Int64[Tensor, " n"]) -> float:
    """Return the largest distance of an input from the mean of its cluster."""
    sums = inputs.new_zeros(int(number.max()) + 1, inputs.shape[1]).index_add_(0, number, inputs)
    centres = sums / torch.bincount(number)[:, None]
    return float((inputs - centres[number]).norm(dim=1).max())


def _largest_distance(fitted: Fitted, number: Int64[Tensor, " n"]) -> float:
    """Return the largest distance of an example's kernel features from the mean of its cluster's."""
    largest = 0.0
    for cluster in range(int(number.max()) + 1):
        rows = (number == cluster).nonzero().flatten().to(fitted.device)
        within = fitted.gram[rows][:, rows]
        mean = within.mean(1)
        squared = within.diagonal() - 2 * mean + mean.mean()
        largest = max(largest, float(squared.max()))
    return math.sqrt(largest)


def unevenness(fitted: Fitted, decomposition: InfluenceDecomposition) -> float:
    """Return n max A_i² / |α(x_i)|², where α(x_i) is row i of I − λ(K + λI)⁻¹."""
    inverse, n = fitted.inverse(decomposition.ridge), len(fitted)
    largest = 0.0
    for rows in blocks(n, ROWS):
        leverage = decomposition.leverage[rows]
        alpha = inverse[rows] * -decomposition.ridge  # (b, n)
        alpha[:, rows].diagonal().copy_(leverage)
        largest = max(largest, float((leverage.square() / alpha.square().sum(1)).max()))
    return n * largest

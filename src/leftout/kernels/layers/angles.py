"""Angles between inputs, accurate to the last digit also where they are almost 0 or almost π.

One matrix product gives every cosine u, but θ = arccos u turns a rounding δ of u into δ / sin θ: at
u = 1 half of the digits are gone, and equal rows come out 1e-8 apart instead of 0. So pairs with

    1 − |u| < 2^-10        (θ < 0.0442, or as close to π)

are computed again from the rows themselves: with unit rows a and b, and s the sign of u, the *gap*
1 − s u = |a − s b|² / 2 has no cancellation beyond that of the data, and

    θ = 2 atan2(√(1 − u), √(1 + u))

is as good as they are. Equal rows give a gap of exactly 0 and an angle of exactly 0.

Accuracy: let δ be the error of a cosine (for d features at most d roundings, typically √d). Pairs
that keep their arccos have sin θ > 0.0441, so θ / π is off by at most δ / (0.0441 π) = 7.3 δ: fewer
than three bits beyond what the product has lost. Near pairs have unit rows right to a rounding or
two, so |a − b|, hence θ, is off by at most about 4 roundings, *absolutely*, however small it is.

Cost: the product, one arccos, and 2d flops for a near pair. Where nearly all rows are collinear (an
uncentred table, say) that is a second product, at a tenth of the speed of the first.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.kernels.rows import lengths

NEAR = 2.0**-10
"""1 − |cosine| below which a pair is computed from differences: see the derivation above."""

CROWDED = 0.25
"""Share of near pairs in a block beyond which all differences cost less than picking the near ones.

Measured: a picked pair takes 3.3 times as long as one in a whole block.
"""

CHUNK = 2**18
"""Numbers gathered at once for picked pairs: 2 MB, what a core keeps in its cache."""


def unit_rows(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Return each row over its norm; a zero row stays zero: every use multiplies by its norm."""
    norms = lengths(rows)
    return rows / torch.where(norms == 0, 1.0, norms)[:, None]


def near_pairs(
    cosine: Float[Tensor, "m n"],
) -> tuple[Int64[Tensor, " p"], Int64[Tensor, " p"], Float[Tensor, " p"]]:
    """Return rows, columns and signs of the pairs that are nearly collinear."""
    # A look at the two extremes takes a tenth of the search, and most blocks end here.
    if cosine.numel() == 0 or max(map(abs, torch.stack(cosine.aminmax()).tolist())) <= 1 - NEAR:
        none = torch.zeros(0, dtype=torch.int64, device=cosine.device)
        return none, none, cosine.new_zeros(0)
    i, j = (cosine.abs() > 1 - NEAR).nonzero(as_tuple=True)
    return i, j, cosine[i, j].sign()


def near_gaps(
    a: Float[Tensor, "m d"],
    b: Float[Tensor, "n d"],
    i: Int64[Tensor, " p"],
    j: Int64[Tensor, " p"],
    sign: Float[Tensor, " p"],
) -> Float[Tensor, " p"]:
    """Return |a_i − s b_j|² / 2 = 1 − s cos θ for pairs (i, j) of unit rows and their signs s."""
    if len(i) > CROWDED * len(a) * len(b):
        chord = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")[i, j]
        if bool((sign < 0).any()):
            opposite = torch.cdist(a, -b, compute_mode="donot_use_mm_for_euclid_dist")[i, j]
            chord = torch.where(sign < 0, opposite, chord)
        return chord.square().div_(2)
    gap = torch.empty_like(sign)
    size = max(1, CHUNK // a.shape[1])
    for chunk in blocks(len(i), size):
        difference = a[i[chunk]].sub_(b[j[chunk]] * sign[chunk, None])  # (size, d)
        gap[chunk] = torch.linalg.vecdot(difference, difference).div_(2)
    return gap


def angle(gap: Float[Tensor, "..."], total: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return θ from c (1 − cos θ) and c (1 + cos θ), whatever c > 0; both 0 gives 0."""
    return torch.atan2(gap.sqrt(), total.sqrt()).mul_(2)


def gap_and_total(
    queries: Float[Tensor, "m d"], inputs: Float[Tensor, "n d"]
) -> tuple[Float[Tensor, "m n"], Float[Tensor, "m n"]]:
    """Return 1 − cos θ and 1 + cos θ, neither with cancellation where it is small.

    Accuracy:
        Near pairs: relative, as good as the rows. Others: the error of the product, so at most
        2^10 times that relative to the value.
    """
    a, b = unit_rows(queries), unit_rows(inputs)
    cosine = a @ b.T
    i, j, sign = near_pairs(cosine)
    gap, total = 1 - cosine, 1 + cosine
    if len(i):
        small = near_gaps(a, b, i, j, sign)
        gap[i, j] = torch.where(sign > 0, small, 2 - small)
        total[i, j] = torch.where(sign > 0, 2 - small, small)
    return gap, total

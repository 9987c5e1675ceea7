"""The expected K₄ of a two-layer ReLU network, exactly, by orthants of four inputs.

With σ'' = 0, R the cosines of x_1 … x_4, P = Pr(all w·x > 0) and M_ij = E[(w·x_i)(w·x_j) 1{all > 0}],

    m E K₄(1, 2, 3, 4) = 2 x_12 M_34 + x_13 M_24 + x_23 M_14 + (2 x_12 x_34 + x_13 x_24 + x_23 x_14) P.

P and M do not depend on the order of the four: of N inputs there are N (N + 1)(N + 2)(N + 3) / 24 of them,
each computed once and kept in a table at its place among sorted quadruples,
a ≤ b ≤ c ≤ d ↦ a + (b + 1 over 2) + (c + 2 over 3) + (d + 3 over 4).

Floor: that table, 17 numbers and 6 · 64 arcsines for each four: 0.15 s of 20 inputs, 10 s of 60, 20 minutes
and 9 GB of 200, on one core. `sampled` has the same sum over pairs in seconds, with a standard error.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.core.blocks import blocks, check_fits, memory_budget
from leftout.core.progress import with_progress
from leftout.kernels.hierarchy.orthants import CHUNK, orthants

GATHERED = 2**18
"""Quadruples looked up at a time."""


@final
@dataclass(frozen=True, eq=False)
class FourthOrder:
    """m E K₄ between any four of some inputs.

    Attributes:
        dots: products of the inputs.
        chance, moment: P and M of every sorted quadruple.
    """

    dots: Float64[Tensor, "n n"]
    chance: Float64[Tensor, " t"]
    moment: Float64[Tensor, "t 4 4"]

    def at(self, rows: Int64[Tensor, "b 4"]) -> Float64[Tensor, " b"]:
        """Return its values; the third and fourth of the four cannot be exchanged."""
        ordered, order = rows.sort(dim=1)
        place, rank = order.argsort(dim=1), _rank(ordered)

        def dot(i: int, j: int) -> Tensor:
            return self.dots[rows[:, i], rows[:, j]]

        def moment(i: int, j: int) -> Tensor:
            return self.moment[rank, place[:, i], place[:, j]]

        both = 2 * dot(0, 1) * dot(2, 3) + dot(0, 2) * dot(1, 3) + dot(1, 2) * dot(0, 3)
        fourth: Tensor = (
            2 * dot(0, 1) * moment(2, 3)
            + dot(0, 2) * moment(1, 3)
            + dot(1, 2) * moment(0, 3)
            + both * self.chance[rank]
        )
        return fourth


def fourth_order(inputs: Float64[Tensor, "n d"], *, memory: int | float | str | None = None) -> FourthOrder:
    """Return m E K₄ between any four of the inputs.

    Raises:
        MemoryBudgetError: the table does not fit; nothing was allocated.
    """
    count = math.comb(len(inputs) + 3, 4)
    check_fits(
        f"The fourth-order kernel of all fours of {len(inputs)} inputs",
        17 * 8 * count,
        memory_budget(memory, device=inputs.device),
        advice='Take fewer examples, or expectation="neurons", which forms none of it.',
    )
    norms = torch.linalg.vector_norm(inputs, dim=1)
    dots = inputs @ inputs.T
    cosines = (dots / norms[:, None] / norms).clamp_(-1, 1)
    chance = inputs.new_empty(count)
    moment = inputs.new_empty(count, 4, 4)
    for chunk in with_progress(list(blocks(count, CHUNK)), what="orthants"):
        fours = _quadruples_at(torch.arange(chunk.start, chunk.stop, device=inputs.device), len(inputs))
        chance[chunk], moments = orthants(cosines[fours[:, :, None], fours[:, None]])
        moment[chunk] = moments * norms[fours][:, :, None] * norms[fours][:, None]
    return FourthOrder(dots, chance, moment)


def exact_change(
    table: FourthOrder,
    pairs: Float64[Tensor, "n n"],
    queries: Int64[Tensor, " a"],
    inputs: Int64[Tensor, " b"],
    examples: Int64[Tensor, " n"],
) -> Float64[Tensor, "a b"]:
    """Return Σ_ij C_ij m E K₄(x, z, x_i, x_j) for all x of `queries` and z of `inputs`.

    Args:
        pairs: C.
        queries, inputs, examples: row numbers among the inputs of the table; `examples` are those of C.
    """
    n = len(examples)
    grid = torch.cartesian_prod(examples, examples)  # (n², 2), as C row by row
    weights = pairs.flatten()
    change = pairs.new_empty(len(queries) * len(inputs))
    points = torch.cartesian_prod(queries, inputs)
    for chunk in blocks(len(points), max(1, GATHERED // n**2)):
        x_and_z = points[chunk]
        rows = torch.cat([x_and_z.repeat_interleave(n**2, 0), grid.repeat(len(x_and_z), 1)], dim=1)
        change[chunk] = table.at(rows).view(len(x_and_z), n**2) @ weights
    return change.view(len(queries), len(inputs))


def _rank(ordered: Int64[Tensor, "b 4"]) -> Int64[Tensor, " b"]:
    """Return the place of sorted quadruples."""
    a, b, c, d = ordered.unbind(1)
    triangle, tetrahedron = b * (b + 1) // 2, c * (c + 1) * (c + 2) // 6
    return a + triangle + tetrahedron + d * (d + 1) * (d + 2) * (d + 3) // 24


def _quadruples_at(ranks: Int64[Tensor, " b"], count: int) -> Int64[Tensor, "b 4"]:
    """Return the sorted quadruples at these places, the largest member first found."""
    numbers = torch.arange(count + 1, device=ranks.device)
    members = []
    for order in (4, 3, 2, 1):
        below = numbers.clone()  # (number + order − 1 over order)
        for more in range(1, order):
            below = below * (numbers + more)
        below = below // math.factorial(order)
        member = torch.searchsorted(below, ranks, right=True) - 1
        ranks = ranks - below[member]
        members.append(member)
    return torch.stack(members[::-1], dim=1)

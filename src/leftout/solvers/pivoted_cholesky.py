"""A few columns of K that stand for all: K ≈ F Fᵀ, by randomly pivoted Cholesky with rejection.

Columns are drawn with probability proportional to the diagonal of what is left, K − F Fᵀ. Drawn one by one
that is slow; so a block is proposed from the present diagonal, and each proposal is kept with the probability
by which its diagonal has fallen since: the pivots are distributed as if they had been drawn one by one.

With pivots S, F Fᵀ = K(·, S) K(S, S)⁻¹ K(S, ·), the Nyström approximation: it never exceeds K, and is exact
on S.

Source: Chen, Epperly, Tropp & Webber 2022, "Randomly pivoted Cholesky"; Epperly, Tropp & Webber 2024,
"Embrace
rejection: kernel matrix approximation by accelerated randomly pivoted Cholesky".
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.core.checks import check_count

EPS = torch.finfo(torch.float64).eps

PROPOSED = 128
"""Columns proposed together at most."""


@dataclass(frozen=True, eq=False)
class PivotedCholesky:
    """K ≈ F Fᵀ.

    Attributes:
        factor: F, (n, r).
        pivots: S, in the order in which they were taken: F of them is lower triangular.
        missed: tr(K − F Fᵀ) / tr K.
    """

    factor: Float64[Tensor, "n r"]
    pivots: Int64[Tensor, " r"]
    missed: float

    @property
    def lower(self) -> Float64[Tensor, "r r"]:
        """Return L of K(S, S) = L Lᵀ."""
        return self.factor[self.pivots].tril()


def pivoted_cholesky(
    diagonal: Float64[Tensor, " n"],
    columns: Callable[[Int64[Tensor, " c"]], Float64[Tensor, "n c"]],
    *,
    rank: int,
    generator: torch.Generator,
) -> PivotedCholesky:
    """Return the approximation of a positive semi-definite matrix from `rank` of its columns.

    Fewer are taken where nothing but rounding is left, n·eps of the trace.

    Args:
        diagonal: of K.
        columns: the columns of K of these numbers.
        generator: from which pivots are drawn, on the CPU.

    Cost:
        nr² flops, and r columns and a few rejected rows of K; n·r numbers.

    Accuracy:
        on average over draws, tr(K − F Fᵀ) is at most 1 + ε times what the best approximation of rank q
        misses, for r of about q/ε + q log(1/(ε·missed)).

    Example:
        >>> import torch
        >>> matrix = torch.tensor([[2.0, 2.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
        >>> drawn = pivoted_cholesky(
        ...     matrix.diagonal(), lambda c: matrix[:, c], rank=3, generator=torch.Generator().manual_seed(0)
        ... )
        >>> drawn.factor.shape, drawn.missed < 1e-15
        (torch.Size([3, 2]), True)
    """
    check_count("rank", rank)
    n, trace = len(diagonal), float(diagonal.sum())
    rank = min(rank, n)
    factor = diagonal.new_zeros(n, rank)
    rest = diagonal.clone().clamp_min_(0)
    pivots: list[Tensor] = []
    taken = 0
    while taken < rank and float(rest.sum()) > n * EPS * trace:
        count = min(PROPOSED, rank - taken)
        draws = torch.multinomial(rest.cpu(), count, replacement=True, generator=generator)
        # Nothing is left of a column that is drawn a second time: it would be rejected.
        proposed = torch.tensor(list(dict.fromkeys(draws.tolist())), device=rest.device)
        images = columns(proposed)  # (n, c)
        within = images[proposed] - factor[proposed, :taken] @ factor[proposed, :taken].T
        kept, lower = _without_rejected(within, generator)
        chosen = proposed[kept]
        more = images[:, kept] - factor[:, :taken] @ factor[chosen, :taken].T
        more = torch.linalg.solve_triangular(lower, more.T, upper=False).T
        after = taken + len(kept)
        factor[:, taken:after] = more
        rest.sub_(more.square().sum(1)).clamp_min_(0)
        rest[chosen] = 0
        pivots.append(chosen)
        taken = after
    drawn = torch.cat(pivots) if pivots else torch.zeros(0, dtype=torch.int64, device=rest.device)
    missed = float(rest.sum()) / trace if trace > 0 else 0.0
    return PivotedCholesky(factor[:, :taken], drawn, missed)


def _without_rejected(
    within: Float64[Tensor, "c c"], generator: torch.Generator
) -> tuple[Int64[Tensor, " a"], Float64[Tensor, "a a"]]:
    """Return which proposals are kept, and the Cholesky factor of what is left of K between them.

    The first always is; each other one with the probability by which those kept before have left its
    diagonal.
    """
    rest, start = within.clone().cpu(), within.diagonal().clone().cpu()
    chances = torch.rand(len(rest), generator=generator, dtype=torch.float64, device="cpu")
    kept: list[int] = []
    for j in range(len(rest)):
        if rest[j, j] > max(float(chances[j]) * float(start[j]), len(rest) * EPS * float(start[j])):
            kept.append(j)
            column = rest[:, j] / rest[j, j].sqrt()
            rest -= column[:, None] * column
    places = torch.tensor(kept, dtype=torch.int64, device=within.device)
    return places, torch.linalg.cholesky(within[places[:, None], places])

"""The diagonal of (K + λI)⁻¹ where K ≈ F Fᵀ, corrected within blocks of examples that are alike.

    K̃ = F Fᵀ + blockdiag(K − F Fᵀ)

agrees with K within every block, so that an example is seen with its neighbours as K has them (the partially
independent training conditional of Gaussian processes). With B = blockdiag(K − F Fᵀ) + λI,

    (K̃ + λI)⁻¹ = B⁻¹ − B⁻¹ F (I + Fᵀ B⁻¹ F)⁻¹ Fᵀ B⁻¹ .

Source: Quiñonero-Candela & Rasmussen 2005, "A unifying view of sparse approximate Gaussian process
regression".
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.core.checks import check_positive
from leftout.core.errors import NotPositiveError

TURNS = 8
"""Powers that find the direction in which a block is widest: it need not be exact."""


def alike_blocks(factor: Float64[Tensor, "n r"], size: int) -> list[Int64[Tensor, " b"]]:
    """Return examples in blocks of at most `size`, halved again and again across their widest direction.

    Cost:
        40nr flops for each doubling of n/size.
    """
    waiting = [torch.arange(len(factor), device=factor.device)]
    done: list[Tensor] = []
    while waiting:
        members = waiting.pop()
        if len(members) <= size:
            done.append(members)
            continue
        rows = factor[members]
        rows = rows - rows.mean(0)
        direction = rows[int(rows.square().sum(1).argmax())]
        for _ in range(TURNS):
            direction = rows.T @ (rows @ (direction / direction.norm().clamp_min(1e-300)))
        order = (rows @ direction).argsort()
        half = len(members) // 2
        waiting += [members[order[:half]], members[order[half:]]]
    return done


def block_local_inverse_diagonal(
    factor: Float64[Tensor, "n r"],
    members: Sequence[Int64[Tensor, " b"]],
    within: Callable[[Int64[Tensor, " b"]], Float64[Tensor, "b b"]],
    *,
    ridge: float,
) -> Float64[Tensor, " n"]:
    """Return the diagonal of (K̃ + λI)⁻¹.

    Args:
        factor: F.
        members: blocks that hold every example once.
        within: K between the examples of a block.
        ridge: λ > 0.

    Raises:
        NotPositiveError: F Fᵀ exceeds K in a block, so that it is no approximation of it from below.

    Cost:
        2nr² + 2nrb flops and n·b evaluations of the kernel for blocks of b; n·r numbers.

    Example:
        >>> import torch
        >>> none = torch.zeros(2, 1, dtype=torch.float64)
        >>> matrix = torch.eye(2, dtype=torch.float64)
        >>> block_local_inverse_diagonal(none, [torch.arange(2)], lambda rows: matrix, ridge=1.0)
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    check_positive("ridge", ridge)
    r = factor.shape[1]
    inner = torch.eye(r, dtype=factor.dtype, device=factor.device)
    solved = torch.empty_like(factor)  # B⁻¹ F
    diagonal = factor.new_empty(len(factor))
    for rows in members:
        features = factor[rows]
        local = within(rows) - features @ features.T
        local.diagonal().add_(ridge)
        lower, pivot = torch.linalg.cholesky_ex(local)
        if int(pivot):
            raise NotPositiveError(
                f"What {r} columns leave of the kernel is not positive in a block of {len(rows)} "
                f"examples, even with the ridge {ridge:g}: rounding outweighs it. Take a smaller "
                "`rank` or a larger `ridge`."
            )
        solved[rows] = torch.cholesky_solve(features, lower)
        diagonal[rows] = torch.cholesky_inverse(lower).diagonal()
        inner += features.T @ solved[rows]
    root = torch.linalg.cholesky(inner)
    for rows in members:
        shared = torch.linalg.solve_triangular(root, solved[rows].T, upper=False)  # (r, b)
        diagonal[rows] -= shared.square().sum(0)
    return diagonal

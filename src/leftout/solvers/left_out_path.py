"""What is left of each target once its example is left out, at many ridges, from one spectrum.

With G = (K + λI)⁻¹ and α = G y, the residual of example i by the model without it is

    y_i − f_without_i(x_i) = (G_ii)⁻¹ α_i,

a division, or a solve with the b × b block G_ii where an example has b rows. With K = V diag(s) Vᵀ, another λ
changes only the factors 1 / (s + λ): no ridge is fitted, and no example is left out by fitting again.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.solvers.diagonal_blocks import solve_blocks
from leftout.solvers.spectrum import Spectrum


def ridge_filters(spectrum: Spectrum, ridges: Sequence[float]) -> Float64[Tensor, "q r"]:
    """Return 1 / (s + λ) for each ridge and eigenvalue."""
    shifts = torch.tensor(ridges, dtype=torch.float64, device=spectrum.values.device)
    return 1 / (spectrum.values + shifts[:, None])


def left_out_residuals(
    spectrum: Spectrum, residual: Float64[Tensor, "rows c"], ridges: Sequence[float], rows_per_example: int
) -> Iterator[Float64[Tensor, "n k"]]:
    """Yield y − f of every example by the model without it, for each ridge in turn.

    Args:
        residual: Y − f_0 by rows of the kernel.
        rows_per_example: b, the rows that leave together.

    Cost:
        4nr flops for each ridge and row for the diagonal, 2r²c for each ridge for the residuals.

    Accuracy:
        that of (K + λI)⁻¹ y from the spectrum, 10·cond(K + λI)·2⁻⁵², as G_ii ≥ 1 / (s_max + λ).

    Source:
        Rifkin & Lippert 2007, "Notes on Regularized Least Squares".
    """
    filters = ridge_filters(spectrum, ridges)
    coordinates = spectrum.coordinates(residual)
    outside = spectrum.outside(residual) if spectrum.null else None
    outside_diagonal = spectrum.outside_diagonal(rows_per_example) if spectrum.null else None
    diagonal = spectrum.diagonal(filters.to(torch.complex128), rows_per_example).real  # (q, n, b, b)
    for blocks, factors, ridge in zip(diagonal, filters, ridges, strict=True):
        dual = spectrum.vectors @ (factors[:, None] * coordinates)
        if outside is not None and outside_diagonal is not None:  # eigenvalues of zero
            dual, blocks = dual + outside / ridge, blocks + outside_diagonal / ridge
        by_example = torch.unflatten(dual, 0, (-1, rows_per_example))  # (n, b, c)
        yield solve_blocks(blocks, by_example).flatten(1)

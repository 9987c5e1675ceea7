"""The eigendecomposition of K, which serves every ridge and every training time."""

from dataclasses import dataclass

import torch
from jaxtyping import Complex128, Float64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.errors import NotPositiveError
from leftout.core.work import Operation, WorkCount, allocation, operations

ROWS = 1024
"""Rows of V squared at a time: the temporary is ROWS × r, never n × r."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """K = V diag(values) Vᵀ, largest eigenvalue first; V is (n, r), r ≤ n.

    Where r < n the remaining n − r eigenvalues are zero, and kernel rows of new points must lie in
    the span of V, as those of a low-rank kernel do.
    """

    values: Float64[Tensor, " r"]
    vectors: Float64[Tensor, "n r"]

    @property
    def largest(self) -> float:
        """Return s_max."""
        return float(self.values[0])

    @property
    def smallest(self) -> float:
        """Return the smallest of all n eigenvalues."""
        thin = self.vectors.shape[1] < self.vectors.shape[0]
        return min(float(self.values[-1]), 0.0) if thin else float(self.values[-1])

    @property
    def null(self) -> int:
        """Return how many eigenvalues are zero and have no vector in V."""
        return self.vectors.shape[0] - self.vectors.shape[1]

    def outside(self, data: Float64[Tensor, "n k"]) -> Float64[Tensor, "n k"]:
        """Return what of the data lies outside the span of V, where K is zero."""
        return data - self.vectors @ self.coordinates(data)

    def outside_diagonal(self, rows_per_example: int = 1) -> Float64[Tensor, "n b b"]:
        """Return the diagonal of I − V Vᵀ, in blocks of b = `rows_per_example` rows."""
        ones = torch.ones(1, self.vectors.shape[1], dtype=torch.complex128, device=self.vectors.device)
        inside = self.diagonal(ones, rows_per_example)[0].real
        return torch.eye(rows_per_example, dtype=inside.dtype, device=inside.device) - inside

    def coordinates(self, rhs: Float64[Tensor, "n k"]) -> Float64[Tensor, "r k"]:
        """Return Vᵀ rhs."""
        return self.vectors.T @ rhs

    def of_rows(self, cross: Float64[Tensor, "m n"]) -> Float64[Tensor, "m r"]:
        """Return K(queries, X) V, the coordinates of kernel rows."""
        return cross @ self.vectors

    def diagonal(
        self, functions: Complex128[Tensor, "q r"], rows_per_example: int = 1
    ) -> Complex128[Tensor, "q n b b"]:
        """Return the diagonal of V diag(f_q) Vᵀ, in blocks of b = `rows_per_example` rows.

        Cost:
            4nbr flops a function; a temporary of ROWS·b numbers by r.
        """
        (q, r), b = functions.shape, rows_per_example
        n = len(self.vectors) // b
        diagonal = torch.empty(q, n, b, b, dtype=functions.dtype, device=functions.device)
        for examples in blocks(n, max(1, ROWS // b)):
            vectors = self.vectors[examples.start * b : examples.stop * b].reshape(
                examples.stop - examples.start, b, r
            )
            products = vectors[:, :, None] * vectors[:, None]  # (e, b, b, r)
            columns = real_times_complex(products.view(-1, r), functions.T)  # (e·b·b, q)
            diagonal[:, examples] = columns.T.reshape(q, -1, b, b)
        return diagonal


def real_times_complex(
    real: Float64[Tensor, "n r"], weights: Complex128[Tensor, "r c"]
) -> Complex128[Tensor, "n c"]:
    """Return real @ weights, in half the flops of a complex product and with no copy of `real`."""
    columns = torch.view_as_real(weights.resolve_conj().contiguous()).flatten(1)  # (r, 2c)
    product = real @ columns  # (n, 2c)
    return torch.view_as_complex(product.view(len(real), -1, 2))


def spectrum_of(gram: Float64[Tensor, "n n"], *, made_in: torch.dtype = torch.float64) -> Spectrum:
    """Return all eigenpairs of a positive semi-definite matrix.

    Args:
        made_in: the type in which its entries were evaluated, whose rounding they carry.

    Raises:
        NotPositiveError: the smallest eigenvalue is below −n·eps·s_max, more than rounding gives.

    Cost:
        about 9n³ flops; n² numbers for V and as much again while it runs.

    Accuracy:
        backward stable: ‖K − V diag(s) Vᵀ‖ ≲ n^½·eps·s_max. Eigenvalues are left as computed:
        those of a singular K may be −eps·s_max and are not clipped.
    """
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0), vectors.flip(1)
    low, high = float(values[-1]), float(values[0])
    if low < -len(gram) * torch.finfo(made_in).eps * max(high, 0.0) or high < 0:
        raise NotPositiveError(
            f"`gram` must be positive semi-definite; its smallest eigenvalue is {low:.3g} and its "
            f"largest {high:.3g}. Check that the kernel is one; nothing was clipped."
        )
    return Spectrum(values=values, vectors=vectors)


def spectrum_work(n: int) -> WorkCount:
    """Return the work of `spectrum_of`: eigenpairs, workspace of twice their size, and the order reversed."""
    return operations(Operation.EIGENPAIRS, side=n) + allocation(4 * n * n)

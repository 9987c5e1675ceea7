"""What are the modes of K? One eigendecomposition serves every ridge and every training time."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.errors import NotPositiveError


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

    def coordinates(self, rhs: Float64[Tensor, "n k"]) -> Float64[Tensor, "r k"]:
        """Return Vᵀ rhs."""
        return self.vectors.T @ rhs


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

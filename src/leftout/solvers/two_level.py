"""A preconditioner of the curvature of a fit: exact on the leading directions of the kernel, constant beyond.

The curvature in the weights is H = Σ_i Φ_iᵀ P_i Φ_i + λ, with the Gram matrix K = Φ Φᵀ. In the span E of the
leading directions of K it is inverted exactly, T = λ + Eᵀ (H − λ) E; beyond it a constant λ' stands for it:

    H⁻¹ ≈ E T⁻¹ Eᵀ + (I − E Eᵀ) / λ'

What is left for conjugate gradients is the tail of the kernel's spectrum. Weights are written as Φᵀ d, d one
number for each row of K and class: E = Φᵀ Z with Zᵀ K Z = I, Eᵀ Φᵀ d = (K Z)ᵀ d.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from leftout.core.errors import NotPositiveError
from leftout.core.product_matrix import ProductMatrix
from leftout.solvers.cross_entropy import curvature_product

EPS = torch.finfo(torch.float64).eps

NEGATIVE = 1e-8
"""Eigenvalue, relative to the largest, below minus which a matrix is not positive semi-definite."""

PASSES = 2
"""Powers of K with which its leading directions are looked for: they need not be exact."""

SIDE = 300
"""Most unknowns of T, and directions of a kernel that tells outputs apart: more cost more than they save."""

DIRECTIONS = 30
"""Most directions of a kernel whose outputs share it: more saved fewer products than they cost (MNIST)."""

LEAST = 4
"""Least directions, where there are very many classes."""

NULL = 1e-12
"""Directions whose eigenvalue is smaller, relative to the largest, are left out: they are rounding."""


@dataclass(frozen=True, eq=False)
class LeadingDirections:
    """Directions of a Gram matrix K on which it is largest.

    Attributes:
        z, kz: Z with Zᵀ K Z = I, and K Z.
        smallest: the least eigenvalue of K on their span, or 0 where K is zero beyond it.
        outputs, outputs_per_example: k, and rows of K for each example.
        complete: whether K is zero beyond the span.
    """

    z: Float[Tensor, "rows r"]
    kz: Float[Tensor, "rows r"]
    smallest: float
    outputs: int
    outputs_per_example: int
    complete: bool

    def project(self, dual: Float[Tensor, "n b k"]) -> Float[Tensor, "n b k"]:
        """Return the dual without what K maps to zero, where the directions are complete."""
        return self.expand(self.z, self.coordinates(dual))

    def coordinates(self, dual: Float[Tensor, "n b k"]) -> Float[Tensor, "rk b"]:
        """Return (K Z)ᵀ d."""
        n, b, k = dual.shape
        if self.outputs_per_example > 1:
            return self.kz.T @ dual.permute(0, 2, 1).reshape(n * k, b)
        inside = (self.kz.T @ dual.reshape(n, b * k)).view(-1, b, k)
        return inside.permute(0, 2, 1).reshape(-1, b)

    def expand(self, matrix: Float[Tensor, "rows r"], inside: Float[Tensor, "rk b"]) -> Tensor:
        """Return Z or K Z times coordinates, (n, b, k)."""
        k, b = self.outputs, inside.shape[1]
        if self.outputs_per_example > 1:
            return (matrix @ inside).view(-1, k, b).permute(0, 2, 1)
        spread = inside.view(-1, k, b).permute(0, 2, 1).reshape(-1, b * k)
        return (matrix @ spread).view(-1, b, k)


def leading_directions(
    gram: Float[Tensor, "rows rows"], *, outputs: int, outputs_per_example: int
) -> LeadingDirections:
    """Return the leading directions of a Gram matrix, by powers of it on random vectors.

    Args:
        outputs: k.
        outputs_per_example: rows of the matrix for each example, k or 1.

    Cost:
        2 (PASSES + 1) r n² flops for r = min(n, 30, 300 / k) directions.
    """
    per_direction = 1 if outputs_per_example > 1 else outputs
    most = SIDE if outputs_per_example > 1 else DIRECTIONS
    r = max(LEAST, min(most, SIDE // per_direction))
    rank = gram.left.shape[1] if isinstance(gram, ProductMatrix) else len(gram)
    if r >= min(rank, len(gram)):
        return all_directions(gram, outputs=outputs, outputs_per_example=outputs_per_example)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(len(gram), r, generator=generator, dtype=gram.dtype, device="cpu").to(gram.device)
    for _ in range(PASSES):
        z = _orthonormal(gram @ z)
    kz = gram @ z
    if z.shape[1]:
        values, vectors = torch.linalg.eigh(z.T @ kz)
        real = values > NULL * values[-1]
        scale = vectors[:, real] / values[real].sqrt()
        z, kz = z @ scale, kz @ scale
    # Beyond the span the kernel is at most about its least eigenvalue there; where K has no more, nothing.
    trace = float(gram.diagonal().sum())
    complete = trace - float(kz.square().sum()) <= len(gram) * EPS * trace
    smallest = 0.0 if complete else float(values[0])
    return LeadingDirections(z, kz, smallest, outputs, outputs_per_example, complete)


def all_directions(
    gram: Float[Tensor, "rows rows"], *, outputs: int, outputs_per_example: int
) -> LeadingDirections:
    """Return all directions that K does not map to zero: its eigenvectors, 9n³ flops.

    Of a matrix that is kept as J Jᵀ they are J times those of Jᵀ J.
    """
    if isinstance(gram, ProductMatrix):
        values, vectors = torch.linalg.eigh(gram.left.T @ gram.left)
        kept = values > len(gram) * EPS * values[-1]
        kz = gram.left @ vectors[:, kept]
        return LeadingDirections(kz / values[kept], kz, 0.0, outputs, outputs_per_example, complete=True)
    values, vectors = torch.linalg.eigh(gram)
    if len(gram) and float(values[0]) < -NEGATIVE * float(values[-1].abs()):
        raise NotPositiveError(
            f"The kernel matrix has eigenvalues from {float(values[-1]):.3g} down to {float(values[0]):.2g}: "
            "cross-entropy needs a positive semi-definite one. Take another kernel, or Ridge."
        )
    real = values > len(gram) * EPS * values[-1].clamp(min=0)
    root = values[real].sqrt()
    z, kz = vectors[:, real] / root, vectors[:, real] * root
    return LeadingDirections(z, kz, 0.0, outputs, outputs_per_example, complete=True)


def _orthonormal(columns: Float[Tensor, "rows r"]) -> Float[Tensor, "rows s"]:
    """Return an orthonormal basis of the columns, but for directions that are rounding.

    By products alone, without a QR factorisation: the basis need not be exact.
    """
    values, vectors = torch.linalg.eigh(columns.T @ columns)
    real = values > NULL * values[-1].clamp(min=0)
    basis: Tensor = columns @ (vectors[:, real] / values[real].sqrt())
    return basis


@final
class TwoLevel:
    """The preconditioner for problems in which examples weigh `share` on average.

    Args:
        directions: of the kernel.
        inner: Eᵀ (H − λ) E of examples of weight 1.
        beyond: curvature beyond the leading directions, without the ridge.
        ridge: λ.
        share: by which the curvature is multiplied.
    """

    def __init__(
        self,
        directions: LeadingDirections,
        inner: Float[Tensor, "rk rk"],
        beyond: float,
        ridge: float,
        share: float = 1.0,
    ) -> None:
        self.directions = directions
        self.inner = inner
        self.beyond = beyond
        self.ridge = ridge
        self.share = share
        self.level = ridge + share * beyond
        shifted = share * inner
        shifted.diagonal().add_(ridge)
        self.inverse = torch.cholesky_inverse(torch.linalg.cholesky(shifted))

    def with_share(self, share: float, ridge: float) -> "TwoLevel":
        """Return the same for other mean weights of the examples, or another ridge."""
        if share == self.share and ridge == self.ridge:
            return self
        return TwoLevel(self.directions, self.inner, self.beyond, ridge, share)

    def apply(
        self, dual: Float[Tensor, "n b k"], image: Float[Tensor, "n b k"], *, level: float | None = None
    ) -> tuple[Float[Tensor, "n b k"], Float[Tensor, "n b k"]]:
        """Return the preconditioned dual, and K times it.

        Args:
            image: K times the dual.
            level: curvature beyond the leading directions, with the ridge; that of the preconditioner if
                None.
        """
        level = self.level if level is None else level
        d = self.directions
        inside = d.coordinates(dual)
        inside = self.inverse @ inside - inside / level
        solved, solved_image = d.expand(d.z, inside), d.expand(d.kz, inside)
        return solved.add_(dual, alpha=1 / level), solved_image.add_(image, alpha=1 / level)


def two_level(directions: LeadingDirections, p: Float[Tensor, "n k"], ridge: float) -> TwoLevel:
    """Return the preconditioner at the probabilities p, of examples of weight 1.

    Cost:
        n (r k)² flops and the inverse of a matrix of r k rows.
    """
    n, k = p.shape
    kz, r = directions.kz, directions.kz.shape[1]
    if directions.outputs_per_example > 1:
        rows = kz.view(n, k, r)
        bent = curvature_product(p[:, None, :], rows.permute(0, 2, 1)).permute(0, 2, 1)  # (n, k, r)
        inner = rows.reshape(n * k, r).T @ bent.reshape(n * k, r)
    else:
        inner = kz.new_empty(r, k, r, k)
        for a in range(k):
            # Row a of diag p − p pᵀ; the matrix is symmetric.
            curvature = -p[:, a, None] * p[:, a:]
            curvature[:, 0] += p[:, a]
            bent = kz[:, :, None] * curvature[:, None, :]  # (n, r, k − a)
            block = (kz.T @ bent.flatten(1)).view(r, r, k - a)
            inner[:, a, :, a:] = block
            inner[:, a:, :, a] = block.permute(1, 2, 0)
        inner = inner.view(r * k, r * k)
    # The mean curvature of a class times the least eigenvalue kept: a scale, which need not be exact.
    curvature_scale = float((p * (1 - p)).mean())
    return TwoLevel(directions, inner, curvature_scale * directions.smallest, ridge)

"""Cross-entropy on features: one Newton step to the model without each example, with the whole Hessian.

With logits f_i = f_0 + Θᵀ φ_i, p_i their probabilities, W_i = diag p_i − p_i p_iᵀ and U_i = I ⊗ φ_i,

    H = Σ_i U_i W_i U_iᵀ + λI,    S_i = U_iᵀ H⁻¹ U_i,
    θ without i − θ ≈ (H − U_i W_i U_iᵀ)⁻¹ U_i (p_i − y_i) = H⁻¹ U_i (I − W_i S_i)⁻¹ (p_i − y_i) .

H couples all classes: its diagonal blocks alone would be far off, as probabilities add up to one.
"""

from functools import cached_property
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.work import Operation, WorkCount, operations

PIECE = 4096
"""Examples whose products are made at a time."""


@final
class OneStepRemovals:
    """The minimum on features, ready to leave single examples out.

    Args:
        rows: Φ, (n, d).
        p: probabilities at the minimum, (n, k); of the second class for k = 1.
        slope: p − y.
        ridge: λ.

    Cost:
        nd²k² flops for H, as many for S, and (dk)³; (dk)² + nk² numbers.
    """

    def __init__(
        self,
        rows: Float64[Tensor, "n d"],
        p: Float64[Tensor, "n k"],
        slope: Float64[Tensor, "n k"],
        ridge: float,
    ) -> None:
        self.rows, self.p, self.slope, self.ridge = rows, p, slope, ridge

    @cached_property
    def inverse(self) -> Float64[Tensor, "dk dk"]:
        """Return H⁻¹; row a·d + j is feature j of class a."""
        (d, k), rows = (self.rows.shape[1], self.p.shape[1]), self.rows
        hessian = rows.new_zeros(k, d, k, d)
        for piece in blocks(len(rows), PIECE):
            features, curvature = rows[piece], self.curvature(piece)
            for a in range(k):
                for c in range(a, k):
                    hessian[a, :, c] += features.T @ (curvature[:, a, c, None] * features)
        for a in range(k):
            for c in range(a):
                hessian[a, :, c] = hessian[c, :, a].T
        hessian = hessian.view(k * d, k * d)
        hessian.diagonal().add_(self.ridge)
        return torch.cholesky_inverse(torch.linalg.cholesky(hessian))

    def curvature(self, examples: slice) -> Float64[Tensor, "e k k"]:
        """Return W of some examples."""
        p = self.p[examples]
        if p.shape[1] == 1:
            return (p * (1 - p))[:, :, None]
        return torch.diag_embed(p) - p[:, :, None] * p[:, None]

    @cached_property
    def leverages(self) -> Float64[Tensor, "n k k"]:
        """Return S of every example."""
        (d, k), rows = (self.rows.shape[1], self.p.shape[1]), self.rows
        made = rows.new_empty(len(rows), k, k)
        inverse = self.inverse.view(k, d, k, d)
        for piece in blocks(len(rows), PIECE):
            features = rows[piece]
            for a in range(k):
                for c in range(a, k):
                    made[piece, a, c] = ((features @ inverse[a, :, c]) * features).sum(1)
                    made[piece, c, a] = made[piece, a, c]
        return made

    @cached_property
    def pulls(self) -> Float64[Tensor, "n k"]:
        """Return (I − W_i S_i)⁻¹ (p_i − y_i) of every example."""
        made = torch.empty_like(self.p)
        unit = torch.eye(self.p.shape[1], dtype=self.p.dtype, device=self.p.device)
        for piece in blocks(len(self.rows), PIECE):
            between = unit - self.curvature(piece) @ self.leverages[piece]
            made[piece] = torch.linalg.solve(between, self.slope[piece])
        return made

    def changes(self, queries: Float64[Tensor, "m d"], columns: slice) -> Float64[Tensor, "m e k"]:
        """Return how the logits at rows of features change without each example of `columns`.

        Cost:
            2e(dk)² + 2medk flops for e of them.
        """
        (d, k), features = (self.rows.shape[1], self.p.shape[1]), self.rows[columns]
        pulled = (self.pulls[columns, :, None] * features[:, None]).flatten(1)  # (e, k·d)
        weights = (self.inverse @ pulled.T).view(k, d, -1)  # (k, d, e)
        return torch.stack([queries @ of_class for of_class in weights], dim=2)

    def own_changes(self) -> Float64[Tensor, "n k"]:
        """Return how the logits of every example change without that very example."""
        return torch.einsum("nac,nc->na", self.leverages, self.pulls)


def one_step_work(n: int, d: int, k: int) -> WorkCount:
    """Return the work of the Hessian, its inverse and the leverages of n examples."""
    return operations(Operation.FLOP, 2 * n * d**2 * k**2 + (d * k) ** 3)

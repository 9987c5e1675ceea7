"""Cross-entropy on features: one Newton step to the model without each example, with the whole Hessian.

With logits f_i = f_0 + Θᵀ φ_i, p_i their probabilities, W_i = diag p_i − p_i p_iᵀ and U_i = I ⊗ φ_i,

    H = Σ_i U_i W_i U_iᵀ + λI,    S_i = U_iᵀ H⁻¹ U_i,
    θ without i − θ ≈ (H − U_i W_i U_iᵀ)⁻¹ U_i (p_i − y_i) = H⁻¹ U_i (I − W_i S_i)⁻¹ (p_i − y_i) .

Where outputs have rows of features of their own, U_i has those as columns. H couples all classes: its
diagonal blocks alone would be far off, as probabilities add up to one.
"""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.blocks import blocks

PIECE = 4096
"""Rows of features whose products are made at a time."""


class OneStepRemovals(ABC):
    """The minimum on features, ready to leave single examples out.

    Args:
        rows: Φ: a row an example, or a row an example and output, those of an example side by side.
        p: probabilities at the minimum, (n, k); of the second class for k = 1.
        slope: p − y.
        ridge: λ.
    """

    def __init__(
        self,
        rows: Float64[Tensor, "nr d"],
        p: Float64[Tensor, "n k"],
        slope: Float64[Tensor, "n k"],
        ridge: float,
    ) -> None:
        self.rows, self.p, self.slope, self.ridge = rows, p, slope, ridge

    @abstractmethod
    def make_hessian(self) -> Float64[Tensor, "w w"]:
        """Return H without the ridge."""

    @cached_property
    @abstractmethod
    def leverages(self) -> Float64[Tensor, "n k k"]:
        """Return S of every example."""

    @abstractmethod
    def changes(self, queries: Float64[Tensor, "mr d"], columns: slice) -> Float64[Tensor, "m e k"]:
        """Return how the logits at rows of features change without each example of `columns`."""

    @cached_property
    def inverse(self) -> Float64[Tensor, "w w"]:
        """Return H⁻¹."""
        hessian = self.make_hessian()
        hessian.diagonal().add_(self.ridge)
        return torch.cholesky_inverse(torch.linalg.cholesky(hessian))

    def curvature(self, examples: slice) -> Float64[Tensor, "e k k"]:
        """Return W of some examples."""
        p = self.p[examples]
        if p.shape[1] == 1:
            return (p * (1 - p))[:, :, None]
        return torch.diag_embed(p) - p[:, :, None] * p[:, None]

    @cached_property
    def pulls(self) -> Float64[Tensor, "n k"]:
        """Return (I − W_i S_i)⁻¹ (p_i − y_i) of every example."""
        made = torch.empty_like(self.p)
        unit = torch.eye(self.p.shape[1], dtype=self.p.dtype, device=self.p.device)
        for piece in blocks(len(self.p), PIECE):
            between = unit - self.curvature(piece) @ self.leverages[piece]
            made[piece] = torch.linalg.solve(between, self.slope[piece])
        return made

    def own_changes(self) -> Float64[Tensor, "n k"]:
        """Return how the logits of every example change without that very example."""
        return torch.einsum("nac,nc->na", self.leverages, self.pulls)


@final
class SharedFeatures(OneStepRemovals):
    """Features that all outputs share: weights are (k, d), row a·d + j of H is feature j of class a.

    Cost:
        nd²k² flops for H, as many for S, and (dk)³; (dk)² + nk² numbers.
    """

    def make_hessian(self) -> Float64[Tensor, "w w"]:
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
        return hessian.view(k * d, k * d)

    @cached_property
    def leverages(self) -> Float64[Tensor, "n k k"]:
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

    def changes(self, queries: Float64[Tensor, "mr d"], columns: slice) -> Float64[Tensor, "m e k"]:
        """Return the same; 2e(dk)² + 2medk flops for e examples."""
        (d, k), features = (self.rows.shape[1], self.p.shape[1]), self.rows[columns]
        pulled = (self.pulls[columns, :, None] * features[:, None]).flatten(1)  # (e, k·d)
        weights = (self.inverse @ pulled.T).view(k, d, -1)  # (k, d, e)
        return torch.stack([queries @ of_class for of_class in weights], dim=2)


@final
class FeaturesOfOutputs(OneStepRemovals):
    """Rows of features for each output, as those of a network's Jacobian.

    Cost:
        4nkd² flops for H and S, and d³; d² + nk² numbers.
    """

    def _by_example(self, examples: slice) -> Float64[Tensor, "e k d"]:
        k = self.p.shape[1]
        return torch.unflatten(self.rows[k * examples.start : k * examples.stop], 0, (-1, k))

    @property
    def _together(self) -> int:
        return max(1, PIECE // self.p.shape[1])

    def make_hessian(self) -> Float64[Tensor, "w w"]:
        d = self.rows.shape[1]
        hessian = self.rows.new_zeros(d, d)
        for piece in blocks(len(self.p), self._together):
            features = self._by_example(piece)
            bent = self.curvature(piece) @ features
            hessian += features.flatten(0, 1).T @ bent.flatten(0, 1)
        return (hessian + hessian.T).div_(2)

    @cached_property
    def leverages(self) -> Float64[Tensor, "n k k"]:
        n, k = self.p.shape
        made = self.rows.new_empty(n, k, k)
        for piece in blocks(n, self._together):
            features = self._by_example(piece)
            made[piece] = (features @ self.inverse) @ features.mT
        return made

    def changes(self, queries: Float64[Tensor, "mr d"], columns: slice) -> Float64[Tensor, "m e k"]:
        """Return the same; 2ed² + 2mked flops for e examples."""
        pulled = torch.einsum("ek,ekd->de", self.pulls[columns], self._by_example(columns))
        moved = queries @ (self.inverse @ pulled)  # (m·k, e)
        return torch.unflatten(moved, 0, (-1, self.p.shape[1])).transpose(1, 2)

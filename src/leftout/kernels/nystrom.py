"""A kernel seen from a few of the training examples: k̃(x, z) = k(x, S) k(S, S)⁻¹ k(S, z).

It is the kernel of |S| features, φ(x) = k(x, S) L⁻ᵀ with k(S, S) = L Lᵀ. It never exceeds k, and is k on S.
"""

from typing import Any, final

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.kernels import assemble
from leftout.kernels.base import Kernel
from leftout.kernels.distortion import Distortion, distortion

SAMPLE = 200
"""Inputs on which it is compared with the kernel."""

PIECE = 4096
"""Inputs whose features are made together."""


@final
class NystromKernel(Kernel):
    """The kernel k̃ of a kernel k with one value for each pair.

    Args:
        base: k.
        landmarks: the inputs S, (r, d…).
        lower: L, (r, r).
        agreement: least correlation of single effects with exact ones at which they are given.
        missed: what share of tr K it misses on the training inputs.
        dtype: in which k is evaluated.
        memory: budget in bytes.
    """

    def __init__(
        self,
        base: Kernel,
        landmarks: Float[Tensor, "r ..."],
        lower: Float64[Tensor, "r r"],
        *,
        agreement: float,
        missed: float,
        dtype: torch.dtype,
        memory: int,
    ) -> None:
        self.base, self.landmarks, self.lower = base, landmarks, lower
        self.agreement = agreement
        self.missed, self.evaluated_in, self.memory = missed, dtype, memory
        self.normalise = base.normalise

    def row_numbers(self, inputs: Tensor) -> int:
        del inputs  # that many whatever they are
        return len(self.lower)

    def rows(self, inputs: Float[Tensor, "n ..."]) -> Float64[Tensor, "nr d"]:
        """Return φ, a piece of the inputs at a time."""
        made = self.lower.new_empty(len(inputs), len(self.lower))
        options: dict[str, Any] = {"dtype": self.evaluated_in, "device": self.lower.device}
        for piece in blocks(len(inputs), PIECE):
            near = assemble.cross(self.base, inputs[piece], self.landmarks, memory=self.memory, **options)
            made[piece] = torch.linalg.solve_triangular(self.lower, near.T, upper=False).T
        return made

    def block(self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "m n"]:
        """Return k̃ of every pair."""
        product: Tensor = self.rows(queries) @ self.rows(inputs).T
        return product.to(inputs)

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return k̃(x, x), at most k(x, x)."""
        return self.rows(inputs).square().sum(1).to(inputs)

    def check(self, name: str, inputs: Tensor) -> None:
        self.base.check(name, inputs)

    def initial(self, inputs: Float[Tensor, "n ..."]) -> Tensor | None:
        return self.base.initial(inputs)

    def prior(self) -> Kernel | None:
        return self.base.prior()

    def distortion(self, inputs: Tensor) -> Distortion:
        """Return how far it is from k, on a sample of inputs drawn with seed 0."""
        count = min(SAMPLE, len(inputs))
        generator = torch.Generator().manual_seed(0)
        points = inputs[torch.randperm(len(inputs), generator=generator, device="cpu")[:count].sort().values]
        rows = self.rows(points)
        exact = assemble.gram(self.base, points, dtype=self.evaluated_in, device=self.lower.device)
        return distortion(rows @ rows.T, exact, examples=count, seed=0)

    @property
    def record(self) -> dict[str, Any]:
        """Return the kernel, how many landmarks it is seen from, and what that misses."""
        return {
            "name": "nystrom",
            "base": self.base.record,
            "rank": len(self.lower),
            "missed_trace": self.missed,
        }

    def __repr__(self) -> str:
        return f"NystromKernel({self.base!r}, rank {len(self.lower)})"

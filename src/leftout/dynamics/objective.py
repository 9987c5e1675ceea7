"""What does a descent need of a network? Its gradient, taken a step along; and a look at where it is.

    L(w) = ½ Σ (f − y)² + ½ λ ‖w − w_0‖²

always as a sum, with λ as it is added to the kernel: `loss="mean"` is a rate η/n and a ridge nλ.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from leftout.solvers.krylov import largest_eigenvalue


@dataclass(frozen=True)
class Look:
    """Where a descent is: the objective L, ‖∇L‖, and the norm of its mean over the last steps."""

    loss: float
    gradient_norm: float
    mean_norm: float = float("inf")

    @property
    def norm(self) -> float:
        """Return the smaller of the two norms.

        At a kink of a ReLU, which is where minima of such networks lie, the gradient jumps for ever
        and only its mean over nearby points vanishes: an element of Goldstein's subdifferential.
        """
        return min(self.gradient_norm, self.mean_norm)


class Objective(ABC):
    """L along a descent: a point that moves, a step at a time.

    Args:
        targets: y, one row per example.
        ridge: λ ≥ 0, as it is added to the kernel.
    """

    residual: Float64[Tensor, "n k"]
    """f − y at the point."""

    def __init__(self, targets: Float64[Tensor, "n k"], ridge: float) -> None:
        self.targets = targets
        self.ridge = ridge

    @property
    def data_loss(self) -> float:
        """Return ½ Σ (f − y)² at the point."""
        return float(self.residual.square().sum()) / 2

    @property
    @abstractmethod
    def rounding_error(self) -> float:
        """Return by how much f may be off for rounding alone: residuals below it are none."""

    @abstractmethod
    def advance(self, rate: float, momentum: float = 0.0) -> None:
        """Take a step down the gradient at the point, and go on by `momentum` times the last move."""

    @abstractmethod
    def look(self) -> Look:
        """Return the objective and its gradient at the point; costs about a step."""

    @abstractmethod
    def mark(self) -> None:
        """Remember the point, from which `mean_gradient` counts."""

    @abstractmethod
    def mean_gradient(self, rate: float, steps: int) -> float:
        """Return the norm of the mean gradient over the steps since `mark`, without momentum."""

    @abstractmethod
    def tangent(self, vector: Float64[Tensor, "n k"]) -> Float64[Tensor, "n k"]:
        """Return J Jᵀ v at the point: the tangent kernel times a vector."""

    @abstractmethod
    def rewind(self) -> None:
        """Go back to where the descent began."""

    @abstractmethod
    def trained_module(self) -> nn.Module:
        """Return a copy of the network with the weights at the point."""

    def largest(self, *, rtol: float) -> float:
        """Return s_max, the largest eigenvalue of the tangent kernel at the point, by Lanczos."""
        shape = self.targets.shape

        def apply(vector: Tensor) -> Tensor:
            return self.tangent(vector.view(shape)).flatten()

        return largest_eigenvalue(
            apply,
            self.targets.numel(),
            device=self.targets.device,
            rtol=rtol,
            generator=torch.Generator().manual_seed(0),
        )


def as_targets(targets: Float[Tensor, "n k"], device: torch.device) -> Float64[Tensor, "n k"]:
    """Return targets where the network is, in float64."""
    return targets.to(device=device, dtype=torch.float64)

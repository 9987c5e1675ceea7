"""How far is an approximate kernel from the exact one? Measured on a sample of inputs.

‖K̃ − K‖ / ‖K‖,        K exact, of all outputs; K̃ ⊗ I where one value serves all of them
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """Relative errors of an approximate kernel, as measured on some inputs.

    Attributes:
        frobenius: in the Frobenius norm: of a typical entry.
        spectral: in the spectral norm: of the largest change of an eigenvalue.
        examples: how many inputs it was measured on.
        seed: of their choice.
    """

    frobenius: float
    spectral: float
    examples: int
    seed: int

    @property
    def record(self) -> dict[str, Any]:
        """Return the errors and what they were measured on, JSON-like."""
        return {
            "frobenius": self.frobenius,
            "spectral": self.spectral,
            "examples": self.examples,
            "seed": self.seed,
        }


def distortion(
    approximate: Float64[Tensor, "a a"], exact: Float64[Tensor, "b b"], *, examples: int, seed: int
) -> Distortion:
    """Return how far an approximate Gram matrix is from the exact one.

    Args:
        approximate: one row an input and output, or one an input, which serves all outputs.
    """
    outputs = len(exact) // max(1, len(approximate))
    if outputs > 1:
        eye = torch.eye(outputs, dtype=approximate.dtype, device=approximate.device)
        approximate = torch.kron(approximate.contiguous(), eye)
    error = approximate - exact
    return Distortion(
        frobenius=_ratio(error.norm(), exact.norm()),
        # Both are symmetric: the norm is the eigenvalue that is largest in size.
        spectral=_ratio(torch.linalg.eigvalsh(error).abs().max(), torch.linalg.eigvalsh(exact).abs().max()),
        examples=examples,
        seed=seed,
    )


def _ratio(error: Tensor, norm: Tensor) -> float:
    """Return off / of; 0 where both are 0."""
    return float(error / norm) if float(norm) > 0 or float(error) > 0 else 0.0

"""In which directions do weights move at all? In the modes of K that are not zero, K = V diag(s) Vᵀ.

A mode of eigenvalue s moves the weights by √s (VᵀΔ): where s = 0 not at all, however far the dual goes. But
rounding leaves such a mode an s of about ±n·eps·s_max, and a dual of long training squares it. So modes are
left out that cannot be told from zero, exactly those with

    s ≤ max(n·eps·s_max, −2·s_min) .

A negative s_min is evidence: to so much, at least, the Gram matrix is not that of any weights.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.dynamics.fitted import Fitted
from leftout.solvers.spectrum import Spectrum

EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True, eq=False)
class Modes:
    """The modes of K in which weights move."""

    values: Float64[Tensor, " r"]
    vectors: Float64[Tensor, "n r"]


def moving_modes(spectrum: Spectrum) -> Modes:
    """Return the modes whose eigenvalue can be told from zero."""
    floor = max(len(spectrum.vectors) * EPS * spectrum.largest, -2 * spectrum.smallest)
    kept = int((spectrum.values > floor).sum())  # largest first
    return Modes(spectrum.values[:kept], spectrum.vectors[:, :kept])


def moving_outputs(residual: Float64[Tensor, "n c"]) -> Float64[Tensor, "c o"]:
    """Return an orthonormal basis of the combinations of outputs that have anything to learn.

    Columns of a one-hot code sum to zero when centred: every dual and every gradient then does.
    """
    _, values, right = torch.linalg.svd(residual, full_matrices=False)
    kept = values > max(residual.shape) * EPS * values[0]
    return right[kept].T


def errors_at_the_end(fitted: Fitted, modes: Modes) -> Float64[Tensor, "n c"]:
    """Return f − y at the end of training: of a mode λ / (s + λ) is left, and all where nothing moves."""
    ridge = fitted.rule.effective_ridge(len(fitted))
    inside = modes.vectors.T @ fitted.residual
    still = fitted.residual - modes.vectors @ inside
    unlearned = (ridge / (modes.values + ridge))[:, None] * inside
    return -(still + modes.vectors @ unlearned)

"""Principal components of the training inputs, from their products only.

With the products P = X Xᵀ, J = I − 1 1ᵀ/n and J P J = U Λ Uᵀ, the
score of an input on component k is (p − p̄)·u_k / √λ_k, p its products with the training inputs and p̄ their
mean over training inputs. Signs are arbitrary; pair features do not depend on them.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float64
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from leftout.core.errors import DataError

COMPONENTS = 5
"""As many as the released program takes."""

DENSE = 64
"""Inputs up to which all components are computed at once: Lanczos would not be faster."""

USABLE = 1e-10
"""Variance along a component, over that of the first, below which it is rounding."""


@final
@dataclass(frozen=True)
class Axes:
    """Principal components of the training inputs.

    Attributes:
        loadings: u_k / √λ_k.
        offsets: p̄·loadings.
        scores: of the training inputs.
    """

    loadings: Float64[Tensor, "n c"]
    offsets: Float64[Tensor, " c"]
    scores: Float64[Tensor, "n c"]

    def scores_of(self, products: Float64[Tensor, "m n"]) -> Float64[Tensor, "m c"]:
        """Return the scores of inputs, from their products with the training inputs."""
        return products @ self.loadings - self.offsets


def principal_axes(products: Float64[Tensor, "n n"]) -> Axes:
    """Return the first five principal components of the inputs with these products.

    Raises:
        DataError: the inputs vary in fewer directions.

    Accuracy:
        eps over the relative gap between neighbouring variances; components of equal variance are
        determined only together.
    """
    mean = products.mean(0)
    values, vectors = _leading_modes(products, mean)
    usable = int((values > USABLE * values[:1]).sum()) if len(values) else 0
    if usable < COMPONENTS:
        raise DataError(
            f'Inputs must vary in at least {COMPONENTS} directions for the estimator "fjlt-v2"; '
            f'these {len(products)} vary in {usable}. Take more of them, or "fjlt-v1".'
        )
    loadings = vectors / values.sqrt()
    offsets = mean @ loadings
    return Axes(loadings, offsets, products @ loadings - offsets)


def _leading_modes(products: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Return the leading eigenvalues of J P J, largest first, and their eigenvectors."""
    n = len(products)
    if n <= DENSE:
        centred = products - mean - mean[:, None] + mean.mean()
        values, vectors = torch.linalg.eigh(centred)
        # Centring removes one direction of n, that of equal numbers.
        return values.flip(0)[: min(COMPONENTS, n - 1)], vectors.flip(1)[:, :COMPONENTS]

    def times(vector: np.ndarray) -> np.ndarray:
        along = torch.from_numpy(vector.reshape(-1)).to(products)
        product = products @ (along - along.mean())
        return (product - product.mean()).cpu().numpy()

    operator = LinearOperator((n, n), matvec=times, dtype=np.float64)
    # A fixed start: the same inputs give the same components.
    start = np.random.default_rng(0).standard_normal(n)
    values, vectors = eigsh(operator, k=COMPONENTS, which="LA", v0=start)
    order = np.argsort(-values)
    return (
        torch.from_numpy(values[order]).to(products),
        torch.from_numpy(vectors[:, order].copy()).to(products),
    )

"""The kernel of a linear model on given features: embeddings, or columns of a table.

    k(x, z) = bias + scale x·z

Trained with a ridge it is ridge regression: the weights' penalty is λ/scale, an intercept's λ/bias.
"""

import math
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from leftout.core.checks import check_at_least, check_positive
from leftout.kernels.base import Kernel
from leftout.kernels.rows import check_vectors, flat_rows


@final
@dataclass(frozen=True)
class LinearFeatures(Kernel):
    """The kernel bias + scale x·z of a linear model on the inputs as they are.

    With a quarter as many features as examples, `fit` keeps the features in place of the matrix: every answer
    is exact, in n d², and nothing of n × n is made.

    Args:
        scale: by which inner products are multiplied.
        bias: what every pair has in common: an intercept that a ridge λ shrinks as λ/bias. 0 for none.

    Cost:
        a product of the inputs; with scale 1 and no bias they are used where they lie, otherwise copied.

    Accuracy:
        that of the product.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> x = torch.tensor([[3.0, 4.0], [4.0, -3.0]])
        >>> lo.kernels.LinearFeatures(scale=2.0, bias=1.0).block(x, x)
        tensor([[51.,  1.],
                [ 1., 51.]])
    """

    scale: float = 1.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        check_positive("scale", self.scale)
        check_at_least("bias", self.bias, 0)

    def block(self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "m n"]:
        """Return the kernel of every pair."""
        return (flat_rows(queries) @ flat_rows(inputs).T).mul_(self.scale).add_(self.bias)

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return bias + scale |x|²."""
        rows = flat_rows(inputs)
        values: Tensor = torch.linalg.vecdot(rows, rows)
        return values.mul_(self.scale).add_(self.bias)

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless every input is a vector of finite numbers.

        Raises:
            DataError: not floating-point, NaN or infinity.
            ShapeError: no axis of features.
        """
        check_vectors(name, inputs)

    def row_numbers(self, inputs: Tensor) -> int:
        return inputs[:1].numel() + (self.bias > 0)

    @property
    def copies_rows(self) -> bool:
        return self.scale != 1 or self.bias > 0

    def rows(self, inputs: Float[Tensor, "n ..."]) -> Float64[Tensor, "nr d"]:
        """Return √scale x, and √bias beside it."""
        rows = flat_rows(inputs).double()
        if not self.copies_rows:
            return rows
        made = rows.new_empty(len(rows), self.row_numbers(inputs))
        torch.mul(rows, math.sqrt(self.scale), out=made[:, : rows.shape[1]])
        if self.bias > 0:
            made[:, -1] = math.sqrt(self.bias)
        return made

    @property
    def record(self) -> dict[str, Any]:
        """Return name, scale and bias."""
        return {"name": "linear-features", "scale": float(self.scale), "bias": float(self.bias)}

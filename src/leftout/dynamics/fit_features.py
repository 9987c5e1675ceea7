"""Is a model kept as its features, in place of the matrix of their products? Where they are few.

With d features and n rows a matrix costs n³ and holds n² numbers, its features 2nd² and nd; the answers are
the same to rounding.
"""

import torch
from torch import Tensor

from leftout.core.blocks import check_fits
from leftout.core.product_matrix import ProductMatrix
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import AnyKernel

ROOM = 16
"""Numbers of products of features are made up to 1 / ROOM of the budget."""

FEWER = 4
"""Features are taken by themselves where there are so many times fewer than rows."""


def feature_count(kernel: AnyKernel, inputs: Tensor) -> int | None:
    """Return how many features the kernel makes of an input; None where it is no product of features."""
    return kernel.row_numbers(inputs) if isinstance(kernel, Kernel) else None


def row_count(kernel: AnyKernel, inputs: Tensor) -> int:
    """Return how many rows the matrix of a kernel of features has for these inputs."""
    assert isinstance(kernel, Kernel), "a kernel that is fitted to labels has no features"
    return len(inputs) * (kernel.outputs or 1)


def is_kept_as_features(kernel: AnyKernel, inputs: Tensor) -> bool:
    """Return whether `solver="auto"` keeps a model of these inputs as features: 4d ≤ n."""
    features = feature_count(kernel, inputs)
    return features is not None and FEWER * features <= row_count(kernel, inputs)


def feature_matrix(kernel: Kernel, inputs: Tensor, *, device: torch.device, budget: int) -> ProductMatrix:
    """Return K of the inputs as the product of its features with themselves.

    Raises:
        MemoryBudgetError: the features do not fit.
    """
    features, rows = kernel.row_numbers(inputs), row_count(kernel, inputs)
    assert features is not None, "the kernel is no product of features"
    if kernel.copies_rows:
        check_fits(
            f"{rows} rows of {features} features",
            8 * rows * features,
            budget,
            advice="Take fewer examples (`n_train`) or features, or raise `memory`.",
        )
    made = kernel.rows(inputs.to(device))
    return ProductMatrix(made, made, room=budget // ROOM)

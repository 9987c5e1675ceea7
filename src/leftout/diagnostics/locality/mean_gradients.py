"""Similarity of classes to a network from their mean gradients, without evaluating pairs.

    K̄(x, z) = Σ_o ⟨g_o(x), g_o(z)⟩,    g_o = ∂f_o/∂w / √(outputs · k(x, x)),

so the sum of K̄ over all pairs of two classes is Σ_o ⟨G_o, G'_o⟩, G_o the sum of g_o over a class, from one
backward pass with 1 / √k(x, x) as the derivative of the loss.
"""

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.blocks import memory_budget
from leftout.core.progress import with_progress
from leftout.data.examples import Examples
from leftout.kernels.network.empirical import Empirical


def can_sum_gradients(kernel: Empirical, classes: int, memory: int | float | str | None) -> bool:
    """Return whether sums of gradients over classes give the kernel's sums, and fit the memory."""
    weights = sum(parameter.numel() for parameter in kernel.weights.values())
    # Sums for rows and columns, one in progress, and those of autograd.
    needed = 8 * (2 * classes + 2) * weights
    return kernel.projection is None and needed <= memory_budget(memory, device=kernel.device) // 2


def pair_sums_by_gradients(
    kernel: Empirical,
    rows: Examples,
    row_lengths: Float64[Tensor, " m"],
    columns: Examples,
    column_lengths: Float64[Tensor, " n"],
    classes: int,
) -> Float64[np.ndarray, "c c"]:
    """Return the sum of K̄ over all pairs of examples, for each two classes; lengths are √k(x, x)."""
    total = torch.zeros(classes, classes, dtype=torch.float64, device="cpu")
    for reading in with_progress(_readings(kernel), what="mean gradients"):
        sums = _class_sums(kernel, columns, column_lengths, reading, classes)
        row_sums = sums if rows is columns else _class_sums(kernel, rows, row_lengths, reading, classes)
        for a, first in enumerate(row_sums):
            for b, second in enumerate(sums):
                total[a, b] += sum(float(first[name].flatten() @ second[name].flatten()) for name in first)
    return total.numpy()


def _readings(kernel: Empirical) -> list[Float64[Tensor, " k"]]:
    """Return the combinations of outputs whose gradients' products are added up."""
    k = kernel.width
    eye = torch.eye(k, dtype=torch.float64, device="cpu") / k**0.5
    return [eye.sum(0)] if kernel.reading == "sum" else list(eye)


def _class_sums(
    kernel: Empirical,
    examples: Examples,
    lengths: Float64[Tensor, " n"],
    reading: Float64[Tensor, " k"],
    classes: int,
) -> list[dict[str, Tensor]]:
    """Return the sum of g over the examples of each class, by parameter."""
    assert examples.labels is not None
    sums = []
    for number in range(classes):
        rows = (examples.labels == number).nonzero().flatten()
        dual = reading / lengths[rows, None]
        sums.append(kernel.pull_back(examples.inputs[rows], dual))
    return sums

"""What is computed where the scores are made: errors, influences, and what is kept of them.

With A = K(queries, X) G, alpha = G (Y − f_0) and the error e = f − y of a query, leaving out example i
changes prediction c by D_c = −A_i alpha_ic / G_ii and the squared loss by Σ_c D_c (e_c + D_c / 2).
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.ranked import extremes
from leftout.dynamics.losses import SQUARED
from leftout.kernels.base import Kernel
from leftout.storage.score_store import write_part

Scores = Float64[np.ndarray, "m b"]


def start_at(kernel: Kernel, inputs: Tensor, columns: int) -> Float64[Tensor, "b k"]:
    """Return f_0 at the inputs: 0, unless the kernel is of a network as it is."""
    initial = kernel.initial(inputs)
    return inputs.new_zeros(len(inputs), columns) if initial is None else initial.to(inputs)


def residual_of(kernel: Kernel, inputs: Tensor, *, targets: Tensor) -> Float64[np.ndarray, "b k"]:
    """Return Y − f_0 of a block of training examples."""
    return (targets - start_at(kernel, inputs, targets.shape[1])).numpy()


def learned_part(*kernels_and_duals: np.ndarray) -> Float64[np.ndarray, "m k"]:
    """Return Σ_j K(queries, X_j) α_j; the first half of the arguments are K(X_j, queries), the others α_j."""
    half = len(kernels_and_duals) // 2
    pairs = zip(kernels_and_duals[:half], kernels_and_duals[half:], strict=True)
    return sum(cross.T @ dual for cross, dual in pairs)


def error_of(
    kernel: Kernel, inputs: Tensor, *parts: np.ndarray, targets: Tensor
) -> Float64[np.ndarray, "m k"]:
    """Return f − y at a block of queries from what was learned, in parts."""
    start = start_at(kernel, inputs, targets.shape[1])
    return sum(parts) + (start - targets).numpy()


def influence_block(
    products: Float64[np.ndarray, "b m"],
    dual: Float64[np.ndarray, "b k"],
    diagonal: Float64[np.ndarray, " b"],
    error: Float64[np.ndarray, "m k"],
) -> Scores:
    """Return the influence of a block of training examples at a block of queries.

    Args:
        products: Aᵀ.
        error: f − y at the queries.
    """
    shared = torch.from_numpy(-products.T / diagonal)  # (m, b)
    errors, duals = torch.tensor(error, device="cpu"), torch.tensor(dual, device="cpu")
    total, none = torch.zeros_like(shared), errors.new_zeros(1, 1, 1)
    for output in range(dual.shape[1]):  # one at a time: squares add up over outputs
        change = shared * duals[:, output]
        total += SQUARED.change(errors[:, output, None, None], change[..., None], none)
    return total.numpy()


def extremes_of(scores: Scores, *, first: int, top: int) -> Float64[np.ndarray, "m four top"]:
    """Return the largest and smallest scores of a block, with the numbers of their training examples.

    Args:
        first: number of the first training example.
    """
    found = extremes(torch.from_numpy(scores.copy()), min(top, scores.shape[1]))
    found[:, 1::2] += first
    return found.numpy()


def extremes_among(*candidates: np.ndarray, top: int) -> Float64[np.ndarray, "m four top"]:
    """Return the largest and smallest scores of several blocks from those of each."""
    four = torch.from_numpy(np.concatenate(candidates, axis=2))
    high = four[:, 0].topk(min(top, four.shape[2]), dim=1).indices
    low = four[:, 2].topk(min(top, four.shape[2]), dim=1, largest=False).indices
    kept = [four[:, place].gather(1, high if place < 2 else low) for place in range(4)]
    return torch.stack(kept, dim=1).numpy()


def sum_over_queries(*blocks: Scores) -> Float64[np.ndarray, " b"]:
    """Return the sum over the queries of several blocks."""
    return sum(block.sum(0) for block in blocks)


def written(*parts: Scores, folder: Path, queries: int, train: int) -> dict[str, str]:
    """Write the scores of some queries and of neighbouring blocks of training examples.

    Args:
        queries, train: the first of each.

    Returns:
        SHA-256 of each file that was written, by its path in the store.
    """
    return write_part(folder, queries, train, np.concatenate(parts, axis=1)[None])

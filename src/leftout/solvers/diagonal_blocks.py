"""The n diagonal blocks, b × b, of a kernel matrix with b rows for each example, and solves with them.

Leaving out an example removes all b of its rows: the division by a diagonal entry for b = 1 becomes a
solve with a diagonal block.
"""

import torch
from jaxtyping import Num
from torch import Tensor

from leftout.solvers.feature_inverse import FeatureInverse


def diagonal_blocks(matrix: Num[Tensor, "r r"], rows_per_example: int) -> Num[Tensor, "n b b"]:
    """Return the blocks of b = `rows_per_example` rows on the diagonal, a copy."""
    b = rows_per_example
    if isinstance(matrix, FeatureInverse):
        return matrix.diagonal_blocks(b)
    if b == 1:
        return matrix.diagonal().clone().view(-1, 1, 1)
    n = len(matrix) // b
    blocks = matrix.view(n, b, n, b).diagonal(dim1=0, dim2=2)  # (b, b, n)
    return blocks.permute(2, 0, 1).contiguous()


def solve_blocks(
    blocks: Num[Tensor, "*batch b b"], rhs: Num[Tensor, "*batch b c"]
) -> Num[Tensor, "*batch b c"]:
    """Return blocks⁻¹ rhs, in b³ flops a block; a division where b = 1."""
    if blocks.shape[-1] == 1:
        return rhs / blocks
    return torch.linalg.solve(blocks, rhs)

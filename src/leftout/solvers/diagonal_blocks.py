"""How are the b × b blocks on a diagonal applied, n of them at once? One number each where b = 1.

An example with b rows in a kernel matrix leaves with all of them: what was a division by a diagonal
entry becomes a solve with a diagonal block.
"""

import torch
from jaxtyping import Num
from torch import Tensor


def diagonal_blocks(matrix: Num[Tensor, "r r"], each: int) -> Num[Tensor, "n b b"]:
    """Return the blocks of b = `each` rows on the diagonal, a copy."""
    n = len(matrix) // each
    blocks = matrix.view(n, each, n, each).diagonal(dim1=0, dim2=2)  # (b, b, n)
    return blocks.permute(2, 0, 1).contiguous()


def solve_blocks(
    blocks: Num[Tensor, "*batch b b"], values: Num[Tensor, "*batch b c"]
) -> Num[Tensor, "*batch b c"]:
    """Return blocks⁻¹ values, in b³ flops a block; a division where b = 1."""
    if blocks.shape[-1] == 1:
        return values / blocks
    return torch.linalg.solve(blocks, values)

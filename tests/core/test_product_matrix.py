"""Is a matrix that is kept as a product what its numbers are, and refused where they do not fit?"""

import pytest
import torch

from laws import assert_same
from leftout.core.errors import MemoryBudgetError
from leftout.core.product_matrix import ProductMatrix


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


LEFT, RIGHT = drawn(12, 3), drawn(8, 3, seed=1)
ROWS = torch.tensor([3, 0, 3])

OPERATIONS = {
    "product": lambda matrix: matrix @ drawn(8, 2),
    "product with a vector": lambda matrix: matrix @ drawn(8),
    "mv": lambda matrix: matrix.mv(drawn(8)),
    "product from the left": lambda matrix: drawn(2, 12) @ matrix,
    "product of three axes": lambda matrix: matrix @ drawn(5, 8, 2),
    "transpose": lambda matrix: matrix.T @ drawn(12, 2),
    "transposed by name": lambda matrix: matrix.transpose(-1, 0) @ drawn(12, 2),
    "axes as they are": lambda matrix: matrix.permute(0, 1) @ drawn(8, 2),
    "rows": lambda matrix: matrix[2:7] + 0.0,
    "columns": lambda matrix: matrix[:, 1:4] @ drawn(3, 1),
    "every second row": lambda matrix: matrix[::2] + 0.0,
    "some rows": lambda matrix: matrix[ROWS] + 0.0,
    "some columns": lambda matrix: matrix[:, ROWS] + 0.0,
    "a part": lambda matrix: matrix[ROWS[:, None], ROWS] @ drawn(3, 2),
    "some entries": lambda matrix: matrix[ROWS, ROWS],
    "one row": lambda matrix: matrix[4] + 0.0,
    "one column": lambda matrix: matrix[:, -1] + 0.0,
    "sum": lambda matrix: matrix.sum(),
    "sum over columns": lambda matrix: matrix.sum(1),
    "diagonal": lambda matrix: matrix[:8].diagonal(),
    "another diagonal": lambda matrix: matrix[:8].diagonal(1),
    "examples": lambda matrix: torch.unflatten(matrix[:4], 0, (-1, 2)),
    "beside another": lambda matrix: torch.cat([matrix, matrix]),
    "zeros like it": lambda matrix: matrix.new_zeros(2, 3),
    "squares": lambda matrix: matrix.square(),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_has_the_numbers_of_the_matrix(name) -> None:
    found, want = (OPERATIONS[name](one) for one in (ProductMatrix(LEFT, RIGHT, room=10**6), LEFT @ RIGHT.T))
    assert type(found) is torch.Tensor
    assert (found.shape, found.dtype) == (want.shape, want.dtype)
    assert_same(found, want, 1e-14)


def test_sums_over_outputs_are_those_of_the_blocks() -> None:
    blocks = (LEFT @ RIGHT.T).view(6, 2, 4, 2)
    want = blocks.diagonal(dim1=1, dim2=3).sum(2)
    assert_same(ProductMatrix(LEFT, RIGHT, room=0).summed_over(2), want, 1e-14)


def test_what_multiplies_needs_no_room_and_what_needs_all_numbers_is_refused() -> None:
    matrix = ProductMatrix(LEFT, LEFT, room=8 * 12 * 5)
    for name in ("transpose", "sum", "diagonal", "rows", "one row"):
        OPERATIONS[name](matrix)
    assert_same(matrix @ drawn(12), LEFT @ (LEFT.T @ drawn(12)), 1e-14)
    words = (
        r"needs a kernel matrix of 12 × 12, 1.15 kB, which is kept as products of its rows because it does"
    )
    for operation in (torch.linalg.eigh, torch.Tensor.square, lambda matrix: matrix + 1.0):
        with pytest.raises(MemoryBudgetError, match=words):
            operation(matrix)
    with pytest.raises(MemoryBudgetError, match="of 6 × 12"):
        _ = matrix[:6] + 1.0


def test_it_prints_without_its_numbers() -> None:
    assert repr(ProductMatrix(LEFT, RIGHT, room=0)) == "ProductMatrix(12 × 8, 3 numbers a row)"

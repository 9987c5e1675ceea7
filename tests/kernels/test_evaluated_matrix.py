"""Is a matrix that is evaluated whenever it is used what its numbers are, tile by tile?"""

import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.core.errors import MemoryBudgetError
from leftout.kernels import tiles
from leftout.kernels.evaluated_matrix import EvaluatedMatrix

KERNEL = lo.kernels.ReLU(2, bias_variance=0.3)
N = 75
ROWS = torch.tensor([70, 3, 41])


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch) -> None:
    """Several tiles on a side, of which the last is smaller."""
    monkeypatch.setitem(tiles.BLOCK, "cpu", 32)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def evaluated(room=10**6):
    return EvaluatedMatrix(KERNEL, drawn(N, 4), dtype=torch.float64, memory=10**8, room=room)


OPERATIONS = {
    "product": lambda m: m @ drawn(N, 3),
    "with a vector": lambda m: m @ drawn(N),
    "from the left": lambda m: drawn(2, N) @ m,
    "rows": lambda m: m[5:50] @ drawn(N, 2),
    "columns": lambda m: m[:, ROWS] @ drawn(3, 2),
    "transpose of rows": lambda m: m[5:50].T @ drawn(45, 2),
    "a part": lambda m: m[ROWS[:, None], ROWS] + 0.0,
    "a block off the diagonal": lambda m: m[2:40, 30:70] + 0.0,
    "a block on the diagonal": lambda m: m[10:60][:, 10:60] + 0.0,
    "one row": lambda m: m[-2] + 0.0,
    "diagonal": lambda m: m.diagonal(),
    "diagonal of a part": lambda m: m[ROWS][:, ROWS].diagonal(),
    "sum": lambda m: m.sum(),
    "numbers": lambda m: m + 0.0,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_has_the_numbers_of_the_matrix(name) -> None:
    inputs = drawn(N, 4)
    assert_same(OPERATIONS[name](evaluated()), OPERATIONS[name](KERNEL.block(inputs, inputs)), 1e-13)


def test_numbers_are_symmetric_to_the_last_bit() -> None:
    numbers = evaluated().numbers
    assert torch.equal(numbers, numbers.T)


def test_what_needs_all_numbers_is_refused_where_they_do_not_fit() -> None:
    small = evaluated(room=8 * N * 3)
    assert_same(small @ drawn(N, 2), KERNEL.block(drawn(N, 4), drawn(N, 4)) @ drawn(N, 2), 1e-13)
    assert small[ROWS].numbers.shape == (3, N)
    with pytest.raises(MemoryBudgetError, match="evaluated again whenever it is used"):
        torch.linalg.eigh(small)

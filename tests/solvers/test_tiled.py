"""Is the inverse in tiles that of the whole matrix, wherever it was stopped, and are solutions refined?"""

import pytest
import torch

from laws import assert_same, difference
from leftout.core.errors import MemoryBudgetError, NotPositiveError, SolveError
from leftout.solvers.tiled.deflation import Deflation, leading_vectors
from leftout.solvers.tiled.invert import fill, invert
from leftout.solvers.tiled.inverted_tiles import InvertedTiles
from leftout.solvers.tiled.tiled_factor import TiledFactor
from leftout.solvers.tiled.tiled_inverse import TiledInverse
from leftout.solvers.tiled.triangle import Stage, TriangleInMemory, tile_side, triangle_bytes

N, SIDE, RIDGE = 70, 16, 0.05
"""Four whole tiles on a side, and one of six rows."""

SINGLE = torch.finfo(torch.float32).eps


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrix(common=100.0):
    """Return a matrix with one large eigenvalue, what all inputs have in common, and small ones."""
    half = drawn(N, N) / N**0.5
    return half @ half.T + common * torch.ones(N, N, dtype=torch.float64) / N


def triangle_of(dtype=torch.float64, side=SIDE):
    return TriangleInMemory(N, dtype=dtype, device=torch.device("cpu"), side=side)


def tile_of(whole, triangle):
    return lambda i, j: whole[triangle.spans[i], triangle.spans[j]].clone()


def bring_to_inverse(whole, triangle) -> None:
    fill(triangle, tile_of(whole, triangle), RIDGE)
    invert(triangle)


def inverted(whole, dtype=torch.float64, ridge=RIDGE, side=SIDE):
    triangle = triangle_of(dtype, side)
    vectors = leading_vectors(whole)
    deflation = Deflation(vectors, whole @ vectors + ridge * vectors)
    spans = triangle.spans
    fill(triangle, lambda i, j: whole[spans[i], spans[j]] - deflation.taken_out(spans[i], spans[j]), ridge)
    invert(triangle)
    return TiledInverse(InvertedTiles(triangle, deflation), room=10**9)


def lower_of(triangle):
    """Return all numbers in the tiles, both triangles."""
    whole = torch.empty(N, N, dtype=triangle.dtype)
    for i, j in triangle.places():
        whole[triangle.spans[i], triangle.spans[j]] = triangle.tile(i, j)
        whole[triangle.spans[j], triangle.spans[i]] = triangle.tile(i, j).T
    return whole


def truth(whole, ridge=RIDGE):
    return torch.linalg.inv(whole + ridge * torch.eye(N, dtype=torch.float64))


@pytest.mark.parametrize("side", [7, 16, 64, 70, 100])
def test_it_is_the_inverse_whatever_the_tiles(side) -> None:
    whole = matrix()
    found = inverted(whole, side=side)
    assert_same(found.make_numbers(), truth(whole), 1e-11)
    assert_same(found.diagonal(), truth(whole).diagonal(), 1e-11)


PARTS = {
    "product": lambda m: m @ drawn(N, 3),
    "from the left": lambda m: drawn(4, N) @ m,
    "with a vector": lambda m: m @ drawn(N),
    "some columns": lambda m: drawn(4, N) @ m[:, torch.tensor([60, 3, 17])],
    "columns times": lambda m: m[:, torch.tensor([60, 3, 17])] @ drawn(3, 2),
    "rows times": lambda m: m[torch.tensor([60, 3, 17])] @ drawn(N, 2),
    "rows from the left": lambda m: drawn(2, 3) @ m[torch.tensor([60, 3, 17])],
    "a slice": lambda m: m[10:40, 5:60] + 0.0,
    "a block": lambda m: torch.linalg.solve(m[ROWS][:, ROWS], drawn(3, 1)),
    "transpose": lambda m: m[:9].T @ drawn(9, 2),
    "one row": lambda m: m[-1] + 0.0,
    "sum": lambda m: m.sum(),
}
ROWS = torch.tensor([1, 40, 69])


@pytest.mark.parametrize("name", PARTS)
def test_every_part_has_the_numbers_of_the_inverse(name) -> None:
    whole = matrix(3.0)
    assert_same(PARTS[name](inverted(whole)), PARTS[name](truth(whole)), 1e-10)


def test_its_numbers_are_made_only_where_there_is_room() -> None:
    small = inverted(matrix())
    small.room = 8 * N * 3
    assert small[:, torch.tensor([1, 2])].numbers.shape == (N, 2)
    with pytest.raises(MemoryBudgetError, match="kept as one triangle of its inverse"):
        torch.linalg.eigh(small)


class StoppedError(Exception):
    """Raised in the middle of a computation."""


@pytest.mark.parametrize("after", [0, 1, 14, 15, 16, 22, 30, 37, 45, 52, 59])
def test_a_computation_that_was_stopped_goes_on_to_the_same_bits(after) -> None:
    whole, triangle, counted = matrix(), triangle_of(torch.float32), 0
    replace = TriangleInMemory.replace

    def stops(self, i, j, stage, tile) -> None:
        nonlocal counted
        if counted == after:
            raise StoppedError
        counted += 1
        replace(self, i, j, stage, tile)

    TriangleInMemory.replace = stops
    try:
        with pytest.raises(StoppedError):
            bring_to_inverse(whole, triangle)
    finally:
        TriangleInMemory.replace = replace
    bring_to_inverse(whole, triangle)
    untouched = triangle_of(torch.float32)
    bring_to_inverse(whole, untouched)
    for i, j in triangle.places():
        assert triangle.stage(i, j) == Stage.INVERSE
        assert torch.equal(triangle.tile(i, j), untouched.tile(i, j))


def test_a_tile_follows_its_stage_only() -> None:
    triangle = triangle_of()
    with pytest.raises(ValueError, match=r"Tile \(1, 0\) is NOTHING, and would become FACTOR"):
        triangle.replace(1, 0, Stage.FACTOR, drawn(SIDE, SIDE))


def test_along_leading_directions_it_is_exact_whatever_the_tiles_were_rounded_to() -> None:
    whole = matrix(1e3)
    found = inverted(whole, torch.float32)
    vectors, images = found.tiles.deflation.vectors, found.tiles.deflation.images
    assert_same(found @ images, vectors, 1e-12)
    assert_same(images.T @ found, vectors.T, 1e-12)
    # The first is what all inputs have in common, and no direction is larger.
    assert_same(vectors[:, -1].abs(), torch.full((N,), N**-0.5, dtype=torch.float64), 1e-1)
    largest = torch.linalg.eigvalsh(whole)[-1] + RIDGE
    assert_same(found.tiles.deflation.ends[1], largest, 1e-12)


def test_what_all_have_in_common_does_not_round_what_tells_them_apart() -> None:
    """Tiles of the matrix as it is lose the digits of its small eigenvalues to the large one."""
    whole = matrix(3e4)
    found, want = inverted(whole, torch.float32), truth(whole)
    plain = triangle_of(torch.float32)
    bring_to_inverse(whole, plain)
    assert difference(lower_of(plain), want) > 100 * difference(found.make_numbers(), want)
    small = torch.linalg.eigvalsh(matrix(0.0)) + RIDGE
    assert difference(found.make_numbers(), want) <= SINGLE * N**0.5 * float(small[-1] / small[0])


def test_solutions_are_those_in_double_precision() -> None:
    whole = matrix(1e4)
    factor = TiledFactor(whole, RIDGE, inverted(whole, torch.float32), 1e4)
    rhs = drawn(N, 4)
    assert_same(factor.solve(rhs), truth(whole) @ rhs, 1e-9)
    assert len(factor.steps) <= 4


def test_without_a_row_each_it_solves_what_is_left() -> None:
    whole = matrix(1e3)
    factor = TiledFactor(whole, RIDGE, inverted(whole, torch.float32), 1e3)
    rhs, rows = drawn(N, 3), torch.tensor([0, 33, 69])
    found = factor.solve(rhs, without=rows)
    for column, row in enumerate(rows.tolist()):
        keep = torch.arange(N) != row
        left = torch.linalg.solve(
            (whole + RIDGE * torch.eye(N, dtype=torch.float64))[keep][:, keep], rhs[keep, column]
        )
        assert float(found[row, column]) == 0
        assert_same(found[keep, column], left, 1e-9)


def test_tiles_of_another_matrix_are_told_by_the_residual() -> None:
    """The check of a solution can fail: an inverse that is none leaves the residual where it is."""
    whole = matrix()
    with pytest.raises(SolveError, match=r"too few digits for ridge 0.05 beside an eigenvalue of 100"):
        TiledFactor(whole, RIDGE, inverted(matrix() * 3, torch.float32), 100.0).solve(drawn(N, 1))


def test_a_matrix_that_is_not_positive_is_refused_with_the_pivot() -> None:
    whole = matrix()
    whole[40, 40] = -1.0
    triangle = triangle_of(torch.float32)
    fill(triangle, tile_of(whole, triangle), RIDGE)
    with pytest.raises(
        NotPositiveError, match=r"to the rounding of float32: pivot 41 of 70 .* tiles in float64"
    ):
        invert(triangle)


def test_sizes_of_tiles() -> None:
    sides = {10: 512, 8192: 512, 16_384: 1024, 60_000: 2048, 65_536: 4096, 10**6: 4096}
    assert {n: tile_side(n) for n in sides} == sides
    triangle = triangle_of()
    fill(triangle, tile_of(matrix(), triangle), RIDGE)
    held = sum(triangle.tile(i, j).numel() * 8 for i, j in triangle.places())
    n, side = N, SIDE
    assert held <= 8 * (n * n + n * side) // 2
    assert triangle_bytes(60_000, 4) == 4 * (60_000**2 + 60_000 * 2048) // 2

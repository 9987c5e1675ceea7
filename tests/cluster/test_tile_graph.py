"""The inversion in tiles is that of the whole matrix, and what must move is what the closed form says."""

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.cluster.inverse_graph import InverseGraph
from leftout.cluster.tile_graph import TileGraph
from leftout.cluster.tile_grid import TileGrid
from leftout.core.errors import NotPositiveError

N, RIDGE = 47, 0.1


def inputs() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("cells", "side"), [(1, 8), (2, 8), (3, 11), (4, 8), (6, 5), (9, 47)])
def test_inverse_and_traffic_of_tiles(cells: int, side: int) -> None:
    graph, grid = TileGraph(), TileGrid(N, side, cells)
    builder = InverseGraph(graph, grid, RIDGE, torch.float64)
    builder.add_inputs(lo.kernels.ReLU(1), inputs())
    tiles, _ = builder.add_kernel()
    inverse = builder.add_steps(tiles, range(grid.tiles))
    diagonal = builder.add_diagonal(inverse)
    ones = [
        graph.add(
            ("ones", j),
            lambda rows: np.eye(N)[rows],
            cell=grid.column_sum(j),
            numbers=grid.size(j) * N,
            rows=grid.block(j),
        )
        for j in range(grid.tiles)
    ]
    product = builder.add_product(inverse, ones, "all", width=N)
    results = graph.run_here()
    whole = np.linalg.inv(lo.kernels.gram(lo.kernels.ReLU(1), inputs()).numpy() + RIDGE * np.eye(N))
    assert_same(np.vstack([results[key] for key in product]), whole, 1e-12)
    assert_same(np.concatenate([results[key] for key in diagonal]), whole.diagonal(), 1e-12)
    moved = graph.planned_bytes()
    assert moved["corner"] + moved["panel"] + moved["inverse"] == grid.inversion_bytes()
    of_product = sum(moved[kind] for kind in ("ones", "forward", "middle", "backward"))
    assert of_product == grid.product_bytes(N)


@pytest.mark.parametrize("cells", [1, 2, 4, 9, 64])
def test_closed_form_for_many_tiles(cells: int) -> None:
    grid = TileGrid(n=200_000, side=100, cells=cells)
    expected = 4 * grid.n**2 * (2 * grid.rows + grid.columns - 3)
    assert abs(grid.inversion_bytes() - expected) <= 0.01 * 4 * grid.n**2 * (1 + expected / (4 * grid.n**2))
    assert grid.inversion_bytes() <= grid.scattered_bytes()


def test_singular_matrix_is_refused_with_its_rows() -> None:
    graph, grid = TileGraph(), TileGrid(4, 2, 1)
    builder = InverseGraph(graph, grid, -3.0, torch.float64)  # below the smallest eigenvalue of K
    builder.add_inputs(lo.kernels.ReLU(1), torch.eye(4, dtype=torch.float64))
    tiles, _ = builder.add_kernel()
    builder.add_steps(tiles, range(grid.tiles))
    with pytest.raises(NotPositiveError, match="of the rows from 0 on"):
        graph.run_here()

"""Are projections right on average, reproducible in any order, and is their error the one they tell?"""

import re

import numpy as np
import pytest
import torch
from torch import nn

from laws import assert_same
from leftout.core.errors import OptionError
from leftout.kernels import Empirical, Gaussian, Rademacher, RandomCoordinates, Sparse
from leftout.kernels.assemble import cross, gram
from leftout.kernels.network.projection import WIDTH
from oracles.empirical import full, jacobian, summed, traced
from problems.tangent_networks import NETWORKS, drawn, settled

KINDS = [RandomCoordinates, Gaussian, Rademacher, Sparse]
every_kind = pytest.mark.parametrize("kind", KINDS)


def matrix(projection, sizes):
    """Return Rᵀ (p, r): what it does to every unit row."""
    parts = []
    for number, size in enumerate(sizes):
        into = torch.zeros(size, 1, projection.width(sizes), dtype=torch.float64)
        unit = torch.eye(size, dtype=torch.float64)[:, None]
        projection.add(into, unit, tensor=number, sizes=sizes)
        parts.append(into[:, 0])
    return torch.cat(parts)


@pytest.mark.sample(2)
@every_kind
def test_the_product_is_right_on_average(kind) -> None:
    sizes, draws = [30, 7], 2000
    total = sum(
        found @ found.T for seed in range(draws) for found in [matrix(kind(size=5, seed=seed), sizes)]
    )
    # Entries have a variance of at most 30/5 - 1 = 5 on the diagonal of random coordinates, and of
    # 2/5 for the others; 37² entries lie within 4.5 standard errors.
    spread = 5.0 if kind is RandomCoordinates else 0.4
    error = (total / draws - torch.eye(37, dtype=torch.float64)).abs().max()
    assert float(error) < 4.5 * (spread / draws) ** 0.5


def test_what_each_matrix_is_made_of() -> None:
    sizes = [WIDTH + 40, 9]
    coordinates = matrix(RandomCoordinates(size=50, seed=1), sizes)
    assert coordinates.shape == (WIDTH + 49, 59)
    assert torch.equal((coordinates != 0).sum(0), torch.ones(59, dtype=torch.int64))
    assert set(coordinates[: sizes[0], :50].unique().tolist()) == {0.0, (sizes[0] / 50) ** 0.5}
    assert torch.equal(coordinates[sizes[0] :, 50:], torch.eye(9, dtype=torch.float64))

    signs = matrix(Rademacher(size=16, seed=1), sizes)
    assert set(signs.unique().tolist()) == {-0.25, 0.25}
    assert abs(float(signs.mean())) < 4.5 * 0.25 / signs.numel() ** 0.5

    normal = matrix(Gaussian(size=16, seed=1), sizes)
    # Mean and variance of 17 000 normal numbers, within 4.5 standard errors.
    assert abs(float(normal.mean())) < 4.5 * 0.25 / normal.numel() ** 0.5
    assert float(normal.var()) * 16 == pytest.approx(1, abs=4.5 * (2 / normal.numel()) ** 0.5)

    sparse = matrix(Sparse(size=16, seed=1), sizes)
    assert torch.equal((sparse != 0).sum(1), torch.ones(sum(sizes), dtype=torch.int64))
    assert set(sparse.unique().tolist()) == {-1.0, 0.0, 1.0}


@every_kind
def test_blocks_and_tensors_are_drawn_independently(kind) -> None:
    found = matrix(kind(size=8, seed=3), [2 * WIDTH, 2 * WIDTH])
    blocks = found.reshape(4, WIDTH, -1)
    for i in range(4):
        for j in range(i):
            assert not torch.equal(blocks[i], blocks[j])


@every_kind
def test_a_seed_is_a_projection_whatever_came_before(kind) -> None:
    first = matrix(kind(size=6, seed=2), [50, 20])
    matrix(kind(size=6, seed=5), [50, 20])
    torch.manual_seed(7)
    np.random.seed(7)
    assert torch.equal(matrix(kind(size=6, seed=2), [50, 20]), first)
    assert not torch.equal(matrix(kind(size=6, seed=3), [50, 20]), first)


@pytest.mark.sample(12)
@every_kind
@pytest.mark.parametrize("name", ["mlp", "residual, batch norm", "tokens", "cnn, groups"])
@pytest.mark.parametrize("method", ["auto", "jacobian"])
def test_the_kernel_is_that_of_projected_rows(kind, name, method) -> None:
    module, x = NETWORKS[name]
    projection = kind(size=11, seed=4)
    kernel = Empirical(module, projection=projection, method=method)
    sizes = [one.numel() for one in kernel.weights.values()]
    rows = jacobian(module, x) @ matrix(projection, sizes).numpy()
    want = full(rows)
    assert_same(gram(kernel, x), want, 1e-12)
    assert_same(cross(kernel, x[:2], x), want[: 2 * kernel.outputs], 1e-12)
    assert_same(kernel.diagonal(x), want.diagonal(), 1e-12)
    assert_same(gram(kernel, x, memory=400_000 + 16 * WIDTH * 11, block=4), want, 1e-12)


@every_kind
@pytest.mark.parametrize(("reading", "oracle"), [("sum", summed), ("trace", traced)])
def test_readings_of_one_value_are_projected_alike(kind, reading, oracle) -> None:
    module, x = NETWORKS["mlp"]
    projection = kind(size=11, seed=4)
    kernel = Empirical(module, reading, projection=projection)
    sizes = [one.numel() for one in kernel.weights.values()]
    rows = jacobian(module, x) @ matrix(projection, sizes).numpy()
    assert_same(gram(kernel, x), oracle(rows, 3), 1e-12)
    assert_same(kernel.diagonal(x), oracle(rows, 3).diagonal(), 1e-12)


@pytest.mark.sample(2)
@every_kind
def test_the_error_falls_as_one_over_the_root_of_the_size(kind) -> None:
    module = settled(nn.Sequential(nn.Linear(20, 60), nn.Tanh(), nn.Linear(60, 1)))
    x = drawn(12, 20)
    sizes = [8, 32, 128]
    errors = []
    for size in sizes:
        found = [
            Empirical(module, projection=kind(size=size, seed=seed)).distortion(x).frobenius
            for seed in range(6)
        ]
        errors.append(np.mean(np.square(found)) ** 0.5)
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    # A squared norm of 144 dependent entries, six times: known to some 20 %, over ln 16.
    # Small tensors are taken whole by random coordinates, whose error falls faster.
    assert -0.75 < slope < -0.3


def test_the_distortion_is_the_one_of_the_definition() -> None:
    module, x = NETWORKS["mlp"]
    exact = full(jacobian(module, x))
    kernel = Empirical(module, projection=Gaussian(size=30))
    found = kernel.distortion(x)
    off = gram(kernel, x).numpy() - exact
    assert found.frobenius == pytest.approx(np.linalg.norm(off) / np.linalg.norm(exact))
    assert found.spectral == pytest.approx(np.linalg.norm(off, 2) / np.linalg.norm(exact, 2))
    assert found.examples == 9
    assert set(found.record) == {"frobenius", "spectral", "examples", "seed"}
    one = Empirical(module, "trace")
    off = np.kron(gram(one, x).numpy(), np.eye(3)) - exact
    assert one.distortion(x).frobenius == pytest.approx(np.linalg.norm(off) / np.linalg.norm(exact))


def test_a_sample_is_drawn_by_its_seed() -> None:
    module, x = NETWORKS["mlp"]
    kernel = Empirical(module, "sum")
    found = kernel.distortion(x, sample=4, seed=1)
    assert (found.examples, found.seed) == (4, 1)
    assert kernel.distortion(x, sample=4, seed=1) == found
    assert kernel.distortion(x, sample=4, seed=2).frobenius != found.frobenius
    with pytest.raises(OptionError, match="`sample` must be a whole number ≥ 1; got 0"):
        kernel.distortion(x, sample=0)


def test_what_loses_nothing_has_no_distortion() -> None:
    module, x = NETWORKS["mlp"]
    assert Empirical(module).distortion(x) is None
    assert Empirical(module, projection=RandomCoordinates(size=48)).distortion(x) is None
    assert Empirical(module, projection=RandomCoordinates(size=47)).distortion(x) is not None
    single, points = NETWORKS["linear"]
    assert Empirical(single, "trace").distortion(points) is None
    assert_same(gram(Empirical(single, "trace"), points), gram(Empirical(single), points), 1e-14)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("size", [0, -1, 2.5, True])
@every_kind
def test_sizes_that_are_none_are_refused(kind, size) -> None:
    with pytest.raises(OptionError, match=re.escape(f"`size` must be a whole number ≥ 1; got {size!r}")):
        kind(size=size)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("seed", [-1, 0.5, None])
def test_seeds_that_are_none_are_refused(seed) -> None:
    with pytest.raises(OptionError, match=re.escape(f"`seed` must be a whole number ≥ 0; got {seed!r}")):
        Gaussian(size=5, seed=seed)


def test_the_paper_s_size_is_the_default() -> None:
    assert RandomCoordinates().record == {"name": "random coordinates", "size": 2000, "seed": 0}

"""What every kernel obeys; a new one is tested by adding a line to KERNELS."""

import math

import pytest
import torch
from torch import Tensor

from leftout.kernels import ArcCosine, Erf, From, Kernel, LinearFeatures, ReLU, Tanh, TwoLayerReLU
from leftout.kernels.assemble import cross, gram
from oracles.kernels import EPS


def gaussian(x: Tensor, z: Tensor) -> Tensor:
    return torch.exp(-torch.cdist(x, z).square() / 2)


KERNELS: dict[str, Kernel] = {
    "two-layer-relu": TwoLayerReLU(),
    "relu ntk": ReLU(3),
    "relu ntk with bias": ReLU(2, 1.5, 0.2),
    "relu nngp": ReLU(3, kind="nngp"),
    "erf ntk": Erf(2),
    "erf ntk with bias": Erf(3, 3.0, 0.2),
    "erf nngp": Erf(2, 2.0, 0.1, "nngp"),
    "tanh ntk": Tanh(2),
    "tanh nngp with bias": Tanh(2, 1.5, 0.2, "nngp"),
    "arc-cosine": ArcCosine(0.5),
    "from": From(gaussian),
    "linear features": LinearFeatures(0.5, 0.2),
}
# δ + ε of a block with d = 20 features, for the deepest kernel here: 3 layers of 7.3 (2 + √20) ε.
ROUNDING = 150 * EPS

every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)


def unit(n: int, d: int = 20, *, seed: int = 0) -> Tensor:
    rows = torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return rows / rows.norm(dim=1, keepdim=True)


def scale(kernel: Kernel, rows: Tensor) -> float:
    return float(kernel.diagonal(rows).max())


@every_kernel
def test_a_gram_is_symmetric_to_the_last_bit(kernel: Kernel) -> None:
    found = gram(kernel, unit(70), block=16)
    assert torch.equal(found, found.T)


@every_kernel
def test_a_gram_is_positive_semidefinite_up_to_rounding(kernel: Kernel) -> None:
    rows = unit(60)
    rows[30:] = rows[:30] + 1e-7 * rows[30:]  # nearly singular: rounding could make it indefinite
    rows /= rows.norm(dim=1, keepdim=True)
    values = torch.linalg.eigvalsh(gram(kernel, rows))
    # n entries a row, each off by at most ROUNDING of the scale, move an eigenvalue by n of them.
    assert float(values[0]) > -60 * ROUNDING * scale(kernel, rows)


@every_kernel
def test_cauchy_and_schwarz_hold(kernel: Kernel) -> None:
    rows = unit(50)
    diagonal = kernel.diagonal(rows)
    limit = torch.outer(diagonal, diagonal).sqrt() + ROUNDING * scale(kernel, rows)
    assert bool((gram(kernel, rows).abs() <= limit).all())


@every_kernel
def test_the_diagonal_is_that_of_the_gram(kernel: Kernel) -> None:
    rows = unit(70)
    torch.testing.assert_close(gram(kernel, rows).diagonal(), kernel.diagonal(rows), rtol=8 * 3 * EPS, atol=0)


@every_kernel
def test_permuting_the_inputs_permutes_the_gram(kernel: Kernel) -> None:
    rows = unit(40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        gram(kernel, rows[order]),
        gram(kernel, rows)[order][:, order],
        rtol=0,
        atol=ROUNDING * scale(kernel, rows),
    )


@every_kernel
def test_rotating_the_inputs_changes_nothing(kernel: Kernel) -> None:
    rows = unit(40)
    turn = torch.linalg.qr(unit(20, seed=2))[0]
    # The rotation itself rounds each component √d times: rows turn by about that.
    torch.testing.assert_close(
        gram(kernel, rows @ turn), gram(kernel, rows), rtol=0, atol=4 * ROUNDING * scale(kernel, rows)
    )


@every_kernel
@pytest.mark.parametrize("block", [1, 7, 23, 512])
def test_block_sizes_change_only_the_rounding_of_a_product(kernel: Kernel, block: int) -> None:
    n, m = (24, 9) if block > 1 else (6, 4)  # a call for every pair
    rows, queries = unit(n), unit(m, seed=3)
    atol = ROUNDING * scale(kernel, rows)
    torch.testing.assert_close(gram(kernel, rows, block=block), gram(kernel, rows), rtol=0, atol=atol)
    torch.testing.assert_close(
        cross(kernel, queries, rows, block=block), cross(kernel, queries, rows), rtol=0, atol=atol
    )


@every_kernel
def test_cross_and_gram_agree(kernel: Kernel) -> None:
    rows = unit(64)
    torch.testing.assert_close(
        cross(kernel, rows, rows), gram(kernel, rows), rtol=0, atol=ROUNDING * scale(kernel, rows)
    )


@every_kernel
def test_equal_inputs_have_equal_rows_to_the_last_bit(kernel: Kernel) -> None:
    rows = unit(61)
    rows[3, 5] = 0.0
    rows /= rows.norm(dim=1, keepdim=True)
    # Copied once they are normalised: nobody promises that norms of equal rows are rounded alike.
    rows[40], rows[60], rows[17] = rows[3], rows[3], rows[16]
    rows[60, 5] = -0.0
    found = gram(kernel, rows, block=16)
    for first, later in ((3, 40), (3, 60), (16, 17)):
        assert torch.equal(found[first], found[later])
        assert torch.equal(found[:, first], found[:, later])
        assert found[first, first] == found[first, later] == found[later, later]
    assert torch.equal(found, found.T)
    between = cross(kernel, rows, rows, block=16)
    for first, later in ((3, 40), (3, 60), (16, 17)):
        assert torch.equal(between[first], between[later])
        assert torch.equal(between[:, first], between[:, later])


@every_kernel
def test_float32_agrees_with_float64_to_its_own_rounding(kernel: Kernel) -> None:
    rows, queries = unit(64), unit(9, seed=3)
    atol = ROUNDING * 2**29 * scale(kernel, rows)
    for function, given in ((gram, (rows,)), (cross, (queries, rows))):
        single = function(kernel, *given, dtype=torch.float32)
        double = function(kernel, *given)
        assert single.dtype == torch.float64
        assert not torch.equal(single, double)
        torch.testing.assert_close(single, double, rtol=0, atol=atol)


@every_kernel
def test_near_duplicates_in_float32_have_no_nan_and_stay_in_bounds(kernel: Kernel) -> None:
    rows = unit(30)
    near = rows + 1e-6 * unit(30, seed=5)
    rows = torch.cat([rows, near / near.norm(dim=1, keepdim=True)])
    found = gram(kernel, rows, dtype=torch.float32)
    assert bool((found <= scale(kernel, rows) * (1 + ROUNDING * 2**29)).all())


@every_kernel
def test_inputs_are_never_written_to(kernel: Kernel, frozen) -> None:
    rows, queries = unit(30), unit(5, seed=3)
    rows[4] = rows[3]
    frozen(rows, queries)
    gram(kernel, rows)
    cross(kernel, queries, rows)
    cross(kernel, rows, rows, dtype=torch.float32)
    kernel.diagonal(rows)


@every_kernel
def test_no_inputs_give_an_empty_matrix(kernel: Kernel) -> None:
    rows = unit(5)
    assert gram(kernel, rows[:0]).shape == (0, 0)
    assert cross(kernel, rows[:0], rows).shape == (0, 5)
    assert kernel.diagonal(rows[:0]).shape == (0,)


@every_kernel
def test_infinitely_wide_networks_start_at_zero(kernel: Kernel) -> None:
    assert kernel.initial(unit(3)) is None


def test_uncentred_inputs_keep_their_small_distances() -> None:
    # A table with a large offset: all rows within 1e-5 of each other, angles around 1e-6.
    rows = 1 + 1e-6 * unit(40, 4)
    rows /= rows.norm(dim=1, keepdim=True)
    found = gram(TwoLayerReLU(), rows)
    kernel_distance = 1 - 2 * found  # θ/π + O(θ²): what separates the inputs in the kernel's eyes
    chord = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    torch.testing.assert_close(kernel_distance, chord / math.pi, rtol=0, atol=1e-12)

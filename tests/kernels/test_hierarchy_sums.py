"""Sums of K₃ and K₄ over examples and pairs: by differentiation, by quadrature, of all n⁴ entries."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from laws import assert_same
from leftout.core.errors import MemoryBudgetError, NotPositiveError
from leftout.kernels.hierarchy import relu_fourth
from leftout.kernels.hierarchy.changes import change_of
from leftout.kernels.hierarchy.one_network import network_hierarchy, tangent_gram
from leftout.kernels.hierarchy.pull import pull
from leftout.kernels.hierarchy.relu_fourth import fourth_order
from leftout.kernels.hierarchy.sampled import Draw
from leftout.kernels.wide.options import Activation
from leftout.kernels.wide.two_layer import TwoLayer
from oracles.hierarchy import (
    drawn,
    expected_fourth,
    fourth_by_differentiation,
    fourth_of_neurons,
    kernel_by_differentiation,
    pulled_by_quadrature,
    third_by_differentiation,
)
from problems.networks import seeded

ACTIVATIONS = get_args(Activation)
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
TIMES = (0.05, 0.7, 6.0)


def examples(n: int = 5, d: int = 3, *, seed: int = 5) -> tuple[Tensor, Tensor]:
    """Inputs of different norms, and a residual."""
    x = 0.8 * torch.randn(n, d, generator=seeded(seed), dtype=torch.float64)
    return x, torch.randn(n, generator=seeded(seed + 1), dtype=torch.float64)


# How hard examples have pulled


@pytest.mark.parametrize("time", TIMES)
def test_pull_is_the_double_integral(time: float) -> None:
    x, residual = examples()
    gram = TwoLayer("tanh").block(x, x)
    found = pull(gram, residual, time=time)
    # 60 nodes for e^{−ut}, ut ≤ 30: far beyond rounding.
    single, pairs = pulled_by_quadrature(gram.numpy(), residual.numpy(), time)
    assert_same(found.single, single, rtol=1e-12)
    assert_same(found.pairs, pairs, rtol=1e-12)


@pytest.mark.parametrize("time", [*TIMES, 1e-9, math.inf])
def test_both_orders_of_a_pair_make_a_square(time: float) -> None:
    x, residual = examples()
    found = pull(TwoLayer("relu").block(x, x), residual, time=time)
    assert_same(found.pairs + found.pairs.T, torch.outer(found.single, found.single), rtol=1e-12)


def test_pull_at_the_end_is_the_formula_of_the_eigenbasis() -> None:
    x, residual = examples()
    gram = TwoLayer("erf").block(x, x)
    values, vectors = np.linalg.eigh(gram.numpy())
    b = vectors.T @ residual.numpy()
    middle = np.array(
        [
            [b[i] * b[j] * (1 / (u * v) - 1 / (v * (u + v))) for j, v in enumerate(values)]
            for i, u in enumerate(values)
        ]
    )
    end = pull(gram, residual)
    assert_same(end.pairs, vectors @ middle @ vectors.T, rtol=1e-12)
    assert_same(end.single, np.linalg.solve(gram.numpy(), residual.numpy()), rtol=1e-12)
    late = pull(gram, residual, time=60 / values[0])  # what is left to learn: e^−60
    assert_same(late.pairs, end.pairs, rtol=1e-12)
    assert_same(late.single, end.single, rtol=1e-12)


def test_pull_begins_linearly_and_quadratically() -> None:
    x, residual = examples()
    time = 1e-9
    found = pull(TwoLayer("gelu").block(x, x), residual, time=time)
    # The next order is t times the largest eigenvalue, 5 or so.
    assert_same(found.single, time * residual, rtol=1e-7)
    assert_same(found.pairs, time**2 / 2 * torch.outer(residual, residual), rtol=1e-7)
    none = pull(TwoLayer("gelu").block(x, x), residual, time=0.0)
    assert float(none.single.abs().max()) == float(none.pairs.abs().max()) == 0


def test_time_is_in_units_of_one_over_the_kernel() -> None:
    x, residual = examples()
    gram = TwoLayer("relu").block(x, x)
    one, other = pull(gram, residual, time=0.9), pull(10 * gram, residual, time=0.09)
    assert_same(10 * other.single, one.single, rtol=1e-13)
    assert_same(100 * other.pairs, one.pairs, rtol=1e-13)


def test_a_direction_that_is_never_learned_pulls_for_ever() -> None:
    """An eigenvalue of 0: its residual stays, and α grows like t."""
    residual = torch.tensor([2.0, 1.0], dtype=torch.float64)
    found = pull(torch.diag(torch.tensor([0.0, 1.0]).double()), residual, time=3.0)
    learned = 1 - math.exp(-3.0)
    assert_same(found.single, [6.0, learned], rtol=1e-14)
    # ∫ 2 · 2u du; ∫ 2 (1 − e^−u) du; ∫ e^−u 2u du; ∫ e^−u (1 − e^−u) du
    want = [[18.0, 2 * (3 - learned)], [2 * (1 - 4 * math.exp(-3.0)), learned**2 / 2]]
    # a = t · 1e-150 stands for the 0: half of the first entry is a², made as exp(2 ln a). Rounding of that
    # exponent, 691 half ulps, is as much of the result.
    assert_same(found.pairs, want, rtol=691 * 2.0**-53 / 2)


def test_without_an_end_of_training_a_time_is_asked_for() -> None:
    with pytest.raises(NotPositiveError, match=r"smallest eigenvalue is .*finite `time`"):
        pull(torch.ones(3, 3, dtype=torch.float64), torch.ones(3, dtype=torch.float64))


# One network


@every_activation
@pytest.mark.parametrize("time", [0.7, 6.0])
def test_sums_of_one_network_are_those_of_its_kernels_by_differentiation(
    activation: Activation, time: float
) -> None:
    x, residual = examples()
    weights, readout = drawn(7, 3, seed=1)
    found = network_hierarchy(activation, weights, readout, x, residual, time=time)
    rows = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    start = kernel_by_differentiation(activation, weights, readout, x[rows]).view(5, 5)
    assert_same(found.start, start, rtol=1e-13)
    single, pairs = pulled_by_quadrature(start.numpy(), residual.numpy(), time)
    third = third_by_differentiation(activation, weights, readout, x).numpy()
    fourth = fourth_by_differentiation(activation, weights, readout, x).numpy()
    # Sums of 5⁴ terms of either sign: some hundred roundings of the largest.
    assert_same(found.first, np.einsum("i,abi->ab", single, third), rtol=1e-11)
    assert_same(found.second, np.einsum("ij,abij->ab", pairs, fourth), rtol=1e-11)
    assert_same(found.after_training, found.start + found.first + found.second, rtol=1e-15)


def test_the_kernel_of_a_network_moves_along_its_third_and_bends_along_its_fourth() -> None:
    """d/dt and d²/dt² of K under gradient flow, at 0: Σ r K₃ and Σ r r K₄ − Σ (H r) K₃."""
    x, residual = examples()
    weights, readout = drawn(30, 3, seed=2)
    start = tangent_gram("tanh", weights, readout, x)
    step = 1e-4

    def after(time: float) -> Tensor:
        """Runge and Kutta's step of w' = J(w)ᵀ (r − change of f)."""
        both = torch.cat([weights, readout[:, None]], dim=1)

        def slope(at: Tensor) -> Tensor:
            w, a = at[:, :3], at[:, 3]
            s = torch.tanh(x @ w.T)
            pull_of = residual - (s @ a - torch.tanh(x @ weights.T) @ readout) / math.sqrt(30)
            inner = (1 - s**2) * a * pull_of[:, None]
            return torch.cat([inner.T @ x, (pull_of @ s)[:, None]], dim=1) / math.sqrt(30)

        one = slope(both)
        two = slope(both + time / 2 * one)
        three = slope(both + time / 2 * two)
        four = slope(both + time * three)
        end = both + time / 6 * (one + 2 * two + 2 * three + four)
        return tangent_gram("tanh", end[:, :3], end[:, 3], x)

    found = network_hierarchy("tanh", weights, readout, x, residual, time=step)
    # K̂ is right to the second order: what is left is of the third.
    left = (after(step) - found.after_training).abs().max() / (after(step) - start).abs().max()
    assert float(left) < 100 * step**2
    assert float(found.second.abs().max() / found.first.abs().max()) < 100 * step


# The expectation over networks


@every_activation
def test_the_mean_over_drawn_neurons_is_that_of_all_entries_of_k4(activation: Activation) -> None:
    x, residual = examples()
    pulled = pull(TwoLayer(activation).block(x, x), residual, time=2.0)
    draw = Draw(activation=activation, neurons=64, seed=3)
    found = change_of(x, pulled, draw=draw, memory=None).between(x, None)
    weights = torch.cat([one for group in range(16) for one in draw.weights(group, 3)])
    assert len(weights) == 64
    each = np.einsum("ij,rabij->rab", pulled.pairs, fourth_of_neurons(activation, weights.numpy(), x.numpy()))
    assert_same(found.value, each.mean(0), rtol=1e-11)
    groups = each.reshape(16, 4, 5, 5).mean(1)
    assert_same(found.standard_error, groups.std(0, ddof=1) / 4, rtol=1e-9)


@pytest.mark.sample(2)
@every_activation
def test_the_expectation_is_that_of_random_networks(activation: Activation) -> None:
    """Sums of m K₄ of one pair by differentiation, of sixteen networks with readouts of their own."""
    x, residual = examples()
    pulled = pull(TwoLayer(activation).block(x, x), residual, time=2.0)
    own = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    points = torch.cat([torch.tensor([[0, 1]]).expand(25, 2), own], dim=1)
    found = []
    for seed in range(16):
        fourth = kernel_by_differentiation(activation, *drawn(2000, 3, seed=100 + seed), x[points])
        found.append(2000 * float(fourth @ pulled.pairs.flatten()))
    draw = Draw(activation=activation, neurons=2**15, seed=0)
    said = change_of(x, pulled, draw=draw, memory=None).between(x[:1], x[1:2])
    error = math.hypot(np.std(found, ddof=1) / 4, float(said.standard_error))
    assert abs(np.mean(found) - float(said.value)) < 4 * error
    assert error < 0.2 * abs(float(said.value))


@every_activation
def test_queries_the_diagonal_and_pairs_agree(activation: Activation) -> None:
    # Not of three features: there moments of four directions hold the root of a rounding, see `orthants`.
    x, residual = examples(5, 6)
    queries = torch.cat([x[2:4], examples(3, 6, seed=9)[0]])
    pulled = pull(TwoLayer(activation).block(x, x), residual, time=2.0)
    exact = [None] if activation == "relu" else []
    for draw in [Draw(activation=activation, neurons=48, seed=3), *exact]:
        change = change_of(x, pulled, draw=draw, memory=None)
        whole = change.between(torch.cat([queries, x]), None).value
        assert_same(change.between(queries, x).value, whole[:5, 5:], rtol=1e-11)
        assert_same(change.own(queries).value, whole.diagonal()[:5], rtol=1e-11)
        assert_same(change.between(x, None).value, whole[5:, 5:], rtol=1e-11)
        assert_same(whole, whole.T, rtol=1e-11)
        assert change.between(x[:0], x).value.shape == (0, 5)
        assert change.own(x[:0]).value.shape == (0,)


def test_the_expected_fourth_order_kernel_of_relu_is_that_of_random_draws() -> None:
    x, _ = examples(4)
    x[3] = 2 * x[1]  # the same direction
    want, error = expected_fourth("relu", x.numpy(), count=25_000)
    rows = torch.cartesian_prod(*[torch.arange(4)] * 4)
    found = fourth_order(x).at(rows).view(4, 4, 4, 4).numpy()
    # 256 numbers, in standard errors from 50 groups.
    assert (np.abs(found - want) <= 4.5 * error).all()
    assert np.abs(found - want).mean() < 1.2 * error.mean()
    # Symmetric in the first two arguments, and not in the last two.
    assert_same(found, found.transpose(1, 0, 2, 3), rtol=1e-13)
    assert np.abs(found - found.transpose(0, 1, 3, 2)).max() > 0.02 * np.abs(found).max()


@pytest.mark.parametrize("time", [0.7, math.inf])
def test_neurons_and_orthants_agree_within_standard_errors(time: float) -> None:
    x, residual = examples(7, 4)
    pulled = pull(TwoLayer("relu").block(x, x), residual, time=time)
    exact = change_of(x, pulled, draw=None, memory=None).between(x, None)
    drawn_ = change_of(x, pulled, draw=Draw(activation="relu", neurons=2**15, seed=0), memory=None).between(
        x, None
    )
    assert float(exact.standard_error.max()) == 0
    off = (drawn_.value - exact.value).abs() / drawn_.standard_error
    # Errors from 16 groups: Student's t with 15 degrees of freedom is within 5 but once in 6000.
    assert float(off.max()) < 5
    assert float(off.square().mean()) < 3
    assert float(drawn_.standard_error.norm() / exact.value.norm()) < 0.03


def test_quadruples_have_places_of_their_own() -> None:
    """Every sorted quadruple of 9 numbers, once and in the order of their places."""
    count = math.comb(9 + 3, 4)
    fours = relu_fourth._quadruples_at(torch.arange(count), 9)
    assert len({tuple(one) for one in fours.tolist()}) == count
    assert bool((fours.diff(dim=1) >= 0).all())
    assert int(fours.max()) == 8
    assert torch.equal(relu_fourth._rank(fours), torch.arange(count))


def test_inputs_drawn_from_a_seed_are_no_neurons_of_it() -> None:
    """The first neurons of group g were once the numbers that torch draws from the seed 16 s + g."""
    for group in range(16):
        weights = next(Draw(activation="relu", neurons=64, seed=0).weights(group, 8))
        for seed in range(32):
            assert not torch.equal(weights[0], torch.randn(8, generator=seeded(seed)).double())
            assert not torch.equal(weights[0], torch.randn(8, generator=seeded(seed), dtype=torch.float64))


def test_a_table_of_all_fours_that_does_not_fit_is_refused() -> None:
    x, _ = examples(40, 5)
    with pytest.raises(
        MemoryBudgetError, match=r'all fours of 40 inputs needs 16.8 MB.*expectation="neurons"'
    ):
        fourth_order(x, memory="1MB")

"""Are six sums a regression over all pairs?"""

import numpy as np
import pytest
import torch

from allocated import peak_memory
from laws import assert_same
from leftout.core.errors import DataError, NotPositiveError
from leftout.kernels import ReLU
from leftout.kernels.assemble import gram
from leftout.kernels.pairwise import pairs as module
from leftout.kernels.pairwise.pairs import Pairs
from leftout.kernels.pairwise.regression import learn_regression
from oracles.label_aware import pair_labels, regression

N = 12


def learned(labels, *, solved=False, seed=0):
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal((len(labels), 5)))
    pairs = Pairs(gram(ReLU(1), x))
    return pairs, learn_regression(pairs, torch.as_tensor(labels), solved=solved)


def test_it_is_the_weighted_mean_at_any_value() -> None:
    labels = np.arange(N) % 3
    pairs, found = learned(labels)
    values = pairs.kernel.numpy().ravel()
    bandwidth = values.max() - values.min()
    at = np.linspace(values.min() - bandwidth / 9, values.max() + bandwidth / 9, 7)
    expected = [regression(h, values, pair_labels(labels), bandwidth) for h in at]
    assert_same(found.at(torch.from_numpy(at)), expected, 1e-13)


def test_where_all_share_a_class_a_pair_does() -> None:
    pairs, found = learned([4] * N)
    # The sums of labels are those of weights, and one class is a matrix of ones whatever its number.
    assert_same(found.on(pairs), torch.ones(N, N), 1e-13)


@pytest.mark.parametrize("solved", [False, True])
def test_numbers_of_classes_only_name_them(solved) -> None:
    labels = torch.arange(N) % 2
    pairs, want = learned(labels, solved=solved)
    apart = labels * 2_000_000 - 7
    assert learn_regression(pairs, apart, solved=solved) == want
    held = peak_memory(learn_regression, pairs, apart, solved=solved)
    # Matrices and indicators of so few inputs, none of them as long as the gap between numbers.
    assert held < 8 * 10 * N * N


def test_balanced_classes_have_a_label_sum_of_zero() -> None:
    _, found = learned(np.arange(N) % 2)
    assert found.label_sums[0] == 0.0
    _, found = learned(np.arange(N) // (N - 2))
    assert found.label_sums[0] == (N - 4) ** 2


def test_a_triangle_of_tiles_is_the_matrix(monkeypatch) -> None:
    pairs, found = learned(np.arange(N) % 3)
    whole = found.on(pairs)
    monkeypatch.setitem(module.TILE, "cpu", 5)
    assert_same(found.among(pairs), whole, 1e-14)


def test_a_pair_far_from_all_training_pairs_is_named(monkeypatch) -> None:
    monkeypatch.setattr("leftout.kernels.pairwise.regression.ROWS", 2)
    pairs, found = learned(np.arange(N) % 2)
    far = pairs.kernel[:3].clone()
    far[2, 5] = pairs.kernel.max() + 2 * found.bandwidth
    message = r"kernel of pair \(2, 5\) must lie where training pairs have weight; it is .* pole there"
    with pytest.raises(DataError, match=message):
        found.on(Pairs(far))
    far[2, 5] = torch.nan  # is refused where the kernel is assembled, and stays what it is here
    assert bool(found.on(Pairs(far))[2, 5].isnan())


def test_the_pole_lies_where_weights_sum_to_zero() -> None:
    pairs, found = learned(np.arange(N) % 2)
    h, bandwidth = pairs.kernel, found.bandwidth
    mean, spread = float(h.mean()), float(h.var(correction=0))
    pole = mean + (bandwidth**2 - spread) ** 0.5
    near = torch.tensor([pole - 1e-3 * bandwidth], dtype=torch.float64)
    assert bool(found.at(near).isfinite())
    with pytest.raises(DataError, match="must lie where training pairs have weight"):
        found.at(near + 2e-3 * bandwidth)


def test_equal_kernel_values_tell_nothing_of_labels() -> None:
    pairs = Pairs(torch.full((4, 4), 2.0, dtype=torch.float64))
    with pytest.raises(DataError, match="must differ between pairs of training inputs; it is 2 for"):
        learn_regression(pairs, torch.tensor([0, 1, 0, 1]), solved=False)


def test_v2_needs_an_inverse() -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((N, 5)))
    x[7] = x[2]
    with pytest.raises(NotPositiveError, match='must be invertible for the estimator "kr-v2"'):
        learn_regression(Pairs(gram(ReLU(1), x)), torch.arange(N) % 2, solved=True)
    negative = torch.diag(torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64))
    with pytest.raises(NotPositiveError, match="pivot 2 of 3 is ≤ 0"):
        learn_regression(Pairs(negative), torch.tensor([0, 1, 1]), solved=True)

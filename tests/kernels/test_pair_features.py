"""Does least squares on tiles of pairs solve the equations of all of them?"""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from laws import assert_same
from leftout.core.errors import DataError
from leftout.kernels import ReLU
from leftout.kernels.pairwise import pairs as module
from leftout.kernels.pairwise.axes import DENSE, principal_axes
from leftout.kernels.pairwise.features import NAMES, RANK, checked_pairs, features_and_label, learn_features
from leftout.kernels.pairwise.pairs import Pairs, pairs_among, pairs_between
from oracles.kernels import exact_deep
from oracles.label_aware import feature_regression, pair_labels

N, D = 26, 9


def rows(n=N, d=D, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)))


def relu(x, z):
    return float(exact_deep("relu", x, z, depth=1, w=2.0, b=0.0)["ntk"])


def learned(x, classes=2, **options):
    pairs = pairs_among(ReLU(1), x, pixels=True)
    labels = torch.arange(len(x)) % classes
    found, higher = learn_features(pairs, labels, **{"components": False, "sketch": None} | options)
    # Summed in another order: eps times what cancels, at most 1/√RANK where features are multiples.
    assert_same(higher, found.among(pairs), 1e-15 / RANK**0.5)
    return pairs, labels, found


def columns(pairs, labels, found):
    """Return features (pairs, f) and labels as an explicit data set."""
    seen = checked_pairs(pairs, appended=found.appended)
    scores = None if found.axes is None else (found.axes.scores, found.axes.scores)
    given = torch.stack([*features_and_label(seen, labels, scale=found.scale, scores=scores)])
    *made, agree = given.flatten(1).numpy()
    assert_same(agree, pair_labels(labels), 0)
    return np.stack(made, axis=1), agree


@pytest.mark.parametrize("components", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_nothing_is_left_that_a_feature_explains(components, classes) -> None:
    pairs, labels, found = learned(rows(), classes, components=components)
    made, agree = columns(pairs, labels, found)
    left = agree - found.among(pairs).numpy().ravel()
    sizes = np.linalg.norm(made, axis=0) * np.linalg.norm(agree)
    # Orthogonality is what defines least squares; rounded by eps a pair, and by its summation.
    assert np.abs(made.T @ left / sizes).max() < 1e-13
    assert found.rank == made.shape[1]


def test_inputs_of_one_norm_have_features_that_are_multiples() -> None:
    x = rows()
    x = 3 * x / x.norm(dim=1, keepdim=True)
    pairs, labels, found = learned(x, components=True)
    assert found.rank == 18  # x·x', |x − x'|² and cos say the same, beside the constant |x||x'|
    made, agree = columns(pairs, labels, found)
    best = made @ np.linalg.lstsq(made, agree, rcond=1e-9)[0]
    # eps times the condition of what is told apart, which the cut lets be 1/√RANK.
    assert_same(found.among(pairs).numpy().ravel(), best, 1e-15 / RANK**0.5)
    other = rows(5, seed=1)
    other = 3 * other / other.norm(dim=1, keepdim=True)
    z = found.on(pairs_between(ReLU(1), other, x, pixels=True))
    # Multiples there too: what the rest of norm 0 is worth shows nowhere.
    want = feature_regression(other.numpy(), x.numpy(), labels.numpy(), relu, components=True)
    assert_same(z, want, 1e-15 / RANK**0.5)


def test_norms_kept_in_float32_are_one_norm() -> None:
    x = rows()
    x = (3 * x / x.norm(dim=1, keepdim=True)).float().double()
    exact = learned(3 * x / x.norm(dim=1, keepdim=True))
    found = learned(x)
    assert found[2].rank == exact[2].rank
    # 2^-24 of each norm, over the least share of a feature that is told apart.
    assert_same(found[2].among(found[0]), exact[2].among(exact[0]), 2**-24 / RANK**0.5)


@pytest.mark.parametrize("size", [1, 7, 26, 1000])
def test_sizes_of_tiles_change_only_rounding(size, monkeypatch) -> None:
    pairs, labels, found = learned(rows(), components=True)
    z = found.among(pairs)
    monkeypatch.setitem(module.TILE, "cpu", size)
    again, _ = learn_features(pairs, labels, components=True, sketch=None)
    assert_same(again.coefficients, found.coefficients, 1e-9)
    assert_same(again.among(pairs), z, 1e-12)
    assert_same(again.on(pairs), z, 1e-12)


def test_features_that_are_kept_are_those_that_are_made_again(monkeypatch) -> None:
    pairs, labels, found = learned(rows(), components=True)
    monkeypatch.setattr("leftout.kernels.pairwise.features.STORED", 0)
    again, _ = learn_features(pairs, labels, components=True, sketch=None)
    assert torch.equal(again.coefficients, found.coefficients)


def test_a_constant_is_appended_for_two_classes_only() -> None:
    assert learned(rows(), 2)[2].appended
    assert not learned(rows(), 3)[2].appended


def test_each_input_with_itself_is_the_diagonal() -> None:
    for components in (False, True):
        pairs, _, found = learned(rows(), components=components)
        scores = None if found.axes is None else found.axes.scores
        each = found.of_each(pairs.kernel.diagonal(), pairs.left, scores)
        assert_same(each, found.among(pairs).diagonal(), 1e-13)


def test_features_are_recorded_by_name() -> None:
    record = learned(rows(), components=True)[2].record
    assert tuple(record["coefficients"])[:10] == NAMES
    assert len(record["coefficients"]) == 20
    assert record["rank"] == 20


@pytest.mark.parametrize("n", [20, DENSE, DENSE + 1, 90])
def test_components_are_those_of_the_pixels(n) -> None:
    x, z = rows(n), rows(7, seed=1)
    axes = principal_axes(x @ x.T)
    fitted = PCA(5, svd_solver="full").fit(x.numpy())
    for found, pixels in ((axes.scores, x), (axes.scores_of(z @ x.T), z)):
        expected = fitted.transform(pixels.numpy())
        signs = np.sign((found.numpy() * expected).sum(0))
        # eps over the relative gaps of variances, which are some percent here.
        assert_same(found.numpy() * signs, expected, 1e-11)


def test_components_of_many_inputs_are_the_same_each_time() -> None:
    x = rows(90)
    assert torch.equal(principal_axes(x @ x.T).loadings, principal_axes(x @ x.T).loadings)


@pytest.mark.parametrize(("n", "d", "usable"), [(5, 9, 4), (30, 3, 3), (80, 4, 4)])
def test_too_few_directions_are_refused(n, d, usable) -> None:
    message = f'at least 5 directions for the estimator "fjlt-v2"; these {n} vary in {usable}'
    with pytest.raises(DataError, match=message):
        learned(rows(n, d), components=True)


def test_inputs_without_direction_or_spread_are_named() -> None:
    x = rows()
    x[4] = 0.3
    with pytest.raises(DataError, match=r"direction and a spread .*; row input 4 has all features equal"):
        learned(x, 3)
    assert learned(x, 2)[2].rank == 10  # the appended 1 differs from 0.3
    pairs, _, found = learned(rows(), 3)
    asked = rows(3, seed=1)
    asked[1] = 0
    zero = pairs_between(ReLU(1, bias_variance=0.1), asked, rows(), pixels=True)
    with pytest.raises(DataError, match="row input 1 has norm 0"):
        found.on(zero)
    del pairs


@pytest.mark.parametrize("value", [2.0, 0.3])
def test_inputs_that_are_all_the_same_tell_nothing_of_labels(value) -> None:
    x = torch.full((6, D), value, dtype=torch.float64)
    x[:, 0] = 0.1
    same = pairs_among(ReLU(1), x, pixels=True)
    with pytest.raises(DataError, match="Inputs must differ from each other"):
        learn_features(same, torch.arange(6) % 2, components=False, sketch=None)


def test_no_pixel_is_needed_but_what_pairs_hold() -> None:
    pairs, labels, found = learned(rows())
    bare = Pairs(pairs.kernel, pairs.products, pairs.l1, pairs.left, pairs.right)
    again, _ = learn_features(bare, labels, components=False, sketch=None)
    assert torch.equal(again.coefficients, found.coefficients)

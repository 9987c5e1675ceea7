"""What is there too little of, what is like nothing else? Planted, and found again."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.curation.mislabelled import find_mislabelled
from leftout.curation.rare import AGREEMENT, NEAREST, SHARE, neighbours, outliers, rare
from leftout.data.planted import flip_labels, plant_outliers, thin_class
from oracles import definitions as oracles
from problems.curated import THREE, classified, coded, fitted_to
from problems.small import problem, training

KERNEL = lo.kernels.TwoLayerReLU()


@pytest.fixture(scope="module")
def digits():
    return lo.load("digits")[0]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def quartile_fence(values):
    low, high = np.quantile(values, [0.25, 0.75])
    return high + 1.5 * (high - low)


@pytest.mark.parametrize(("rule", "time"), [(lo.Ridge(0.05), None), (lo.GradientFlow(1.0, 0.01), 30.0)])
def test_all_and_only_consistent_examples_beyond_the_fence_are_rare(rule, time) -> None:
    made, labels = classified(THREE, n=60, seed=2)
    labels[: made.n] = np.sort(labels[: made.n])
    spread = made.gram / np.sqrt(np.outer(np.diag(made.gram), np.diag(made.gram)))
    targets = coded(labels[: made.n], THREE)
    loss = oracles.loss(oracles.out_of_sample(made.gram, targets, training(rule, time)), targets)
    np.fill_diagonal(spread, -np.inf)
    nearest = np.argsort(-spread, axis=1)[:, :NEAREST]
    shared = (labels[nearest] == labels[: made.n, None]).mean(1)
    order = np.argsort(-loss, kind="stable")
    want = [i for i in order if loss[i] > quartile_fence(loss) and shared[i] >= AGREEMENT]
    want = want[: math.ceil(SHARE * made.n)]
    found = rare(fitted_to(made, labels, rule), at=time)
    assert [one.row for one in found] == want
    assert_same([one.loss for one in found], loss[want])
    assert_same([one.agreement for one in found], shared[want])


def test_rare_examples_exist_in_the_problem_above() -> None:
    made, labels = classified(THREE, n=60, seed=2)
    labels[: made.n] = np.sort(labels[: made.n])
    assert rare(fitted_to(made, labels, lo.Ridge(0.05)))


@pytest.mark.parametrize("cls", ["0", "3", "8"])
def test_a_class_of_which_few_are_left_shows_up(digits, cls) -> None:
    thin = thin_class(digits, cls, 10, generator=seeded())
    fitted = lo.fit(KERNEL, thin.examples, rule=lo.Ridge(1.0))
    left = set(thin.rows.tolist())
    found = [one.row for one in rare(fitted)]
    hits = left & set(found)
    # 10 of some 1180: of 24 named by chance, one in five would be of them.
    assert len(hits) >= 4, f"{len(hits)} of 10 in {found}"
    assert left & set(found[:3]), "and first of all"


def test_wrong_labels_are_not_taken_for_rare_ones(digits) -> None:
    flipped = flip_labels(digits, 0.1, generator=seeded())
    found = rare(lo.fit(KERNEL, flipped.examples, rule=lo.Ridge(0.1)))
    assert found
    assert not {one.row for one in found} & set(flipped.rows.tolist())


def test_a_rare_number_is_badly_predicted_but_not_doubted() -> None:
    drawn = problem(n=120, k=1, seed=3)
    # Numbers that the kernel knows in part, or nothing would be doubted.
    made = replace(drawn, targets=drawn.targets + 2 * drawn.whole[:, :120].sum(1, keepdims=True))
    fitted = made.fitted(lo.Ridge(0.05))
    doubted = {one.row for one in find_mislabelled(fitted).suspects}
    found = rare(fitted)
    loss = oracles.loss(
        oracles.out_of_sample(made.gram, made.residual, training(lo.Ridge(0.05))), made.residual
    )
    want = [i for i in np.argsort(-loss) if loss[i] > quartile_fence(loss) and i not in doubted]
    assert [one.row for one in found] == want[: math.ceil(SHARE * 120)]
    assert all(math.isnan(one.agreement) for one in found)
    assert all("neighbours" not in one.reason for one in found)


def test_no_more_than_a_readable_share_is_named_the_worst_first(digits) -> None:
    found = rare(lo.fit(KERNEL, digits, rule=lo.Ridge(0.1)))
    assert len(found) == math.ceil(SHARE * len(digits))
    losses = [one.loss for one in found]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_too_few_to_compare_are_neither_rare_nor_outliers(n) -> None:
    made = problem(n=n)
    fitted = made.fitted(lo.Ridge(0.1))
    assert rare(fitted) == ()
    assert outliers(fitted) == ()


@pytest.mark.parametrize("count", [1, 5, 20])
def test_planted_outliers_are_the_loneliest(digits, count) -> None:
    planted = plant_outliers(digits, count, generator=seeded())
    found = outliers(lo.fit(KERNEL, planted.examples, rule=lo.Ridge(0.1)))
    assert {one.row for one in found[:count]} == set(planted.rows.tolist())


def test_similarity_is_the_kernel_correlation_with_the_closest_other(digits) -> None:
    planted = plant_outliers(digits, 5, generator=seeded())
    few = planted.examples.select(list(range(300)))
    fitted = lo.fit(KERNEL, few, rule=lo.Ridge(0.1))
    gram = fitted.gram.numpy()
    alike = gram / np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
    np.fill_diagonal(alike, -np.inf)
    closest = alike.max(1)
    found = outliers(fitted)
    assert found
    assert_same([one.similarity for one in found], closest[[one.row for one in found]])
    beyond = np.arccos(closest) > quartile_fence(np.arccos(closest))
    assert {one.row for one in found} == set(np.flatnonzero(beyond).tolist())
    assert f"correlation of {found[0].similarity:.3f}" in found[0].reason


def test_equal_examples_are_no_outliers() -> None:
    inputs = torch.ones(20, 3, dtype=torch.float64)
    targets = np.linspace(0.0, 1.0, 20)
    fitted = lo.fit(lo.kernels.From(lambda x, z: x @ z.T), (inputs, targets), rule=lo.Ridge(1.0))
    assert outliers(fitted) == ()
    values, rows = neighbours(fitted, 1)
    assert_same(values, np.ones((20, 1)))
    assert not (rows[:, 0] == torch.arange(20)).any(), "nobody is a neighbour of himself"


def test_neighbours_are_the_same_across_blocks() -> None:
    draw = np.random.default_rng(0)
    inputs = draw.standard_normal((600, 4))  # more than one block of 512 rows
    fitted = lo.fit(
        lo.kernels.From(lambda x, z: x @ z.T), (inputs, draw.standard_normal(600)), rule=lo.Ridge(1.0)
    )
    norms = np.linalg.norm(inputs, axis=1)
    alike = inputs @ inputs.T / np.outer(norms, norms)
    np.fill_diagonal(alike, -np.inf)
    values, rows = neighbours(fitted, 3)
    assert_same(values, -np.sort(-alike, axis=1)[:, :3])
    assert_same(alike[np.arange(600)[:, None], rows.numpy()], values)


def test_neighbours_are_those_of_before_labels_were_seen() -> None:
    """Also where labels made k(x, x) negative, of which there is no root."""
    inputs = torch.nn.functional.normalize(torch.randn(20, 5, generator=seeded(), dtype=torch.float64))
    data = (inputs, torch.arange(20) % 2)
    aware = lo.kernels.LabelAware(lo.kernels.ReLU(1), "kr-v2", 30.0)
    fitted, plain = lo.fit(aware, data), lo.fit(lo.kernels.ReLU(1), data)
    assert float(fitted.gram.diagonal().min()) < 0, "or the test says nothing"
    for one in (fitted, lo.fit(fitted.kernel.freeze_labels(), data)):
        found, wanted = neighbours(one, 3), neighbours(plain, 3)
        assert torch.equal(found[1], wanted[1])
        assert_same(found[0], wanted[0])
    few = lo.fit(fitted.kernel.freeze_labels(), (inputs[:9], data[1][:9]))
    assert_same(
        neighbours(few, 2)[0], neighbours(lo.fit(lo.kernels.ReLU(1), (inputs[:9], data[1][:9])), 2)[0]
    )
    assert outliers(fitted) == outliers(plain)

"""What could go? The order is that of exact changes, the effect of many is that of a refit."""

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.core.errors import OptionError
from leftout.curation.redundant import FRACTIONS, redundant
from oracles import definitions as oracles
from oracles.loss_change import interval
from problems.curated import BINARY, THREE, classified, coded, fitted_to, query_of
from problems.small import problem, training

RULES = {
    "ridge": (lo.Ridge(0.05), None),
    "mean ridge": (lo.Ridge(0.003, "mean"), None),
    "flow": (lo.GradientFlow(1.0, 0.01), 30.0),
    "mean descent": (lo.GradientDescent(20.0, 0.001, "mean"), 40),
}


@pytest.mark.parametrize(("rule", "time"), RULES.values(), ids=RULES)
def test_what_moves_the_predictions_least_goes_first(rule, time) -> None:
    made = problem(n=24, m=6, k=2)
    changes = oracles.leave_one_out(
        made.gram, made.cross, made.residual, made.wanted, training(rule, time), "prediction"
    )
    moves = 0.5 * (changes**2).sum(2).mean(0)
    found = redundant(made.fitted(rule), made.query, at=time)
    assert list(found.order) == np.argsort(moves).tolist()


@pytest.mark.parametrize("classes", [BINARY, THREE])
@pytest.mark.parametrize(("rule", "time"), RULES.values(), ids=RULES)
def test_loss_and_accuracy_without_the_first_are_those_of_refits(rule, time, classes) -> None:
    made, labels = classified(classes)
    targets = coded(labels, classes)
    found = redundant(fitted_to(made, labels, rule), query_of(made, labels), at=time)
    assert found.counts == (0, 1, 2, 5, 7, 12)  # round(24 · fractions), each once
    assert found.shares == tuple(count / made.n for count in found.counts)
    for count, loss, accuracy in zip(found.counts, found.loss, found.accuracy, strict=True):
        predicted = oracles.prediction_without(
            made.gram, made.cross, targets[: made.n], training(rule, time), found.order[:count]
        )
        assert_same(loss, oracles.loss(predicted, targets[made.queries]).mean())
        said = predicted[:, 0] >= 0 if classes == BINARY else predicted.argmax(1)
        assert accuracy == np.mean(said == labels[made.queries])


@pytest.mark.parametrize("tolerance", [0.0, 0.01, 0.1, 0.5, 3.0, 1e9])
def test_the_stop_is_the_last_count_before_a_rise_beyond_the_tolerance_is_possible(tolerance) -> None:
    made = problem(n=40, m=8)
    fractions = (0.02, 0.1, 0.2, 0.4, 0.6, 0.9)
    found = redundant(made.fitted(lo.Ridge(0.05)), made.query, fractions=fractions, tolerance=tolerance)
    losses = [
        oracles.loss(
            oracles.prediction_without(
                made.gram, made.cross, made.residual, training(lo.Ridge(0.05)), found.order[:count]
            ),
            made.wanted,
        )
        for count in found.counts[1:]
    ]
    everyone = oracles.loss(
        made.cross @ np.linalg.solve(made.gram + 0.05 * np.eye(40), made.residual), made.wanted
    )
    limit = tolerance * everyone.mean()
    within = [True, *(interval((of - everyone).tolist(), 6)[2] <= limit for of in losses)]
    position = found.counts.index(found.stop)
    assert all(within[: position + 1])
    assert position == len(within) - 1 or not within[position + 1]
    if found.stop:
        assert f"The first {found.stop} of 40 examples" in found.reason
        assert f", where {tolerance:.0%} is accepted. All upper ends hold together at 95%." in found.reason
    else:
        assert "Nothing is redundant at these queries: without the first example, the mean" in found.reason


def test_rows_that_stay_stand_last_and_no_share_reaches_them() -> None:
    made = problem(n=20, m=6)
    fitted = made.fitted(lo.Ridge(0.05))
    free = redundant(fitted, made.query)
    keep = free.order[0], free.order[3], *free.order[12:]
    for order in ("least", "most", "random", "iterative"):
        # Rounds go on until what may go has gone.
        plain = lo.prune(fitted, made.query, order=order, shares=(0.95,))
        found = lo.prune(fitted, made.query, order=order, shares=FRACTIONS, keep=keep)
        assert list(found.order) == [
            *(row for row in plain.order if row not in keep),
            *(row for row in plain.order if row in keep),
        ]
        assert max(found.counts) <= 10
        assert lo.prune(fitted, made.query, order=order, shares=(0.45, 0.9), keep=keep).counts == (0, 9)
        if order != "random":
            assert_same(found.by_row, plain.by_row)
    for wrong in ([20], [-1]):
        with pytest.raises(OptionError, match="`keep` must be a row number from 0 to 19; got"):
            redundant(fitted, made.query, keep=wrong)


def test_a_loss_that_comes_back_does_not_move_the_stop() -> None:
    # The queries are predicted as 1 = their target by both examples together and by none: f = 1 with
    # both, 0.5 without one of them.
    gram = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.5, 0.5, 1.0]])
    kernel = lo.kernels.Precomputed(torch.from_numpy(gram))
    rows = torch.tensor([0.0, 1.0], dtype=torch.float64)
    fitted = lo.fit(kernel, (rows, np.array([1.0, 1.0])), rule=lo.Ridge(0.0))
    query = (torch.tensor([2.0, 2.0], dtype=torch.float64), np.array([1.0, 1.0]))
    found = redundant(fitted, query)
    assert_same(found.loss, [0.0, 0.125])
    assert found.stop == 0
    assert "without the first example, the mean query loss changes by +0.125" in found.reason
    alone = redundant(fitted, (query[0][:1], query[1][:1]))
    assert (alone.stop, alone.loss) == (0, found.loss)
    assert "how the mean query loss changes cannot be told from so few queries" in alone.reason


def test_the_effect_of_many_is_joint_and_no_sum_of_single_effects() -> None:
    # Two copies of one point, and two points by themselves, each asked about; ridge 0.1. Without one
    # copy little changes, without both everything: 2 / 2.1, 1 / 1.1, 0 is predicted where 1 is right.
    kernel = lo.kernels.Precomputed(torch.eye(3, dtype=torch.float64))
    rows = torch.tensor([1.0, 0.0, 0.0, 2.0], dtype=torch.float64)
    fitted = lo.fit(kernel, (rows, np.ones(4)), rule=lo.Ridge(0.1))
    query = (torch.arange(3, dtype=torch.float64), np.ones(3))
    found = redundant(fitted, query, fractions=(0.25, 0.5))
    assert found.order == (1, 2, 0, 3)
    alone = (0.1 / 1.1) ** 2 / 2
    assert_same(found.loss, [((0.1 / 2.1) ** 2 / 2 + 2 * alone) / 3, alone, (1 / 2 + 2 * alone) / 3])
    assert found.stop == 0


def test_what_the_model_and_the_queries_never_see_goes_first_and_changes_nothing() -> None:
    made = problem(n=20, m=5)
    whole = made.whole.copy()
    unseen = [3, 11]
    for row in unseen:
        whole[row], whole[:, row] = 0.0, 0.0
        whole[row, row] = 1.0
    rows = torch.arange(20, dtype=torch.float64)
    kernel = lo.kernels.Precomputed(torch.from_numpy(whole))
    fitted = lo.fit(kernel, (rows, torch.from_numpy(made.residual)), rule=lo.Ridge(0.1))
    found = redundant(fitted, made.query, fractions=(0.1,))
    assert found.order[:2] == (3, 11)
    assert_same(found.loss[1], found.loss[0], rtol=1e-14)
    assert found.stop == 2


def test_queries_in_another_order_or_in_blocks_give_the_same() -> None:
    train, query = lo.load("digits", n_train=50, n_query=90)
    rule = lo.GradientFlow(1.0, 0.1)
    kernel = lo.kernels.TwoLayerReLU()
    straight = redundant(lo.fit(kernel, train, rule=rule), query, at=20.0)
    turned = query.select(np.arange(90)[::-1].copy())
    # 6 · 8 · 50 bytes a query: blocks of 64 queries; 8 · 8 · 50 · 10 for the moves: of 4.
    cramped = lo.fit(kernel, train, rule=rule, memory=155_000)
    for other in (
        redundant(lo.fit(kernel, train, rule=rule), turned, at=20.0),
        redundant(cramped, query, at=20.0),
    ):
        assert other.order == straight.order
        assert_same(other.loss, straight.loss)
        assert other.accuracy == straight.accuracy


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_few_examples_are_never_all_removed(n) -> None:
    made = problem(n=n, m=3)
    found = redundant(made.fitted(lo.Ridge(0.1)), made.query)
    assert sorted(found.order) == list(range(n))
    assert found.counts[0] == 0
    assert found.counts[-1] == min(n - 1, max(1, round(n / 2)))
    assert len(set(found.counts)) == len(found.counts)
    assert found.accuracy is None
    for count, loss in zip(found.counts, found.loss, strict=True):
        predicted = oracles.prediction_without(
            made.gram, made.cross, made.residual, training(lo.Ridge(0.1)), found.order[:count]
        )
        assert_same(loss, oracles.loss(predicted, made.wanted).mean())


@pytest.mark.parametrize(("n", "fractions"), [(1, FRACTIONS), (10, ())])
def test_where_no_share_was_tried_nothing_is_said_about_shares(n, fractions) -> None:
    made = problem(n=n, m=3)
    found = redundant(made.fitted(lo.Ridge(0.1)), made.query, fractions=fractions)
    assert (found.counts, found.stop) == ((0,), 0)
    assert found.reason == "No removal was tried, so nothing is known to be redundant."


def test_before_training_everything_could_go() -> None:
    made = problem(n=20, m=4)
    found = redundant(made.fitted(lo.GradientFlow(1.0)), made.query, at=0)
    assert found.order == tuple(range(20))
    assert found.stop == 10
    assert_same(found.loss, [found.loss[0]] * len(found.loss))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_that_is_none_is_refused(fraction) -> None:
    made = problem(n=10)
    with pytest.raises(OptionError, match=r"`fractions` must lie in \(0, 1\); got"):
        redundant(made.fitted(lo.Ridge(0.1)), made.query, fractions=(0.5, fraction))


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf")])
def test_a_tolerance_below_zero_is_refused(tolerance) -> None:
    made = problem(n=10)
    with pytest.raises(OptionError, match="`tolerance` must be a finite number ≥ 0; got"):
        redundant(made.fitted(lo.Ridge(0.1)), made.query, tolerance=tolerance)


def test_rounds_go_as_far_as_rows_that_stay_need_them_to() -> None:
    made = problem(n=40, m=8)
    fitted = made.fitted(lo.Ridge(0.05))
    every = lo.prune(fitted, made.query, order="iterative", shares=(0.95,))
    keep = every.order[:15]
    found = lo.prune(fitted, made.query, order="iterative", shares=(0.25,), keep=keep)
    assert found.counts == (0, 10)
    assert found.order[:10] == every.order[15:25]

"""Is harm excluded only where the queries exclude it, of every class?"""

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.curation.loss_change import LossChange, loss_changes, worst_change
from leftout.curation.redundant import redundant
from oracles import definitions as oracles
from oracles import loss_change as oracle
from problems.curated import BINARY, THREE, classified, coded, fitted_to, query_of
from problems.small import training


@pytest.mark.parametrize("classes", [BINARY, THREE])
def test_changes_and_their_intervals_are_those_of_refits(classes) -> None:
    made, labels = classified(classes)
    targets, rule = coded(labels, classes), lo.Ridge(0.05)
    found = redundant(fitted_to(made, labels, rule), query_of(made, labels))

    def losses(rows):
        gone = list(rows)
        if not gone:
            predicted = made.cross @ np.linalg.solve(made.gram + 0.05 * np.eye(made.n), targets[: made.n])
        else:
            predicted = oracles.prediction_without(
                made.gram, made.cross, targets[: made.n], training(rule), gone
            )
        return oracles.loss(predicted, targets[made.queries])

    everyone, asked = losses(()), labels[made.queries]
    tests = len(found.changes) * (1 + classes)
    assert len(found.changes) == len(found.counts) - 1
    for count, changes in zip(found.counts[1:], found.changes, strict=True):
        differences = losses(found.order[:count]) - everyone
        assert len(changes) == 1 + classes
        groups = [np.ones(len(asked), bool), *(asked == c for c in range(classes))]
        for change, rows, accepted in zip(changes, groups, [0.01, *[0.05] * classes], strict=True):
            assert change.queries == rows.sum()
            if rows.sum() < 2:
                assert not change.is_harmless
                continue
            assert_same(change.before, everyone[rows].mean())
            mean, low, high = oracle.interval(differences[rows].tolist(), tests)
            scale = abs(differences[rows]).max() + everyone[rows].max()
            np.testing.assert_allclose(
                [change.change, change.low, change.high], [mean, low, high], atol=1e-8 * scale
            )
            assert_same(change.tolerated, accepted * everyone[rows].mean())


def test_bounds_hold_together_as_often_as_they_say() -> None:
    draw, level, held, inside = np.random.default_rng(0), 0.8, 0, 0
    labels = np.arange(60) % 3
    for _ in range(400):
        change = draw.standard_normal(60)
        changes = loss_changes(
            np.ones(60), change, tolerances=(0, 0), tests=4, labels=labels, classes=tuple("abc"), level=level
        )
        held += all(one.high >= 0 for one in changes)
        inside += all(one.low <= 0 <= one.high for one in changes)
    # Bonferroni: at least the level, but for the error of 400 trials (three deviations of 0.02).
    assert held / 400 >= level - 0.06
    # Both ends of all intervals promise less, and hold less often.
    assert level - 0.02 > inside / 400 >= 1 - 2 * (1 - level) - 0.07


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (5, 0), (6, 0), (8, 2), (9, 1), (12, 3), (3, 9)])
def test_a_class_is_less_accurate_where_chance_does_not_explain_it(lost, won) -> None:
    m = 30
    before, after = np.ones(m, bool), np.ones(m, bool)
    after[:lost] = False
    before[lost : lost + won] = False
    (change,) = loss_changes(np.ones(m), np.zeros(m), tolerances=(0.01, 0.05), tests=2, right=(before, after))
    assert change.less_accurate == (lost > won and oracle.chance(lost, won) < 0.025)
    assert change.is_harmless == (not change.less_accurate)
    assert change.accuracy_change == (won - lost) / m


def test_one_query_or_none_excludes_nothing() -> None:
    changes = loss_changes(
        np.ones(5),
        np.zeros(5),
        tolerances=(0.01, 0.05),
        tests=4,
        labels=np.array([0, 0, 0, 0, 1]),
        classes=("many", "one", "none"),
    )
    assert [change.is_harmless for change in changes] == [True, True, False, False]
    assert worst_change(changes).queries < 2


def unbalanced():
    """Two classes that are hard to tell apart, and a small one by itself of which three queries are."""
    draw = np.random.default_rng(0)
    inputs = np.zeros((1600, 8))
    inputs[:, :4] = draw.standard_normal((1600, 4))
    labels = (inputs[:, 0] + 2 * draw.standard_normal(1600) > 0).astype(int)
    small = [*range(85), 1000, 1001, 1002]
    labels[small] = 2
    inputs[small, :4], inputs[small, 4:] = 0, 1 + 0.3 * draw.standard_normal((len(small), 4))
    return (inputs[:1000], labels[:1000]), (inputs[1000:], labels[1000:])


def test_a_small_class_is_not_thrown_away_unnoticed() -> None:
    train, query = unbalanced()
    kernel = lo.kernels.From(lambda x, z: (-torch.cdist(x, z).square() / 8).exp())
    fitted = lo.fit(kernel, train, rule=lo.Ridge(1.0))
    found = redundant(fitted, query, fractions=(0.05, 0.1, 0.2))
    # What was asked before: the mean query loss alone does not rise by 1 %, and all of the class go.
    limit = 1.01 * found.loss[0]
    before = max(count for count, loss in zip(found.counts, found.loss, strict=True) if loss <= limit)
    assert sum(row < 85 for row in found.order[:before]) == 85
    assert found.stop == 0
    assert "class '2' (3 queries)" in found.reason


def test_a_fall_in_accuracy_of_all_queries_is_of_no_class() -> None:
    draw = np.random.default_rng(0)
    inputs = np.concatenate([draw.standard_normal((60, 3)) + side for side in (-1, 1)])
    labels = np.repeat(["a", "b"], 60)
    asked = draw.permutation(120)[:60]
    fitted = lo.fit(lo.kernels.ReLU(2), (inputs, labels), rule=lo.Ridge(1.0))
    # All of class b go. The rise of the loss is accepted, so that accuracy alone speaks against it.
    found = lo.prune(
        fitted,
        (inputs[asked], labels[asked]),
        shares=(0.5,),
        keep=range(60),
        tolerance=1e9,
        class_tolerance=1e9,
    )
    assert found.changes[0][0].less_accurate
    assert "examples, more queries turn wrong than chance explains." in found.reason


def test_the_worst_class_is_that_nearest_to_its_tolerance_and_one_that_is_unknown_before_all() -> None:
    def of(name, high, tolerated=1.0, queries=9, less_accurate=False):
        return LossChange(name, queries, 2.0, 0.0, -high, high, tolerated, 0.0, less_accurate)

    everyone = of("", 9.0)
    near, far, tight = of("near", 0.9), of("far", 0.1), of("tight", 0.2, tolerated=0.21)
    assert worst_change((everyone,)) is None
    assert worst_change((everyone, far, near)) is near
    assert worst_change((everyone, far, near, tight)) is tight
    for first in (of("few", 0.0, queries=1), of("wrong", 0.0, less_accurate=True)):
        assert worst_change((everyone, near, first, far)) is first
    # Without a loss before nothing is tolerated: no rise is harmless, and any is beyond all.
    same, rises = of("same", 0.0, tolerated=0.0), of("rises", 1e-9, tolerated=0.0)
    assert worst_change((everyone, far, same)) is far
    assert worst_change((everyone, near, same, rises)) is rises


def test_a_change_is_a_share_of_the_loss_before_unless_that_is_zero() -> None:
    assert LossChange("", 9, 2.0, 0.1, -0.2, 0.3, 0.0).text == "+5.00% (-10.00% to +15.00%)"
    assert LossChange("", 9, 0.0, 0.1, -0.2, 0.3, 0.0).text == "+0.1 (-0.2 to +0.3)"

"""In which order can examples go? The orders are those of refits, and so is every point of the curve."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.attribution.information import information
from leftout.core.errors import MemoryBudgetError, OptionError
from leftout.curation.prune import SHARES, prune
from leftout.curation.reduced_model import _counts
from leftout.curation.redundant import FRACTIONS, redundant
from oracles import curation as oracle
from oracles import definitions as oracles
from problems.curated import BINARY, THREE, classified, coded, fitted_to, query_of
from problems.small import problem, told_apart, training

RULES = {
    "ridge": (lo.Ridge(0.05), None),
    "no ridge": (lo.Ridge(0.0), None),
    "mean ridge": (lo.Ridge(0.003, "mean"), None),
    "flow": (lo.GradientFlow(1.0, 0.01), 30.0),
    "end of flow": (lo.GradientFlow(1.0, 0.01), None),
    "mean descent": (lo.GradientDescent(1.5, 0.001, "mean"), 400),
}
EVERY_RULE = pytest.mark.parametrize(("rule", "time"), RULES.values(), ids=RULES)
BY = pytest.mark.parametrize("by", ["function", "weights"])


def single(made, rule, time):
    """A problem's model, queries, and what the oracle asks for."""
    known = made.gram, made.cross, made.residual, training(rule, time), len(made.queries)
    return made.fitted(rule), made.query, known, 1


def apart(made, rule, time):
    """The same where the kernel tells outputs apart."""
    points, asked = np.arange(made.n), np.arange(made.n, made.n + made.m)
    gram, cross = made.flat(points, points), made.flat(asked, points)
    words = training(rule, time)
    if rule.loss == "mean":  # over examples; to the oracle every row is one
        words = replace(words, rate=words.rate * made.k, ridge=words.ridge / made.k)
    known = gram, cross, made.missing(points), words, made.m
    return made.fitted(rule), made.query, known, made.k


def cases(rule, time):
    yield single(problem(n=20, m=6, k=2), rule, time)
    yield single(problem(n=11, m=30, k=1, seed=1), rule, time)  # more queries than examples
    yield apart(told_apart(n=10, m=4, k=2), rule, time)


@BY
@EVERY_RULE
def test_the_least_informative_goes_first(rule, time, by) -> None:
    for fitted, query, known, each in cases(rule, time):
        wanted = oracle.information(*known, each)[by]
        found = prune(fitted, query, at=time, by=by, shares=())
        assert list(found.order) == np.argsort(wanted).tolist()
        assert_same(found.information, np.sort(wanted))


@BY
@EVERY_RULE
def test_the_iterative_order_is_that_of_asking_again_after_every_round(rule, time, by) -> None:
    for fitted, query, known, each in cases(rule, time):
        wanted = oracle.iterative_order(*known, by, 0.2, 0.95, each)
        found = prune(fitted, query, at=time, order="iterative", by=by, shares=(0.95,), step=0.2)
        assert list(found.order) == wanted


@pytest.mark.parametrize("order", ["least", "most", "random", "iterative"])
@EVERY_RULE
def test_the_curve_is_that_of_refits_of_what_remains(rule, time, order) -> None:
    for classes in (BINARY, THREE):
        made, labels = classified(classes)
        targets = coded(labels, classes)
        found = prune(
            fitted_to(made, labels, rule),
            query_of(made, labels),
            at=time,
            order=order,
            shares=(0.1, 0.5, 0.9),
        )
        assert found.counts == (0, 2, 12, 22)
        assert sorted(found.order) == list(range(made.n))
        for count, loss, accuracy in zip(found.counts, found.loss, found.accuracy, strict=True):
            predicted = oracle.prediction_without(
                made.gram, made.cross, targets[: made.n], training(rule, time), found.order[:count]
            )
            # Conditions up to 1e3 and as many digits to spare: 1e-9 is the promise.
            assert_same(loss, oracles.loss(predicted, targets[made.queries]).mean())
            said = predicted[:, 0] >= 0 if classes == BINARY else predicted.argmax(1)
            assert accuracy == np.mean(said == labels[made.queries])


def test_the_curve_is_that_of_refits_where_outputs_are_told_apart() -> None:
    made = told_apart(n=12, m=5, k=3)
    fitted, query, known, each = apart(made, lo.Ridge(0.02), None)
    asked = np.arange(made.n, made.n + made.m)
    found = prune(fitted, query, order="iterative", shares=(0.25, 0.75))
    for count, loss in zip(found.counts, found.loss, strict=True):
        predicted = oracle.prediction_without(*known[:4], found.order[:count], each)
        error = (predicted - made.missing(asked)).reshape(made.m, made.k)
        assert_same(loss, (error**2).sum(1).mean() / 2)


@BY
def test_what_is_told_of_each_row_is_its_smooth_unique_information(by) -> None:
    train, query = lo.load("digits", n_train=60, n_query=30)
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.GradientFlow(1.0, 0.1))
    found = prune(fitted, query, at=5.0, by=by, shares=())
    wanted = information(fitted, query, at=5.0)[by].values
    assert_same(found.information, wanted[list(found.order)], rtol=2e-12)


@BY
def test_most_is_least_from_the_other_end(by) -> None:
    made = problem(n=25, m=6)
    fitted = made.fitted(lo.Ridge(0.05))
    least, most = (prune(fitted, made.query, order=o, by=by, shares=()) for o in ("least", "most"))
    assert most.order == least.order[::-1]
    assert most.information == least.information[::-1]


def test_pruning_nothing_changes_nothing() -> None:
    made = problem(n=20, m=6)
    fitted = made.fitted(lo.Ridge(0.05))
    error = fitted.predict(made.query[0]) - made.query[1]
    found = prune(fitted, made.query, shares=())
    assert (found.counts, found.shares, found.stop) == ((0,), (0.0,), 0)
    assert found.loss == (float(error.square().sum(1).mean() / 2),)


def test_a_round_of_all_that_remains_but_a_little_is_the_order_of_asking_once() -> None:
    made = problem(n=20, m=6)
    fitted = made.fitted(lo.Ridge(0.05))
    once = prune(fitted, made.query, shares=())
    again = prune(fitted, made.query, order="iterative", shares=(0.9,), step=0.98)
    assert again.order[:19] == once.order[:19]


def test_targets_in_other_units_leave_every_order_as_it_was() -> None:
    made = problem(n=20, m=6)
    fitted = made.fitted(lo.Ridge(0.05))
    rows = torch.arange(20, dtype=torch.float64)
    scaled = lo.fit(made.kernel, (rows, torch.from_numpy(1e3 * made.residual)), rule=lo.Ridge(0.05))
    for order in ("least", "iterative"):
        for by in ("function", "weights"):
            one, other = (
                prune(model, made.query, order=order, by=by, shares=()) for model in (fitted, scaled)
            )
            assert one.order == other.order
            assert_same(other.information, 1e6 * np.array(one.information))


def test_examples_in_another_order_go_in_the_same_order() -> None:
    made = problem(n=20, m=6)
    turned = np.random.default_rng(0).permutation(20)
    other = made.permuted(turned)
    for order in ("least", "iterative"):
        straight = prune(made.fitted(lo.Ridge(0.05)), made.query, order=order)
        again = prune(other.fitted(lo.Ridge(0.05)), other.query, order=order)
        assert turned[list(again.order)].tolist() == list(straight.order)


@BY
@pytest.mark.parametrize("rule", [lo.Ridge(0.1), lo.Ridge(0.02, "mean")], ids=["sum", "mean"])
def test_of_two_copies_both_go_at_once_and_one_goes_where_it_is_asked_again(rule, by) -> None:
    # Rows 1 and 2 are copies; alone each is dispensable, and after one has gone the other is like the
    # rest, all of which tie.
    kernel = lo.kernels.Precomputed(torch.eye(3, dtype=torch.float64))
    rows = torch.tensor([1.0, 0.0, 0.0, 2.0], dtype=torch.float64)
    fitted = lo.fit(kernel, (rows, np.ones(4)), rule=rule)
    query = (torch.arange(3, dtype=torch.float64), np.ones(3))
    once = prune(fitted, query, by=by, shares=())
    again = prune(fitted, query, order="iterative", by=by, shares=(0.75,), step=0.25)
    assert once.order == (1, 2, 0, 3)
    assert again.order == (1, 0, 2, 3)


def test_a_random_order_is_that_of_its_seed_and_asks_no_example() -> None:
    made = problem(n=30, m=4)
    fitted = made.fitted(lo.Ridge(0.05))
    first, same, other = (
        prune(fitted, made.query, order="random", shares=(), seed=seed) for seed in (0, 0, 1)
    )
    assert first.order == same.order != other.order
    assert sorted(other.order) == list(range(30))
    assert first.information is None


def test_before_training_rounds_keep_the_order_of_the_data() -> None:
    made = problem(n=9, m=4)
    found = prune(made.fitted(lo.GradientFlow(1.0)), made.query, at=0, order="iterative")
    assert found.order == tuple(range(9))
    assert set(found.information) == {0.0}


@pytest.mark.parametrize("n", [1, 2, 19, 20, 21, 1000])
def test_rounds_take_the_share_of_what_remains_and_at_least_one(n) -> None:
    *counts, last = _counts(n, 0.05, n - 1)
    assert sum(counts) + last == n
    left = n - np.cumsum([0, *counts])
    assert counts == [max(1, int(0.05 * one)) for one in left[:-1]]


def test_rounds_end_where_enough_have_gone() -> None:
    # Of 100 examples 5 go, then 4 (of 95), …: the fourth round reaches 15, and the others follow.
    assert _counts(100, 0.05, 15) == [5, 4, 4, 87]
    assert _counts(100, 0.05, 13) == [5, 4, 91]
    assert _counts(100, 0.05, 0) == [100]
    # Under a mean loss the rate for each example grows with every removal, and diverges for few.
    made = problem(n=20, m=4)
    rate = 1.9 * 19 / np.linalg.eigvalsh(made.gram)[-1]
    fitted = made.fitted(lo.GradientDescent(rate / 1.2, 0.0, "mean"))
    assert len(prune(fitted, made.query, at=30, order="iterative", shares=(0.05,)).order) == 20


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_examples_are_ordered_and_never_all_removed(n) -> None:
    made = problem(n=n, m=3)
    for order in ("least", "most", "random", "iterative"):
        found = prune(made.fitted(lo.Ridge(0.1)), made.query, order=order)
        assert sorted(found.order) == list(range(n))
        assert found.counts == tuple(range(n))


def test_the_shares_of_the_paper_are_the_default() -> None:
    made = problem(n=40, m=4)
    found = prune(made.fitted(lo.Ridge(0.1)), made.query)
    assert pytest.approx(np.linspace(0, 0.95, 21)[1:]) == SHARES
    assert found.counts[-1] == 38


def test_redundant_is_the_beginning_of_the_least_informative_first() -> None:
    made = problem(n=30, m=4)
    fitted = made.fitted(lo.Ridge(0.1))
    assert redundant(fitted, made.query) == prune(fitted, made.query, shares=FRACTIONS)


def test_the_curve_as_a_table() -> None:
    made, labels = classified(THREE)
    found = prune(fitted_to(made, labels, lo.Ridge(0.1)), query_of(made, labels), shares=(0.5,))
    table = found.to_frame()
    assert list(table.columns) == ["count", "share", "query_loss", "query_accuracy"]
    assert table["count"].tolist() == [0, 12]
    assert table["query_loss"].tolist() == list(found.loss)
    made = problem(n=10, m=3)
    table = prune(made.fitted(lo.Ridge(0.1)), made.query, shares=(0.5,)).to_frame()
    assert list(table.columns) == ["count", "share", "query_loss"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"order": "worst"}, "`order` must be one of 'least', 'most', 'random', 'iterative'; got"),
        ({"by": "loss"}, "`by` must be one of 'function', 'weights'; got 'loss'"),
        ({"shares": (0.5, 1.0)}, r"`shares` must lie in \(0, 1\); got 1.0"),
        ({"shares": 0.5}, r"`shares` must be several numbers in \(0, 1\), as \[0.1, 0.5\]; got 0.5"),
        ({"step": 0.0}, r"`step` must lie in \(0, 1\); got 0.0"),
        ({"seed": -1}, "`seed` must be a whole number ≥ 0; got -1"),
        ({"seed": 0.5}, "`seed` must be a whole number ≥ 0; got 0.5"),
        ({"tolerance": -0.1}, "`tolerance` must be a finite number ≥ 0; got -0.1"),
        ({"at": (1.0, 2.0)}, "`at` must be one training time; got 2"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.usefixtures("as_users_run_it")
def test_an_option_that_is_none_is_refused(option, message) -> None:
    made = problem(n=10)
    with pytest.raises(OptionError, match=message):
        prune(made.fitted(lo.GradientFlow(1.0, 0.1)), made.query, **option)


@BY
def test_rounds_must_fit(by) -> None:
    train, query = lo.load("digits", n_train=40, n_query=40)
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), train)
    # Of 40² numbers, 8 bytes each: 10 for a kernel matrix to the queries, 11 for rounds. The budget is
    # made smaller after the fit.
    fitted.rows.memory = 130_000
    with pytest.raises(MemoryBudgetError, match="An order of 40 examples in rounds, 40 rows, needs 141 kB"):
        prune(fitted, query, order="iterative", by=by)
    assert len(prune(fitted, query, by=by, shares=()).order) == 40


def test_what_a_row_tells_stands_by_row_too_unless_no_row_was_asked() -> None:
    made = problem(n=12, m=4)
    fitted = made.fitted(lo.Ridge(0.1))
    found = prune(fitted, made.query, order="most", shares=())
    assert found.by_row[list(found.order)].tolist() == list(found.information)
    with pytest.raises(OptionError, match="A random order asks no example what it tells"):
        _ = prune(fitted, made.query, order="random", shares=()).by_row

"""Which source is worth more? Each example and each whole source, from refits without them."""

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.core.errors import OptionError
from leftout.curation.sources import named_sources, sources
from oracles import curation as oracle
from oracles import definitions as oracles
from problems.small import Problem, problem, training

RULES = {
    "ridge": (lo.Ridge(0.05), None),
    "mean ridge": (lo.Ridge(0.003, "mean"), None),
    "flow": (lo.GradientFlow(1.0, 0.01), 30.0),
}
NAMES = np.array(["film", "phone", "film", "scan"])[np.arange(24) % 4]


@pytest.mark.parametrize(("rule", "time"), RULES.values(), ids=RULES)
def test_each_and_whole_are_those_of_refits(rule, time) -> None:
    made = problem(n=24, m=6, k=2)
    words = training(rule, time)
    each = oracle.information(made.gram, made.cross, made.residual, words, len(made.queries))
    found = sources(made.fitted(rule), made.query, NAMES, at=time)
    assert {one.name: one.count for one in found.sources} == {"film": 12, "phone": 6, "scan": 6}
    for one in found.sources:
        rows = np.flatnonzero(one.name == NAMES)
        for name in ("weights", "function"):
            assert_same(getattr(one, name).value, each[name][rows].mean())
            assert_same(getattr(one, f"median_{name}").value, np.median(each[name][rows]))
        whole = oracles.predictions(made.gram, made.cross, made.residual, words)
        without = oracles.prediction_without(made.gram, made.cross, made.residual, words, rows)
        assert_same(one.whole_function, ((whole - without) ** 2).sum(1).mean() / 2)
        loss = (oracles.loss(without, made.wanted) - oracles.loss(whole, made.wanted)).mean()
        assert_same(one.loss, loss, rtol=1e-8)  # a difference of losses some ten times as large
        assert one.loss_each == one.loss / one.count
        change = oracles.dual(made.gram, made.residual, words)
        keep = np.setdiff1d(np.arange(24), rows)
        change[keep] -= oracles.dual(made.gram[np.ix_(keep, keep)], made.residual[keep], words)
        assert_same(one.whole_weights, np.trace(change.T @ made.gram @ change) / 2)
    means = [one.function.value for one in found.sources]
    assert means == sorted(means, reverse=True)


def test_intervals_are_those_of_examples_drawn_again() -> None:
    made = problem(n=24, m=6)
    fitted = made.fitted(lo.Ridge(0.05))
    words = training(lo.Ridge(0.05))
    each = oracle.information(made.gram, made.cross, made.residual, words, len(made.queries))
    draw = np.random.default_rng(1)
    found = sources(fitted, made.query, NAMES, draws=20_000)
    means = {}
    for one in found.sources:
        values = each["function"][one.name == NAMES]
        means[one.name] = draw.choice(values, (20_000, len(values))).mean(1)
        wanted = np.quantile(means[one.name], [0.025, 0.975])
        # Ends of an interval of 20 000 draws scatter by about 2 % of its length; five times that.
        near = 0.1 * (wanted[1] - wanted[0])
        assert [one.function.low, one.function.high] == pytest.approx(wanted, abs=near)
    for one in found.differences:
        wanted = np.quantile(means[one.more] - means[one.less], [0.025, 0.975])
        near = 0.1 * (wanted[1] - wanted[0])
        assert [one.estimate.low, one.estimate.high] == pytest.approx(wanted, abs=near)
        assert one.clear == (one.estimate.low > 0)
        assert one.estimate.value >= 0


def renamed(made, names):
    """What is found, without what sources are called."""
    found = sources(made.fitted(lo.Ridge(0.05)), made.query, names)
    numbers = [[v for v in vars(one).values() if not isinstance(v, str)] for one in found.sources]
    return numbers, [(one.estimate, one.clear) for one in found.differences]


def test_what_sources_are_called_makes_no_difference() -> None:
    made = problem(n=24, m=6)
    other = {"film": 7, "phone": 1, "scan": 3}
    wanted = renamed(made, NAMES)
    assert renamed(made, [other[name] for name in NAMES]) == wanted
    assert renamed(made, torch.tensor([other[name] for name in NAMES])) == wanted


def twice(made):
    """Everything twice, the copies last, and the same queries."""
    rows = np.concatenate([np.arange(made.n), np.arange(made.n), made.queries])
    return Problem(made.whole[np.ix_(rows, rows)], 2 * made.n, made.targets[rows])


def test_a_source_that_is_there_twice_is_worth_nothing_at_a_small_ridge() -> None:
    made = problem(n=12, m=6)
    ridge = 1e-9
    copied = twice(made)
    found = sources(copied.fitted(lo.Ridge(ridge)), copied.query, ["first"] * 12 + ["copy"] * 12)
    alone = sources(made.fitted(lo.Ridge(ridge)), made.query, ["a"] * 6 + ["b"] * 6)
    largest = max(one.whole_function for one in alone.sources)
    for one in found.sources:
        # Without a copy the ridge is in effect twice as large: f moves by about ridge / s_min = 1e-6
        # of itself, and information by its square.
        assert one.function.value < 1e-10 * largest
        assert one.whole_function < 1e-10 * largest
        assert abs(one.loss) < 1e-5 * largest
    assert not any(one.clear for one in found.differences)


def test_a_source_that_the_queries_never_see_is_worth_nothing_and_comes_last() -> None:
    made = problem(n=12, m=6)
    whole = made.whole.copy()
    whole[:4, 4:] = whole[4:, :4] = 0.0
    apart = Problem(whole, 12, made.targets)
    found = sources(apart.fitted(lo.Ridge(0.1)), apart.query, ["unseen"] * 4 + ["seen"] * 8)
    assert [one.name for one in found.sources] == ["seen", "unseen"]
    unseen = found.sources[1]
    assert (unseen.function.value, unseen.whole_function, unseen.loss) == (0, 0, 0)
    assert unseen.weights.value > 0
    assert found.differences[0].clear
    assert "An example of seen tells the model" in found.reason
    assert "one of unseen, the next, 0: more by" in found.reason


def test_examples_drawn_from_one_source_are_seldom_told_apart() -> None:
    # Halves of what was drawn alike: an interval of 95 % leaves zero out on one side in 2.5 % of cases,
    # twice that as the larger half is named first, and more as twenty examples are few: below 30 %.
    told = 0
    for seed in range(20):
        made = problem(n=40, m=6, seed=seed)
        half = np.random.default_rng(seed).permutation(40) % 2
        found = sources(made.fitted(lo.Ridge(0.05)), made.query, half, draws=500)
        told += found.differences[0].clear
        within = "the difference is within what other examples of them could make" in found.reason
        assert within != found.differences[0].clear
    assert told <= 6


def test_an_interval_of_one_example_has_no_end() -> None:
    made = problem(n=6, m=4)
    found = sources(made.fitted(lo.Ridge(0.05)), made.query, ["one", *["many"] * 5])
    (one,) = (source for source in found.sources if source.name == "one")
    assert (one.function.low, one.function.high) == (-np.inf, np.inf)
    assert not found.differences[0].clear


def test_sources_as_a_table() -> None:
    made = problem(n=24, m=6)
    found = sources(made.fitted(lo.Ridge(0.05)), made.query, NAMES)
    table = found.to_frame()
    assert table["name"].tolist() == [one.name for one in found.sources]
    assert table["function_low"].tolist() == [one.function.low for one in found.sources]
    assert set(table.columns) >= {"count", "loss_each", "whole_weights", "median_function_high"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b"], "`source` must name where each of the 4 training examples comes from; got 2"),
        (["a", "b", None, "a"], "that of row 2 is None. Name it"),
        (["a", "b", "a", " "], "that of row 3 is ' '. Name it"),
        ([1.0, float("nan"), 2.0, 1.0], "that of row 1 is nan. Name it"),
        (3, "must be a sequence of names, one for each training example, in their order; got int"),
        ({"a", "b"}, "in their order; got set"),
        (dict.fromkeys("abcd"), "in their order; got dict"),
        ("abab", "in their order; got str"),
        (["a"] * 4, "at least two sources to compare; all 4 examples come from 'a'"),
    ],
)
@pytest.mark.usefixtures("as_users_run_it")
def test_names_that_do_not_say_where_examples_come_from_are_refused(names, message) -> None:
    with pytest.raises(OptionError, match=message):
        named_sources(names, 4)
    made = problem(n=4, m=2)
    with pytest.raises(OptionError, match=message):
        sources(made.fitted(lo.Ridge(0.1)), made.query, names)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"seed": -1}, "`seed` must be a whole number ≥ 0; got -1"),
        ({"draws": 0}, "`draws` must be a whole number ≥ 1; got 0"),
        ({"at": (1.0, 2.0)}, "`at` must be one training time; got 2"),
    ],
)
def test_an_option_that_is_none_is_refused(option, message) -> None:
    made = problem(n=6, m=2)
    with pytest.raises(OptionError, match=message):
        sources(made.fitted(lo.GradientFlow(1.0, 0.1)), made.query, list("aabbcc"), **option)

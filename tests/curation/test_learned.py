"""When was each example learned, from whom, when to stop? As refits and plain loops say."""

import math
import re

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.attribution.trajectory import training_times
from leftout.core.errors import OptionError
from leftout.curation.learned import TOLERANCE, Kind, early_stop, learned
from leftout.data.planted import flip_labels
from oracles import definitions as oracles
from oracles import trajectory as oracle
from problems.curated import BINARY, THREE, classified, coded, fitted_to, margin
from problems.small import problem, training

TIMES = [0, 1, 3, 12, 40, 150, 700, math.inf]
RULES = {
    "flow": lo.GradientFlow(1.0, 0.003),
    "mean flow": lo.GradientFlow(20.0, 0.0003, "mean"),
    "descent": lo.GradientDescent(1.5, 0.003),
}
KERNEL = lo.kernels.TwoLayerReLU()


def words(rule, times):
    return [training(rule, None if time == math.inf else time) for time in times]


def refitted(made, labels, classes, rule):
    """Return whether each example is said right by refits, (t, n): with it, without it; and losses."""
    targets = coded(labels[: made.n], classes)
    right, losses = [], []
    for find in (oracle.fitted, oracle.left_out):
        said = find(made.gram, targets, words(rule, TIMES))
        scores = np.concatenate([-said, said], 2) if classes == BINARY else said + 1 / classes
        right.append([[margin(row[i], labels[i]) > 1e-12 for i in range(made.n)] for row in scores])
        losses.append(oracles.loss(said, targets))
    return *right, *losses


@pytest.mark.parametrize("classes", [BINARY, THREE])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_times_kinds_and_shares_are_those_of_refits(rule, classes) -> None:
    made, labels = classified(classes)
    found = learned(fitted_to(made, labels, rule), TIMES, kinds_at=40)
    right, understood, fitted_loss, left_out_loss = refitted(made, labels, classes, rule)
    assert found.times == tuple(TIMES)
    assert found.times[found.time_index] == 40
    assert list(found.learned_at) == oracle.since(right, TIMES)
    assert list(found.understood_at) == oracle.since(understood, TIMES)
    wanted = {
        (False, False): Kind.NOT_LEARNED,
        (False, True): Kind.NOT_LEARNED,
        (True, False): Kind.BY_HEART,
        (True, True): Kind.FROM_OTHERS,
    }
    judged = zip(right[4], understood[4], strict=True)
    assert list(found.kinds) == [wanted[pair] for pair in judged]
    assert len(set(found.kinds)) > 1, "nothing to tell apart in this problem"
    pairs = [list(zip(a, b, strict=True)) for a, b in zip(right, understood, strict=True)]
    assert_same(found.from_others, [np.mean([p == (True, True) for p in row]) for row in pairs])
    assert_same(found.by_heart, [np.mean([p == (True, False) for p in row]) for row in pairs])
    assert_same(found.fitted_loss, fitted_loss.mean(1))
    assert_same(found.left_out_loss, left_out_loss.mean(1))


@pytest.mark.parametrize("classes", [BINARY, THREE])
def test_the_order_is_last_learned_first_then_least_understood_at_the_stop(classes) -> None:
    made, labels = classified(classes)
    rule = lo.GradientFlow(1.0, 0.003)
    # Not from time 0, when all are missed alike: rounding alone would order them.
    found = learned(fitted_to(made, labels, rule), TIMES[1:])
    *_, left_out_loss = refitted(made, labels, classes, rule)
    at_stop = left_out_loss[TIMES.index(found.stop.at)]
    assert np.diff(np.sort(at_stop)).min() > 1e-9 * at_stop.max(), "and what is told apart is no rounding"

    def key(row):
        time = found.learned_at[row]
        return (-(9e9 if time is None else min(time, 1e9)), -at_stop[row])

    assert list(found.order) == sorted(range(made.n), key=key)
    assert len(set(found.learned_at)) > 2, "all is learned at once in this problem"


def test_what_only_the_others_would_get_right_is_not_learned() -> None:
    # Just below the critical rate a step overshoots, and seeing an example can turn it wrong.
    made, labels = classified(BINARY, seed=9)
    rule, times = lo.GradientDescent(1.9), [1, 2]
    found = learned(fitted_to(made, labels, rule), times)
    targets = coded(labels[: made.n], BINARY)
    seen, unseen = (
        find(made.gram, targets, words(rule, times))[1, :, 0] * targets[:, 0] > 0
        for find in (oracle.fitted, oracle.left_out)
    )
    (odd,) = np.flatnonzero(unseen & ~seen)
    assert found.kinds[odd] is Kind.NOT_LEARNED
    assert found.learned_at[odd] is None
    assert found.understood_at[odd] is not None
    assert_same(found.from_others[1], (seen & unseen).mean())


def test_before_training_nothing_is_learned_and_at_the_end_all_is_without_a_ridge() -> None:
    made, labels = classified(THREE)
    found = learned(fitted_to(made, labels, lo.GradientFlow()), [0, math.inf], kinds_at=0)
    assert (found.from_others[0], found.by_heart[0]) == (0.0, 0.0)
    assert set(found.kinds) == {Kind.NOT_LEARNED}
    assert set(found.learned_at) == {math.inf}
    assert found.from_others[1] + found.by_heart[1] == 1.0


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_number_is_right_within_half_of_the_usual_error_before_training(outputs) -> None:
    made = problem(24, k=outputs, condition=100)
    rule, times = lo.GradientFlow(1.0), [0, 2, 30, 500]
    found = learned(made.fitted(rule), times)
    usual = np.sqrt((made.residual**2).sum(1).mean())
    for find, got in ((oracle.fitted, found.learned_at), (oracle.left_out, found.understood_at)):
        said = find(made.gram, made.residual, words(rule, times))
        error = np.sqrt(((said - made.residual) ** 2).sum(2))
        assert list(got) == oracle.since((error <= usual / 2).tolist(), times)
    assert any(time is None for time in found.understood_at)
    assert any(time is not None and time > 0 for time in found.learned_at)


def test_the_curve_is_that_of_training_times_with_the_time_of_judgement_on_it() -> None:
    made, labels = classified(BINARY)
    fitted = fitted_to(made, labels, lo.GradientFlow(1.0, 0.001))
    times = training_times(fitted)
    plain = learned(fitted)
    assert plain.times == times
    assert plain.time_index == len(times) - 1
    asked = learned(fitted, kinds_at=math.pi)
    assert asked.times == tuple(sorted({*times, math.pi}))
    assert asked.times[asked.time_index] == math.pi
    assert learned(fitted, kinds_at=math.inf).times == (*times, math.inf)
    assert learned(fitted, [30, 2, 30, 2.0, None]).times == (2.0, 30.0, math.inf)


def test_the_order_of_the_rows_does_not_matter() -> None:
    train, _ = lo.load("digits", n_train=80, n_query=10)
    order = np.random.default_rng(0).permutation(80)
    straight, shuffled = (
        learned(lo.fit(KERNEL, part, rule=lo.GradientFlow(1.0, 0.1))) for part in (train, train.select(order))
    )
    assert shuffled.learned_at == tuple(straight.learned_at[i] for i in order)
    assert shuffled.kinds == tuple(straight.kinds[i] for i in order)
    assert [int(order[row]) for row in shuffled.order] == list(straight.order)
    assert shuffled.stop.reason == straight.stop.reason


# When to stop.


def curves(mean, n=40, spread=0.1, seed=0):
    """Return losses (t, n) with these means, and example by example noise of this spread."""
    noise = spread * np.random.default_rng(seed).standard_normal((len(mean), n))
    return np.asarray(mean)[:, None] + noise - noise.mean(1, keepdims=True)


FALLING = np.linspace(0.5, 0.01, 6)


def stop_of(mean, **options):
    losses = curves(mean, **options)
    times = [float(10.0**j) for j in range(len(mean))]
    seen = curves(FALLING[: len(mean)], n=losses.shape[1])
    return early_stop(times, seen, losses), losses, times


@pytest.mark.parametrize("spread", [0.01, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_band_is_one_standard_error_of_paired_differences(spread, seed) -> None:
    mean = [0.5, 0.4, 0.33, 0.3, 0.34, 0.6]
    found, losses, times = stop_of(mean, spread=spread, seed=seed)
    assert found.at == times[3]
    close = oracle.within_one_standard_error(losses, 3)
    low = high = 3
    while low > 0 and close[low - 1]:
        low -= 1
    while high < 5 and close[high + 1]:
        high += 1
    assert (found.earliest, found.latest) == (times[low], times[high])
    assert found.suggested == (not close[5])
    assert found.left_out_loss == pytest.approx(0.3, rel=1e-12)
    assert found.fitted_loss == pytest.approx(FALLING[3], rel=1e-12)


def test_what_all_examples_share_does_not_widen_the_band() -> None:
    # Losses that differ widely between examples, and rise by the same for each: no doubt at all.
    base = np.random.default_rng(0).standard_normal(30) ** 2
    losses = base + np.array([0.3, 0.0, 0.3])[:, None]
    found = early_stop([1.0, 2.0, 3.0], losses, losses)
    assert (found.earliest, found.at, found.latest) == (2.0, 2.0, 2.0)


def test_a_bottom_inside_the_curve_suggests_a_stop() -> None:
    found, *_ = stop_of([0.5, 0.4, 0.2, 0.3, 0.4, 0.6], spread=0.01)
    assert found.suggested
    assert found.edge is None
    assert found.reason == (
        "Stop at t = 100: training on, to t = 100000, lowers the loss on what it has seen, from 0.304 to "
        "0.01, and raises it on what it has not, from 0.2 to 0.6."
    )
    steps = early_stop([1.0, 2.0, 3.0], curves([1, 0.5, 0.1]), curves([1, 0.5, 0.9]), unit="step")
    assert steps.reason.startswith("Stop at step 2: training on, to step 3, lowers")
    ended = early_stop([1.0, 2.0, math.inf], curves([1, 0.5, 1e-5]), curves([1, 0.5, 0.9]))
    assert "lowers the loss on what it has seen, from 0.5 to below 0.001," in ended.reason
    assert "training on, to the end of training, lowers" in ended.reason


EDGES = {
    "last": ([0.6, 0.5, 0.4, 0.3, 0.2, 0.1], "is lowest at the last time of the curve, t = 100000."),
    "first": (
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        "is lowest at the first time of the curve, t = 1: what is learned from some examples does "
        "not carry over to the others.",
    ),
}


@pytest.mark.parametrize("edge", EDGES)
def test_a_bottom_at_an_edge_of_the_curve_suggests_no_stop(edge) -> None:
    mean, sentence = EDGES[edge]
    found, _, times = stop_of(mean, spread=0.01)
    assert found.edge == edge
    assert found.at == times[0 if edge == "first" else -1]
    assert not found.suggested
    assert found.reason == f"No early stop: the loss on what it has not seen {sentence}"


@pytest.mark.parametrize(
    ("rise", "spread"), [(0.04, 1.0), (0.2 * TOLERANCE / 2, 0.0)], ids=["noise", "next to nothing"]
)
def test_an_end_that_is_hardly_worse_suggests_no_stop(rise, spread) -> None:
    found, *_ = stop_of([0.5, 0.4, 0.2, 0.2 + rise], spread=spread, n=200)
    assert found.edge is None
    assert not found.suggested
    assert found.reason == (
        f"No early stop: the loss on what it has not seen is lowest at t = 100, 0.2, and training on "
        f"to t = 1000 leaves it at {0.2 + rise:.3g}, no more than a standard error or 1 % above."
    )


def test_one_example_has_no_spread() -> None:
    found = early_stop([1.0, 2.0, 3.0], curves([3, 2, 1], 1), np.array([[2.0], [1.0], [3.0]]))
    assert (found.earliest, found.at, found.latest, found.suggested) == (2.0, 2.0, 2.0, True)


# Planted: wrong labels are learned late, and by heart.


@pytest.fixture(scope="module")
def noisy():
    """Return digits of two classes with 40 % of the labels flipped, clean queries, and the finding."""
    train, query = lo.load("digits", classes=["4", "9"])
    planted = flip_labels(train, 0.4, generator=torch.Generator().manual_seed(0))
    fitted = lo.fit(KERNEL, planted.examples, rule=lo.GradientFlow())
    wrong = np.zeros(len(train), bool)
    wrong[planted.rows.numpy()] = True
    return fitted, query, wrong, learned(fitted)


def test_wrong_labels_are_learned_later_and_by_heart(noisy) -> None:
    _, _, wrong, found = noisy
    when = np.array(found.learned_at, dtype=float)
    assert np.isfinite(when).all(), "without a ridge all is learned in the end"
    # Half of the right labels before a hundredth of the time that half of the wrong ones take.
    assert np.median(when[~wrong]) < 0.01 * np.median(when[wrong])
    last = list(found.order)[: wrong.sum()]
    assert wrong[last].mean() > 0.85
    by_heart = np.array([kind is Kind.BY_HEART for kind in found.kinds])
    assert by_heart[wrong].mean() > 0.6
    assert by_heart[~wrong].mean() < 0.4


def test_the_suggested_stop_is_better_for_queries_than_the_end(noisy) -> None:
    fitted, query, _, found = noisy
    assert found.stop.suggested
    assert found.stop.reason.startswith("Stop at t = 0.0")

    def judged(at, targets):
        said = fitted.predict(query, at)
        right = (query.encoding.decode(said) == query.labels).double().mean()
        return float(right), float((said - targets).square().sum(1).mean() / 2)

    # Where 40 % of the labels of new examples are wrong too, their mean is a fifth of the right one: the
    # loss is this on average, and a constant.
    (stop, stop_loss), (end, end_loss) = (judged(at, 0.2 * query.targets) for at in (found.stop.at, None))
    assert stop > end + 0.1
    assert stop_loss < 0.5 * end_loss


def test_clean_labels_suggest_no_stop() -> None:
    train, _ = lo.load("digits", classes=["4", "9"], n_train=150)
    found = learned(lo.fit(KERNEL, train, rule=lo.GradientFlow()))
    assert not found.stop.suggested
    assert found.by_heart[-1] < 0.05


# What is refused.


def test_a_rule_without_time_is_refused() -> None:
    with pytest.raises(OptionError, match="`fitted` must be trained under a rule with training"):
        learned(problem(8).fitted(lo.Ridge(0.5)))


def test_one_time_is_no_curve() -> None:
    fitted = problem(8).fitted(lo.GradientFlow())
    message = re.escape("`at` must hold at least two training times; got 3 alone.")
    for at in (3, [3.0, 3.0]):
        with pytest.raises(OptionError, match=message):
            learned(fitted, at)
    assert learned(fitted, 3, kinds_at=math.inf).times == (3.0, math.inf)

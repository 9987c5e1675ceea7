"""Is the spread of an influence that of networks which start at random? By refits and draws of f_0."""

import math

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.core.errors import MemoryBudgetError, OptionError
from leftout.dynamics.ensemble import ensemble
from leftout.kernels.wide.arc_cosine import ArcCosine
from oracles import ensemble as oracles_ensemble
from problems.networks import network, sphere
from problems.small import Problem, low_rank, problem, rules, training

N = 9
RULES = {
    name: (rule, [t for t in times if t is None or t in (0.7, 345.0, 4e4, 2, 9, 101, 4001)])
    for name, (rule, times) in rules(N).items()
}
OF = ("loss", "prediction")


def started(p: Problem, *, scale: float = 1.0, rank: int | None = None, seed: int = 7) -> np.ndarray:
    """A prior covariance over all points of a problem, that has nothing to do with its kernel."""
    size = len(p.whole)
    root = np.random.default_rng(seed).standard_normal((size, rank or size)) / np.sqrt(rank or size)
    return scale * root @ root.T


def kernel(whole: np.ndarray) -> lo.kernels.Kernel:
    return lo.kernels.Precomputed(torch.from_numpy((whole + whole.T) / 2))


def found_by(p, rule, time, of, start):
    maps = oracles_ensemble.maps(p.gram, p.cross, training(rule, time))
    return oracles_ensemble.influence(maps, start, p.residual, p.wanted, of)


@pytest.mark.sample(12)
@pytest.mark.parametrize("name", RULES)
def test_mean_and_spread_are_those_of_refits_from_random_starts(name) -> None:
    rule, times = RULES[name]
    p = problem(N, 3, 2, condition=1e3, seed=4)
    start = started(p)
    fitted = p.fitted(rule)
    for of in OF:
        got = lo.leave_one_out(fitted, p.query, at=times, of=of, spread=True, prior=kernel(start))
        plain = lo.leave_one_out(fitted, p.query, at=times, of=of)
        assert got["influence"].identical(plain.assign_attrs(got["influence"].attrs))
        for place, time in enumerate(times):
            mean, spread = found_by(p, rule, time, of, start)
            assert_same(got["mean"][place], mean)
            assert_same(got["spread"][place], spread)


@pytest.mark.parametrize(
    ("rule", "time"),
    [
        (lo.GradientFlow(1.0, 0.01), 30.0),
        (lo.GradientDescent(1.7, loss="sum"), 1001),
        (lo.GradientDescent(40.0, loss="mean"), 7),
    ],
)
def test_of_more_examples_than_the_nodes_span_it_is_the_same(rule, time) -> None:
    p = problem(60, 2, condition=1e5, seed=8)
    start = started(p)
    got = lo.leave_one_out(p.fitted(rule), p.query, at=time, spread=True, prior=kernel(start))
    mean, spread = found_by(p, rule, time, "loss", start)
    assert_same(got["mean"], mean)
    assert_same(got["spread"], spread)


def test_mean_and_spread_are_those_of_many_draws() -> None:
    p = problem(N, 3, 2, seed=1)
    start, count = started(p), 20_000
    for rule, time in [(lo.Ridge(0.1), None), (lo.GradientFlow(1.0), 5.0)]:
        got = lo.leave_one_out(p.fitted(rule), p.query, at=time, spread=True, prior=kernel(start))
        maps = oracles_ensemble.maps(p.gram, p.cross, training(rule, time))
        drawn = oracles_ensemble.draws(maps, start, p.residual, p.wanted, count=count)
        mean, spread = drawn.mean(0), drawn.std(0, ddof=1)
        # Of 27 numbers the largest of as many normal ones is above four standard errors in 1 of 500.
        assert (np.abs(got["mean"].values - mean) < 4 * spread / math.sqrt(count)).all()
        fourth = ((drawn - mean) ** 4).mean(0)
        error = np.sqrt((fourth - spread**4) / count) / (2 * spread)
        assert (np.abs(got["spread"].values - spread) < 4 * error).all()


def test_at_the_end_the_spread_of_a_prediction_is_the_textbook_formula() -> None:
    p = problem(N, 4, seed=2)
    start = started(p)
    inverse = np.linalg.inv(p.gram + 0.3 * np.eye(N))
    alpha = p.cross @ inverse
    variance = np.diag(inverse @ start[:N, :N] @ inverse) / np.diag(inverse) ** 2
    got = lo.leave_one_out(
        p.fitted(lo.Ridge(0.3)), p.query, of="prediction", spread=True, prior=kernel(start)
    )
    assert_same(got["spread"][..., 0], np.sqrt(alpha**2 * variance), rtol=1e-12)


@pytest.mark.parametrize(
    ("rule", "time"),
    [(lo.GradientFlow(1.0), 300.0), (lo.GradientDescent(0.3), 5), (lo.GradientFlow(3.0, 1e-3, "mean"), 1e5)],
)
def test_a_singular_gram_matrix_and_a_singular_prior_are_no_obstacle(rule, time) -> None:
    p = low_rank(12, 3)
    start = started(p, rank=2)
    got = lo.leave_one_out(p.fitted(rule), p.query, at=time, spread=True, prior=kernel(start))
    mean, spread = found_by(p, rule, time, "loss", start)
    assert_same(got["mean"], mean)
    assert_same(got["spread"], spread)


TIMES = (0.0, 0.5, 40.0, None)


@pytest.mark.parametrize("of", OF)
def test_a_prior_of_zero_has_no_spread_and_the_plain_influence_as_its_mean(of) -> None:
    p = problem(N, 3, 2)
    nothing = lo.kernels.From(lambda x, z: torch.zeros(len(x), len(z)), "nothing")
    got = lo.leave_one_out(
        p.fitted(lo.GradientFlow(1.0)), p.query, at=TIMES, of=of, spread=True, prior=nothing
    )
    assert not got["spread"].values.any()
    assert got["mean"].values.tolist() == got["influence"].values.tolist()


@pytest.mark.parametrize("of", OF)
def test_at_time_zero_nothing_was_learned_from_anybody(of) -> None:
    p = problem(N, 3, 2)
    got = lo.leave_one_out(
        p.fitted(lo.GradientFlow(1.0)), p.query, at=0, of=of, spread=True, prior=kernel(started(p))
    )
    assert not any(one.values.any() for one in got.values())


def test_spreads_of_predictions_scale_like_the_initial_function() -> None:
    p = problem(N, 3)
    fitted = p.fitted(lo.GradientFlow(1.0))
    asked = {"at": TIMES, "of": "prediction", "spread": True}
    one = lo.leave_one_out(fitted, p.query, prior=kernel(started(p)), **asked)
    other = lo.leave_one_out(fitted, p.query, prior=kernel(started(p, scale=9.0)), **asked)
    assert_same(other["spread"], 3 * one["spread"])
    assert_same(other["mean"], one["mean"], rtol=0)


def test_without_targets_and_of_queries_without_them_the_spread_of_losses_scales_like_the_prior() -> None:
    p = problem(N, 3)
    p = Problem(p.whole, N, 0 * p.targets)
    fitted = p.fitted(lo.GradientFlow(1.0))
    one, other = (
        lo.leave_one_out(fitted, p.query, at=TIMES, spread=True, prior=kernel(started(p, scale=c)))
        for c in (1.0, 4.0)
    )
    for name in ("mean", "spread"):
        assert_same(other[name], 4 * one[name])


@pytest.mark.parametrize("of", OF)
def test_the_order_of_examples_and_the_size_of_blocks_do_not_matter(of, monkeypatch) -> None:
    p = problem(N, 3, 2, seed=3)
    start = started(p)
    order = np.random.default_rng(0).permutation(N)
    rows = np.concatenate([order, np.arange(N, len(p.whole))])
    rule = lo.GradientFlow(1.0, loss="mean")
    one = lo.leave_one_out(p.fitted(rule), p.query, at=TIMES, of=of, spread=True, prior=kernel(start))
    monkeypatch.setattr("leftout.attribution.initialisation_spread.VECTORS", 2 * N)
    other = lo.leave_one_out(
        p.permuted(order).fitted(rule),
        p.query,
        at=TIMES,
        of=of,
        spread=True,
        prior=kernel(start[np.ix_(rows, rows)]),
    )
    for name in one:
        assert_same(other[name], one[name].values[:, :, order], rtol=1e-10)


def test_one_query_at_a_time_is_all_of_them_and_in_little_memory_too(monkeypatch) -> None:
    p = problem(N, 5, seed=3)
    fitted = p.fitted(lo.GradientFlow(1.0))
    prior = kernel(started(p))
    whole = lo.leave_one_out(fitted, p.query, at=TIMES, spread=True, prior=prior)
    # As much as a fifth of the queries takes, so that they come one by one and examples in blocks.
    monkeypatch.setattr(fitted.rows, "memory", 30_000)
    parts = lo.leave_one_out(fitted, p.query, at=TIMES, spread=True, prior=prior)
    for name in whole:
        assert_same(parts[name], whole[name], rtol=1e-10)


def test_the_only_example_has_a_spread_of_what_it_taught() -> None:
    p = problem(1, 3, seed=2)
    start = started(p)
    for loss in ("sum", "mean"):
        for time in (3, None):
            rule = lo.GradientDescent(0.1, 0.1, loss)
            got = lo.leave_one_out(
                p.fitted(rule), p.query, at=time, of="prediction", spread=True, prior=kernel(start)
            )
            maps = oracles_ensemble.maps(p.gram, p.cross, training(rule, time))
            assert_same(got["spread"][..., 0], np.abs(maps.learned) * math.sqrt(start[0, 0]), 1e-12)


def test_the_result_is_labelled_as_every_other() -> None:
    p = problem(N, 3, 2)
    rule = lo.GradientFlow(1.0)
    many = lo.leave_one_out(
        p.fitted(rule), p.query, at=[1.0, 2.0], of="prediction", spread=True, prior=kernel(started(p))
    )
    assert list(many) == ["influence", "mean", "spread"]
    assert all(one.dims == ("at", "query", "train", "output") for one in many.values())
    one = lo.leave_one_out(p.fitted(rule), p.query, at=1.0, spread=True, prior=kernel(started(p)))
    assert all(array.dims == ("query", "train") and array.attrs["at"] == 1.0 for array in one.values())
    plain = lo.leave_one_out(p.fitted(rule), p.query, at=1.0)
    assert one["influence"].attrs.items() >= plain.attrs.items()
    assert one["spread"].attrs["sign"] == "≥ 0"
    assert one["spread"].attrs["units"] == plain.attrs["units"] == one.attrs["units"]
    assert one["mean"].attrs["over_initialisations"] == "mean over initialisations"
    assert '"precomputed"' in one.attrs["prior"]


def test_the_kernel_of_a_network_knows_its_prior() -> None:
    inputs, targets = sphere(N, 4)
    query = sphere(3, 4, seed=1)
    fitted = lo.fit(lo.kernels.Erf(2, 2.0, 0.1), (inputs, targets), rule=lo.Ridge(0.1))
    said = lo.leave_one_out(fitted, query, spread=True, prior=lo.kernels.Erf(2, 2.0, 0.1, kind="nngp"))
    assert lo.leave_one_out(fitted, query, spread=True).identical(said)


@pytest.mark.parametrize("words", [{"mean": True}, {"top": 2}])
def test_a_spread_is_of_single_influences(words) -> None:
    p = problem(N, 3)
    with pytest.raises(OptionError, match="`spread` is of single influences: leave `mean` and `top`"):
        lo.leave_one_out(p.fitted(lo.Ridge()), p.query, spread=True, **words)


def test_a_prior_without_a_spread_is_refused() -> None:
    p = problem(N, 3)
    with pytest.raises(OptionError, match=r"`prior` is what a spread comes from.*`spread=True`"):
        lo.leave_one_out(p.fitted(lo.Ridge()), p.query, prior=kernel(started(p)))


def test_where_no_prior_is_known_the_user_is_told_what_to_pass() -> None:
    p = problem(N, 3)
    with pytest.raises(OptionError, match=r"`prior` must be given for Precomputed.*ArcCosine\(scale\)"):
        lo.leave_one_out(p.fitted(lo.Ridge()), p.query, spread=True)
    inputs, targets = sphere(N, 4)
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), (inputs, targets))
    with pytest.raises(OptionError, match="`prior` must be given for TwoLayerReLU"):
        ensemble(fitted, inputs)
    assert bool((ensemble(fitted, inputs, prior=ArcCosine(0.1)).variance > 0).all())


def test_the_kernel_of_one_network_has_no_spread() -> None:
    inputs, targets = sphere(N, 4, 2)
    for options in ({}, {"outputs": "trace"}):
        one = lo.kernels.Empirical(network(6, 4, 2), **options, weights="initial")
        with pytest.raises(OptionError, match="is of one network with an f_0 of its own"):
            lo.leave_one_out(
                lo.fit(one, (inputs, targets)), (inputs, targets), spread=True, prior=ArcCosine(1.0)
            )


def test_a_prior_that_tells_outputs_apart_is_refused() -> None:
    inputs, targets = sphere(N, 4, 2)
    apart = lo.kernels.Empirical(network(6, 4, 2), weights="initial")
    fitted = lo.fit(lo.kernels.ReLU(1), (inputs, targets))
    with pytest.raises(OptionError, match=r"`prior` must be one kernel for all outputs.*2 outputs apart"):
        lo.leave_one_out(fitted, (inputs, targets), spread=True, prior=apart)


@pytest.mark.usefixtures("as_users_run_it")
def test_a_prior_that_is_no_kernel_is_refused() -> None:
    p = problem(N, 3)
    with pytest.raises(OptionError, match=r"`prior` must be a kernel, such as .*; got 3"):
        lo.leave_one_out(p.fitted(lo.Ridge()), p.query, spread=True, prior=3)


def test_what_does_not_fit_is_refused_before_anything_is_allocated(monkeypatch) -> None:
    p = problem(N, 3)
    fitted, prior = p.fitted(lo.GradientFlow(1.0)), kernel(started(p))
    monkeypatch.setattr(fitted.rows, "memory", 500)
    with pytest.raises(MemoryBudgetError, match=r"The result \(3 × 1 × 3 × 9 × 1\) needs 648 B"):
        lo.leave_one_out(fitted, p.query, spread=True, prior=prior)
    monkeypatch.setattr(fitted.rows, "memory", 1_500)
    with pytest.raises(MemoryBudgetError, match="The prior of 9 examples needs"):
        lo.leave_one_out(fitted, p.query, spread=True, prior=prior)
    # Kernel matrices take 145 kB, what removals take of 60 examples in ρ > 15 directions 165 kB.
    p = problem(60, 1)
    fitted, prior = p.fitted(lo.GradientFlow(1.0)), kernel(started(p))
    monkeypatch.setattr(fitted.rows, "memory", 150_000)
    with pytest.raises(MemoryBudgetError, match="What 60 examples take with them"):
        lo.leave_one_out(fitted, p.query, at=30.0, spread=True, prior=prior)


def test_nothing_given_is_written_to(frozen) -> None:
    p = problem(N, 3)
    start = torch.from_numpy(started(p))
    start = (start + start.T) / 2
    query = p.query
    fitted = p.fitted(lo.GradientFlow(1.0, loss="mean"))
    frozen(start, *query, fitted.gram, fitted.residual)
    for of in OF:
        lo.leave_one_out(fitted, query, at=TIMES, of=of, spread=True, prior=lo.kernels.Precomputed(start))

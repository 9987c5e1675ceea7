"""Are ensemble and posterior those of the definition: of refits, dense matrices, and their limits?"""

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.core.errors import MemoryBudgetError, NotPositiveError, OptionError
from leftout.dynamics.ensemble import ensemble, posterior
from oracles import ensemble as oracles_ensemble
from problems.networks import network, sphere
from problems.small import Problem, low_rank, problem, rules, told_apart, training

N = 12
RULES = rules(N)


def started(p: Problem, *, scale: float = 1.0, seed: int = 7) -> np.ndarray:
    """A prior covariance over all points of a problem, that has nothing to do with its kernel."""
    size = len(p.whole)
    root = np.random.default_rng(seed).standard_normal((size, size)) / np.sqrt(size)
    return scale * root @ root.T


def kernel(whole: np.ndarray) -> lo.kernels.Kernel:
    return lo.kernels.Precomputed(torch.from_numpy((whole + whole.T) / 2))


@pytest.mark.parametrize("name", RULES)
def test_mean_and_covariance_are_those_of_training_from_random_starts(name) -> None:
    rule, times = RULES[name]
    p = problem(N, 4, 2, seed=3)
    start = started(p)
    found = ensemble(p.fitted(rule), p.query[0], at=list(times), prior=kernel(start), covariance=True)
    for place, time in enumerate(times):
        maps = oracles_ensemble.maps(p.gram, p.cross, training(rule, time))
        mean, covariance = oracles_ensemble.ensemble(maps, start, p.residual)
        assert_same(found.mean[place], mean)
        assert_same(found.covariance[place], covariance)
        each = np.broadcast_to(np.diag(covariance)[:, None], mean.shape)
        assert_same(found.variance[place], each)
        assert_same(found.deviation[place], np.sqrt(each))


TIMES = (0.0, 0.7, 30.0, None)


def test_the_mean_is_the_prediction_and_one_time_has_no_axis() -> None:
    p = problem(N, 4, 2)
    fitted = p.fitted(lo.GradientFlow(1.0))
    many = ensemble(fitted, p.query[0], at=TIMES, prior=kernel(started(p)), covariance=True)
    for place, time in enumerate(TIMES):
        one = ensemble(fitted, p.query[0], at=time, prior=kernel(started(p)), covariance=True)
        assert_same(one.mean, fitted.predict(p.query[0], time), 1e-12)
        assert_same(one.mean, many.mean[place], 1e-12)
        assert_same(one.variance, many.variance[place], 1e-12)
        assert_same(one.covariance, many.covariance[place], 1e-12)
    assert ensemble(fitted, p.query[0], prior=kernel(started(p))).covariance is None
    assert ensemble(fitted, p.query[0], at=np.array([1.0]), prior=kernel(started(p))).mean.ndim == 3


def test_before_training_the_variance_is_the_priors() -> None:
    p = problem(N, 4, 2)
    start = started(p)
    found = ensemble(p.fitted(lo.GradientFlow(1.0)), p.query[0], at=0, prior=kernel(start), covariance=True)
    assert not found.mean.any()
    assert_same(found.covariance, start[N:, N:], 1e-14)
    assert_same(found.variance, np.repeat(np.diag(start)[N:, None], 2, 1), 1e-14)


def test_with_no_prior_to_speak_of_there_is_no_variance() -> None:
    p = problem(N, 4)
    nothing = lo.kernels.From(lambda x, z: torch.zeros(len(x), len(z)), "nothing")
    found = ensemble(p.fitted(lo.GradientFlow(1.0)), p.query[0], at=TIMES, prior=nothing)
    assert not found.variance.any()


def test_variances_scale_like_the_prior() -> None:
    p = problem(N, 4)
    fitted = p.fitted(lo.GradientFlow(1.0))
    one, other = (
        ensemble(fitted, p.query[0], at=TIMES, prior=kernel(started(p, scale=c))) for c in (1.0, 9.0)
    )
    assert_same(other.variance, 9 * one.variance, 1e-12)


def test_training_to_the_end_without_ridge_forgets_the_start_on_its_examples() -> None:
    p = problem(N, 4)
    fitted = p.fitted(lo.GradientFlow(1.0))
    found = ensemble(fitted, torch.arange(N).double(), prior=kernel(started(p)))
    # 1 − 1 of the prior's variance: rounding of cond·eps, cond 1e3.
    assert float(found.variance.max()) < 10 * 1e3 * 2.3e-16 * np.diag(started(p)).max()


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_training_the_readout_alone_is_bayesian_without_noise_and_not_with_it(ridge) -> None:
    p = problem(N, 4, spare=3)  # queries reach outside the span of the examples
    fitted = p.fitted(lo.Ridge(ridge))
    trained = ensemble(fitted, p.query[0], prior=p.kernel, covariance=True)
    bayes = posterior(fitted, p.query[0], covariance=True)
    assert_same(trained.mean, bayes.mean, 1e-11)
    if ridge == 0:
        assert_same(trained.covariance, bayes.covariance, 1e-9)
    else:
        # The networks do not know the noise: (1 − a K) squared where a Bayesian has it once.
        assert bool((trained.variance < bayes.variance).all())


@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_the_posterior_is_that_of_conditioning_a_joint_normal(loss) -> None:
    p = problem(N, 4, 2)
    rule = lo.Ridge(0.3 / (N if loss == "mean" else 1), loss)
    inverse = np.linalg.inv(p.gram + 0.3 * np.eye(N))
    own = p.whole[N:, N:]
    found = posterior(p.fitted(rule), p.query[0], covariance=True)
    want = own - p.cross @ inverse @ p.cross.T
    assert_same(found.mean, p.cross @ inverse @ p.residual, 1e-11)
    assert_same(found.covariance, want, 1e-11)
    assert_same(found.variance, np.repeat(np.diag(want)[:, None], 2, 1), 1e-11)
    assert posterior(p.fitted(rule), p.query[0]).covariance is None


def test_a_posterior_variance_is_never_above_the_priors_and_falls_with_every_example() -> None:
    p = problem(N, 4)
    before = np.diag(p.whole)[N:]
    for count in range(1, N + 1):
        rows = torch.arange(count, dtype=torch.float64)
        fitted = lo.fit(p.kernel, (rows, torch.from_numpy(p.residual[:count])), rule=lo.Ridge(0.1))
        after = posterior(fitted, p.query[0]).variance[:, 0].numpy()
        assert (after <= before).all()
        assert (after >= 0).all()
        before = after


def test_a_posterior_of_outputs_told_apart_is_that_of_their_rows() -> None:
    p = told_apart(8, 3, 2)
    fitted = p.fitted(lo.Ridge(0.1))
    train, query = range(8), range(8, 11)
    cross = p.flat(query, train)
    inverse = np.linalg.inv(p.flat(train, train) + 0.1 * np.eye(16))
    found = posterior(fitted, p.query[0])
    want = np.diag(p.flat(query, query) - cross @ inverse @ cross.T).reshape(3, 2)
    assert_same(found.variance, want, 1e-9)
    assert_same(found.mean, fitted.predict(p.query[0]), 1e-12)
    with pytest.raises(OptionError, match="`covariance` is between queries, of outputs that share"):
        posterior(fitted, p.query[0], covariance=True)


def test_the_order_of_examples_does_not_matter() -> None:
    p = problem(N, 4)
    start = started(p)
    order = np.random.default_rng(0).permutation(N)
    rows = np.concatenate([order, np.arange(N, N + 4)])
    rule = lo.GradientFlow(1.0)
    one = ensemble(p.fitted(rule), p.query[0], at=TIMES, prior=kernel(start))
    moved = kernel(start[np.ix_(rows, rows)])
    other = ensemble(p.permuted(order).fitted(rule), p.query[0], at=TIMES, prior=moved)
    assert_same(other.mean, one.mean, 1e-10)
    assert_same(other.variance, one.variance, 1e-10)


def test_blocks_of_queries_change_nothing(monkeypatch) -> None:
    p = problem(N, 7)
    fitted, prior = p.fitted(lo.GradientFlow(1.0)), kernel(started(p))
    whole = ensemble(fitted, p.query[0], at=TIMES, prior=prior)
    monkeypatch.setattr("leftout.dynamics.ensemble.QUERIES", 2)
    parts = ensemble(fitted, p.query[0], at=TIMES, prior=prior)
    assert_same(parts.mean, whole.mean, 1e-12)
    assert_same(parts.variance, whole.variance, 1e-12)


def test_the_kernel_of_a_network_knows_its_prior_and_examples_are_inputs() -> None:
    inputs, targets = sphere(N, 4)
    fitted = lo.fit(lo.kernels.ReLU(2), (inputs, targets), rule=lo.Ridge(0.1))
    said = ensemble(fitted, inputs[:3], prior=lo.kernels.ReLU(2, kind="nngp"))
    found = ensemble(fitted, fitted.train)
    assert_same(found.variance[:3], said.variance, 1e-12)


def test_what_cannot_be_is_refused() -> None:
    inputs, targets = sphere(N, 4)
    one = lo.fit(
        lo.kernels.Empirical(network(6, 4), weights="initial"), (inputs, targets), rule=lo.Ridge(0.1)
    )
    with pytest.raises(OptionError, match="is of one network with an f_0 of its own"):
        ensemble(one, inputs)
    assert posterior(one, inputs).mean.shape == (N, 1)  # Bayesian in its linearised weights
    p = low_rank()
    with pytest.raises(NotPositiveError, match="is not positive definite to rounding"):
        posterior(p.fitted(lo.Ridge(0.0)), p.query[0])
    with pytest.raises(OptionError, match="`prior` must be given for Precomputed"):
        ensemble(p.fitted(lo.Ridge(1.0)), p.query[0])


def test_a_covariance_that_does_not_fit_is_refused(monkeypatch) -> None:
    p = problem(N, 10)
    fitted = p.fitted(lo.Ridge(1.0))
    monkeypatch.setattr(fitted.rows, "memory", 2_000)
    for asked in (posterior, ensemble):
        with pytest.raises(MemoryBudgetError, match="The covariance of 10 queries needs"):
            asked(fitted, p.query[0], covariance=True)


def test_nothing_given_is_written_to(frozen) -> None:
    p = problem(N, 3)
    start = torch.from_numpy(started(p))
    start = (start + start.T) / 2
    query = p.query[0]
    fitted = p.fitted(lo.GradientFlow(1.0))
    frozen(start, query, fitted.gram, fitted.residual)
    ensemble(fitted, query, at=TIMES, prior=lo.kernels.Precomputed(start), covariance=True)
    posterior(fitted, query, covariance=True)

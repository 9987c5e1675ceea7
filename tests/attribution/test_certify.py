"""Does the certificate say what is so, and does it notice when something is not?

That its bound and its estimate lie above the observed error is shown in test_accuracy.py, against
50 digits, from condition 10 to 1e12.
"""

import math

import numpy as np
import pytest

import leftout as lo
from laws import difference
from leftout.attribution.engine.end_of_training import EndOfTraining
from leftout.attribution.engine.finite_time import FiniteTime
from oracles import definitions as oracles
from problems.small import Problem, Started, problem, training

N = 16
CASES = [
    (lo.Ridge(0.01), None),
    (lo.Ridge(0.001, "mean"), None),
    (lo.GradientFlow(1.0), None),
    (lo.GradientFlow(1.0), 30.0),
    (lo.GradientFlow(9.0, 0.001, "mean"), 30.0),
    (lo.GradientDescent(1.0), 5),
    (lo.GradientDescent(1.9), 300),
    (lo.GradientFlow(1.0), 0.0),
]
EVERY = pytest.mark.parametrize(("rule", "time"), CASES, ids=lambda value: str(value)[:40])


@EVERY
def test_it_describes_what_was_solved(rule, time) -> None:
    p = problem(N, 4, 2)
    found = lo.certify(p.fitted(rule), p.query, at=time)
    values = np.linalg.eigvalsh(p.gram)
    ridge = rule.ridge * (N - 1 if rule.loss == "mean" else 1)
    assert found.at == (math.inf if time is None else time)
    assert found.effective_rank == pytest.approx(np.trace(p.gram) / values[-1])
    assert (found.dtype, found.kernel_dtype, found.device) == ("float64", "float64", "cpu")
    assert found.residual < 1e-14
    if time == 0:
        assert (found.quadrature, found.rounding, found.refit_difference) == (0, 0, 0)
        return
    condition = (values[-1] + ridge) / (values[0] + ridge)
    # At the end s_min comes from a few Lanczos steps on the inverse, to a part in ten thousand.
    assert found.condition == pytest.approx(condition, rel=1e-3)
    pace = math.inf if time is None else time * getattr(rule, "rate", 1)
    pace /= N - 1 if rule.loss == "mean" else 1
    floor = max(values[0] + ridge, 1 / pace)
    assert found.effective_condition == pytest.approx((values[-1] + ridge) / floor, rel=1e-3)
    top = max(np.diag(p.whole))
    size = math.sqrt(top) * np.linalg.norm(p.residual, axis=0).max()
    assert found.scale == pytest.approx(size / math.sqrt(floor), rel=1e-3)
    assert (found.quadrature == 0) == (time is None)
    assert 0 <= found.quadrature < 1e-10 * found.scale
    assert 0 < found.rounding < 1e-9 * found.scale


@EVERY
def test_refits_agree_and_say_what_they_compare(rule, time) -> None:
    p = problem(N, 4, 3)
    start = np.random.default_rng(2).standard_normal(p.targets.shape)
    fitted = p.fitted(rule, Started(p.whole, start))
    found = lo.certify(fitted, p.query, at=time, refit_examples=5, seed=3)
    assert len(found.refits) == 5
    assert len({one.train for one in found.refits}) == 5
    moved = Problem(p.whole, N, p.targets - start)
    parts = (moved.gram, moved.cross, moved.residual, moved.wanted)
    truth = oracles.leave_one_out(*parts, training(rule, time), "prediction")
    for one in found.refits:
        assert one.difference <= 1e-9
        assert np.abs(truth[one.query, one.train] - one.refit).min() <= 1e-9 * np.abs(truth).max()
        assert abs(one.engine - one.refit) <= 1e-9 * np.abs(truth).max()
    assert found.refit_difference == max(one.difference for one in found.refits)


def test_a_seed_chooses_the_examples() -> None:
    p = problem(N, 4)
    fitted = p.fitted(lo.Ridge(0.1))
    chosen = [
        tuple(one.train for one in lo.certify(fitted, p.query, seed=seed).refits) for seed in (0, 0, 1, 2)
    ]
    assert chosen[0] == chosen[1]
    assert len(set(chosen)) == 3


def test_no_refit_is_no_number_and_more_than_all_are_all() -> None:
    p = problem(4, 3)
    fitted = p.fitted(lo.Ridge(0.1))
    assert math.isnan(lo.certify(fitted, p.query, refit_examples=0).refit_difference)
    assert len(lo.certify(fitted, p.query, refit_examples=99).refits) == 4


@pytest.mark.parametrize(
    ("kind", "rule", "time"),
    [(EndOfTraining, lo.Ridge(0.01), None), (FiniteTime, lo.GradientFlow(1.0), 30.0)],
    ids=["end", "time"],
)
@pytest.mark.parametrize("wrong", [1e-3, 1e-6])
def test_a_wrong_engine_is_found_out(kind, rule, time, wrong, monkeypatch) -> None:
    right = kind.singles
    monkeypatch.setattr(kind, "singles", lambda *asked: (1 + wrong) * right(*asked))
    p = problem(N, 4)
    found = lo.certify(p.fitted(rule), p.query, at=time)
    assert found.refit_difference == pytest.approx(wrong, rel=1e-2)


def test_a_wrong_spectrum_shows_in_the_residual() -> None:
    p = problem(N, 4)
    fitted = p.fitted(lo.GradientFlow(1.0))
    assert lo.certify(fitted, p.query, at=5.0).residual < 1e-15
    fitted.spectrum.vectors[:, 0].mul_(1 + 1e-6)
    assert lo.certify(fitted, p.query, at=5.0).residual > 1e-8


def test_a_wrong_factor_shows_in_the_residual() -> None:
    p = problem(N, 4)
    fitted = p.fitted(lo.Ridge(0.1))
    fitted.factor(0.1).lower.mul_(1 + 1e-6)
    assert lo.certify(fitted, p.query).residual > 1e-8


def test_queries_far_outside_widen_the_bounds() -> None:
    # A query whose own k(x, x) is a million times larger can be off by a thousand times more.
    p = problem(N, 4)
    grown = np.ones(N + 4)
    grown[N:] = 1e3
    far = Problem(grown[:, None] * p.whole * grown, N, p.targets)
    near, beyond = (lo.certify(q.fitted(lo.GradientFlow(1.0)), q.query, at=9.0) for q in (p, far))
    wider = math.sqrt(max(np.diag(far.whole)) / max(np.diag(p.whole)))
    assert beyond.quadrature == pytest.approx(wider * near.quadrature, rel=1e-6)
    assert beyond.rounding == pytest.approx(wider * near.rounding, rel=1e-6)


def test_the_largest_of_several_outputs_counts() -> None:
    p = problem(N, 4, 3)
    loud = Problem(p.whole, N, p.targets * [1.0, 1.0, 1e3])
    rule = lo.GradientFlow(1.0)
    bound = lo.certify(loud.fitted(rule), loud.query, at=9.0).quadrature
    alone = Problem(p.whole, N, loud.targets[:, [2]])
    assert bound == pytest.approx(lo.certify(alone.fitted(rule), alone.query, at=9.0).quadrature)


def test_descent_near_its_critical_rate_is_said_to_lose_digits() -> None:
    # The Gram matrix is as good as the identity, and yet t steps lose eps·t: the top mode never
    # settles. An estimate from the condition number alone would be wrong by a factor of t.
    p = problem(8, 3, condition=1.05)
    exact = oracles.Exact(p.gram, p.cross, p.residual)
    for steps in (10**4, 10**6, 10**8):
        rule = lo.GradientDescent(2 - 1e-9)
        fitted = p.fitted(rule)
        got = lo.leave_one_out(fitted, p.query, at=steps, of="prediction").values
        truth = exact.changes(training(rule, steps))
        found = lo.certify(fitted, p.query, at=steps)
        observed = np.abs(got - truth).max()
        assert observed <= found.rounding
        assert found.rounding <= 1e5 * observed, "not so generous that it says nothing"
        assert difference(got, truth) <= 10 * 2.2e-16 * steps


def test_certifying_leaves_no_trace_in_the_model() -> None:
    p = problem(N, 4)
    fitted = p.fitted(lo.GradientFlow(1.0))
    before = lo.leave_one_out(fitted, p.query, at=[1.0, 50.0]).values
    lo.certify(fitted, p.query, at=50.0)
    lo.certify(fitted, p.query)
    assert lo.leave_one_out(fitted, p.query, at=[1.0, 50.0]).values.tolist() == before.tolist()

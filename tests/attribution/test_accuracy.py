"""How many digits are left when the Gram matrix is badly conditioned? As many as were promised.

The promise, relative to the largest change: 10·eps·cond, cond = (s_max + λ) / max(s_min + λ, 1/ηt) of
the data without an example; for descent just below the critical rate, where the top mode hardly
settles, 10·eps·min(t, 1 / (2 − η(s_max + λ))) if that is more; and 1e−12 that the quadrature may add.
The truth comes from 50 digits.
"""

import math

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same, difference
from leftout.attribution.engine import group_removal as leave_out_module
from oracles import definitions as oracles
from problems.small import problem, training

N = 8
EPS = float(np.finfo(float).eps)
CONDITIONS = (1e1, 1e6, 1e12)
GROUPS = [[4], [0, 7], [1, 2, 5], [0, 1, 2, 3, 4, 5, 6]]


def rules(loss):
    unit = N - 1 if loss == "mean" else 1
    found = []
    for ridge in (0.0, 1e-3) if loss == "sum" else (1e-9,):
        scaled = ridge / unit
        found.append((lo.Ridge(scaled, loss), (None,)))
        flow_times = (1e-8, 1e-2, 1.0, 37.0, 1e5, 1e9, 1e13)
        found.append((lo.GradientFlow(unit, scaled, loss), flow_times))
        for reach in (0.01, 1.9999):
            rate = reach * unit / (1 + ridge)
            steps = (1, 2, 9, 10, 11, 20001, 10**9)
            found.append((lo.GradientDescent(rate, scaled, loss), steps))
    return found


def promise(p, rule, time):
    """The relative error that is allowed, from the definition of the promise."""
    if time == 0:
        return 0.0
    total = p.n - 1 if rule.loss == "mean" else 1
    values = np.linalg.eigvalsh(p.gram) + rule.ridge * total
    low, high = max(values[0], 0), values[-1]
    pace = math.inf if time is None else getattr(rule, "rate", 1) / total * time
    amplified = high / max(low, 1 / pace)
    if isinstance(rule, lo.GradientDescent) and time is not None:
        reach = rule.rate / total * high
        amplified = max(amplified, min(time, 1 / (2 - reach)) if reach > 1 else 0)
    return 1e-12 + 10 * EPS * max(amplified, 1)


@pytest.fixture(scope="module", params=CONDITIONS, ids=lambda condition: f"condition {condition:g}")
def hard(request):
    p = problem(N, 2, 2, condition=request.param, seed=4)
    return p, oracles.Exact(p.gram, p.cross, p.residual)


@pytest.mark.sample(3)
@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_leave_one_out_keeps_its_promise_and_its_certificate(hard, loss) -> None:
    p, exact = hard
    for rule, times in rules(loss):
        fitted = p.fitted(rule)
        together = lo.leave_one_out(fitted, p.query, at=list(times), of="prediction")
        for time, got in zip(times, together.values, strict=True):
            truth = exact.changes(training(rule, time))
            allowed = promise(p, rule, time)
            assert difference(got, truth) <= allowed, (rule, time)
            certificate = lo.certify(fitted, p.query, at=time, refit_examples=1)
            observed = np.abs(got - truth).max()
            assert observed <= certificate.quadrature + certificate.rounding, (rule, time)
            assert certificate.refit_difference <= 10 * allowed + 1e-9, (rule, time)


@pytest.mark.sample(3)
@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_the_quadrature_bound_holds_without_any_rounding(hard, loss) -> None:
    p, exact = hard
    for rule, times in rules(loss):
        if isinstance(rule, lo.Ridge):
            continue
        fitted = p.fitted(rule)
        for time in times[1::2]:  # 1e−2, 37 and 1e9; 2, 10 and 20001
            high = fitted.spectrum.largest
            ((_, found),) = rule.quadratures([float(time)], total=N - 1, high=high)
            nodes, weights = found.nodes.tolist(), found.weights[0].tolist()
            observed = exact.quadrature_errors(training(rule, time), nodes, weights)
            bound = lo.certify(fitted, p.query, at=time, refit_examples=0).quadrature
            assert np.abs(observed).max() <= bound, (rule, time)


@pytest.mark.sample(6)
@pytest.mark.parametrize("loss", ["sum", "mean"])
@pytest.mark.parametrize("afresh", [False, True], ids=["blocks", "afresh"])
def test_groups_keep_the_promise_both_ways(hard, loss, afresh, monkeypatch) -> None:
    p, _ = hard
    exact = oracles.Exact(p.gram, p.cross, p.residual, groups=GROUPS)
    monkeypatch.setattr(leave_out_module, "refit_is_cheaper", lambda *_: afresh)
    # Rates for the largest group: under a mean loss one example alone takes steps 8 times as big.
    for rule in (
        lo.Ridge(0.0, loss),
        lo.Ridge(1e-4, loss),
        lo.GradientFlow(1.0, 0.0, loss),
        lo.GradientDescent(0.9, 1e-4, loss),
    ):
        times = (None,) if isinstance(rule, lo.Ridge) else (3, 50, 10**6)
        fitted = p.fitted(rule)
        together = lo.leave_out(fitted, p.query, GROUPS, at=list(times), of="prediction")
        for time, got in zip(times, together.values, strict=True):
            truth = exact.changes(training(rule, time))
            one_left = lo.GradientFlow(1.0, rule.ridge)  # cond as if one example remained
            pace = 1 if time is None else time
            allowed = promise(p, one_left, None if time is None else pace)
            assert difference(got, truth) <= allowed, (rule, time)


def test_training_time_is_a_regulariser_on_a_singular_kernel() -> None:
    # Condition inf, effective condition 30: all digits are there.
    p = problem(N, 3, 1, condition=1e300)
    exact = oracles.Exact(p.gram, p.cross, p.residual)
    rule = lo.GradientFlow(1.0)
    got = lo.leave_one_out(p.fitted(rule), p.query, at=30.0, of="prediction")
    assert_same(got, exact.changes(training(rule, 30.0)), 1e-13 + 10 * EPS * 30)


@pytest.mark.parametrize("rule", ["ridge", "flow", "descent"])
@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_the_oracles_agree_where_all_of_them_can_be_trusted(rule, loss) -> None:
    p = problem(6, 2, 2, condition=1e3)
    time = {"ridge": None, "flow": 40.0, "descent": 40}[rule]
    told = oracles.Training(rule, 0.8, 0.01, loss, time)
    want = oracles.Exact(p.gram, p.cross, p.residual).changes(told)
    assert_same(oracles.leave_one_out(p.gram, p.cross, p.residual, 0, told, "prediction"), want)
    full = oracles.exact_dual_without_eigenvalues(p.gram, p.residual, told)
    assert_same(oracles.dual(p.gram, p.residual, told), full)
    keep = np.arange(1, 6)
    less = oracles.exact_dual_without_eigenvalues(p.gram[np.ix_(keep, keep)], p.residual[keep], told)
    assert_same(p.cross @ full - p.cross[:, keep] @ less, want[:, 0], 1e-14)


def test_a_wrong_quadrature_shows_in_the_bound(monkeypatch) -> None:
    p = problem(N, 3)
    rule = lo.GradientFlow(1.0)
    good = lo.certify(p.fitted(rule), p.query, at=30.0)
    whole = lo.GradientFlow.quadratures

    def without_a_node(self, times, *, total, high):
        ((group, found),) = whole(self, times, total=total, high=high)
        weights = found.weights.clone()
        weights[:, 5] = 0
        return [(group, type(found)(found.nodes, weights))]

    monkeypatch.setattr(lo.GradientFlow, "quadratures", without_a_node)
    bad = lo.certify(p.fitted(rule), p.query, at=30.0)
    assert bad.quadrature > 1e6 * good.quadrature
    assert bad.refit_difference > 1e6 * good.refit_difference
    got = lo.leave_one_out(p.fitted(rule), p.query, at=30.0, of="prediction")
    truth = oracles.leave_one_out(p.gram, p.cross, p.residual, p.wanted, training(rule, 30.0), "prediction")
    assert np.abs(got.values - truth).max() <= bad.quadrature
    assert torch.isfinite(torch.tensor(bad.quadrature))

"""Where a kernel tells outputs apart, does an example leave with all of its rows?

The oracles fit one column of n·k numbers again, without the k rows of the example.
"""

import math

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.attribution.engine import group_removal as leave_out_module
from leftout.core.errors import OptionError, ShapeError
from oracles import definitions as oracles
from problems.small import ToldApart, told_apart, training

RULES = {
    "Ridge 0": (lo.Ridge(0.0), [None]),
    "Ridge": (lo.Ridge(0.05), [None]),
    "mean Ridge": (lo.Ridge(0.005, "mean"), [None]),
    "flow": (lo.GradientFlow(1.0), [0.0, 0.3, 9.0, 2e3, None]),
    "mean flow": (lo.GradientFlow(9.0, 0.001, "mean"), [0.3, 9.0, 2e3, None]),
    "descent": (lo.GradientDescent(1.9), [0, 1, 7, 10, 333, 1000, None]),
    # With one example left its rate is 1.5 / 1, which one example still bears.
    "mean descent": (lo.GradientDescent(1.5, 0.01, "mean"), [1, 7, 10, 333, None]),
}


@pytest.fixture(params=RULES)
def named(request):
    return RULES[request.param]


@pytest.fixture
def p():
    return told_apart()


def oracle_training(p: ToldApart, rule, time, remaining):
    """A mean is over examples, not rows: the same training under a sum of losses."""
    if rule.loss == "sum":
        return training(rule, time)
    scaled = type(rule)(
        **(
            {"ridge": rule.ridge * remaining, "loss": "sum"}
            | ({"rate": rule.rate / remaining} if hasattr(rule, "rate") else {})
        )
    )
    return training(scaled, time)


def predicted(p, rule, time, keep, asked, *, targets=None, weights=None, total=None):
    """f at points, (m, k), of the model fitted to the points `keep`."""
    keep = np.asarray(keep)
    missing = p.missing(keep) if targets is None else targets
    # Without any example nothing is trained, whatever the mean would be over.
    how = oracle_training(p, rule, time, (len(keep) or 1) if total is None else total)
    row_weights = None if weights is None else np.repeat(weights, p.k)
    found = (
        oracles.predictions(p.flat(keep, keep), p.flat(asked, keep), missing, how, row_weights)
        if len(keep)
        else np.zeros((len(asked) * p.k, 1))
    )
    return found.reshape(-1, p.k) + p.kernel.start.numpy()[np.asarray(asked)]


def everyone(p):
    return np.arange(p.n)


def asked(p):
    return np.arange(p.n, p.n + p.m)


def test_predictions_are_those_of_all_rows(p, named) -> None:
    rule, times = named
    for time in times:
        want = predicted(p, rule, time, everyone(p), asked(p))
        assert_same(p.fitted(rule).predict(p.query[0], at=time), want)


@pytest.mark.parametrize("of", ["loss", "prediction"])
def test_leaving_one_out_is_a_fit_without_its_rows(p, named, of) -> None:
    rule, times = named
    got = lo.leave_one_out(p.fitted(rule), p.query, at=times, of=of)
    wanted = p.targets[asked(p)]
    for time, ours in zip(times, got.values, strict=True):
        whole = predicted(p, rule, time, everyone(p), asked(p))
        for i in range(p.n):
            left = predicted(p, rule, time, np.delete(everyone(p), i), asked(p))
            assert_close(ours[:, i], oracles.effect(whole, left, wanted, of), ours)


def assert_close(got, want, scale):
    """1e-9 of the largest effect, or of 1, the size of predictions, where there is none."""
    assert np.abs(got - want).max() <= 1e-9 * (np.abs(scale).max() or 1.0)


def test_out_of_sample_and_trajectory_are_fits_without_the_example(p, named) -> None:
    rule, times = named
    fitted = p.fitted(rule)
    got = lo.out_of_sample(fitted, times).numpy()
    for time, ours in zip(times, got, strict=True):
        for i in range(p.n):
            want = predicted(p, rule, time, np.delete(everyone(p), i), [i])
            assert_close(ours[i], want[0], got)
    if not isinstance(rule, lo.Ridge):
        found = lo.trajectory(fitted, times)
        assert_same(found["left_out"].values, got)
        with_it = [predicted(p, rule, time, everyone(p), everyone(p)) for time in times]
        assert_same(found["fitted"].values, np.stack(with_it))


@pytest.mark.parametrize("way", ["blocks", "afresh"])
def test_groups_are_fits_without_all_of_their_rows(p, named, way, monkeypatch) -> None:
    monkeypatch.setattr(leave_out_module, "refit_is_cheaper", lambda *_: way == "afresh")
    rule, times = named
    groups = [[3], [7, 2, 0], list(range(1, p.n)), list(range(p.n))]
    got = lo.leave_out(p.fitted(rule), p.query, groups, at=times, of="prediction").values
    for time, ours in zip(times, got, strict=True):
        whole = predicted(p, rule, time, everyone(p), asked(p))
        for g, group in enumerate(groups):
            left = predicted(p, rule, time, np.setdiff1d(everyone(p), group), asked(p))
            assert_close(ours[:, g], whole - left, got)


def test_other_targets_weights_and_examples_are_edits_of_all_rows(p, named) -> None:
    rule, times = named
    fitted = p.fitted(rule)
    new = np.array([0.5, -1.0, 2.0])
    relabelled = lo.relabel(fitted, p.query, [4], new, at=times, of="prediction").values
    heavier = lo.reweight(fitted, p.query, [5], 1.3, at=times, of="prediction").values
    spare = p.n + p.m
    added = lo.add(fitted, p.query, *p.points([spare, spare + 1]), at=times, of="prediction").values
    for position, time in enumerate(times):
        whole = predicted(p, rule, time, everyone(p), asked(p))
        changed = p.missing(everyone(p))
        changed[p.rows([4]), 0] += new - p.targets[4]
        with_new = predicted(p, rule, time, everyone(p), asked(p), targets=changed)
        assert_close(relabelled[position, :, 0], whole - with_new, relabelled)
        weights = np.ones(p.n)
        weights[5] = 1.3
        heavy = predicted(p, rule, time, everyone(p), asked(p), weights=weights, total=weights.sum())
        assert_close(heavier[position, :, 0], whole - heavy, heavier)
        for a in range(2):
            more = predicted(p, rule, time, [*everyone(p), spare + a], asked(p))
            assert_close(added[position, :, a], more - whole, added)


def test_the_classical_influence_is_the_derivative_of_reweighting(p) -> None:
    fitted = p.fitted(lo.Ridge(0.1))
    small = 1e-4
    up, down = (lo.reweight(fitted, p.query, range(p.n), 1 + s).values for s in (small, -small))
    want = -(up - down) / (2 * small)  # reweight: as edited minus as it is
    got = lo.first_order(fitted, p.query)
    # Central differences: an error of small² relative, and rounding eps / small.
    assert_same(got.values, want, rtol=1e-6)
    assert_same(lo.first_order(fitted, p.query, mean=True).values, got.values.mean(0))


def test_complexity_is_the_norm_lost_with_the_rows(p) -> None:
    groups = [[0], [3, 8, 5]]
    got = lo.complexity(p.fitted(lo.Ridge(0.3)), groups)

    def norm(keep):
        missing = p.missing(keep)
        return math.sqrt((missing.T @ np.linalg.solve(p.flat(keep, keep), missing)).item())

    want = [norm(everyone(p)) - norm(np.setdiff1d(everyone(p), group)) for group in groups]
    assert_same(got.values, want)


def test_the_certificate_holds(p, named) -> None:
    rule, times = named
    for time in times:
        certificate = lo.certify(p.fitted(rule), p.query, at=time)
        assert all(refit.difference <= 1e-9 for refit in certificate.refits)


def test_a_scalar_kernel_told_apart_is_that_kernel(named) -> None:
    """K ⊗ I: each output has a space of its own, so nothing is gained or lost by telling apart."""
    rule, times = named
    draw = np.random.default_rng(3)
    features = draw.standard_normal((20, 40)) / 14
    apart = np.einsum("np,ko->nkpo", features, np.eye(2)).reshape(20, 2, 80)
    targets = draw.standard_normal((20, 2))
    told = ToldApart(type(told_apart().kernel)(apart, np.zeros((20, 2))), 15, 5, targets)
    rows = torch.arange(15, dtype=torch.float64)
    one = lo.fit(
        lo.kernels.Precomputed(features @ features.T), (rows, torch.from_numpy(targets[:15])), rule=rule
    )
    got = lo.leave_one_out(told.fitted(rule), told.query, at=times)
    want = lo.leave_one_out(one, told.query, at=times)
    assert_same(got.values, want.values)
    for which in (
        lambda f: lo.out_of_sample(f, times),
        lambda f: lo.leave_out(f, told.query, [[1, 2], [7]], at=times).values,
        lambda f: lo.relabel(f, told.query, [3], [1.0, 2.0], at=times).values,
        lambda f: lo.reweight(f, told.query, [3, 9], 0.4, at=times).values,
    ):
        assert_same(which(told.fitted(rule)), which(one))


def test_another_number_of_targets_is_refused() -> None:
    p = told_apart(k=2)
    rows = torch.arange(p.n, dtype=torch.float64)
    with pytest.raises(ShapeError, match=r"tells apart 2 outputs, the targets have 3"):
        lo.fit(p.kernel, (rows, torch.zeros(p.n, 3)))
    labels = [i % 2 for i in range(p.n)]
    with pytest.raises(ShapeError, match=r"Two classes are one column .* outputs=2"):
        lo.fit(p.kernel, (rows, labels))


def test_theorems_on_scalar_kernels_are_not_read_into_others(p) -> None:
    with pytest.raises(OptionError, match=r"one kernel for all outputs.*outputs='trace'"):
        lo.bounds.lower(p.fitted(lo.Ridge(0.1)), p.query)

"""Is each rule the filter that it says, to the last digits, in both readings of the loss?"""

import dataclasses
import math
import re

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leftout.core.errors import DivergenceError, OptionError
from leftout.dynamics.rules import GradientDescent, GradientFlow, Ridge
from oracles import definitions as oracles
from problems.small import training

N = 7
EPS = torch.finfo(torch.float64).eps


def exact(rule, time, values, total=N):
    with mpmath.workdps(60):
        told = training(rule, time)
        return [float(oracles.exact_filter(value, total, told)) for value in values]


VALUES = [1e-40, 1e-20, 1e-9, 1e-3, 0.2, 0.4999, 0.5, 0.50001, 0.9, 1.0]


@pytest.mark.parametrize("loss", ["sum", "mean"])
@pytest.mark.parametrize("ridge", [0.0, 1e-12, 1e-3, 2.0])
@pytest.mark.parametrize("time", [1e-200, 1e-12, 1e-3, 1.0, 77.0, 1e6, 1e300])
def test_the_flow_filter_keeps_its_digits(loss, ridge, time) -> None:
    rule = GradientFlow(3.0, ridge, loss)
    got = rule.filter(time, N)(torch.tensor(VALUES, dtype=torch.float64))
    # x = τσ is rounded once or twice before expm1(−x), whose own relative condition is below 1.
    np.testing.assert_allclose(got, exact(rule, time, VALUES), rtol=8 * EPS)


@pytest.mark.parametrize("loss", ["sum", "mean"])
@pytest.mark.parametrize("ridge", [0.0, 1e-12, 1e-3])
@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 1000, 99_999])
@pytest.mark.parametrize("reach", [1e-6, 0.3, 1.0, 1.9999])
def test_the_descent_filter_keeps_its_digits(loss, ridge, steps, reach) -> None:
    unit = N if loss == "mean" else 1
    rule = GradientDescent(reach * unit / (1 + ridge), ridge / unit, loss)
    got = rule.filter(steps, N)(torch.tensor(VALUES, dtype=torch.float64)).numpy()
    want = np.array(exact(rule, steps, VALUES))
    sigma = np.array(VALUES) + ridge
    x = reach * sigma / (1 + ridge)
    # (1 − x)^t is known to eps·t·x/|1 − x|, x = ησ being rounded; the power itself to some eps·t.
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        lost = np.abs(1 - x) ** (steps - 1) * steps * np.maximum(x, 1) / sigma
    lost = np.where(x < 0.5, 0, lost)
    assert (np.abs(got - want) <= 8 * EPS * (np.abs(want) + 4 * lost)).all()


def test_eigenvalues_of_zero_and_below_by_rounding_are_met() -> None:
    values = torch.tensor([0.0, -1e-18, -1e-17], dtype=torch.float64)
    for rule, time, want in [
        (GradientFlow(2.0), 5.0, 10.0),
        (GradientDescent(2.0), 5, 10.0),
        (GradientDescent(0.5), 50, 25.0),
        (GradientFlow(14.0, 0.0, "mean"), 5.0, 10.0),
    ]:
        got = rule.filter(time, N)(values)
        torch.testing.assert_close(got, torch.full_like(got, want), rtol=1e-14, atol=0)


@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_ridge_is_the_end_of_the_flow(loss) -> None:
    values = torch.tensor(VALUES[3:], dtype=torch.float64)
    end = Ridge(0.1, loss).filter(math.inf, N)(values)
    torch.testing.assert_close(end, GradientFlow(1.0, 0.1, loss).filter(1e6, N)(values))
    torch.testing.assert_close(end, GradientDescent(1.0, 0.1, loss).filter(1e6, N)(values))


def test_a_mean_loss_divides_the_rate_and_multiplies_the_ridge() -> None:
    for total in (1, 6, 7.5):
        assert Ridge(0.3, "mean").effective_ridge(total) == 0.3 * total
        assert Ridge(0.3).effective_ridge(total) == 0.3
        assert GradientFlow(2.0, 0.3, "mean").effective_time(5.0, total) == 10 / total
        assert GradientFlow(2.0, 0.3).effective_time(5.0, total) == 10
        assert GradientDescent(2.0, 0.3, "mean").step(total) == 2 / total
        assert GradientDescent(2.0, 0.3, "mean").effective_time(5, total) == 5 * (2 / total)
    assert Ridge().effective_time(math.inf, 3) == math.inf


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=12),
    st.floats(0.01, 1.99),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from(["sum", "mean"]),
)
def test_quadratures_cover_every_time_once_and_stand_for_the_filter(steps, reach, ridge, loss) -> None:
    unit = N if loss == "mean" else 1
    rules = [
        GradientDescent(reach * unit / (1 + ridge), ridge / unit, loss),
        GradientFlow(unit, ridge / unit, loss),
    ]
    values = torch.logspace(-9, 0, 40, dtype=torch.float64)
    times = [float(count) for count in steps]
    for rule in rules:
        found = rule.quadratures(times, total=N, high=1.0)
        positions = [j for group, _ in found for j in group]
        assert sorted(positions) == list(range(len(times)))
        for group, nodes in found:
            for row, j in enumerate(group):
                g = rule.filter(times[j], N)(values)
                scale = torch.minimum(1 / (values + ridge), torch.tensor(rule.effective_time(times[j], N)))
                assert float(((nodes(values)[row] - g).abs() / scale).max()) < 1e-11


def test_a_rule_is_a_frozen_record() -> None:
    rule = GradientFlow(2.0, 0.1, "mean")
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.rate = 3.0
    assert rule == GradientFlow(2.0, 0.1, "mean")
    assert rule.record == {"rule": "GradientFlow", "rate": 2.0, "ridge": 0.1, "loss": "mean"}
    assert Ridge().record == {"rule": "Ridge", "ridge": 1.0, "loss": "sum"}
    record = GradientDescent(0.5).record
    assert record == {"rule": "GradientDescent", "rate": 0.5, "ridge": 0.0, "loss": "sum"}


def refused(words, ask, kind=OptionError):
    with pytest.raises(kind, match=re.escape(words)):
        ask()


@pytest.mark.parametrize("bad", [-1e-9, math.nan, math.inf, -math.inf])
def test_a_ridge_below_zero_or_no_number_is_refused(bad) -> None:
    words = f"`ridge` must be a finite number ≥ 0; got {bad!r}."
    refused(words, lambda: Ridge(bad))
    refused(words, lambda: GradientFlow(1.0, bad))
    refused(words, lambda: GradientDescent(1.0, bad))


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_that_is_not_positive_is_refused(bad) -> None:
    words = f"`rate` must be a finite number > 0; got {bad!r}."
    refused(words, lambda: GradientFlow(bad))
    refused(words, lambda: GradientDescent(bad))


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("rule", [Ridge, GradientFlow, GradientDescent])
def test_a_loss_that_is_neither_sum_nor_mean_is_refused(rule) -> None:
    options = {} if rule is Ridge else {"rate": 1.0}
    words = "`loss` must be one of 'sum', 'mean'; got 'median'."
    refused(words, lambda: rule(loss="median", **options))


@pytest.mark.parametrize(("loss", "unit"), [("sum", 1), ("mean", N)])
def test_only_descent_diverges_and_it_says_from_where(loss, unit) -> None:
    rule = GradientDescent(1.5 * unit, 0.25 / unit, loss)
    rule.check_converges(1.08, N)
    words = (
        f"`rate` must be below the critical rate 2 / (s_max + ridge) = {2 * unit / 1.75:.6g}, or "
        f"gradient descent diverges; got {1.5 * unit:g}."
    )
    refused(words, lambda: rule.check_converges(1.5, N), DivergenceError)
    Ridge().check_converges(1e300, N)
    GradientFlow(1e9).check_converges(1e300, N)


def test_overshoot_is_of_descent_above_one_only() -> None:
    assert GradientFlow(1e3).filter_sensitivity(1e9, N, 1.0) == 0
    assert Ridge().filter_sensitivity(math.inf, N, 1.0) == 0
    assert GradientDescent(0.9).filter_sensitivity(1e9, N, 1.0) == 0
    assert GradientDescent(1.9999).filter_sensitivity(100, N, 1.0) == pytest.approx(199.99)
    assert GradientDescent(1.99).filter_sensitivity(1e9, N, 1.0) == pytest.approx(199)

"""In other units a problem has the same answers: to the last digits, or a sentence says why not."""

import math
from itertools import product

import pytest
import torch

import leftout as lo
from leftout.core.errors import DataError, OptionError

GENERATOR = torch.Generator().manual_seed(0)
INPUTS, QUERIES = (torch.randn(n, 4, generator=GENERATOR, dtype=torch.float64) for n in (9, 3))
TARGETS = torch.randn(9, 2, generator=GENERATOR, dtype=torch.float64)
LINEAR = lo.kernels.From(lambda a, b: a @ b.T)

# Powers of 2 multiply without rounding; of a product of inputs, 2**160 is 1e48, squared 1e96.
UNITS = tuple(product((2.0**-160, 2.0**160), (2.0**-490, 2.0**490)))
RULES = {
    "ridge": lambda unit: (lo.Ridge(0.25 * unit), None),
    "mean ridge": lambda unit: (lo.Ridge(0.25 * unit, "mean"), None),
    "flow": lambda unit: (lo.GradientFlow(0.5 / unit, 0.125 * unit), 3.0),
    "end of flow": lambda unit: (lo.GradientFlow(0.5 / unit, 0.125 * unit), None),
    "descent": lambda unit: (lo.GradientDescent(2.0**-7 / unit, 0.125 * unit), 40),
    "first steps": lambda unit: (lo.GradientDescent(2.0**-7 / unit), 3),
}


def answers(kernel, a: float, b: float, rule: str) -> dict[str, torch.Tensor]:
    """Return what is said of the problem with inputs times a and targets times b, in units of 1."""
    chosen, at = RULES[rule](a * a)
    fitted = lo.fit(kernel, (INPUTS * a, TARGETS * b), rule=chosen)
    query = (QUERIES * a, TARGETS[:3] * b)
    effects = {
        "leave_one_out": lo.leave_one_out(fitted, query, at=at, of="prediction"),
        "leave_out": lo.leave_out(fitted, query, [[0, 4], [7]], at=at, of="prediction"),
        "relabel": lo.relabel(fitted, query, [1, 2], TARGETS[:2] * b, at=at, of="prediction"),
        "reweight": lo.reweight(fitted, query, [3], weight=0.5, at=at, of="prediction"),
    }
    values = {name: torch.as_tensor(effect.values) / b for name, effect in effects.items()}
    values["predict"] = fitted.predict(query[0], at) / b
    values["out_of_sample"] = lo.out_of_sample(fitted, at) / b
    loss = torch.as_tensor(lo.leave_one_out(fitted, query, at=at).values)
    values["loss"] = loss / b / b
    if at is None:
        values["first_order"] = torch.as_tensor(lo.first_order(fitted, query).values) / b / b
    return values


@pytest.mark.parametrize("kernel", [LINEAR, lo.kernels.ReLU(2)], ids=["linear", "relu"])
@pytest.mark.parametrize("rule", RULES)
def test_other_units_give_the_same_answers(kernel, rule) -> None:
    truth = answers(kernel, 1.0, 1.0, rule)
    for a, b in UNITS:
        for name, want in answers(kernel, a, b, rule).items():
            assert want.isfinite().all(), (name, a, b)
            assert float((want - truth[name]).abs().max()) <= 1e-11 * float(truth[name].abs().max()), (
                name,
                a,
                b,
            )


@pytest.mark.parametrize(
    ("a", "b", "rule", "message"),
    [
        (
            1e-150,
            1.0,
            lo.Ridge(1.0),
            r"`kernel` must be 0 or lie between 1e-100 and 1e100.*Multiply the inputs",
        ),
        (1e-100, 1e150, lo.Ridge(1e-20), "`kernel` must be 0 or lie"),
        (1e100, 1.0, lo.Ridge(1.0), "`kernel` must be 0 or lie"),
        (1.0, 1e155, lo.Ridge(1.0), "`targets` must be 0 or lie between 1e-150 and 1e150"),
        (1.0, 1e-160, lo.Ridge(1.0), "`targets` must be 0 or lie"),
    ],
)
def test_what_leaves_the_range_of_numbers_is_refused_with_the_number(a, b, rule, message) -> None:
    with pytest.raises(DataError, match=message):
        lo.fit(LINEAR, (INPUTS * a, TARGETS * b), rule=rule)


def test_rates_ridges_and_times_out_of_range_are_refused() -> None:
    for rule in (lo.Ridge(1e-320), lo.GradientFlow(1.0, 1e200)):
        with pytest.raises(OptionError, match="`ridge` must be 0 or lie between 1e-150 and 1e150"):
            lo.fit(LINEAR, (INPUTS, TARGETS), rule=rule)
    with pytest.raises(OptionError, match="`rate` must be 0 or lie between 1e-150 and 1e150"):
        lo.fit(LINEAR, (INPUTS, TARGETS), rule=lo.GradientFlow(1e-300))
    with pytest.raises(OptionError, match=r"`rate \* at` .*; got 4\.94e-324\. Of a larger time"):
        lo.GradientFlow(1e-149).time(1e-300)
    with pytest.raises(OptionError, match=r"`at` must be a time ≥ 0"):
        lo.GradientFlow().time(10**400)
    with pytest.raises(OptionError, match=r"`at` must be a whole number of steps"):
        lo.GradientDescent(1.0).time(10**400)
    assert lo.GradientFlow(1e-149).time(0) == 0
    assert lo.GradientFlow(1e149).time(math.inf) == math.inf


def test_a_kernel_and_targets_of_zero_are_no_matter_of_scale() -> None:
    fitted = lo.fit(LINEAR, (INPUTS * 0, TARGETS * 0), rule=lo.Ridge(1.0))
    assert not fitted.predict(QUERIES).any()

"""Does a descent look often enough, restart, slow down, give up and stop when it should?

The objective here follows a script: what each look finds is written beforehand.
"""

import math

import pytest
import torch

from leftout.core.errors import DivergenceError
from leftout.dynamics.descend import GROWTH, HALVINGS, PATIENCE, Descent, Goal, settling_rate
from leftout.dynamics.objective import Look, Objective


class Scripted(Objective):
    """Looks come from a function of the steps taken; every call is written down."""

    def __init__(self, script, *, ridge=0.25, top=3.75, means=None):
        super().__init__(torch.zeros(4, 1, dtype=torch.float64), ridge)
        self.script, self.means = script, means
        self.kernel = torch.diag(torch.tensor([top, 1.0, 0.5, 0.0], dtype=torch.float64))
        self.steps, self.calls, self.looks, self.rewound = 0, [], [], []

    rounding_error = 0.0

    def advance(self, rate, momentum=0.0):
        self.calls.append((rate, momentum))
        self.steps += 1

    def look(self):
        self.looks.append(self.steps)
        return Look(*self.script(self.steps))

    def mark(self):
        self.marked = self.steps

    def mean_gradient(self, rate, steps):
        assert steps == self.steps - self.marked
        return self.means(self.steps)

    def tangent(self, vector):
        return self.kernel @ vector

    def rewind(self):
        self.rewound.append(self.steps)

    def trained_module(self):
        raise NotImplementedError


def ran(objective, *, steps=100, tolerance=1e-3, rate=0.1, settling=False, unit=1.0):
    """Return the descent after its run; the gradient at w_0 is 1 and the objective 2."""
    goal = Goal(steps, tolerance, reference=1.0, ceiling=2.0, unit=unit)
    descent = Descent(objective, goal, rate=rate, settling=settling)
    descent.descend()
    return descent


def test_it_looks_every_ten_steps_and_later_at_every_twentieth_part() -> None:
    objective = Scripted(lambda step: (1.0, 1.0), means=lambda step: math.inf)
    ran(objective, steps=1000)
    gaps = [b - a for a, b in zip(objective.looks, objective.looks[1:], strict=False)]
    assert objective.looks[0] == 0
    assert objective.looks[-1] == 1000
    assert gaps[:20] == [10] * 20
    for step, gap in zip(objective.looks, gaps[:-1], strict=False):
        assert gap == max(10, step // 20)
    assert len(objective.calls) == 1000


def test_it_stops_at_the_first_look_that_is_small_enough() -> None:
    objective = Scripted(lambda step: (1.0, 10.0 ** (-step / 10)), means=lambda step: math.inf)
    descent = ran(objective)
    assert descent.steps == len(objective.calls) == 30
    assert descent.relative_gradient == 1e-3
    assert set(objective.calls) == {(0.1, 0.0)}, "plain steps at the rate given"


def test_the_mean_gradient_since_the_last_look_counts_as_well() -> None:
    objective = Scripted(lambda step: (1.0, 0.5), means=lambda step: 1 / step**2)
    descent = ran(objective)
    assert descent.steps == 40  # 1 / 30² is above a thousandth
    assert descent.look.norm == 1 / 40**2
    assert descent.look.gradient_norm == 0.5


def test_without_a_tolerance_it_takes_all_steps_and_marks_nothing() -> None:
    objective = Scripted(lambda step: (1.0, 0.0))
    descent = ran(objective, steps=33, tolerance=None)
    assert descent.steps == 33
    assert objective.looks == [0, 10, 20, 30, 33]


@pytest.mark.parametrize("unit", [1.0, 8.0])
def test_it_gives_up_where_the_objective_has_grown_tenfold(unit) -> None:
    objective = Scripted(
        lambda step: (2.002 * GROWTH ** (step / 20) if step else 2.0, 1.0), means=lambda step: 9.0
    )
    words = (
        rf"after 20 steps the objective is {20.02 / unit:.3g}, from {2 / unit:.3g} at the initial "
        rf"weights\. The critical rate 2 / \(s_max \+ ridge\) there is {0.5 * unit:.3g}; got "
        rf"{0.1 * unit:.3g}\."
    )
    with pytest.raises(DivergenceError, match=words):
        ran(objective, unit=unit)
    assert len(objective.calls) == 20
    assert not objective.rewound


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_what_is_not_finite_is_told_at_the_rate_of_the_beginning(loss) -> None:
    objective = Scripted(lambda step: (loss if step else 2.0, 1.0), means=lambda step: math.inf)
    with pytest.raises(DivergenceError, match=r"\(s_max \+ ridge\) where it began is 0\.5; got 0\.1"):
        ran(objective)
    assert objective.rewound == [10]


def test_a_start_that_is_higher_than_the_initial_weights_has_not_diverged() -> None:
    objective = Scripted(lambda step: (100.0, 1.0), means=lambda step: 1.0)
    assert ran(objective).steps == 100


def test_momentum_comes_on_gradually_up_to_nesterovs() -> None:
    objective = Scripted(lambda step: (1.0, 0.99**step))
    ran(objective, steps=50, tolerance=1e-9, settling=True)
    pace = math.sqrt(0.25 * 0.1)
    most = (1 - pace) / (1 + pace)
    assert [momentum for _, momentum in objective.calls] == pytest.approx(
        [min(most, step / (step + 3)) for step in range(50)]
    )


def test_momentum_that_carries_uphill_starts_from_a_standstill() -> None:
    objective = Scripted(lambda step: (1.5 if step == 20 else 1.0, 0.99**step))
    ran(objective, steps=40, tolerance=1e-9, settling=True)
    momenta = [momentum for _, momentum in objective.calls]
    assert momenta[20:30] == momenta[:10]
    assert momenta[19] > momenta[20] == 0


def test_a_minimiser_that_stalls_is_looked_for_at_half_the_rate() -> None:
    objective = Scripted(lambda step: (1.0, 0.5))
    descent = ran(objective, steps=PATIENCE + 50, settling=True)
    rates = [rate for rate, _ in objective.calls]
    slowed = rates.index(0.05)
    assert PATIENCE <= slowed <= 1.1 * PATIENCE
    assert set(rates[slowed:]) == {0.05}
    assert objective.calls[slowed] == (0.05, 0.0), "from a standstill"
    assert descent.rate == 0.05
    assert not objective.rewound, "what was learned stays"


def test_one_that_falls_however_slowly_does_not_stall() -> None:
    objective = Scripted(lambda step: (1.0, 1 / (1 + step)))
    descent = ran(objective, steps=900, tolerance=1e-9, settling=True)
    assert descent.rate == 0.1
    assert not descent.has_stalled


def test_a_minimiser_that_grows_is_looked_for_from_the_start_at_half_the_rate() -> None:
    objective = Scripted(lambda step: (100.0 if step == 20 else 1.0, 0.5))
    ran(objective, steps=60, settling=True)
    assert objective.rewound == [20]
    assert objective.calls[19][0] == 0.1
    assert objective.calls[20] == (0.05, 0.0)
    objective = Scripted(lambda step: (100.0 if step else 1.0, 0.5))
    with pytest.raises(DivergenceError, match=f"rate down to {0.1 / 2**HALVINGS:.3g}"):
        ran(objective, steps=500, settling=True)


def test_the_steps_that_are_needed_are_told_from_the_pace() -> None:
    objective = Scripted(lambda step: (1.0, 0.9**step), means=lambda step: math.inf)
    descent = ran(objective, steps=40, tolerance=1e-9)
    assert descent.steps_needed(1e-9) == pytest.approx(math.log(1e-9) / math.log(0.9), rel=1e-9)
    rising = Scripted(lambda step: (1.0, 1 + step), means=lambda step: math.inf)
    assert ran(rising, steps=40).steps_needed(1e-3) == math.inf


def test_where_there_is_nothing_to_learn_it_is_there_at_once() -> None:
    objective = Scripted(lambda step: (0.0, 0.0))
    descent = Descent(objective, Goal(9, 1e-6, 0.0, 0.0), rate=0.1, settling=True)
    descent.descend()
    assert (descent.steps, descent.relative_gradient) == (0, 0.0)


def test_the_rate_of_a_minimiser_is_half_the_safe_one() -> None:
    assert settling_rate(Scripted(None)) == pytest.approx(1 / (2 * 4.0), rel=2e-3)
    nothing = Scripted(None, ridge=0.0)
    nothing.kernel = 0 * nothing.kernel
    assert settling_rate(nothing) == 1.0

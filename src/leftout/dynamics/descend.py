"""How far is a descent, and has it arrived? Steps, a look at the gradient now and then, a verdict.

Arrived: ‖∇L‖ ≤ tolerance · ‖∇L at w_0‖. In the kernel regime what is still to be learned is then
about the tolerance times what there was to learn.

`Ridge` asks for the minimiser alone: Nesterov's momentum, at half the rate that is safe for the
kernel at w_0, since the kernel moves; halved again where that turns out too fast.
`GradientDescent` asks for the path: plain steps at the rate given, for better or worse.
"""

import math
from dataclasses import dataclass

from leftout.core.errors import DivergenceError
from leftout.core.progress import with_progress
from leftout.dynamics.objective import Look, Objective

FIRST = 10
"""Steps between looks at first; later a twentieth of those taken, so that looks cost little."""

GROWTH = 10.0
"""Times the objective at w_0 beyond which it has left for good: on its way down it is never above."""

FALL = 0.7
"""What the gradient must have fallen to over the last half of the steps, or it has stalled."""

PATIENCE = 400
"""Steps before a stall is believed."""

HALVINGS = 6
"""Times that a rate that was chosen here may be halved."""


@dataclass(frozen=True)
class Goal:
    """What a descent is to do.

    Attributes:
        steps: the most steps.
        tolerance: relative gradient at which to stop; None takes all steps.
        reference: ‖∇L‖ at w_0.
        ceiling: L at w_0.
        unit: n where the user's loss is a mean, else 1: rates, losses and gradients are told in it.
    """

    steps: int
    tolerance: float | None
    reference: float
    ceiling: float
    unit: float = 1.0

    def relative(self, norm: float) -> float:
        """Return a gradient norm relative to that at w_0; 0 where there was nothing to learn."""
        return norm / self.reference if self.reference else 0.0


class Descent:
    """One descent of an objective: `run` takes it as far as its goal.

    Args:
        rate: η, as it multiplies the gradient of the sum.
        settling: whether only the minimiser matters: momentum, and a rate that is ours to lower.
    """

    def __init__(self, objective: Objective, goal: Goal, *, rate: float, settling: bool) -> None:
        self.objective = objective
        self.goal = goal
        self.rate = rate
        self.settling = settling
        self.steps = 0
        self.look = Look(goal.ceiling, goal.reference)
        self._ceiling = goal.ceiling
        self._looks: list[tuple[int, float]] = []  # steps since the rate was chosen
        self._begun = 0
        self._halved = 0
        self._moving = 0
        self._marked: int | None = None

    def descend(self) -> None:
        """Descend to the goal.

        Raises:
            DivergenceError: the objective outgrew what it was at w_0, at every rate there was.
        """
        due = 0
        for step in with_progress(range(self.goal.steps + 1), what="training"):
            self.steps = step
            if step >= due or step == self.goal.steps:
                if self._is_at_goal():
                    break
                due = step + max(FIRST, step // 20)
            if step < self.goal.steps:
                self.objective.advance(self.rate, self._momentum())

    @property
    def relative_gradient(self) -> float:
        """Return ‖∇L‖ relative to that at w_0."""
        return self.goal.relative(self.look.norm)

    @property
    def has_stalled(self) -> bool:
        """Return whether the gradient fell little over the last half of the steps at this rate."""
        end = self._looks[-1][0]
        early = [norm for step, norm in self._looks if step <= end / 2]
        late = [norm for step, norm in self._looks if step > end / 2]
        return end >= PATIENCE and bool(early) and min(late) > FALL * min(early)

    def steps_needed(self, tolerance: float) -> float:
        """Return about how many steps the tolerance takes, at the pace of the last half."""
        end, norm = self._looks[-1]
        begin, before = max((look for look in self._looks if look[0] <= end / 2), default=self._looks[0])
        if not norm < before:
            return math.inf
        more = (end - begin) * math.log(norm / tolerance) / math.log(before / norm)
        return self.steps + more

    def _is_at_goal(self) -> bool:
        """Look at the objective; tell whether to stop, and slow down where that is called for."""
        before = self.look
        self.look = self._look_at_objective()
        self._looks.append((self.steps - self._begun, self.relative_gradient))
        if self.steps == 0:  # a start elsewhere may be higher than w_0
            self._ceiling = max(self._ceiling, self.look.loss)
        # A gradient that is no number is past all rates too, though its loss may still be one.
        lost = not math.isfinite(self.look.gradient_norm)
        if lost or not self.look.loss <= GROWTH * self._ceiling:
            self._too_fast()
            return False
        tolerance = self.goal.tolerance
        if tolerance is not None and self.relative_gradient <= tolerance:
            return True
        if self.settling and self.look.loss > before.loss:
            self._moving = 0  # momentum carries it uphill: from a standstill again
        if self.settling and self.has_stalled and self._halved < HALVINGS:
            self._slow_down()
        return False

    def _look_at_objective(self) -> Look:
        look = self.objective.look()
        if self.settling or self.goal.tolerance is None:
            return look
        # Plain steps add up to gradients: their mean since the last look is how far it came.
        mean = math.inf
        if self._marked is not None:
            mean = self.objective.mean_gradient(self.rate, self.steps - self._marked)
        self.objective.mark()
        self._marked = self.steps
        return Look(look.loss, look.gradient_norm, mean)

    def _momentum(self) -> float:
        """Return Nesterov's momentum for a convexity of λ; from a standstill it comes on gradually."""
        if not self.settling:
            return 0.0
        pace = math.sqrt(self.objective.ridge * self.rate)
        self._moving += 1
        return min((1 - pace) / (1 + pace), (self._moving - 1) / (self._moving + 2))

    def _too_fast(self) -> None:
        if not self.settling or self._halved == HALVINGS:
            raise DivergenceError(self._divergence_message())
        self.objective.rewind()
        self.look = self.objective.look()
        self._slow_down()

    def _slow_down(self) -> None:
        self.rate /= 2
        self._halved += 1
        self._looks = [(0, self.relative_gradient)]
        self._begun, self._moving = self.steps, 0

    def _divergence_message(self) -> str:
        """Return what happened, and which rate the kernel there, or at w_0, could have borne."""
        unit, loss = self.goal.unit, self.look.loss
        if self.settling:  # the rates were ours: advice on them would help nobody
            return (
                f"Training diverged: after {self.steps} steps the objective is {loss / unit:.3g}, from "
                f"{self.goal.ceiling / unit:.3g} at the initial weights, at every rate down to "
                f"{self.rate * unit:.3g}. The kernel of this network moves too much as it learns: take "
                "a larger width or ridge, train in float64, or scale the targets down."
            )
        where = "there"
        if not math.isfinite(loss):
            self.objective.rewind()
            where = "where it began"
        top = self.objective.largest(rtol=1e-2) + self.objective.ridge
        return (
            f"Training diverged: after {self.steps} steps the objective is {loss / unit:.3g}, from "
            f"{self.goal.ceiling / unit:.3g} at the initial weights. The critical rate "
            f"2 / (s_max + ridge) {where} is {2 * unit / top:.3g}; got {self.rate * unit:.3g}. The "
            "kernel of a network moves as it learns: take a rate well below, or a larger width."
        )


def settling_rate(objective: Objective) -> float:
    """Return half the rate that is safe for momentum, 1 / (s_max + λ), at the point."""
    top = objective.largest(rtol=1e-3) + objective.ridge
    return 1 / (2 * top) if top > 0 else 1.0

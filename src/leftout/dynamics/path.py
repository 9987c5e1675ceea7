"""Which way does a network itself go, a step at a time, where its linearisation has a closed form?

    descent    w ← w − η ∇L(w)
    flow       dw/dt = −∇L(w), by the classical Runge-Kutta method of fourth order

Of a linear model each multiplies what is left of a mode by 1 − ησ, and by R(hσ) for e^{−hσ},

    R(z) = 1 − z + z²/2 − z³/6 + z⁴/24,        |R(z)| < 1 for 0 < z < 2.78.

So `left` says exactly what the steps themselves do, and with it how far they are from the flow.
"""

from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.dynamics.descend_module import ModuleObjective
from leftout.dynamics.rules import GradientDescent, GradientFlow

SHORTEST, LONGEST, GROWTH = 0.2, 1.0, 0.05
"""Steps of the flow, in 1/(s_max + λ): they grow with time, as fast modes come to rest first. Of modes
as fast as s_max the worst error is 1.1e-5 of what there was to learn, and of slower ones no more."""


class Path(ABC):
    """One way down an objective.

    Args:
        objective: where it begins.
        values: eigenvalues of the tangent kernel there, plus the ridge.

    Attributes:
        time: in the reading of the rule, of the point where it is.
        left: share of each mode that a linear model would not have learned yet by these very steps.
    """

    def __init__(self, objective: ModuleObjective, values: Float64[Tensor, " r"]) -> None:
        self.objective = objective
        self.values = values
        self.time = 0.0
        self.left = torch.ones_like(values)

    @abstractmethod
    def advance(self) -> None:
        """Take a step."""


@final
class DescentPath(Path):
    """Plain steps at a rate; time is their number.

    Args:
        rate: as it multiplies the gradient of the sum.
    """

    def __init__(self, objective: ModuleObjective, values: Float64[Tensor, " r"], *, rate: float) -> None:
        super().__init__(objective, values)
        self.rate = rate

    def advance(self) -> None:
        self.objective.advance(self.rate)
        self.left *= 1 - self.rate * self.values
        self.time += 1


@final
class FlowPath(Path):
    """The flow, followed by Runge-Kutta steps; a step is four gradients.

    Args:
        pace: time in 1/eigenvalue that a unit of the rule's time is.
    """

    def __init__(self, objective: ModuleObjective, values: Float64[Tensor, " r"], *, pace: float) -> None:
        super().__init__(objective, values)
        self.pace = pace
        self.high = float(values.max())

    def advance(self) -> None:
        # Where nothing can be learned no step is too long.
        fast = self.high if self.high > 0 else 1.0
        step = min(LONGEST, SHORTEST + GROWTH * fast * self.time * self.pace) / fast
        begin, slopes = self.objective.point, [self.objective.gradient]
        for share in (0.5, 0.5, 1.0):
            self.objective.move(begin - share * step * slopes[-1])
            slopes.append(self.objective.gradient)
        first, second, third, last = slopes
        self.objective.move(begin - step / 6 * (first + 2 * second + 2 * third + last))
        z = step * self.values
        self.left *= 1 - z * (1 - z / 2 * (1 - z / 3 * (1 - z / 4)))
        self.time += step / self.pace


def path_of(
    rule: GradientDescent | GradientFlow, objective: ModuleObjective, spectrum: Float64[Tensor, " r"]
) -> Path:
    """Return the way that a rule takes from where an objective is.

    Args:
        spectrum: eigenvalues of the tangent kernel there, without ridge.
    """
    n = len(objective.targets)
    values = spectrum + rule.effective_ridge(n)
    if isinstance(rule, GradientDescent):
        return DescentPath(objective, values, rate=rule.step(n))
    return FlowPath(objective, values, pace=rule.effective_time(1.0, n))

"""How is a network really trained as the kernel model that stands for it was? Same rule, same time.

To the end under a ridge, to a stated gradient; for a number of steps, just so many.
"""

import math

from torch import nn

from leftout.core.checks import shown
from leftout.core.errors import OptionError
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import GradientDescent, Ridge, Rule
from leftout.dynamics.train import Trained, train

TOLERANCE = 1e-5
"""Relative gradient at which a network counts as trained to the end: predictions to five digits."""


def follow(fitted: Fitted, module: nn.Module, time: float) -> Trained:
    """Return a module trained on the examples of a fitted model, by its rule, for its time.

    Args:
        time: of training; inf is the end.

    Raises:
        OptionError: as `check_followed`.

    Cost:
        one training.
    """
    rule = check_followed(fitted.rule, time)
    ends = time == math.inf
    return train(
        module,
        fitted.train,
        rule=rule,
        steps=None if ends else int(time),
        tolerance=TOLERANCE if ends else None,
        memory=fitted.memory,
    )


def check_followed(rule: Rule, time: float) -> Ridge | GradientDescent:
    """Return the rule, if a network can be trained by it for this time.

    Raises:
        OptionError: a flow, whose steps are infinitesimal; or no step to take.
    """
    if not isinstance(rule, Ridge | GradientDescent):
        raise OptionError(
            f"A network is trained under Ridge or GradientDescent, which it can follow; got {shown(rule)}. A "
            "flow is descent at a small rate (--rule descent)."
        )
    if time == 0:
        raise OptionError("A network is trained for at least one step; got at = 0.")
    return rule

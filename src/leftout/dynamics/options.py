"""Options of the rules of training. Loads no torch."""

from dataclasses import dataclass
from typing import Literal

from leftout.core.options import OptionRecord, option

Loss = Literal["sum", "mean"]
RuleName = Literal["ridge", "flow", "descent"]


@dataclass(frozen=True, kw_only=True)
class RuleOptions(OptionRecord):
    """Options of every rule, and when to ask."""

    panel = "Training"

    ridge: float | None = option(
        None, "λ, added to the kernel matrix as given; 1 for ridge, 0 for the others.", common=True
    )
    at: tuple[float, ...] = option(
        (), "Training time or number of steps, again for each; inf is the end.", common=True
    )
    rule: RuleName | None = option(None, "How it is trained: ridge by default, flow where --at is given.")
    loss: Loss = option("sum", "Over examples; mean stands for --rate / n and --ridge · n.")


@dataclass(frozen=True, kw_only=True)
class RateOptions(OptionRecord):
    """An option of the rules with training time: flow and descent."""

    panel = "Training"

    rate: float | None = option(None, "η of flow (1 by default) and descent (must be given).")

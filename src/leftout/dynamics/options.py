"""Options of the rules of training. Loads no torch."""

from dataclasses import dataclass
from typing import Literal

from leftout.core.options import OptionRecord, option

Loss = Literal["sum", "mean"]
LossName = Literal["squared", "cross-entropy"]
RuleName = Literal["ridge", "flow", "descent"]
AUTO: Literal["auto"] = "auto"
RidgeNumber = float | Literal["auto"]
"""A ridge, or "auto": the one of least exact left-out loss."""


@dataclass(frozen=True, kw_only=True)
class RuleOptions(OptionRecord):
    """Options of every rule, and when to ask."""

    panel = "Training"

    ridge: RidgeNumber | None = option(
        None,
        "λ, added to the kernel matrix as given, or auto: of least exact left-out loss. 1 by default, 0 for "
        "flow and descent, of cross-entropy a hundredth of the kernel's mean diagonal.",
    )
    at: tuple[float, ...] = option(
        (), "Training time or number of steps, again for each; inf is the end.", common=True
    )
    rule: RuleName | None = option(None, "How it is trained: ridge by default, flow where --at is given.")
    loss: LossName | None = option(
        None,
        "cross-entropy: logistic, or softmax over classes; by default for a network of your own and classes. "
        "Else squared.",
    )
    reduction: Loss = option("sum", "Of losses over examples; mean stands for --rate / n and --ridge · n.")


@dataclass(frozen=True, kw_only=True)
class RateOptions(OptionRecord):
    """An option of the rules with training time: flow and descent."""

    panel = "Training"

    rate: float | None = option(None, "η of flow (1 by default) and descent (must be given).")


SolverName = Literal["auto", "dense", "tiled", "features"]
TileType = Literal["float64", "float32"]


@dataclass(frozen=True, kw_only=True)
class SolverOptions(OptionRecord):
    """How a model is solved; all ways are exact, to the precision of their numbers."""

    panel = "Machine"

    solver: SolverName = option(
        "auto",
        "dense: whole matrices. tiled: one triangle of the inverse. features: those a kernel is made of. "
        "auto: features where few, else dense where that fits.",
    )
    tile_dtype: TileType | None = option(None, "Precision of tiles: float64 where they fit, else float32.")


@dataclass(frozen=True, kw_only=True)
class TrainingRunOptions(OptionRecord):
    """How a network was trained, from which the ridge follows that stands for the run."""

    panel = "Training"

    learning_rate: float | None = option(
        None, "Rate of the run that --model was trained by (SGD): with --steps it gives the ridge."
    )
    steps: int | None = option(None, "Updates of the weights in that run.")
    momentum: float | None = option(None, "Of that run; 0 by default.")
    weight_decay: float | None = option(None, "Of that run; 0 by default.")

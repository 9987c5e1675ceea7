"""Options of the kernels of fully connected networks. Loads no torch."""

from dataclasses import dataclass
from typing import Literal

from leftout.core.options import OptionRecord, option

Kind = Literal["ntk", "nngp"]
Activation = Literal["relu", "tanh", "erf", "gelu"]


@dataclass(frozen=True, kw_only=True)
class DeepOptions(OptionRecord):
    """Options of networks with layers to count: relu, erf, tanh and conv-relu."""

    panel = "Kernel: relu, erf, tanh, conv-relu"

    depth: int = option(2, "Hidden layers.")
    weight_variance: float = option(2.0, "Of the weights, times fan-in.")
    bias_variance: float = option(0.0, "Of the biases.")
    kind: Kind = option("ntk", "All layers trained, or the last alone.")

"""Options of the kernels of wide networks. Loads no torch."""

from dataclasses import dataclass
from typing import Literal

from leftout.core.options import OptionRecord, option

Kind = Literal["ntk", "nngp"]
Activation = Literal["relu", "tanh", "erf", "gelu"]
Padding = Literal["same", "valid", "circular"]
Pooling = Literal["flatten", "mean"]


@dataclass(frozen=True, kw_only=True)
class DeepOptions(OptionRecord):
    """Options of networks with layers to count: relu, erf, tanh and conv-relu."""

    panel = "Kernel: relu, erf, tanh, conv-relu"

    depth: int = option(2, "Hidden layers.")
    weight_variance: float = option(2.0, "Of the weights, times fan-in.")
    bias_variance: float = option(0.0, "Of the biases.")
    kind: Kind = option("ntk", "All layers trained, or the last alone.")


@dataclass(frozen=True, kw_only=True)
class ConvolutionOptions(OptionRecord):
    """Options of `ConvReLU`."""

    panel = "Kernel: conv-relu"

    kernel_size: int = option(3, "Side of the windows.")
    stride: int = option(1, "Of the convolutions.")
    padding: Padding = option("same", "Of the images.")
    pooling: Pooling = option("flatten", "All positions of the last layer, or their mean: slower by far.")

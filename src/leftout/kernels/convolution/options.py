"""Options of the kernels of convolutional networks, beside those of all deep ones. Loads no torch."""

from dataclasses import dataclass
from typing import Literal

from leftout.core.options import OptionRecord, option

Padding = Literal["same", "valid", "circular"]
Pooling = Literal["flatten", "mean"]


@dataclass(frozen=True, kw_only=True)
class ConvolutionOptions(OptionRecord):
    """Options of `ConvReLU`."""

    panel = "Kernel: conv-relu"

    kernel_size: int = option(3, "Side of the windows.")
    stride: int = option(1, "Of the convolutions.")
    padding: Padding = option("same", "Of the images.")
    pooling: Pooling = option("flatten", "All positions of the last layer, or their mean: slower by far.")

"""What the first layer of a network of rows is given: the kernel x·z / d, as gap and total."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from leftout.kernels.layers.angles import gap_and_total
from leftout.kernels.rows import lengths


def input_scales(rows: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Return |x| / √d: the square root of the kernel x·x / d that the first layer is given."""
    return lengths(rows) / math.sqrt(rows.shape[1])


def input_gap_and_total(
    queries: Float[Tensor, "m d"], inputs: Float[Tensor, "n d"]
) -> tuple[Float[Tensor, "m n"], Float[Tensor, "m n"]]:
    """Return D and S of the kernel x·z / d that the first layer is given."""
    gap, total = gap_and_total(queries, inputs)
    scale = torch.outer(input_scales(queries), input_scales(inputs))
    return gap.mul_(scale), total.mul_(scale)

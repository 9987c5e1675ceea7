"""What a fully connected layer does to a kernel, without cancellation for nearly equal inputs.

A layer z' = sqrt(w / fan-in) W z + sqrt(b) β turns K into wK + b. Written with the *gap* D and the
*total* S of a pair,

    D = sqrt(K11 K22) − K12,        S = sqrt(K11 K22) + K12,        c = sqrt(K11 K22) = (S + D) / 2,

the angle is 2 atan2(√D, √S), and with P = sqrt((w K11 + b)(w K22 + b)) the layer gives

    D' = w D + e,    S' = w S + 2b + e,    e = P − (w c + b) = w b (√K11 − √K22)² / (P + w c + b),

sums of positive terms: no digit of a small gap is lost. (Multiply e out: P² − (wc + b)² is
w b (K11 + K22 − 2c).)
"""

import math
import operator

import torch
from jaxtyping import Float
from torch import Tensor

from leftout.core.checks import check_at_least, check_choice, check_positive
from leftout.core.errors import OptionError
from leftout.kernels.rows import lengths
from leftout.kernels.wide.angles import gap_and_total
from leftout.kernels.wide.options import Kind

KINDS: tuple[Kind, ...] = ("ntk", "nngp")


def check_network(depth: int, weight_variance: float, bias_variance: float, kind: str) -> None:
    """Raise unless these describe a network: layers to count, variances, a known kind."""
    try:
        layers = operator.index(depth)
    except TypeError:
        layers = 0
    if layers < 1 or isinstance(depth, bool):
        raise OptionError(
            f"`depth` must be a whole number of hidden layers, at least 1; got {depth!r}. "
            "The readout is not counted."
        )
    check_positive("weight_variance", weight_variance)
    check_at_least("bias_variance", bias_variance, 0)
    check_choice("kind", kind, KINDS)


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


def dense_gap_and_total(
    gap: Float[Tensor, "m n"],
    total: Float[Tensor, "m n"],
    k11: Float[Tensor, " m"],
    k22: Float[Tensor, " n"],
    *,
    weight_variance: float,
    bias_variance: float,
) -> None:
    """Turn D and S, *in place*, into those after a layer; `k11`, `k22` are those before it."""
    w, b = weight_variance, bias_variance
    excess = None
    if b > 0:
        norms = torch.outer((w * k11 + b).sqrt(), (w * k22 + b).sqrt())
        norms.add_(total, alpha=w / 2).add_(gap, alpha=w / 2).add_(b)
        excess = (k11.sqrt()[:, None] - k22.sqrt()).square_().mul_(w * b).div_(norms)
    gap.mul_(w)
    total.mul_(w)
    if excess is not None:
        gap.add_(excess)
        total.add_(excess).add_(2 * b)

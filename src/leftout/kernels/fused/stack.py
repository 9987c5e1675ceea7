"""K and T of rows through fully connected (leaky) ReLU layers by fused.c: one pass over a block of cosines.

Kernels are carried over the product of deviations P = √(K11 K22), as the gap D = 1 − cos θ and T / P. With φ
of a row the angle whose cosine is √(w k / (w k + b)), k its kernel before a layer, a dense layer gives

    D' = cos φ₁ cos φ₂ D + (1 − cos(φ₁ − φ₂)),        T' / P' = cos φ₁ cos φ₂ T / P + (1 − D'),

as (w c + b) / P' is cos(φ₁ − φ₂) for a cosine of 1. Both terms of D' are positive, and 1 − cos(φ₁ − φ₂) is
|u₁ − u₂|² / 2 of unit vectors u = (cos φ, sin φ): no digit of a small gap is lost, and equal rows have none.
A leaky ReLU of slope a gives

    D' = D − r (sin θ − θ cos θ),        T' = T (1 + a²) / 2 (1 − r θ),        r = ((1 − a)² / (1 + a²)) / π.
"""

import ctypes
import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.kernels.fused.library import LINE, SETS, Code, StackRecord, load_library
from leftout.kernels.threads import one_thread_each, side_by_side

TASK = 2**20
"""Pairs times layers of a task: a few milliseconds."""


@final
@dataclass(frozen=True)
class Stack:
    """Dense layers with a (leaky) ReLU between each and the next, and behind the last if there are as many.

    Attributes:
        variances: of weights and of biases of each dense layer.
        slopes: of the rectifiers.
        tangent: whether T is wanted, not K.
    """

    variances: tuple[tuple[float, float], ...]
    slopes: tuple[float, ...]
    tangent: bool

    @property
    def biased(self) -> bool:
        """Return whether a layer has biases."""
        return any(bias > 0 for _, bias in self.variances)


def stack_kernel(
    stack: Stack,
    queries: Float[Tensor, "m d"],
    inputs: Float[Tensor, "n d"],
    query_deviations: Float[Tensor, " m"],
    input_deviations: Float[Tensor, " n"],
    code: Code,
) -> Float[Tensor, "m n"]:
    """Return K or T of all pairs.

    Args:
        queries, inputs: rows of norm 1, or 0.
        query_deviations, input_deviations: √k of each row, k the kernel before the first layer.

    Accuracy:
        As of `ReLU`: gaps of near pairs are computed from their rows.
    """
    a, b = queries.contiguous(), inputs.contiguous()
    kernel = a @ b.T
    _compute_rows(stack, kernel, (a, query_deviations), (b, input_deviations), code, paired=False)
    return kernel


def stack_diagonal(
    stack: Stack, inputs: Float[Tensor, "n d"], deviations: Float[Tensor, " n"], code: Code
) -> Float[Tensor, " n"]:
    """Return K or T of each row with itself, to the last bit what `stack_kernel` returns."""
    a = inputs.contiguous()
    kernel = a.new_ones(len(a), 1)
    _compute_rows(stack, kernel, (a, deviations), (a, deviations), code, paired=True)
    return kernel[:, 0]


def _compute_rows(
    stack: Stack,
    kernel: Tensor,
    left: tuple[Tensor, Tensor],
    right: tuple[Tensor, Tensor],
    code: Code,
    *,
    paired: bool,
) -> None:
    """Turn cosines into the kernel, in place."""
    library = load_library()
    assert library is not None, "`compiled_set` returns None without one"
    (a, left_deviations), (b, right_deviations) = left, right
    left_mixes, left_scales = _mixes(stack, left_deviations)
    right_mixes, right_scales = _mixes(stack, right_deviations)
    beyond = LINE  # more numbers than are computed at once
    right_mixes = torch.nn.functional.pad(right_mixes, (0, beyond)).contiguous()
    right_scales = torch.nn.functional.pad(right_scales, (0, beyond))
    left_mixes = left_mixes.permute(2, 0, 1).contiguous()
    slopes = (ctypes.c_double * len(stack.slopes))(*stack.slopes)
    record = StackRecord(
        depth=len(stack.slopes),
        biased=stack.biased,
        tangent=stack.tangent,
        ends_dense=len(stack.variances) > len(stack.slopes),
        features=a.shape[1],
        slopes=slopes,
    )
    columns = kernel.shape[1]

    def compute(rows: slice) -> None:
        start = rows.start if paired else 0
        library.leftout_rows(
            SETS.index(code),
            kernel.dtype == torch.float64,
            record,
            rows.stop - rows.start,
            columns,
            columns,
            paired,
            kernel[rows].data_ptr(),
            a[rows].data_ptr(),
            left_mixes[rows].data_ptr(),
            left_scales[rows].data_ptr(),
            b[start:].data_ptr(),
            right_mixes[..., start:].data_ptr(),
            right_mixes.shape[-1],
            right_scales[start:].data_ptr(),
        )

    if kernel.numel():
        batches = list(blocks(len(a), max(1, TASK // (columns * max(1, len(stack.slopes))))))
        with one_thread_each(kernel.device) as threads:
            list(side_by_side(compute, batches, threads))


def _mixes(
    stack: Stack, deviations: Float[Tensor, " n"]
) -> tuple[Float[Tensor, "layers 2 n"], Float[Tensor, " n"]]:
    """Return cos φ and sin φ of each dense layer, and the deviation at the end."""
    mixes = []
    root, factor = deviations.double(), 1.0  # √k is √factor · root: layers without biases round nothing
    for place, (weight, bias) in enumerate(stack.variances):
        factor *= weight
        if bias > 0:
            weighted, constant = math.sqrt(factor) * root, torch.full_like(root, math.sqrt(bias))
            root, factor = torch.hypot(weighted, constant), 1.0
            mixes.append(torch.stack([weighted / root, constant / root]))
        else:
            mixes.append(torch.stack([torch.ones_like(root), torch.zeros_like(root)]))
        if place < len(stack.slopes):
            factor *= (1 + stack.slopes[place] ** 2) / 2
    scales = (math.sqrt(factor) * root).to(deviations.dtype)
    return torch.stack(mixes).to(deviations.dtype), scales

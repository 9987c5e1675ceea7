"""Which networks does compiled code compute, and how are their layers said to it?

Rows: Dense layers with rectifiers between them, all of it. Images: convolutions by zeros, rectifiers,
factors and sums of branches, up to the readout of positions; what follows is done here, on whole images.
Other networks are computed by torch, layer by layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from leftout.kernels.fused.images import held_bytes, image_means
from leftout.kernels.fused.library import Code, compiled_set
from leftout.kernels.fused.program import Convolution, Factor, ImageProgram, Rectifier, Step
from leftout.kernels.fused.program import Residual as Branches
from leftout.kernels.fused.stack import Stack, stack_diagonal, stack_kernel
from leftout.kernels.layers.angles import unit_rows
from leftout.kernels.layers.batch_norm import BatchNorm
from leftout.kernels.layers.chain import run_layers
from leftout.kernels.layers.conv import Conv, at_axis
from leftout.kernels.layers.covariance import Covariance
from leftout.kernels.layers.dense import Dense
from leftout.kernels.layers.flatten import Flatten
from leftout.kernels.layers.layer import Layer
from leftout.kernels.layers.pool import GlobalAveragePool
from leftout.kernels.layers.relu import Abs, LeakyRelu, Relu
from leftout.kernels.layers.residual import Residual
from leftout.kernels.layers.scale import Scale
from leftout.kernels.layers.state import KeptVariances, OwnVariances, State, Variances
from leftout.kernels.wide.inputs import input_scales

RECTIFIERS: dict[type[Layer], float] = {Relu: 0.0, Abs: -1.0}
"""Slopes below 0 of rectifiers without one of their own."""


@final
@dataclass(frozen=True)
class CompiledRows:
    """Layers of rows that compiled code computes."""

    stack: Stack
    code: Code

    def block(self, x: Float[Tensor, "m d"], z: Float[Tensor, "n d"]) -> Float[Tensor, "m n"]:
        """Return the kernel of all pairs."""
        return stack_kernel(
            self.stack, unit_rows(x), unit_rows(z), input_scales(x), input_scales(z), self.code
        )

    def diagonal(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Return the kernel of each row with itself."""
        return stack_diagonal(self.stack, unit_rows(x), input_scales(x), self.code)


def compiled_rows(layers: Sequence[Layer], *rows: Tensor, trained: bool) -> CompiledRows | None:
    """Return the layers as compiled code takes them; None where torch computes them, or these rows."""
    code = compiled_set(*rows)
    if code is None:
        return None
    sums = [layer for layer in layers if not isinstance(layer, Flatten)]
    dense, between = sums[::2], sums[1::2]
    slopes = [_slope(layer) for layer in between]
    if not dense or not all(isinstance(layer, Dense) for layer in dense) or None in slopes:
        return None
    stack = Stack(
        variances=tuple(
            (layer.weight_variance, layer.bias_variance) for layer in dense if isinstance(layer, Dense)
        ),
        slopes=tuple(slope for slope in slopes if slope is not None),
        tangent=trained,
    )
    return CompiledRows(stack, code)


@final
@dataclass(frozen=True)
class CompiledImages:
    """Layers of images: those up to the readout of positions for compiled code, and those behind it."""

    program: ImageProgram
    behind: Sequence[Layer]
    code: Code

    def totals(self, x: Float[Tensor, "m c h w"], z: Float[Tensor, "n c h w"] | None) -> Tensor:
        """Return the kernel of all pairs, (m n), or of each image with itself, (m)."""
        state = self._read_out(x, z)
        if not any(layer.asks_variances for layer in self.behind):
            return self._behind(state, OwnVariances() if z is None else KeptVariances((), ())).to(x.dtype)
        ours, theirs = (OwnVariances() for _ in range(2))
        totals = self._behind(state if z is None else self._read_out(x, None), ours)
        if z is None:
            return totals.to(x.dtype)
        if z is x:
            theirs = ours
        else:
            self._behind(self._read_out(z, None), theirs)
        return self._behind(state, KeptVariances(ours.kept, theirs.kept)).to(x.dtype)

    def held_bytes(self, images: int, dtype: torch.dtype) -> int:
        """Return the bytes that are held at once for a block of so many images on either side."""
        return held_bytes(self.program, images, dtype)

    def _read_out(self, x: Tensor, z: Tensor | None) -> State:
        """Return the state behind the readout of positions."""
        value, tangent = image_means(self.program, x, z, self.code)
        covariance = Covariance(value, outer=z is not None)
        return State(covariance, tangent if self.program.tangent else None, self.program.tangent)

    def _behind(self, state: State, variances: Variances) -> Tensor:
        return run_layers(self.behind, state, variances).total()


def compiled_images(layers: Sequence[Layer], *images: Tensor, trained: bool) -> CompiledImages | None:
    """Return the layers as compiled code takes them; None where torch computes them, or these images."""
    code = compiled_set(*images)
    ends = [place for place, layer in enumerate(layers) if layer.ends_positions]
    if code is None or not ends or not isinstance(layers[ends[0]], Flatten | GlobalAveragePool):
        return None
    height, width = images[0].shape[-2:]
    steps = _steps(layers[: ends[0]], height, width)
    if steps is None:
        return None
    mean = isinstance(layers[ends[0]], GlobalAveragePool)
    program = ImageProgram(steps, images[0].shape[1], (height, width), mean, trained)
    return CompiledImages(program, layers[ends[0] + 1 :], code)


def _steps(layers: Sequence[Layer], height: int, width: int) -> tuple[Step, ...] | None:
    """Return layers of images of these sides as steps of a program; None where one cannot be."""
    steps: list[Step] = []
    for layer in layers:
        step = _step(layer, height, width)
        if step is None:
            return None
        steps.append(step)
        height, width = layer.sides(height, width)
    return tuple(steps)


def _step(layer: Layer, height: int, width: int) -> Step | None:
    slope = _slope(layer)
    if slope is not None:
        return Rectifier(slope)
    if isinstance(layer, Scale):
        return Factor(float(layer.factor) ** 2)
    if isinstance(layer, BatchNorm):
        return Factor(1 / (1 + layer.epsilon))
    if isinstance(layer, Conv) and not layer.circular:
        windows = layer.windows(height, 0), layer.windows(width, 1)
        return Convolution(
            size=(windows[0].size, windows[1].size),
            stride=(windows[0].stride, windows[1].stride),
            before=(windows[0].before, windows[1].before),
            counts=(windows[0].count, windows[1].count),
            weight_variance=float(layer.weight_variance),
            bias_variance=float(layer.bias_variance),
        )
    if isinstance(layer, Residual):
        branches = [_steps(branch, height, width) for branch in (layer.layers, layer.shortcut)]
        if branches[0] is None or branches[1] is None or _stride(layer.layers) != _stride(layer.shortcut):
            return None
        return Branches(branches[0], branches[1])
    return None


def _stride(layers: Sequence[Layer]) -> tuple[int, int]:
    """Return by how many places of an image one moves with a place behind all layers."""
    rows, columns = 1, 1
    for layer in layers:
        inner = (1, 1)
        if isinstance(layer, Conv):
            inner = at_axis(layer.stride, 0), at_axis(layer.stride, 1)
        elif isinstance(layer, Residual):
            inner = _stride(layer.layers)
        rows, columns = rows * inner[0], columns * inner[1]
    return rows, columns


def _slope(layer: Layer) -> float | None:
    """Return the slope below 0 of a rectifier; None of other layers."""
    if isinstance(layer, LeakyRelu):
        return float(layer.negative_slope)
    return RECTIFIERS.get(type(layer))

"""The kernel of an infinitely wide network: its layers, one behind the other, and the matrices they make.

Covariance K and tangent kernel T of each pair of inputs go from layer to layer; `leftout.kernels.layers` has
what each layer does. Rows of numbers start with their gap and total, images with K of all positions that
matter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from leftout.core.blocks import blocks, check_fits
from leftout.core.checks import check_choice
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.kernels.base import Kernel
from leftout.kernels.layers.chain import (
    axes_behind,
    every_layer,
    input_axes,
    layers_given,
    numbers_of_a_row,
    run_layers,
    seen_through,
    signal_behind,
)
from leftout.kernels.layers.covariance import Covariance
from leftout.kernels.layers.layer import ActivationLayer, Layer, Signal
from leftout.kernels.layers.state import KeptVariances, OwnVariances, State
from leftout.kernels.rows import check_network_inputs, flat_rows
from leftout.kernels.tiles import BLOCK as TILE_SIDE
from leftout.kernels.tiles import Tile, TileWork
from leftout.kernels.wide.compiled import compiled_images, compiled_rows
from leftout.kernels.wide.images import image_totals, numbers_held, run_own_images
from leftout.kernels.wide.inputs import input_gap_and_total, input_scales
from leftout.kernels.wide.options import Kind

BLOCK = 64
"""Rows and columns of a block of images: they fill pieces, and few pairs are computed twice."""

COMPILED_BLOCK = 256
"""The same for compiled code, which makes what it needs of either side once for a block."""


@final
@dataclass(frozen=True)
class Architecture(Kernel):
    """The kernel of an infinitely wide network of given layers; `serial` makes it.

    Args:
        layers: of `leftout.kernels.layers`, in their order.
        kind: "ntk" (all layers trained) or "nngp" (only the last, or what the network starts as).

    Inputs are images, (n, channels, height, width) or (n, height, width) for one channel, where the first
    layer that minds is one of images; else rows, and inputs of more axes are flattened.

    Cost:
        of a pair, what its layers take: for rows some twenty operations an activation; for images as many at
        every position, or at every pair of positions where an average follows. 8 bytes a pair are written;
        nothing else leaves the cache.

    Accuracy:
        Of rows as `ReLU` says. Equal images have no angle in any layer, and opposite ones one of π; an angle
        θ between two patches is off by about 10 ε / θ, ε the rounding of the dtype, and by 4√ε at most: the
        tangent kernel of near duplicates is right to some 2e-8 of itself in float64, others to
        (layers + 1) · 20 ε. A series adds its own error.

    Raises:
        OptionError: layers that cannot follow each other.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> from leftout.kernels.layers import AveragePool, Conv, Dense, Flatten, Gelu
        >>> kernel = lo.kernels.serial(Conv(3), Gelu(), AveragePool(2), Flatten(), Dense(bias_variance=0.1))
        >>> kernel.block(torch.eye(4)[None, None], torch.eye(4).roll(1, 1)[None, None])
        tensor([[0.2334]])
    """

    layers: Sequence[Layer]
    kind: Kind = "ntk"

    normalise = "sphere"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", layers_given("layers", self.layers))
        check_choice("kind", self.kind, get_args(Kind))
        behind = axes_behind(self.layers, "images" if self.takes_images else "rows")
        _ = self.end  # raises where layers cannot follow each other
        if not any(layer.has_weights for layer in self.every_layer):
            raise OptionError("`layers` must have one with weights, Dense or Conv.")
        if behind == "images":
            raise OptionError(
                "`layers` must end with Flatten() or GlobalAveragePool(), and Dense() behind it."
            )

    @property
    def takes_images(self) -> bool:
        """Return whether inputs are compared position by position, and not as rows of numbers."""
        return input_axes(self.layers) == "images"

    @property
    def end(self) -> Signal:
        """Return what its outputs are: "gaussian" of a readout with weights."""
        return signal_behind(self.layers, "data", "images" if self.takes_images else "rows")

    @property
    def every_layer(self) -> list[Layer]:
        """Return all layers, those of branches too."""
        return list(every_layer(self.layers))

    def block(self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "m n"]:
        """Return the kernel of every pair."""
        ours, theirs = ((side.shape[1:], side.dtype, side.device) for side in (queries, inputs))
        if ours != theirs:  # compiled code would read beyond their end
            raise ShapeError(
                f"`queries` must have the features, dtype and device of `inputs`, {tuple(theirs[0])}, "
                f"{theirs[1]} and {theirs[2]}; got {tuple(ours[0])}, {ours[1]} and {ours[2]}."
            )
        if self.takes_images:
            x, x_scales = self._rescale(_images(queries))
            z, z_scales = (x, x_scales) if inputs is queries else self._rescale(_images(inputs))
            return self._image_totals(x, z).mul_(x_scales[:, None]).mul_(z_scales)
        x, z = flat_rows(queries), flat_rows(inputs)
        compiled = compiled_rows(self.layers, x, z, trained=self._trains)
        if compiled is not None:
            return compiled.block(x, z)
        pairs = Covariance(None, *input_gap_and_total(x, z))
        variances = KeptVariances(self._own_rows(x)[1].kept, self._own_rows(z)[1].kept)
        return run_layers(self.layers, State(pairs, None, self._trains), variances).total()

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return k(x, x)."""
        if self.takes_images:
            images, scales = self._rescale(_images(inputs))
            return self._image_totals(images, None).mul_(scales.square())
        rows = flat_rows(inputs)
        compiled = compiled_rows(self.layers, rows, trained=self._trains)
        if compiled is not None:
            return compiled.diagonal(rows)
        return self._own_rows(rows.double())[0].total().to(inputs)

    def _image_totals(self, x: Float[Tensor, "m c h w"], z: Float[Tensor, "n c h w"] | None) -> Tensor:
        """Return the kernel of all pairs of images, or of each with itself."""
        compiled = compiled_images(self.layers, x, x if z is None else z, trained=self._trains)
        if compiled is not None:
            return compiled.totals(x, z)
        return image_totals(self.layers, x, z, trained=self._trains)

    def tiles(self, queries: Tensor, inputs: Tensor | None, work: TileWork) -> Iterator[Tile]:
        """Return tiles, of images smaller than those of other kernels: each pair of them is much work."""
        if not self.takes_images:
            more = max(layer.arrays for layer in self.layers)
            side = min(TILE_SIDE["cpu"], max(len(queries), 0 if inputs is None else len(inputs)))
            held = side * numbers_of_a_row(self.layers) * 8
            work = replace(work, temporaries=work.temporaries + more, result=work.result + held)
            return super().tiles(queries, inputs, work)
        images = _images(queries)
        some = images.new_empty((0, *images.shape[1:]), dtype=work.dtype, device=work.device)
        compiled = compiled_images(self.layers, some, trained=self._trains)
        block = work.block or (BLOCK if compiled is None else COMPILED_BLOCK)
        if compiled is None:
            threads = torch.get_num_threads() if work.device.type == "cpu" else 1
            held = numbers_held(self.layers, images, block, threads) * work.dtype.itemsize
        else:
            held = compiled.held_bytes(block, work.dtype)
        check_fits(
            "One piece of a convolutional kernel",
            held,
            work.budget,
            advice="Raise `memory`; it does not depend on the number of images.",
        )
        return super().tiles(queries, inputs, replace(work, block=block, result=work.result + held))

    def prior(self) -> "Architecture":
        """Return the kernel of the Gaussian process that the networks are before training."""
        return replace(self, kind="nngp")

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless every input is what the network is defined on.

        Raises:
            DataError: not floating-point, NaN or infinity; inputs that every network maps to 0; variances
                that a series is not made for.
            ShapeError: no images, or images that are too small for these layers.
        """
        keeps_zero = all(layer.keeps_zero for layer in self.layers)
        check_network_inputs(name, inputs, bias_variance=0.0 if keeps_zero else 1.0)
        if self.takes_images:
            if inputs.ndim not in (3, 4):
                raise ShapeError(
                    f"`{name}` must hold images, (rows, channels, height, width) or (rows, height, width); "
                    f"got {tuple(inputs.shape)}."
                )
            self._check_sides(name, *inputs.shape[-2:])
            if keeps_zero:
                self._check_seen(name, _images(inputs))
        self._check_variances(name, inputs)

    def _check_variances(self, name: str, inputs: Tensor) -> None:
        """Raise if an activation is not made for the variances that these inputs have."""
        if not any(isinstance(layer, ActivationLayer) and layer.limited for layer in self.every_layer):
            return
        if not self.takes_images:
            if len(inputs):
                self._run_own(flat_rows(inputs).double(), OwnVariances(name))
            return
        images = _images(inputs)
        for batch in blocks(len(images), BLOCK):
            run_own_images(self.layers, images[batch].double(), OwnVariances(name, batch.start))

    def _check_seen(self, name: str, images: Float[Tensor, "n c h w"]) -> None:
        """Raise if an image is 0 at all positions that windows cover: every network maps it to 0."""
        rows, columns = (
            sorted(seen_through(self.layers, {0}, side, axis)) for axis, side in enumerate(images.shape[-2:])
        )
        if len(rows) * len(columns) == images.shape[-2] * images.shape[-1]:
            return
        visible = torch.zeros(images.shape[-2:], dtype=torch.bool, device=images.device)
        visible[torch.tensor(rows, device="cpu")[:, None], torch.tensor(columns, device="cpu")] = True
        for batch in blocks(len(images), BLOCK):  # masking makes a copy
            unseen = (~(images[batch] * visible).flatten(1).any(1)).nonzero().flatten()
            if len(unseen):
                raise DataError(
                    f"`{name}` must not be black where these windows look, which skip positions; row "
                    f"{batch.start + int(unseen[0])} is. Take a stride of at most the window, or drop the "
                    "image."
                )

    def _check_sides(self, name: str, height: int, width: int) -> None:
        """Raise if an axis is shorter than the layers need."""
        sides = (height, width)
        for number, layer in enumerate(self.layers, start=1):
            if layer.ends_positions:
                break
            sides = layer.sides(*sides)
            for axis, full, length in zip(("height", "width"), (height, width), sides, strict=True):
                if length < 1:
                    raise ShapeError(
                        f"`{name}` must be large enough for {len(self.layers)} layers; a {axis} of {full} is "
                        f"used up by {layer.name}, layer {number}. Take fewer layers, smaller windows, or "
                        'padding="same".'
                    )
        if self.end == "flattened" and sides != (1, 1):
            raise ShapeError(
                f"`{name}` must be images of which one position is left where outputs are read; of "
                f"{height} x {width} these layers leave {sides[0]} x {sides[1]}, each with outputs of its "
                "own. Put GlobalAveragePool in the place of Flatten, or Dense() behind it."
            )

    @property
    def words(self) -> str:
        """Return the layers in words, on one line."""
        return ", ".join(layer.words for layer in self.layers)

    @property
    def record(self) -> dict[str, Any]:
        """Return name, layers and kind."""
        return {
            "name": "architecture",
            "network": self.words,
            "layers": [layer.record for layer in self.layers],
            "kind": self.kind,
        }

    @property
    def _trains(self) -> bool:
        return self.kind == "ntk"

    def _own_rows(self, rows: Float[Tensor, "n d"]) -> tuple[State, OwnVariances]:
        """Return rows compared with themselves, and the variances that layers asked for on the way."""
        variances = OwnVariances()
        return self._run_own(rows, variances), variances

    def _run_own(self, rows: Float[Tensor, "n d"], variances: OwnVariances) -> State:
        scales = input_scales(rows)
        alone = Covariance(None, torch.zeros_like(scales), 2 * (scales * scales), outer=False)
        return run_layers(self.layers, State(alone, None, self._trains), variances)

    def _rescale(self, images: Float[Tensor, "n c h w"]) -> tuple[Tensor, Float[Tensor, " n"]]:
        """Return images whose largest number is about 1, and the powers of two they were divided by.

        Where the kernel is homogeneous: products of variances overflow long before the kernel does.
        Dividing by a power of two is exact.
        """
        if not all(layer.homogeneous for layer in self.layers):
            return images, images.new_ones(len(images))
        largest = images.abs().flatten(1).amax(1)
        scales = torch.where(largest > 0, torch.exp2(largest.log2().round()), 1.0)  # black stays black
        return images / scales[:, None, None, None], scales


def serial(*layers: Layer, kind: Kind = "ntk") -> Architecture:
    """Return the kernel of an infinitely wide network of layers, one behind the other.

    Args:
        layers: of `leftout.kernels.layers`.
        kind: "ntk" (all layers trained) or "nngp" (only the last, or what the network starts as).

    Raises:
        OptionError: layers that cannot follow each other; names the first.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> from leftout.kernels.layers import Dense, Erf, Relu
        >>> kernel = lo.kernels.serial(Dense(bias_variance=0.1), Relu(), Dense(), Erf(), Dense())
        >>> kernel.block(torch.eye(2), torch.eye(2))
        tensor([[3.3760, 0.6967],
                [0.6967, 3.3760]])
    """
    return Architecture(layers, kind)


def _images(inputs: Tensor) -> Float[Tensor, "n c h w"]:
    return inputs[:, None] if inputs.ndim == 3 else inputs

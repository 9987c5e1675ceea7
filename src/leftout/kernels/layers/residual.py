"""Two branches of layers whose units are added: K' = K_a + K_b, T' = T_a + T_b.

That holds where the branches are independent, at least one of them with weights of its own behind the fork
and mean 0: E[(a + b)(a' + b')] = E[a a'] + E[b b'].
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from leftout.core.errors import OptionError, ShapeError
from leftout.kernels.layers.chain import (
    axes_behind,
    ends_fresh,
    input_axes,
    largest_behind,
    layers_given,
    run_layers,
    seen_through,
    sides_behind,
    signal_behind,
)
from leftout.kernels.layers.covariance import Covariance, sum_excess
from leftout.kernels.layers.layer import Axes, Layer, Signal
from leftout.kernels.layers.state import State, Variances


@final
@dataclass(frozen=True)
class Residual(Layer):
    """Layers whose units are added to those of a shortcut past them.

    Args:
        layers: of one branch.
        shortcut: of the other; empty for the units as they come.

    Raises:
        OptionError: neither branch ends with sums over weights of its own, such as Dense or Conv layers make.

    Source:
        Yang 2019, "Tensor programs II" (sums of independent branches); He et al. 2016 for the networks.

    Example:
        >>> import leftout as lo
        >>> from leftout.kernels.layers import Conv, Dense, GlobalAveragePool, Relu
        >>> block = lo.kernels.residual(Conv(3), Relu(), Conv(3))
        >>> kernel = lo.kernels.serial(Conv(3), Relu(), block, GlobalAveragePool(), Dense())
    """

    layers: Sequence[Layer]
    shortcut: Sequence[Layer] = ()

    def __post_init__(self) -> None:
        for name in ("layers", "shortcut"):
            object.__setattr__(self, name, layers_given(name, getattr(self, name)))
        if not any(ends_fresh(branch) for branch in (self.layers, self.shortcut)):
            raise OptionError(
                "`layers` of a residual block must end one branch with sums over weights of its own, a Dense "
                "or Conv layer: only then are the two that are added independent. Add one."
            )

    @property
    def parts(self) -> tuple[Layer, ...]:
        return (*self.layers, *self.shortcut)

    @property
    def axes(self) -> Axes:  # type: ignore[override]
        branches = (input_axes(self.layers), input_axes(self.shortcut))
        return next((axes for axes in branches if axes != "any"), "any")

    @property
    def mixes_positions(self) -> bool:  # type: ignore[override]
        return any(layer.mixes_positions for layer in self.parts)

    @property
    def asks_variances(self) -> bool:  # type: ignore[override]
        return any(layer.asks_variances for layer in self.parts)

    @property
    def homogeneous(self) -> bool:  # type: ignore[override]
        return all(layer.homogeneous for layer in self.parts)

    @property
    def keeps_zero(self) -> bool:  # type: ignore[override]
        return all(layer.keeps_zero for layer in self.parts)

    @property
    def arrays(self) -> int:  # type: ignore[override]
        return 5 + max(layer.arrays for layer in self.parts)

    def __call__(self, state: State, variances: Variances, *, pairs_later: bool = False) -> State:
        a = run_layers(self.layers, state, variances, pairs_later=pairs_later)
        b = run_layers(self.shortcut, state, variances, pairs_later=pairs_later)
        tangents = [branch.tangent for branch in (a, b) if branch.tangent is not None]
        tangent = sum(tangents[1:], start=tangents[0]) if tangents else None
        return replace(state, covariance=_sum(a.covariance, b.covariance, variances), tangent=tangent)

    def signal(self, before: Signal, axes: Axes) -> Signal:
        ends = {signal_behind(branch, before, axes) for branch in (self.layers, self.shortcut)}
        if ends == {"gaussian"}:
            return "gaussian"
        return "flattened" if ends <= {"gaussian", "flattened"} else "mixed"

    def ends_fresh(self, fresh: bool) -> bool:
        return all(ends_fresh(branch, fresh) for branch in (self.layers, self.shortcut))

    def axes_behind(self, now: Axes) -> Axes:
        ends = {axes_behind(branch, now) for branch in (self.layers, self.shortcut)}
        if len(ends) > 1:
            raise OptionError("`layers` of a residual block must add images to images, or rows to rows.")
        return ends.pop()

    def sides(self, height: int, width: int) -> tuple[int, int]:
        ours, theirs = (sides_behind(branch, height, width) for branch in (self.layers, self.shortcut))
        if ours != theirs and min(*ours, *theirs) >= 1:
            raise ShapeError(
                f"The branches of a residual block must end with images of one size; of {height} x {width} "
                f"they make {ours[0]} x {ours[1]} and {theirs[0]} x {theirs[1]}."
            )
        return min(ours, theirs)

    def largest(self, height: int, width: int) -> int:
        return max(largest_behind(branch, height, width) for branch in (self.layers, self.shortcut))

    def places_seen(self, places: set[int], length: int, axis: int) -> set[int]:
        branches = (self.layers, self.shortcut)
        return set().union(*(seen_through(branch, places, length, axis) for branch in branches))

    @property
    def words(self) -> str:
        ours, theirs = (", ".join(layer.words for layer in branch) for branch in (self.layers, self.shortcut))
        return f"({ours}) + ({theirs or 'what came in'})"

    @property
    def record(self) -> dict[str, Any]:
        branches = {"layers": self.layers, "shortcut": self.shortcut}
        return {"name": self.name} | {
            name: [layer.record for layer in branch] for name, branch in branches.items()
        }


def residual(*layers: Layer, shortcut: Sequence[Layer] = ()) -> Residual:
    """Return layers whose units are added to those of a shortcut past them: one layer of a network.

    Args:
        layers: of one branch.
        shortcut: of the other; empty for the units as they come.

    Raises:
        OptionError: neither branch ends with sums over weights of its own.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> from leftout.kernels.layers import Dense, Relu
        >>> kernel = lo.kernels.serial(Dense(), lo.kernels.residual(Relu(), Dense()), Dense())
        >>> kernel.block(torch.eye(2), torch.eye(2))
        tensor([[10.0000,  1.2732],
                [ 1.2732, 10.0000]])
    """
    return Residual(layers, shortcut)


def _sum(a: Covariance, b: Covariance, variances: Variances) -> Covariance:
    """Return covariances of sums of independent units."""
    if a.keeps_gap and b.keeps_gap:
        of_a, of_b = variances.over_pairs(a), variances.over_pairs(b)
        gap, total = (ours + theirs for ours, theirs in zip(a.held_gap, b.held_gap, strict=True))
        excess = sum_excess(of_a, of_b, (gap + total).div_(2))
        return a.with_gap(gap.add_(excess), total.add_(excess))
    value = a if not a.keeps_gap else b
    return value.with_value(a.k12 + b.k12)

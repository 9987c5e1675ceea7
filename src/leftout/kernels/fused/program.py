"""A convolutional network as a program of fused.c: what happens to K and T at all positions of two images.

Convolutions move positions p and q of two images alike, so they keep the displacement q − p: a program runs
at one displacement at a time. Layers that mix displacements (averages on the way, circular padding) are no
part of it. What is a displacement of d positions at the end is, before a layer, one of d times all strides
from there on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

from leftout.core.errors import ShapeError
from leftout.kernels.fused.library import Instruction, ProgramRecord

Sides = tuple[int, int]

CONVOLUTION, RECTIFIER, FACTOR, SAVE, SWAP, ADD = range(6)
"""Operations, in the order of fused.c."""


@final
@dataclass(frozen=True)
class Convolution:
    """K' = w / area Σ K + b and T' = w / area Σ T + K', sums over windows; zeros lie around an image.

    Attributes:
        size, stride: of the windows, along rows and columns.
        before: by how many places the first window begins before the image does.
        counts: windows along each side.
    """

    size: Sides
    stride: Sides
    before: Sides
    counts: Sides
    weight_variance: float
    bias_variance: float = 0.0


@final
@dataclass(frozen=True)
class Rectifier:
    """A ReLU, or leaky: K' = E[φ(u) φ(v)], T' = T E[φ'(u) φ'(v)], φ(u) = u above 0 and slope · u below."""

    slope: float = 0.0


@final
@dataclass(frozen=True)
class Factor:
    """K and T times a number."""

    number: float


@final
@dataclass(frozen=True)
class Residual:
    """The sum of K and of T of two branches; a shortcut without layers is what comes in."""

    branch: tuple["Step", ...]
    shortcut: tuple["Step", ...] = ()


Step = Convolution | Rectifier | Factor | Residual


@final
@dataclass(frozen=True)
class ImageProgram:
    """A network between images and the mean over positions of K and T.

    Args:
        steps: one after the other.
        channels, sides: of the images.
        mean: over all pairs of positions; else over equal positions, as where the last layer is flattened.
        tangent: whether T is wanted.

    Raises:
        ShapeError: branches of a residual sum that end with different sides or strides.
    """

    steps: tuple[Step, ...]
    channels: int
    sides: Sides
    mean: bool
    tangent: bool

    @cached_property
    def instructions(self) -> list[Instruction]:
        """Return the program without branches."""
        made: list[Instruction] = []
        _append(made, self.steps or (Factor(1.0),), self.sides, (1, 1), 0)
        positions = 0
        for instruction in made:
            instruction.roots = positions
            if instruction.rectify:
                positions += math.prod(instruction.sides_out)
        return made

    @property
    def rectified(self) -> int:
        """Return the positions of an image before all rectifiers together."""
        return sum(math.prod(step.sides_out) for step in self.instructions if step.rectify)

    @property
    def last_sides(self) -> Sides:
        """Return the sides of the last layer."""
        rows, columns = self.instructions[-1].sides_out
        return rows, columns

    @property
    def displacements(self) -> tuple[range, range]:
        """Return those along rows and columns that reach the readout."""
        rows, columns = self.last_sides if self.mean else (1, 1)
        return range(1 - rows, rows), range(1 - columns, columns)

    @property
    def readout_pairs(self) -> int:
        """Return how many pairs of positions the mean is over."""
        return math.prod(self.last_sides) ** (2 if self.mean else 1)

    @cached_property
    def positions(self) -> int:
        """Return at how many positions, of all displacements, there is a convolution or a rectifier."""
        total = 0
        for step in self.instructions:
            if step.operation not in (CONVOLUTION, RECTIFIER):
                continue
            along = [
                sum(max(0, side - abs(by) * each) for by in displacements)
                for side, each, displacements in zip(
                    step.sides_out, step.steps_out, self.displacements, strict=True
                )
            ]
            total += math.prod(along)
        return total

    @cached_property
    def record(self) -> ProgramRecord:
        """Return it as fused.c reads it."""
        made = self.instructions
        return ProgramRecord(
            instructions=(Instruction * len(made))(*made),
            count=len(made),
            channels=self.channels,
            positions=self.rectified,
            tangent=self.tangent,
        )


def _append(
    made: list[Instruction], steps: Sequence[Step], sides: Sides, steps_out: Sides, slot: int
) -> Sides:
    """Append instructions of steps that begin with images of these sides; return the sides behind them."""
    for place, step in enumerate(steps):
        behind = _product(steps_out, _strides(steps[place + 1 :]))
        if isinstance(step, Residual):
            _append_plain(made, SAVE, sides, _product(behind, _strides([step])), slot)
            ends = [_append(made, step.branch, sides, behind, slot + 1)]
            if step.shortcut:
                _append_plain(made, SWAP, sides, behind, slot)
            ends.append(_append(made, step.shortcut, sides, behind, slot + 1))
            if ends[0] != ends[1]:
                raise ShapeError(
                    "Branches of a residual sum must end with images of the same sides; got "
                    f"{ends[0]} and {ends[1]}."
                )
            sides = ends[0]
            _append_plain(made, ADD, sides, behind, slot)
        elif isinstance(step, Convolution):
            made.append(
                Instruction(
                    operation=CONVOLUTION,
                    slot=-1,
                    size=step.size,
                    stride=step.stride,
                    before=step.before,
                    sides_in=sides,
                    sides_out=step.counts,
                    steps_in=_product(behind, step.stride),
                    steps_out=behind,
                    share=step.weight_variance / math.prod(step.size),
                    bias=step.bias_variance,
                )
            )
            sides = step.counts
        elif isinstance(step, Rectifier):
            # Behind a convolution it is part of the same pass.
            if not (place and isinstance(steps[place - 1], Convolution)):
                _append_plain(made, RECTIFIER, sides, behind, -1)
            made[-1].rectify, made[-1].slope = 1, step.slope
        else:
            _append_plain(made, FACTOR, sides, behind, -1)
            made[-1].share = step.number
    return sides


def _append_plain(made: list[Instruction], operation: int, sides: Sides, steps: Sides, slot: int) -> None:
    """Append an instruction that leaves images as large as they are."""
    made.append(
        Instruction(
            operation=operation, slot=slot, sides_in=sides, sides_out=sides, steps_in=steps, steps_out=steps
        )
    )


def _strides(steps: Sequence[Step]) -> Sides:
    """Return the product of the strides of steps, along either side."""
    total = (1, 1)
    for step in steps:
        if isinstance(step, Convolution):
            total = _product(total, step.stride)
        elif isinstance(step, Residual):
            branch, shortcut = _strides(step.branch), _strides(step.shortcut)
            if branch != shortcut:
                raise ShapeError(
                    f"Branches of a residual sum must have the same strides; got {branch} and {shortcut}."
                )
            total = _product(total, branch)
    return total


def _product(left: Sides, right: Sides) -> Sides:
    return left[0] * right[0], left[1] * right[1]

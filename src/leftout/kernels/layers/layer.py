"""What every layer says of itself: what it does to covariances, which inputs it takes, what its record is."""

from abc import ABC, abstractmethod
from dataclasses import fields
from typing import Any, ClassVar, Literal

from torch import Tensor

from leftout.core.errors import OptionError
from leftout.kernels.layers.covariance import Covariance
from leftout.kernels.layers.state import State, Variances

Signal = Literal["data", "gaussian", "flattened", "activated", "mixed"]
"""What a layer is given: inputs as they are; sums over random weights, Gaussian in the limit; such sums
at the positions of an image as units of one row, whose variances differ; units that went through an
activation; or sums of Gaussian units with others."""

Axes = Literal["any", "rows", "images"]


class Layer(ABC):
    """One layer of an infinitely wide network."""

    mixes_positions: ClassVar[bool] = False
    """Whether what comes out at a position depends on pairs of different positions of the two inputs."""

    asks_variances: ClassVar[bool] = False
    """Whether it needs the variances of both inputs of a pair."""

    homogeneous: ClassVar[bool] = True
    """Whether inputs that are c times as large, c > 0, give outputs that are c times as large."""

    keeps_zero: ClassVar[bool] = True
    """Whether an input of zeros gives zeros."""

    axes: Axes = "any"
    """What it can be given: rows of numbers, images, or both."""

    linear: ClassVar[bool] = True
    """Whether it keeps a Gaussian signal Gaussian."""

    needs_gaussian: ClassVar[bool] = False
    """Whether it must be given sums over random weights, Gaussian in the limit and of mean 0."""

    has_weights: ClassVar[bool] = False
    """Whether it draws weights: a sum with fan-in many terms, Gaussian in the limit."""

    ends_positions: ClassVar[bool] = False
    """Whether it makes one row of numbers of an image."""

    arrays: int = 0
    """Arrays as large as K that it holds while other layers run."""

    @abstractmethod
    def __call__(self, state: State, variances: Variances, *, pairs_later: bool = False) -> State:
        """Return the state behind this layer.

        Args:
            pairs_later: whether a later layer needs pairs of different positions.
        """

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """Return the sides of an image behind it; less than 1 if it is too small."""
        return height, width

    def largest(self, height: int, width: int) -> int:
        """Return the largest number of positions that it makes of an image."""
        height, width = self.sides(height, width)
        return height * width

    def places_seen(self, places: set[int], length: int, axis: int) -> set[int]:
        """Return the rows (axis 0) or columns before it that places behind it depend on.

        Args:
            length: of the axis before it.
        """
        return places

    def axes_behind(self, now: Axes) -> Axes:
        """Return whether images or rows come out of it; raise if it cannot be given what comes before."""
        if now == "images" and self.axes == "rows":
            raise OptionError(
                f"`layers` must have a Flatten or GlobalAveragePool layer between images and {self.name}."
            )
        if now == "rows" and self.axes == "images":
            raise OptionError(
                f"`layers` must have {self.name} on images, before they are made rows of numbers."
            )
        return "rows" if self.ends_positions else now

    def signal(self, before: Signal, axes: Axes) -> Signal:
        """Return what comes out of it; `axes` is whether it is given images or rows."""
        if self.has_weights:
            return "gaussian"
        return before if self.linear else "activated"

    def ends_fresh(self, fresh: bool) -> bool:
        """Return whether units behind it are sums over weights that were drawn since a fork, of mean 0.

        Args:
            fresh: whether those that it is given are.
        """
        return self.has_weights or (fresh and self.linear)

    @property
    def parts(self) -> "tuple[Layer, ...]":
        """Return the layers it consists of: itself, or those of its branches."""
        return (self,)

    @property
    def name(self) -> str:
        """Return its name in records and messages."""
        return type(self).__name__

    @property
    def words(self) -> str:
        """Return what it is in a few words, for a line that lists all layers."""
        return self.name

    @property
    def record(self) -> dict[str, Any]:
        """Return name and parameters, JSON-like."""
        parameters = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {"name": self.name} | {
            name: list(value) if isinstance(value, tuple) else value for name, value in parameters.items()
        }


class WeightedLayer(Layer):
    """A layer with weights and biases, of the variances that a subclass has."""

    weight_variance: float
    bias_variance: float

    has_weights = True

    @property
    def homogeneous(self) -> bool:  # type: ignore[override]
        return self.bias_variance == 0

    @property
    def keeps_zero(self) -> bool:  # type: ignore[override]
        return self.bias_variance == 0


class ActivationLayer(Layer):
    """A function applied to every unit: K' = E[φ(u) φ(v)], T' = T E[φ'(u) φ'(v)].

    u and v are Gaussian with the variances and the covariance of a pair.
    """

    asks_variances = True
    needs_gaussian = True
    homogeneous = False
    linear = False

    limited: ClassVar[bool] = False
    """Whether there are variances that it is not made for."""

    numbers_kept: ClassVar[int] = 1
    """Numbers that it keeps of an input at a position, at the most."""

    numbers_passing: ClassVar[int] = 0
    """Numbers of an input that it holds while it makes them."""

    def check(self, name: str, variances: Tensor, first: int) -> None:
        """Raise if it is not made for these variances.

        Args:
            name: of the inputs in messages.
            variances: inputs in the last axis.
            first: number of the first of them.
        """


class PairActivation(ActivationLayer):
    """An activation with a closed form: a subclass says what both expectations are, in `respond`."""

    @abstractmethod
    def respond(self, covariance: Covariance, x: Tensor, z: Tensor) -> tuple[Covariance | Tensor, Tensor]:
        """Return E[φ(u) φ(v)] and E[φ'(u) φ'(v)] of every pair.

        Args:
            covariance: of u and v.
            x, z: their variances, with axes that broadcast over pairs.

        Returns:
            the first as covariances where gap and total are known better than from a difference.
        """

    def __call__(self, state: State, variances: Variances, *, pairs_later: bool = False) -> State:
        values, slope = self.respond(state.covariance, *variances.over_pairs(state.covariance, self.check))
        after = values if isinstance(values, Covariance) else state.covariance.with_value(values)
        return state.after(after, slope)

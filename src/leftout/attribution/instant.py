"""What changes at the queries, at one training time, when the data are edited?

An `Instant` is a fitted model at one time, ready to be asked. Three kinds, one file each: `Converged`
(the end of training, from the inverse), `Training` (a finite time, from the spectrum) and
`Untrained` (time 0, where nothing that is left out has been seen).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.dynamics.fitted import Fitted


@dataclass(frozen=True, eq=False)
class Features:
    """A block of queries as the model sees them.

    Attributes:
        cross: K(queries, training inputs).
        initial: f_0 at the queries.
    """

    fitted: Fitted
    cross: Float64[Tensor, "m n"]
    initial: Float64[Tensor, "m k"]

    @cached_property
    def spectral(self) -> Float64[Tensor, "m r"]:
        """Return K(queries, X) V."""
        return self.cross @ self.fitted.spectrum.vectors


class Instant(ABC):
    """A fitted model at one training time; changes are edited minus as fitted.

    `total`, the sum of the examples' weights after the edit, is given when an instant is made: under
    `loss="mean"` it sets the filter, and `shift` is what that alone changes.
    """

    fitted: Fitted
    total: float

    @abstractmethod
    def dual(self) -> Float64[Tensor, "n k"]:
        """Return g(K) (Y − f_0) under `total`."""

    @abstractmethod
    def as_fitted(self) -> Float64[Tensor, "n k"]:
        """Return g(K) (Y − f_0) of all n examples."""

    @abstractmethod
    def singles(self, features: Features, columns: slice, output: int) -> Float64[Tensor, "m b"]:
        """Return how one output changes at the queries without each example of `columns`."""

    @abstractmethod
    def diagonal(self) -> Float64[Tensor, "n k"]:
        """Return how the prediction at each training example changes without that very example."""

    @abstractmethod
    def without(self, rows: Int64[Tensor, " g"]) -> Float64[Tensor, "n k"]:
        """Return how the dual changes without a group, removed together; its own rows reach −dual."""

    @abstractmethod
    def relabelled(
        self, rows: Int64[Tensor, " b"], by: Float64[Tensor, "b k"]
    ) -> Float64[Tensor, "b n k"]:
        """Return how the dual changes when each target moves by `by`, each alone."""

    @abstractmethod
    def reweighted(self, rows: Int64[Tensor, " b"], weight: float) -> Float64[Tensor, "b n k"]:
        """Return how the dual changes when each example gets this weight in the loss, each alone."""

    @abstractmethod
    def added(
        self,
        to_train: Float64[Tensor, "n a"],
        to_itself: Float64[Tensor, " a"],
        residual: Float64[Tensor, "a k"],
    ) -> tuple[Float64[Tensor, "a n k"], Float64[Tensor, "a k"]]:
        """Return how the dual changes when each new example joins, alone, and its own dual entry.

        Args:
            to_train: k(x_i, x*).
            to_itself: k(x*, x*).
            residual: y* − f_0(x*).
        """

    def predictions(self, features: Features) -> Float64[Tensor, "m k"]:
        """Return f at the queries, as fitted."""
        return features.initial + features.cross @ self.as_fitted()

    @cached_property
    def shift(self) -> Float64[Tensor, "n k"] | None:
        """Return how the dual changes by the filter of `total` alone; None where it does not."""
        if self.fitted.rule.record["loss"] == "sum" or self.total == len(self.fitted):
            return None
        return self.dual() - self.as_fitted()

    def shifted(self, change: Float64[Tensor, "... n k"]) -> Float64[Tensor, "... n k"]:
        """Return a change of the dual with that of the filter added."""
        return change if self.shift is None else change + self.shift

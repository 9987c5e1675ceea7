"""The loss of one example: what the rules minimise a sum of, and what influence is measured in."""

from abc import ABC, abstractmethod
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from leftout.data.examples import Examples
from leftout.data.probabilities import as_probabilities
from leftout.solvers.cross_entropy import (
    cross_entropy,
    cross_entropy_change,
    cross_entropy_gradient,
    probabilities,
)


class ExampleLoss(ABC):
    """A loss of predictions f and targets y; the last axis holds the outputs."""

    name: ClassVar[str]
    formula: ClassVar[str]
    units: ClassVar[str]
    prediction_units: ClassVar[str]

    @abstractmethod
    def of(self, predictions: Float[Tensor, "*#n k"], targets: Float[Tensor, "*#n k"]) -> Tensor:
        """Return the loss of each example."""

    def mean(self, predictions: Float[Tensor, "n k"], targets: Float[Tensor, "n k"]) -> float:
        """Return the mean over examples."""
        return float(self.of(predictions, targets).mean())

    @abstractmethod
    def expected(self, predictions: Float[Tensor, "*#n k"]) -> Tensor:
        """Return the targets that predictions stand for: themselves, or probabilities."""

    @abstractmethod
    def slope(self, predictions: Float[Tensor, "*#n k"], targets: Float[Tensor, "*#n k"]) -> Tensor:
        """Return the derivative of the loss by the predictions."""

    @abstractmethod
    def change(
        self,
        predictions: Float[Tensor, "*#n k"],
        change: Float[Tensor, "*#n k"],
        targets: Float[Tensor, "*#n k"],
    ) -> Tensor:
        """Return how the loss changes with the predictions, without the digits that a difference loses."""

    @abstractmethod
    def coded(self, examples: Examples, outputs: int | None, name: str) -> Examples:
        """Return the examples with targets as the loss takes them, for a model of so many outputs."""


@final
class SquaredLoss(ExampleLoss):
    """½ Σ (f − y)² over outputs."""

    name = "squared loss"
    formula = "½ Σ (prediction − target)²"
    units = "½ Σ (prediction − target)² over outputs"
    prediction_units = "target units"

    def of(self, predictions: Float[Tensor, "*#n k"], targets: Float[Tensor, "*#n k"]) -> Tensor:
        return (predictions - targets).square().sum(-1) / 2

    def expected(self, predictions: Float[Tensor, "*#n k"]) -> Tensor:
        return predictions

    def slope(self, predictions: Float[Tensor, "*#n k"], targets: Float[Tensor, "*#n k"]) -> Tensor:
        return predictions - targets

    def change(
        self,
        predictions: Float[Tensor, "*#n k"],
        change: Float[Tensor, "*#n k"],
        targets: Float[Tensor, "*#n k"],
    ) -> Tensor:
        # With error e = f − y and change c, ½ (e + c)² − ½ e² = c (e + c/2).
        return (change * (predictions - targets + change / 2)).sum(-1)

    def coded(self, examples: Examples, outputs: int | None, name: str) -> Examples:
        return examples


SQUARED = SquaredLoss()


@final
class CrossEntropyLoss(ExampleLoss):
    """log Σ exp(f) − Σ y f over outputs; the logistic loss where there is one."""

    name = "cross-entropy"
    formula = "cross-entropy"
    units = "cross-entropy, in nats"
    prediction_units = "logits"

    def of(self, predictions: Float[Tensor, "*#n k"], targets: Float[Tensor, "*#n k"]) -> Tensor:
        return cross_entropy(predictions, targets)

    def expected(self, predictions: Float[Tensor, "*#n k"]) -> Tensor:
        return probabilities(predictions)

    def slope(self, predictions: Float[Tensor, "*#n k"], targets: Float[Tensor, "*#n k"]) -> Tensor:
        return cross_entropy_gradient(predictions, targets)

    def change(
        self,
        predictions: Float[Tensor, "*#n k"],
        change: Float[Tensor, "*#n k"],
        targets: Float[Tensor, "*#n k"],
    ) -> Tensor:
        return cross_entropy_change(predictions, change, targets)

    def coded(self, examples: Examples, outputs: int | None, name: str) -> Examples:
        return as_probabilities(examples, outputs=outputs, name=name)


CROSS_ENTROPY = CrossEntropyLoss()

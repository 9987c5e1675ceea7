"""Kernels fitted to labels; removing an example changes them.

`LabelDependentKernel` holds the options. `fit_labels` returns a `FittedLabelKernel`, a kernel between any two
inputs; fitted to fewer of the examples, or to other labels, it is another kernel.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.kernels.base import Kernel, Normalise


class RefitLabelKernel(ABC):
    """A kernel taught by other examples or labels, between inputs that were compared before."""

    @property
    @abstractmethod
    def gram(self) -> Float64[Tensor, "k k"]:
        """Return the kernel between the examples that it was taught by."""

    @abstractmethod
    def cross(self, pairs: Any) -> Float64[Tensor, "m k"]:
        """Return the kernel between queries and the examples that it was taught by.

        Args:
            pairs: of the queries and all training inputs, from `FittedLabelKernel.pairs_with`.
        """

    @property
    def definite(self) -> bool:
        """Return whether the Gram matrix has no negative eigenvalue, whatever the labels."""
        return False

    @abstractmethod
    def lean(self) -> "RefitLabelKernel":
        """Return the same without its Gram matrix: as many of them are kept as there are examples."""


class FittedLabelKernel(Kernel):
    """A kernel that has seen labels.

    Attributes:
        asked: what was to be taught.
        inputs: that it was taught by.
        gram: the kernel between the training inputs.
        pairs: of all training inputs; rows of it are pairs of single examples and all.
    """

    definite = False
    asked: "LabelDependentKernel"
    pairs: Any

    @property
    def ignores_labels(self) -> bool:
        """Return whether labels count for nothing: the kernel is its base, whatever teaches it."""
        return False

    @property
    def doubt(self) -> str:
        """Return why its values should not be relied on; nothing where they can be."""
        return ""

    @property
    @abstractmethod
    def blind(self) -> Float64[Tensor, "n n"]:
        """Return the kernel between the training inputs before it saw a label."""

    @property
    @abstractmethod
    def gram(self) -> Float64[Tensor, "n n"]:
        """Return the kernel between the training inputs."""

    inputs: Tensor

    def fitted_on(self, inputs: Tensor) -> bool:
        """Return whether these are the inputs that taught it, in their order."""
        ours = self.inputs
        return ours.shape == inputs.shape and bool(torch.equal(ours, inputs.to(ours)))

    @abstractmethod
    def freeze_labels(self) -> "FittedLabelKernel":
        """Return the same kernel, which says of itself that it stays as it is."""

    @abstractmethod
    def pairs_with(self, queries: Tensor) -> Any:
        """Return what a kernel taught again must know of queries and training inputs."""

    @abstractmethod
    def cross(self, pairs: Any) -> Float64[Tensor, "m n"]:
        """Return the kernel between queries and training inputs, from their pairs."""

    @abstractmethod
    def without(self, keep: Int64[Tensor, " k"]) -> RefitLabelKernel:
        """Return the kernel taught by these of the examples only."""

    @abstractmethod
    def relabelled(self, labels: Int64[Tensor, " n"], targets: Float64[Tensor, "n c"]) -> RefitLabelKernel:
        """Return the kernel taught by other labels of the same inputs."""


class LabelDependentKernel(ABC):
    """Options of a kernel that has to see labels first.

    Attributes:
        base: the kernel that has seen no label, which it builds on.
        frozen: whether the kernel stays as all labels made it when an example is left out. That is faster,
            and not what training without the example would give.
    """

    base: Kernel
    frozen: bool

    by_classes: ClassVar[bool] = True
    """Whether it is taught by classes, or else by targets, which may be numbers."""

    @abstractmethod
    def fit_labels(
        self,
        inputs: Tensor,
        labels: Int64[Tensor, " n"],
        targets: Float64[Tensor, "n c"] | None = None,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
        memory: int | float | str | None = None,
    ) -> FittedLabelKernel:
        """Return the kernel that these examples make."""

    @property
    @abstractmethod
    def normalise(self) -> Normalise | None:
        """Return how loading should scale inputs when the user does not say."""

    @abstractmethod
    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless `inputs`, called `name` in messages, are what this kernel is defined on."""

    @property
    @abstractmethod
    def record(self) -> dict[str, Any]:
        """Return name and parameters, JSON-like."""

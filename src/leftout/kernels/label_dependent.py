"""Kernels fitted to labels; removing an example changes them.

`LabelDependentKernel` holds the options. `fit_labels` returns a `FittedLabelKernel`, a kernel between any two
inputs; fitted to fewer of the examples, or to other labels, it is another kernel (`refit`).
"""

import math
from abc import ABC, abstractmethod
from copy import copy
from typing import Any, ClassVar

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.core.errors import DataError, OptionError
from leftout.core.work import Operation, WorkCount, operations
from leftout.kernels.base import Comparison, Kernel, KernelOfSubset, Normalise, RefitKernel


class FittedLabelKernel(Kernel):
    """A kernel that is fitted to the labels of training examples.

    Attributes:
        options: that it was made with.
        inputs: of the training examples.
        gram: the kernel between them.
    """

    definite = False
    options: "LabelDependentKernel"
    inputs: Tensor

    @property
    def ignores_labels(self) -> bool:
        """Return whether labels count for nothing: the kernel is then its base."""
        return False

    @property
    def depends_on_labels(self) -> bool:  # type: ignore[override]
        """Return whether leaving an example out fits the kernel again."""
        return not (self.options.frozen or self.ignores_labels)

    @property
    def label_blind(self) -> Kernel:
        """Return the kernel that it builds on."""
        return self.options.base

    @property
    @abstractmethod
    def gram_before_labels(self) -> Float64[Tensor, "n n"]:
        """Return the kernel between the training inputs before it saw a label."""

    @property
    @abstractmethod
    def gram(self) -> Float64[Tensor, "n n"]:
        """Return the kernel between the training inputs."""

    def fitted_on(self, inputs: Tensor) -> bool:
        """Return whether these are the inputs that it was fitted on, in their order."""
        ours = self.inputs
        return ours.shape == inputs.shape and bool(torch.equal(ours, inputs.to(ours)))

    def fit_labels(
        self, inputs: Tensor, labels: Tensor | None, targets: Tensor | None = None, **options: Any
    ) -> Kernel:
        """Return itself where it stays as it is, whatever is left out.

        Raises:
            OptionError: it would have to be fitted again.
        """
        if self.depends_on_labels:
            raise OptionError(
                "`kernel` is fitted to labels already, and `fit` would have to fit it again: pass its "
                "options, kernel.options; or keep it as it is, kernel.freeze_labels()."
            )
        return self

    @abstractmethod
    def freeze_labels(self) -> "FittedLabelKernel":
        """Return the same kernel, which says of itself that it stays as it is."""

    @abstractmethod
    def compare(self, queries: Tensor) -> Comparison:
        """Return queries compared with the training inputs, for this kernel and for all its refits."""

    @abstractmethod
    def compare_training(self, rows: slice) -> Comparison:
        """Return some of the training inputs compared with all of them; nothing is evaluated."""

    def refit(
        self,
        keep: Int64[Tensor, " k"],
        labels: Int64[Tensor, " k"] | None,
        targets: Float64[Tensor, "k c"],
        *,
        gram: Float64[Tensor, "rows rows"] | None = None,
    ) -> RefitKernel:
        """Return the kernel fitted to some of the training examples, with these labels of them."""
        if not self.depends_on_labels:
            return KernelOfSubset(self, keep, self.gram if gram is None else gram)
        return self.refit_labels(keep, labels, targets)

    @abstractmethod
    def refit_labels(
        self,
        keep: Int64[Tensor, " k"],
        labels: Int64[Tensor, " k"] | None = None,
        targets: Float64[Tensor, "k c"] | None = None,
    ) -> RefitKernel:
        """Return the same, also where it is frozen; with the labels that it was fitted to if None."""


class LabelDependentKernel(ABC):
    """Options of a kernel that is fitted to labels.

    Attributes:
        base: the kernel that has seen no label, which it builds on.
        frozen: whether the kernel stays as all labels made it when an example is left out. That is faster,
            and not what training without the example would give.
    """

    base: Kernel
    frozen: bool

    by_classes: ClassVar[bool] = True
    """Whether it is fitted to classes, or else to targets, which may be numbers."""

    @abstractmethod
    def fit_labels(
        self,
        inputs: Tensor,
        labels: Int64[Tensor, " n"] | None,
        targets: Float64[Tensor, "n c"] | None = None,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
        memory: int | float | str | None = None,
    ) -> FittedLabelKernel:
        """Return the kernel that the labels of these examples make of it."""

    def within(self, budget: int) -> "LabelDependentKernel":
        """Return the kernel as a model with so many bytes uses it, and the one that it builds on."""
        bounded = copy(self)
        object.__setattr__(bounded, "base", self.base.within(budget))
        return bounded

    def check_has_classes(self, labels: Tensor | None) -> None:
        """Raise where examples have no classes, and it is fitted to them."""
        if labels is None and self.by_classes:
            raise DataError(
                "`train` must have classes for a kernel that sees labels; got numbers. Take the kernel "
                f"that it builds on, or give classes: {self!r}."
            )

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


AnyKernel = Kernel | LabelDependentKernel
"""What `fit` takes: a kernel, or the options of one that is fitted to labels first."""


def label_fit_work(n: int) -> WorkCount:
    """Return the work of fitting a kernel to the labels of n examples, its base kernel at hand."""
    return operations(Operation.LABEL_FIT_PAIR, n * n)


def label_refit_work(n: int) -> WorkCount:
    """Return the work of fitting it to all labels but one, from what is known of all."""
    return operations(Operation.LABEL_REFIT_PAIR, n * n)


def label_input_work(n: int) -> WorkCount:
    """Return the work of a refitted kernel between one input and the training inputs."""
    return operations(Operation.LABEL_INPUT_PAIR, n * n)


def label_cross_work(m: int, n: int, *, size: int) -> WorkCount:
    """Return the work of a refitted kernel between m inputs, in blocks of `size`, and the training inputs."""
    return math.ceil(m / size) * label_input_work(n) + operations(Operation.LABEL_CROSS_PAIR, m * n)

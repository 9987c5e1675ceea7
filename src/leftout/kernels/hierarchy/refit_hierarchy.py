"""The hierarchy's kernel fitted to other examples or targets, made when it is asked for."""

from abc import abstractmethod
from copy import copy
from dataclasses import dataclass
from typing import final

from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.kernels.base import Comparison, RefitKernel
from leftout.kernels.label_dependent import FittedLabelKernel


@final
@dataclass(frozen=True, eq=False)
class Queries:
    """Inputs that a refitted kernel will be evaluated on."""

    inputs: Tensor

    def of(self, rows: Int64[Tensor, " r"] | slice, columns: Int64[Tensor, " s"] | slice) -> "Queries":
        """Return some of them, whatever training inputs they are compared with."""
        return Queries(self.inputs[rows])


class RefittableHierarchy(FittedLabelKernel):
    """A kernel that can be fitted to some of its inputs."""

    @abstractmethod
    def fitted_to(self, keep: Int64[Tensor, " k"], targets: Float64[Tensor, "k 1"]) -> "RefittableHierarchy":
        """Return the kernel fitted to some of the inputs, with these targets."""


@final
class RefitHierarchy(RefitKernel):
    """The kernel after training on other examples or targets, between inputs that are known.

    It holds rows and targets; the kernel itself is made when its Gram matrix is asked for.
    """

    definite = False

    def __init__(
        self, full: RefittableHierarchy, keep: Int64[Tensor, " k"], targets: Float64[Tensor, "k 1"]
    ) -> None:
        self.full, self.keep, self.targets = full, keep, targets
        self._kernel: RefittableHierarchy | None = None

    @property
    def kernel(self) -> RefittableHierarchy:
        return self._kernel or self.full.fitted_to(self.keep, self.targets)

    @property
    def gram(self) -> Float64[Tensor, "k k"]:
        self._kernel = self.kernel
        return self._kernel.gram

    def cross(self, comparison: Comparison) -> Float64[Tensor, "m k"]:
        return self.kernel.compare(comparison.pairs.inputs).cross

    def without_gram(self) -> "RefitHierarchy":
        """Return the same without what was made: it is made anew for every `cross`."""
        lean = copy(self)
        lean._kernel = None
        return lean

"""What is the hierarchy's kernel without an example, or with another target? Taught when it is asked for."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, final

from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.kernels.label_dependent import FittedLabelKernel, RefitLabelKernel


@final
@dataclass(frozen=True, eq=False)
class Asked:
    """Inputs that a kernel taught again will be asked about."""

    queries: Tensor

    def of(self, rows: Int64[Tensor, " r"] | slice, columns: Any) -> "Asked":
        """Return some of them; whatever they are compared with."""
        return Asked(self.queries[rows])


class Teaching(FittedLabelKernel):
    """A kernel that can be taught by some of its inputs."""

    @abstractmethod
    def taught_by(self, keep: Int64[Tensor, " k"], targets: Float64[Tensor, "k 1"]) -> "Teaching":
        """Return the kernel taught by some of the inputs, and by these targets."""


@final
class RefitHierarchy(RefitLabelKernel):
    """The kernel after training on other examples or labels, between inputs that are known.

    It holds rows and targets; the kernel itself is made when its Gram matrix is asked for.
    """

    def __init__(self, whole: Teaching, keep: Int64[Tensor, " k"], targets: Float64[Tensor, "k 1"]) -> None:
        self.whole, self.keep, self.targets = whole, keep, targets
        self._kernel: Teaching | None = None

    @property
    def gram(self) -> Float64[Tensor, "k k"]:
        """Return the kernel between the examples that it was taught by."""
        self._kernel = self._taught()
        return self._kernel.gram

    def cross(self, pairs: Asked) -> Float64[Tensor, "m k"]:
        """Return the kernel between queries, as `pairs_with` gave them, and those examples."""
        return self._taught().cross(pairs)

    def lean(self) -> "RefitHierarchy":
        """Return the same without what was made: it is made anew for every `cross`."""
        return RefitHierarchy(self.whole, self.keep, self.targets)

    def _taught(self) -> Teaching:
        return self._kernel or self.whole.taught_by(self.keep, self.targets)

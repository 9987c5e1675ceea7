"""Several networks of one kind: checkpoints of one training, or trainings from several seeds."""

from collections.abc import Sequence
from typing import Any, final

from leftout.core.errors import OptionError
from leftout.kernels.base import Kernel


@final
class NetworkKernels:
    """Kernels of several networks, each of its own; made by `Empirical([first, second, …])`.

    It is no kernel itself: `fit` makes a model of each, and answers are means over them.

    Attributes:
        kernels: one for each network, in the order given.

    Raises:
        OptionError: fewer than two networks, between which nothing varies.

    Example:
        >>> import leftout as lo, torch
        >>> lo.kernels.Empirical([torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)])
        NetworkKernels(2 × Empirical(Linear, 'full', trained weights, 3 parameters))
    """

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        self.kernels = tuple(kernels)
        if len(self.kernels) < 2:
            raise OptionError(
                f"`module` must be one module, or a list of two or more; got a list of {len(self.kernels)}."
            )

    def __len__(self) -> int:
        return len(self.kernels)

    def __repr__(self) -> str:
        return f"NetworkKernels({len(self)} × {self.kernels[0]!r})"

    @property
    def record(self) -> dict[str, Any]:
        """Return the kernels; JSON-like."""
        return {"name": "networks", "networks": [kernel.record for kernel in self.kernels]}

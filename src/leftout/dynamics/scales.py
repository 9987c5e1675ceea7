"""Orders of magnitude within which every product on the way to an answer is a number of double precision.

Answers scale with the problem: inputs times a, the ridge times a² and the rate over a² leave them as they
are, and targets times b multiply them by b. Duals are targets over eigenvalues, and bounds multiply kernels:
they leave the range of numbers, 1e-308 to 1e308, long before the answer does.
"""

import math

from jaxtyping import Float64
from torch import Tensor

from leftout.core.checks import check_scale
from leftout.core.errors import DataError

KERNEL_DECADES = 100
"""Of the kernel on its diagonal: its square and its inverse times the targets are numbers."""

DECADES = 150
"""Of residuals, whose squares are numbers, of ridge and rate."""


TIME_DECADES = 307
"""Of rate times time: what it multiplies stays a number where the answer does."""


def check_kernel_scale(diagonal: Float64[Tensor, " rows"]) -> None:
    """Raise unless the kernel is of a size that can be computed with."""
    check_scale(
        "kernel",
        _largest(diagonal),
        KERNEL_DECADES,
        advice="Multiply the inputs by a number, the ridge by what the kernel is multiplied by then, and "
        "divide the rate by it: answers stay the same.",
        error=DataError,
    )


def check_residual_scale(residual: Float64[Tensor, "rows c"]) -> None:
    """Raise unless what is to be learned is of a size that can be computed with."""
    check_scale(
        "targets",
        _largest(residual),
        DECADES,
        advice="Multiply them by a number: answers are multiplied too.",
        error=DataError,
    )


def check_ridge_scale(ridge: float) -> None:
    """Raise unless a ridge is 0 or of a size that can be computed with."""
    check_scale("ridge", ridge, DECADES, advice="A problem in other units has the same answers.")


def check_rate_scale(rate: float) -> None:
    """Raise unless a rate is of a size that can be computed with."""
    check_scale("rate", rate, DECADES, advice="A problem in other units has the same answers.")


def check_time_scale(rate: float, time: float) -> None:
    """Raise unless rate times time is of a size that can be computed with, or time is 0 or the end."""
    if 0 < time < math.inf:
        check_scale(
            "rate * at",
            rate * time or math.ulp(0.0),
            TIME_DECADES,
            advice="Of a larger time the answers are those of the end, at=None; of a smaller, those of at=0.",
        )


def _largest(numbers: Tensor) -> float:
    return float(numbers.abs().max()) if numbers.numel() else 0.0

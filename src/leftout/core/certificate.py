"""Evidence of the accuracy of leave-one-out changes, which a fitted model carries."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Refit:
    """One training example really left out: its effect computed by the engine and by fitting again.

    Attributes:
        train: row number of the example left out.
        query: row number of the query at which the two differ most.
        engine: change of the prediction there, with minus without, by the engine.
        refit: the same by fitting without the example.
        difference: largest difference over all queries and outputs, relative to the largest change.
    """

    train: int
    query: int
    engine: float
    refit: float
    difference: float


@dataclass(frozen=True)
class Certificate:
    """Evidence for the leave-one-out changes at one training time.

    Attributes:
        at: the training time; inf is the end of training.
        condition: |s + ridge|_max / |s + ridge|_min of what is inverted; inf where nothing is. Without
            negative eigenvalues that is (s_max + ridge) / (s_min + ridge).
        effective_condition: the same with s_min + ridge no smaller than 1 / (rate · time).
        effective_rank: tr K / s_max.
        residual: backward error of solve or decomposition, relative to s_max; eps-sized if sound.
        quadrature: proved bound on the quadrature's error in any prediction change, in target units.
        rounding: estimate of what double precision adds, in target units; in tiles of float32 the largest
            difference from a refit.
        scale: distance from f_0 that no prediction exceeds, √max k(x, x) · √(1 / (s_min + ridge)) · ‖y‖; at
            the end, of a kernel that labels made indefinite, max ‖k(x, X)‖ ‖y‖ / |s + ridge|_min.
        dtype: of everything factored or inverted.
        kernel_dtype: in which the kernel was evaluated.
        device: where.
        refits: examples really left out, and how the engine compares.
        smallest: s_min of K.
        approximation: relative errors of an approximate kernel against the exact one, `frobenius` and
            `spectral`, measured on so many `examples`; None where the kernel is exact.
    """

    at: float
    condition: float
    effective_condition: float
    effective_rank: float
    residual: float
    quadrature: float
    rounding: float
    scale: float
    dtype: str
    kernel_dtype: str
    device: str
    refits: tuple[Refit, ...]
    smallest: float
    approximation: dict[str, Any] | None = None

    @property
    def refit_difference(self) -> float:
        """Return the largest relative difference between engine and refit; NaN when none was made."""
        return max((refit.difference for refit in self.refits), default=float("nan"))

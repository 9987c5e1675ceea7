"""How probable is each class, given scores that were made without the example?

    q = softmax(e^a F + b)

F (n, c) are scores as of one-hot targets, of models that have not seen the example; a and b are of greatest
likelihood on them, with a penalty that decides where few examples do:

    −Σ_i log q_i(given) + ½ ‖b‖² + 0.05 (a − 2)²

Left-out scores of a regression on one-hot columns order the classes well, and are no probabilities: they may
be negative or above 1, and too timid where the ridge is large.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.optimize import minimize
from scipy.special import log_softmax

from leftout.core.errors import LeftoutError

START = 2.0
"""a where nothing is known: a score of one against zero is then odds of e^7.4 to 1."""

PULL = 0.05
"""Weight of (a − 2)²."""

SETTLED = 1e-5
"""Gradient, for each example, at which the likelihood is at its greatest."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Probabilities of classes, and the two parameters that make them of scores.

    Attributes:
        log_probabilities: log q, (n, c).
        sharpness: e^a.
        offsets: b, (c,).
    """

    log_probabilities: Float64[np.ndarray, "n c"]
    sharpness: float
    offsets: Float64[np.ndarray, " c"]

    @property
    def probabilities(self) -> Float64[np.ndarray, "n c"]:
        """Return q."""
        probabilities: np.ndarray = np.exp(self.log_probabilities)
        return probabilities


def calibrate(scores: Float64[np.ndarray, "n c"], labels: Int64[np.ndarray, " n"]) -> Calibration:
    """Return calibrated probabilities of every class for every example.

    Args:
        scores: larger = more of this class, as of one-hot targets; made without the example.
        labels: given classes, columns of `scores`.

    Raises:
        LeftoutError: the likelihood has not come to its greatest.

    Cost:
        some tens of passes over the scores.
    """
    n, classes = scores.shape
    # Adding a number to all scores of an example changes nothing, and small numbers keep their digits.
    centred = scores - scores.mean(1, keepdims=True)
    shares = np.bincount(labels, minlength=classes) / n
    given = centred[np.arange(n), labels].mean()

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        a, b = parameters[0], parameters[1:]
        sharpness = math.exp(min(a, 500.0))
        logs = log_softmax(sharpness * centred + b, axis=1)
        q = np.exp(logs)
        # All for one example, so that one tolerance serves any number of them.
        penalty = (b @ b / 2 + PULL * (a - START) ** 2) / n
        slope_a = sharpness * ((q * centred).sum(1).mean() - given) + 2 * PULL * (a - START) / n
        slope_b = q.mean(0) - shares + b / n
        return penalty - logs[np.arange(n), labels].mean(), np.concatenate([[slope_a], slope_b])

    start = np.concatenate([[START], np.zeros(classes)])
    options = {"maxiter": 2000, "maxfun": 4000, "ftol": 0.0, "gtol": SETTLED / 100}
    best = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    slope = float(np.abs(best.jac).max())
    if not slope <= SETTLED:
        raise LeftoutError(
            f"The calibration of {n} left-out scores did not settle: its slope is {slope:.2g} for each "
            f"example, above {SETTLED:g}. Scores reach from {scores.min():.3g} to {scores.max():.3g}, where "
            "one-hot targets have 0 and 1: scale them so."
        )
    sharpness = math.exp(best.x[0])
    return Calibration(log_softmax(sharpness * centred + best.x[1:], axis=1), sharpness, best.x[1:])

"""Which labels are doubted? Those that are probably wrong, by calibrated left-out probabilities.

With q the calibrated probability of a class (`calibration`), π its share of the labels and c the classes:

    refuse   where the gain log q(given)/π(given) is not above 0 on average, beyond the 1/n that fitting
             costs: the model knows no more of the labels than their shares
    wrong    w = e (1 − r) / q(given), where q(given) = (1 − ε) r + e (1 − r), r in [0, 1]: the probability
             that the label is wrong, if a share ε = 0.1 of all labels is; r is that of the given class to be
             the right one, and e = ε / (c − 1)^¾ that of this label where it is wrong
    doubt    a label where w > 0.25 and (q/π)(suggested) > (q/π)(given)

So q(given) must be below 0.30 of two classes, 0.20 of three, 0.07 of ten: wrong labels are spread over the
other classes, though not evenly, as mistakes keep to similar ones. The last condition protects small classes,
which a model that knows only the shares would give to the large ones. How the rule was chosen, and among
which others, is in `benchmarks/doubt_rule.py`; `benchmarks/defaults.py` measures it on other data.

For numbers in place of classes, a value is doubted where the left-out residual lies beyond 3.5 robust
standard deviations (`mislabelled`), and nothing is where the model predicts no better than the mean does.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from leftout.curation.calibration import calibrate

NOISE = 0.1
"""Share of the labels that is taken to be wrong."""

SPREAD = 0.75
"""Exponent of the number of other classes, for the number of those that are mistaken for one."""

WRONG = 0.25
"""Probability of being wrong above which a label is doubted."""

SURE = 0.5
"""Standard errors by which a model of numbers must know more than nothing: nothing calibrates these."""

KNOWS_NOTHING = (
    "The model knows nothing of the {what}: what it says of an example without it is no better than "
    "{trivial}. So nothing is doubted here, and nothing is called removable. Bring other features, such as "
    "those of a network trained on similar data, or more examples."
)


@dataclass(frozen=True, eq=False)
class Doubts:
    """What calibrated probabilities say of n labels.

    Attributes:
        probabilities: q, (n, c).
        wrong: probability that the label is wrong, if a share `NOISE` of all is, (n,).
        doubted: (n,).
        suggested: the most probable class other than the given one, (n,).
        margins: score of the given class minus the best other, (n,): the order of doubts.
        refusal: why nothing is doubted, where the scores know nothing of the labels; else "".
    """

    probabilities: Float64[np.ndarray, "n c"]
    wrong: Float64[np.ndarray, " n"]
    doubted: Bool[np.ndarray, " n"]
    suggested: Int64[np.ndarray, " n"]
    margins: Float64[np.ndarray, " n"]
    refusal: str

    @property
    def order(self) -> list[int]:
        """Return the doubted rows, the smallest margin first."""
        rows = np.flatnonzero(self.doubted)
        order: list[int] = rows[np.argsort(self.margins[rows], kind="stable")].tolist()
        return order


def doubts(scores: Float64[np.ndarray, "n c"], labels: Int64[np.ndarray, " n"]) -> Doubts:
    """Return which labels are doubted; arguments as for `calibrate`."""
    n, classes = scores.shape
    rows = np.arange(n)
    logs = calibrate(scores, labels).log_probabilities
    shares = np.bincount(labels, minlength=classes) / n
    others = logs.copy()
    others[rows, labels] = -np.inf
    suggested = others.argmax(1)
    gains = logs[rows, labels] - np.log(shares[labels])
    refusal = "" if gains.mean() > 1 / n else refusal_text("labels", "the shares of the classes")
    given, instead = np.exp(logs[rows, labels]), np.exp(logs[rows, suggested])
    # As products, since no label may be of the suggested class.
    lifted = instead * shares[labels] > given * shares[suggested]
    wrong = wrong_probability(given, classes)
    doubted = (wrong > WRONG) & lifted & (refusal == "")
    return Doubts(np.exp(logs), wrong, doubted, suggested, class_margins(scores, labels), refusal)


def wrong_probability(given: Float64[np.ndarray, " n"], classes: int) -> Float64[np.ndarray, " n"]:
    """Return the probability that each label is wrong, if a share `NOISE` of all is.

    Args:
        given: calibrated probability of the given class.
        classes: how many there are, at least two.
    """
    each = NOISE / (classes - 1) ** SPREAD
    # A label may be less probable than a wrong one, or more than a right one would be.
    right = np.clip((given - each) / (1 - NOISE - each), 0, 1)
    wrong: np.ndarray = each * (1 - right) / ((1 - NOISE) * right + each * (1 - right))
    return wrong


def rule_text() -> str:
    """Return the rule in one sentence, for a reader of the report."""
    return (
        f"A label is doubted where it is wrong with a probability above {WRONG:.0%}, if {NOISE:.0%} of all "
        "labels are, and where the left-out scores raise another class further above its share."
    )


def class_margins(
    scores: Float64[np.ndarray, "n c"], labels: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """Return the score of the given class minus the best of the others."""
    rows = np.arange(len(labels))
    others = scores.copy()
    others[rows, labels] = -np.inf
    margins: np.ndarray = scores[rows, labels] - others.max(1)
    return margins


def numbers_refusal(targets: Float64[np.ndarray, "n k"], residuals: Float64[np.ndarray, "n k"]) -> str:
    """Return why no number is doubted where left-out predictions are no better than the mean; else "".

    Args:
        targets: of examples that would not be doubted: the others may be anything.
        residuals: target minus left-out prediction.
    """
    n = len(targets)
    if n < 2 or not np.ptp(targets, axis=0).any():
        return ""
    # The mean of the others, as the model has not seen the example either.
    trivial = ((n / (n - 1) * (targets - targets.mean(0))) ** 2).sum(1)
    own = (residuals**2).sum(1)
    gains = (trivial - own) / trivial.mean()
    knows = gains.mean() - 1 / n > SURE * gains.std() / math.sqrt(n)
    return "" if knows else refusal_text("targets", "their mean")


def refusal_text(what: str, trivial: str) -> str:
    """Return the sentences that are said first where a model knows nothing."""
    return KNOWS_NOTHING.format(what=what, trivial=trivial)

"""Which labels should be looked at? Those that the model fitted without the example does not believe.

The margin of an example is its left-out score of the given class minus the best score of another class,
exactly, from the model fitted without that example: its own label has no say. Which labels are suspects is
decided by the calibrated probabilities of these scores (`doubt`); none is where they know nothing. For
numbers instead of classes the margin is how far the left-out residual stays inside 3.5 robust standard
deviations (median absolute deviation; Iglewicz & Hoaglin 1993), and suspects have a negative one.

The reasons are terms of the left-out prediction, f(x_i) = Σ_j k(x_i, x_j) u_j: the training examples j whose
terms favour the suggested class over the given one most.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from leftout.attribution.engine.at_times import engine_at
from leftout.attribution.engine.base import EngineAtTime
from leftout.attribution.leave_one_out import out_of_sample
from leftout.core.progress import with_progress
from leftout.core.wording import target_number
from leftout.core.work import NO_WORK, Operation, WorkCount, calls, operations, thin_product
from leftout.curation.dominant_target import dominant_target
from leftout.curation.doubt import doubts, numbers_refusal
from leftout.curation.label_scores import LabelScores, class_label_scores, number_label_scores
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import At
from leftout.dynamics.weights_check import check_unseen
from leftout.solvers.resolvent import group_sum_work

NEIGHBOURS = 5
"""Opposing training examples named for each suspect: as many as fit one line."""

ROBUST = 1.4826
"""Median absolute deviation to standard deviation, for normal residuals."""

FENCE = 3.5
"""Robust standard deviations beyond which a number is a suspect (Iglewicz & Hoaglin)."""


@dataclass(frozen=True)
class Neighbour:
    """A training example and its term in score[suggested] − score[given], left out, > 0: opposes."""

    row: int
    pull: float


@dataclass(frozen=True)
class Suspect:
    """A training example whose label is probably wrong.

    Attributes:
        row: its row number.
        given: its class, or its value as text.
        suggested: the class, or value, of the left-out prediction.
        margin: left-out score of the given class minus the best other, in target units.
        scores: left-out score per class; for numbers the left-out prediction per output.
        opposing: the training examples whose terms favour the suggestion most, strongest first.
        reason: the evidence in one sentence or two.
        probability: calibrated, of the given class; None for numbers.
    """

    row: int
    given: str
    suggested: str
    margin: float
    scores: tuple[float, ...]
    opposing: tuple[Neighbour, ...]
    reason: str
    probability: float | None = None


@dataclass(frozen=True, eq=False)
class Mislabelled:
    """Margins of all examples, and the suspects with reasons, smallest margin first.

    Attributes:
        probabilities: calibrated, of every class for every example, (n, c); None for numbers.
        refusal: why there are no suspects, where the model knows nothing of the labels; else "".
        scores: what is said of every label; None where no model can be asked.
        dominant: of numbers, that one target decides what is said of the others; else "".
    """

    margins: Float64[Tensor, " n"]
    suspects: tuple[Suspect, ...]
    probabilities: Float64[Tensor, "n c"] | None = None
    refusal: str = ""
    scores: LabelScores | None = None
    dominant: str = ""


def find_mislabelled(fitted: Fitted, *, at: At = None) -> Mislabelled:
    """Return the exact left-out margin of every training label, and the suspects with their reasons.

    Args:
        at: training time; None is the end.

    Raises:
        OptionError: a network at trained weights, which have seen every label.

    Cost:
        that of `out_of_sample`, and n² a suspect at finite times (n k at the end).
    """
    check_unseen("fitted", fitted.kernel, "doubted labels")
    train = fitted.train
    predicted = out_of_sample(fitted, at).cpu()
    if train.labels is None:
        return _doubted_numbers(fitted, predicted, at)
    scores, margins, _ = label_margins(train, predicted)
    found = doubts(one_hot_scores(fitted, predicted), train.labels.numpy())
    moment = engine_at(fitted, at)
    suspects = tuple(
        _suspect(moment, i, scores[i], float(margins[i]), int(found.suggested[i]), found.probabilities[i])
        for i in with_progress(found.order, what="suspects")
    )
    names = train.classes or ()
    of_labels = class_label_scores(found.probabilities, train.labels.numpy(), names)
    return Mislabelled(margins, suspects, torch.from_numpy(found.probabilities), found.refusal, of_labels)


def one_hot_scores(fitted: Fitted, predicted: Float64[Tensor, "n k"]) -> Float64[np.ndarray, "n c"]:
    """Return predictions as scores of classes in the units of one-hot targets: logits as probabilities."""
    encoding = fitted.train.encoding
    expected = fitted.rule.example_loss.expected(predicted)
    if encoding.outputs > 1:
        return encoding.in_target_units(expected).numpy()
    # One column: the probability of the second class, or a number from −1 to 1 that is twice as far.
    second = expected if encoding.as_probabilities else encoding.in_target_units(expected) / 2
    first = 1 - second if encoding.as_probabilities else -second
    return torch.cat([first, second], dim=1).numpy()


def _doubted_numbers(fitted: Fitted, predicted: Float64[Tensor, "n k"], at: At) -> Mislabelled:
    """Return margins and suspects among numbers, or among soft labels, compared as probabilities."""
    train = fitted.train
    predicted = fitted.rule.example_loss.expected(predicted)
    scores, margins, furthest = label_margins(train, predicted)
    refusal = _numbers_refusal(fitted, predicted, margins >= 0, at)
    order = [] if refusal else [i for i in margins.argsort(stable=True).tolist() if float(margins[i]) < 0]
    moment = engine_at(fitted, at)
    suspects = tuple(
        _suspect(moment, i, scores[i], float(margins[i]), furthest[i])
        for i in with_progress(order, what="suspects")
    )
    spread, scale = robust_residuals(train, predicted)
    of_numbers = number_label_scores(train, predicted, (spread, scale), outputs=furthest)
    residual = train.targets - predicted
    dominant = dominant_target(
        fitted, residual, order, centre=(residual - spread)[0], fence=FENCE * scale, at=at
    )
    return Mislabelled(margins, suspects, refusal=refusal, scores=of_numbers, dominant=dominant)


def _numbers_refusal(
    fitted: Fitted, predicted: Float64[Tensor, "n k"], inside: Bool[Tensor, " n"], at: At
) -> str:
    """Return why no number is doubted, or "", asked of the examples inside the fence.

    A gross error pulls the predictions of all others away. So where these are bad, they are asked for once
    more, of the model without the examples outside.
    """
    targets = fitted.train.targets
    refusal = numbers_refusal(targets[inside].numpy(), (targets - predicted)[inside].numpy())
    if not refusal or bool(inside.all()):
        return refusal
    part = fitted.subset(inside.nonzero().flatten())
    again = fitted.rule.example_loss.expected(out_of_sample(part, at).cpu())
    return numbers_refusal(part.train.targets.numpy(), (part.train.targets - again).numpy())


def label_margins(
    train: Examples, predicted: Float64[Tensor, "n k"]
) -> tuple[Float64[Tensor, "n c"], Float64[Tensor, " n"], list[int]]:
    """Return scores, margins, and the best other class, or for numbers the output of smallest margin."""
    if train.labels is None:
        spread, scale = robust_residuals(train, predicted)
        inside = FENCE * scale - spread.abs()  # (n, k)
        worst = inside.min(1)
        return train.encoding.in_target_units(predicted), worst.values, worst.indices.tolist()
    scores = train.encoding.class_scores(predicted)
    own_score = scores.gather(1, train.labels[:, None])[:, 0]
    other_scores = scores.scatter(1, train.labels[:, None], -torch.inf)
    return scores, own_score - other_scores.amax(1), other_scores.argmax(1).tolist()


def robust_residuals(
    train: Examples, predicted: Float64[Tensor, "n k"]
) -> tuple[Float64[Tensor, "n k"], Float64[Tensor, " k"]]:
    """Return residuals from their median, and their robust standard deviation."""
    residual = train.targets - predicted
    spread = residual - _median(residual)
    return spread, ROBUST * _median(spread.abs())


def _median(values: Float64[Tensor, "n k"]) -> Float64[Tensor, " k"]:
    """Return the median of each column; of an even number, between the two in the middle."""
    # torch.median would return the lower of the two.
    return values.quantile(0.5, dim=0)


def _suspect(
    moment: EngineAtTime,
    row: int,
    scores: Float64[Tensor, " c"],
    margin: float,
    suggested: int,
    probabilities: Float64[np.ndarray, " c"] | None = None,
) -> Suspect:
    train = moment.fitted.train
    opposing = _opposing_examples(moment, row, suggested, scores)
    names = ", ".join(train.ids[neighbour.row] for neighbour in opposing[:3]) or "none in particular"
    if train.labels is None:
        target = train.encoding.in_target_units(train.targets[row : row + 1])[0]
        given_text, instead = (
            target_number(float(of_row[suggested]), train.target_digits) for of_row in (target, scores)
        )
        reason = (
            f"Without it the model predicts {instead} where {given_text} is given, further off than "
            f"{FENCE} robust standard deviations. Pulling that way most: {names}."
        )
        return Suspect(row, given_text, instead, margin, tuple(scores.tolist()), opposing, reason)
    assert train.classes is not None
    assert probabilities is not None
    label = int(train.labels[row])
    given_text, instead = train.classes[label], train.classes[suggested]
    given, other = float(probabilities[label]), float(probabilities[suggested])
    reason = (
        f"Without it the model says {instead} ({other:.0%}) rather than {given_text} ({given:.0%}). "
        f"Speaking most for {instead}: {names}."
    )
    return Suspect(row, given_text, instead, margin, tuple(scores.tolist()), opposing, reason, given)


def _opposing_examples(
    moment: EngineAtTime, row: int, suggested: int, scores: Float64[Tensor, " c"]
) -> tuple[Neighbour, ...]:
    """Return the training examples whose terms move the left-out prediction most towards the suggestion."""
    fitted = moment.fitted
    train = fitted.train
    outputs = fitted.outputs
    if train.labels is None:
        off = float(
            scores[suggested] - train.encoding.in_target_units(train.targets[row : row + 1])[0, suggested]
        )
        direction = fitted.targets.new_zeros(outputs)
        direction[suggested] = 1.0 if off >= 0 else -1.0
    elif outputs == 1:
        # Two classes share the column f: their scores are −f and +f.
        direction = fitted.targets.new_tensor([2.0 if suggested == 1 else -2.0])
    else:
        direction = fitted.targets.new_zeros(outputs)
        direction[suggested], direction[int(train.labels[row])] = 1.0, -1.0
    terms = moment.contributions(row, direction)
    best = terms.topk(min(NEIGHBOURS, len(terms) - 1))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return tuple(Neighbour(j, pull) for j, pull in pairs if pull > 0 and j != row)


DOUBTED = 0.05
"""Share of the labels that is assumed to be doubted where the work is counted."""


def suspects_work(n: int, k: int, time: float) -> WorkCount:
    """Return the work of the reasons for the labels assumed to be doubted, left-out predictions at hand."""
    finite = 0 < time < math.inf
    terms = group_sum_work(n, k) + thin_product(n) if finite else NO_WORK
    return DOUBTED * n * (calls(100) + operations(Operation.SECOND, 2e-4) + terms)

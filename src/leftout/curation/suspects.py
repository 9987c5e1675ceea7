"""Labels that anybody's out-of-sample probabilities doubt, by the rule that an audit follows (`doubt`)."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from leftout.core.checks import as_list, shown
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.curation.doubt import doubts
from leftout.curation.label_scores import class_label_scores
from leftout.data.conversion import as_array, doubles, kind_of

ROUNDING = 1e-3
"""How far from one the sum of probabilities may be: of a thousand classes in float32, or to three digits."""


def suspects(labels: Any, probabilities: Any, *, classes: Sequence[Any] | None = None) -> pd.DataFrame:
    """Return for every example whether its label is doubted, in the columns that cleanlab has, and more.

    The probabilities are calibrated first. A label is doubted where it is then wrong with a probability above
    0.25, if a tenth of all labels is, and where another class is raised further above its share of the
    labels than the given one. Where the probabilities know no more of the labels than the shares of the
    classes, nothing is doubted, and `attrs["refusal"]` says so.

    Args:
        labels: the given class of each example, (n,): column numbers, or names of classes.
        probabilities: of each class, (n, c), from models that have not seen the example: of cross-validation
            or left out. Models that have seen it believe its label.
        classes: names of the columns; None takes those of a DataFrame, and else the distinct labels in their
            order, as scikit-learn does, unless labels are column numbers already.

    Returns:
        A row for each example, in the order given, indexed as the labels are where they have an index:
        `is_label_issue`; `label_score`, the calibrated probability of the given label, small where it is
        doubted; `given_label` and `predicted_label`; `predicted_score`, the calibrated probability of that;
        and `margin`, the probability of the given class minus the best other as it came, by which suspects
        are ordered.

    Raises:
        ShapeError: not one row of probabilities for each label.
        DataError: numbers that are no probabilities; a label that is none of the classes. The row is named.

    Cost:
        some tens of passes over the probabilities.

    Example:
        >>> import leftout as lo
        >>> labels = ["cat"] * 10 + ["dog"] * 10
        >>> sure = [[0.9, 0.1]] * 9 + [[0.05, 0.95]] + [[0.1, 0.9]] * 10
        >>> frame = lo.suspects(labels, sure)
        >>> frame[frame.is_label_issue][["given_label", "predicted_label", "margin"]]
          given_label predicted_label  margin
        9         cat             dog    -0.9
    """
    index = labels.index if isinstance(labels, pd.Series) else None
    if classes is None and isinstance(probabilities, pd.DataFrame):
        classes = list(probabilities.columns)
    given = as_array("labels", labels)
    scores = _checked_probabilities(probabilities)
    if given.ndim != 1 or len(given) != len(scores):
        raise ShapeError(
            f"`labels` must have shape ({len(scores)},), one for each row of `probabilities`; got "
            f"{given.shape}."
        )
    names = _class_names(given, scores.shape[1], classes)
    number_of = {name: number for number, name in enumerate(names)}
    unknown = next((row for row, name in enumerate(given.tolist()) if name not in number_of), None)
    if unknown is not None:
        raise DataError(
            f"`labels` must be among the {len(names)} classes of the columns, {shown(names)}; row {unknown} "
            f"is {shown(given.tolist()[unknown])}. Name the columns with `classes`."
        )
    numbers = np.array([number_of[name] for name in given.tolist()], dtype=np.int64)
    found = doubts(scores, numbers)
    of_labels = class_label_scores(found.probabilities, numbers, names)
    frame = pd.DataFrame(
        {
            "is_label_issue": found.doubted,
            "label_score": of_labels.scores,
            "given_label": of_labels.given,
            "predicted_label": of_labels.suggested,
            "predicted_score": of_labels.suggested_scores,
            "margin": found.margins,
        },
        index=index,
    )
    frame.attrs["refusal"] = found.refusal
    return frame


def _checked_probabilities(probabilities: Any) -> np.ndarray:
    """Return probabilities as float64 (n, c)."""
    given = as_array("probabilities", probabilities)
    if kind_of(given) not in ("floats", "integers", "truth values"):
        raise DataError(f"`probabilities` must be numbers (n, c); got {shown(probabilities)}.")
    scores = doubles(given)
    if scores.ndim != 2 or len(scores) < 2 or scores.shape[1] < 2:
        raise ShapeError(
            "`probabilities` must have shape (n, c), of two examples and two classes or more; got "
            f"{scores.shape}. Of two classes pass both columns."
        )
    wrong = ~((scores >= 0) & (scores <= 1)).all(1) | ~(np.abs(scores.sum(1) - 1) <= ROUNDING)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"`probabilities` must be probabilities that sum to 1; row {row} has "
            f"{shown(scores[row].tolist())} ({int(wrong.sum())} of {len(scores)} are off). Of logits take a "
            "softmax."
        )
    return scores


def _class_names(given: np.ndarray, columns: int, classes: Sequence[Any] | None) -> list[Any]:
    """Return the class of each column."""
    if classes is not None:
        names = as_list("classes", classes)
        names = list(names) if isinstance(names, Iterable) and not isinstance(names, str) else [names]
        hashable = all(isinstance(name, Hashable) for name in names)
        if len(names) != columns or not hashable or len(set(names)) != columns:
            raise OptionError(
                f"`classes` must name each of the {columns} columns of `probabilities` once; got "
                f"{shown(names)}."
            )
        return names
    if given.dtype.kind in "iu" and given.size and given.min() >= 0 and given.max() < columns:
        return list(range(columns))
    distinct = sorted(set(given.tolist()))
    if len(distinct) != columns:
        raise OptionError(
            f"`classes` must be given, as {len(distinct)} distinct labels do not name {columns} columns of "
            "`probabilities`."
        )
    return distinct

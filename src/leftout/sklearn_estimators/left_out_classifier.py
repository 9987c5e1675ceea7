"""A classifier of scikit-learn's kind that says what it would predict without each training example."""

from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d, validate_data

from leftout.core.errors import DataError
from leftout.data.encoding import encoding_of_classes
from leftout.data.examples import Examples
from leftout.sklearn_estimators.left_out_estimator import LeftOutEstimator


class LeftOutClassifier(ClassifierMixin, LeftOutEstimator):  # type: ignore[misc]
    """Classification by squared loss with the kernel of an infinitely wide network, and what was left out.

    Two classes are one column of −1 and +1; more are a column each, 1 for the class and 0 for others. There
    are no probabilities: a squared loss trains none. `lo.fit(kernel, train, rule=lo.Logistic(ridge))` has
    them.

    Args:
        kernel, ridge, standardise, memory: as of `LeftOutRegressor`.

    Attributes:
        classes_: the labels, sorted.
        left_out_predictions_: the label that the model without it gives each training example. Scaling and
            ridge are those of all examples.
        left_out_decisions_: the decision function of each training example by the model without it.
        ridge_, fitted_, scaler_: as of `LeftOutRegressor`.

    Raises:
        LeftoutError: in `fit`, an option or a memory that does not allow it; a ValueError.

    Cost:
        as of `LeftOutRegressor`.

    Example:
        >>> import leftout as lo
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> model = lo.LeftOutClassifier().fit(X, y)
        >>> doubted = (model.left_out_predictions_ != y).nonzero()[0]
        >>> len(doubted) < 15
        True
    """

    _targets_are_numbers = False

    def fit(self, X: Any, y: Any) -> "LeftOutClassifier":
        """Fit to rows of X and labels y, (n,)."""
        inputs, labels = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(labels)
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2:
            raise DataError(f"`y` must hold at least two classes; got 1 class, {self.classes_[0]!r}.")
        self._fit_kernel(inputs, labels)
        self.left_out_decisions_ = self._in_shape(self._left_out_outputs())
        self.left_out_predictions_ = self._labels(self.left_out_decisions_)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Return (m,), above 0 for the second of two classes; or (m, classes), the largest for the class."""
        return self._in_shape(self._outputs(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return a label for each row."""
        return self._labels(self.decision_function(X))

    def _examples(self, inputs: np.ndarray, targets: np.ndarray) -> Examples:
        labels = column_or_1d(targets)
        unknown = np.flatnonzero(~np.isin(labels, self.classes_))
        if len(unknown):
            listed = ", ".join(map(str, self.classes_[:20]))
            raise DataError(
                f"`y` must hold classes of training, {listed}; row {unknown[0]} is {labels[unknown[0]]!r}."
            )
        numbers = torch.from_numpy(np.searchsorted(self.classes_, labels))
        encoding = encoding_of_classes(numbers, tuple(str(name) for name in self.classes_))
        return Examples(self._scaled_inputs(inputs), encoding.encode(numbers), encoding, labels=numbers)

    def _in_shape(self, outputs: np.ndarray) -> np.ndarray:
        return outputs[:, 0] if len(self.classes_) == 2 else outputs

    def _labels(self, decisions: np.ndarray) -> np.ndarray:
        numbers = (decisions > 0).astype(int) if len(self.classes_) == 2 else decisions.argmax(1)
        labels: np.ndarray = self.classes_[numbers]
        return labels

"""A regressor of scikit-learn's kind that says what it would predict without each training example."""

from typing import Any

import numpy as np
import torch
from sklearn.base import RegressorMixin
from sklearn.utils.validation import validate_data

from leftout.data.encoding import encoding_of_numbers
from leftout.data.examples import Examples
from leftout.sklearn_estimators.left_out_estimator import LeftOutEstimator


class LeftOutRegressor(RegressorMixin, LeftOutEstimator):  # type: ignore[misc]
    """Regression with the kernel of an infinitely wide network, and its exact left-out predictions.

    Args:
        kernel: one of `leftout.kernels`; None is ReLU(2, bias_variance=0.3).
        ridge: λ in the units of the kernel; "auto" is the one of least left-out squared error among half
            decades from 1e-5 to 10 times the mean of the kernel's diagonal.
        standardise: whether the kernel sees columns minus their mean, over their standard deviation.
        memory: budget, in bytes or as "4GB"; 60 % of what is free if None.

    Attributes:
        left_out_predictions_: of each training example by the model without it, in the shape of y. Scaling,
            mean of y and ridge are those of all examples.
        ridge_: λ.
        fitted_: the model, which every question of leftout takes; its inputs are scaled, its targets centred.
        scaler_: the scaling of columns, or None.

    Raises:
        LeftoutError: in `fit`, an option or a memory that does not allow it; a ValueError.

    Cost:
        n² evaluations of the kernel and 10n³ flops; n³ where the ridge is given.

    Example:
        >>> import leftout as lo
        >>> from sklearn.datasets import load_diabetes
        >>> X, y = load_diabetes(return_X_y=True)
        >>> model = lo.LeftOutRegressor().fit(X[:200], y[:200])
        >>> model.left_out_predictions_.shape, model.influence(X[200:], y[200:]).dims
        ((200,), ('query', 'train'))
    """

    _targets_are_numbers = True

    def fit(self, X: Any, y: Any) -> "LeftOutRegressor":
        """Fit to rows of X and targets y, (n,) or (n, k)."""
        inputs, targets = validate_data(
            self, X, y, dtype=np.float64, multi_output=True, y_numeric=True, ensure_min_samples=2
        )
        self._one_column = targets.ndim == 1
        self._target_coding = encoding_of_numbers(self._columns(targets), centre="mean")
        self._fit_kernel(inputs, targets)
        self.left_out_predictions_ = self._in_shape(self._left_out_outputs())
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return predictions, (m,) or (m, k) as y was."""
        return self._in_shape(self._outputs(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _examples(self, inputs: np.ndarray, targets: np.ndarray) -> Examples:
        numbers = self._columns(targets)
        offset = torch.tensor(self._target_coding.offset, dtype=torch.float64, device="cpu")
        return Examples(self._scaled_inputs(inputs), numbers - offset, self._target_coding)

    def _columns(self, targets: np.ndarray) -> torch.Tensor:
        numbers = torch.from_numpy(np.array(targets, dtype=np.float64))
        return numbers[:, None] if numbers.ndim == 1 else numbers

    def _in_shape(self, outputs: np.ndarray) -> np.ndarray:
        return outputs[:, 0] if self._one_column else outputs

"""What a regressor and a classifier share: a kernel of standardised columns, a ridge, and what was left out.

The kernel of an infinitely wide network is fitted with a ridge that, if it is not said, is the one of least
exact left-out loss among half decades from 1e-5 to 10 times the mean of the kernel's diagonal. What is
predicted of every training example without itself comes with the fit.

What is prepared before the kernel is fitted stays when an example is left out: means and deviations of
columns, the mean of a regressor's targets, the chosen ridge.
"""

from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float64
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from leftout.attribution.leave_one_out import leave_one_out, out_of_sample
from leftout.core.checks import check_at_least, check_choice
from leftout.data.encoding import Encoding
from leftout.data.examples import Examples
from leftout.dynamics.fit import fit
from leftout.dynamics.options import AUTO
from leftout.dynamics.rules import Ridge
from leftout.kernels.base import Kernel
from leftout.kernels.wide.default import DEFAULT_KERNEL


class LeftOutEstimator(BaseEstimator):  # type: ignore[misc]
    """Fits a kernel with a ridge, and keeps what is said of each training example without it."""

    def __init__(
        self,
        kernel: Kernel | None = None,
        ridge: float | str = "auto",
        standardise: bool = True,
        memory: int | float | str | None = None,
    ) -> None:
        self.kernel = kernel
        self.ridge = ridge
        self.standardise = standardise
        self.memory = memory

    def influence(self, X: Any, y: Any) -> xr.DataArray:
        """Return the exact effect of every training example on the loss at each query.

        Args:
            X, y: queries, and what is true there.

        Returns:
            A DataArray (query, train), loss without the example minus loss with it: positive = it helped.
            Loss is ½ Σ (f − y)² over outputs.

        Cost:
            2mn² for m queries, after a kernel of m × n.
        """
        check_is_fitted(self)
        inputs, targets = validate_data(
            self, X, y, reset=False, dtype=np.float64, multi_output=True, y_numeric=self._targets_are_numbers
        )
        return leave_one_out(self.fitted_, self._examples(inputs, targets))

    _targets_are_numbers: bool
    """Whether targets are numbers to predict, not classes."""

    def _examples(self, inputs: np.ndarray, targets: np.ndarray) -> Examples:
        """Return inputs and targets as the kernel sees them, once the coding of targets is fitted."""
        raise NotImplementedError

    def _fit_kernel(self, inputs: np.ndarray, targets: np.ndarray) -> None:
        """Fit scaling, kernel and ridge; the coding of targets is fitted already."""
        check_choice("standardise", self.standardise, (True, False))
        self.scaler_ = StandardScaler().fit(inputs) if self.standardise else None
        train = self._examples(inputs, targets)
        kernel = DEFAULT_KERNEL if self.kernel is None else self.kernel
        if isinstance(self.ridge, str):
            check_choice("ridge", self.ridge, (AUTO,))
            ridge: float | Literal["auto"] = "auto"
        else:
            check_at_least("ridge", self.ridge, 0)
            ridge = float(self.ridge)
        self.fitted_ = fit(kernel, train, rule=Ridge(ridge), memory=self.memory)
        self.ridge_ = self.fitted_.rule.ridge

    def _scaled_inputs(self, inputs: np.ndarray) -> Float64[Tensor, "m d"]:
        """Return inputs as the kernel sees them."""
        return torch.from_numpy(np.array(inputs if self.scaler_ is None else self.scaler_.transform(inputs)))

    def _outputs(self, X: Any) -> np.ndarray:
        """Return what the model says at inputs, in the units of the coded targets before centring."""
        check_is_fitted(self)
        inputs = validate_data(self, X, reset=False, dtype=np.float64)
        predictions = self.fitted_.predict(self._scaled_inputs(inputs))
        return self._encoding.in_target_units(predictions).numpy()

    def _left_out_outputs(self) -> np.ndarray:
        """Return what the model without it says of each training example."""
        return self._encoding.in_target_units(out_of_sample(self.fitted_)).numpy()

    @property
    def _encoding(self) -> Encoding:
        return self.fitted_.train.encoding

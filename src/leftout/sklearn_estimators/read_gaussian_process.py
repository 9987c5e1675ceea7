"""GaussianProcessRegressor as a smoother: (K + diag(α))⁻¹, with the hyperparameters that were fitted.

With `normalize_y` targets are divided by their standard deviation, on which predictions do not depend, and
centred at their mean, which is another one without an example.
"""

import numpy as np
import torch
from jaxtyping import Float64
from sklearn.gaussian_process import GaussianProcessRegressor
from torch import Tensor

from leftout.core.errors import OptionError
from leftout.core.fingerprint import fingerprint
from leftout.sklearn_estimators.estimator_parts import (
    EstimatorParts,
    TrainingData,
    check_double,
    number_columns,
)
from leftout.solvers.gram_smoother import GramSmoother


def gaussian_process_parts(estimator: GaussianProcessRegressor, data: TrainingData) -> EstimatorParts:
    """Return a fitted GaussianProcessRegressor as a smoother of its mean.

    Raises:
        OptionError: sample weights, which it does not take.
        NotPositiveError: a kernel matrix plus alpha that is not positive definite to rounding.

    Cost:
        n³.
    """
    if data.weights is not None:
        raise OptionError(
            "GaussianProcessRegressor takes no sample_weight: leave it out, or give `alpha` by example."
        )
    check_double("GaussianProcessRegressor", estimator.alpha_)
    data.check_gram_fits()
    train, kernel = data.inputs.numpy(), estimator.kernel_

    def compare(inputs: Float64[Tensor, "m d"]) -> Float64[Tensor, "m n"]:
        return torch.from_numpy(np.asarray(kernel(inputs.numpy(), train), dtype=np.float64))

    # Called with one argument: a WhiteKernel adds its noise to the diagonal of training examples only.
    gram = torch.from_numpy(np.asarray(kernel(train), dtype=np.float64))
    columns, targets = number_columns(data.targets)
    noise = np.broadcast_to(np.asarray(estimator.alpha, dtype=np.float64), (len(train),))
    return EstimatorParts(
        smoothers=[GramSmoother(gram, scale=data.scale, noise=torch.from_numpy(noise.copy()))],
        smoother_of=[0] * targets.shape[1],
        targets=targets,
        columns=columns,
        compare=compare,
        reference=estimator.predict,
        shifts=bool(estimator.normalize_y),
        centred=bool(estimator.normalize_y),
        has_weights=False,
        settings={
            "alpha": float(estimator.alpha)
            if np.ndim(estimator.alpha) == 0
            else f"by example: {fingerprint(noise)}",
            "kernel": str(kernel),
            "normalize_y": bool(estimator.normalize_y),
        },
    )

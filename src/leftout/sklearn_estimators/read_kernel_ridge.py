"""KernelRidge as smoothers: (S K S + α I)⁻¹, one for each different α."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import pairwise_kernels
from torch import Tensor

from leftout.core.errors import ShapeError
from leftout.kernels.symmetry import check_symmetric
from leftout.sklearn_estimators.estimator_parts import (
    EstimatorParts,
    TrainingData,
    check_double,
    distinct_ridges,
    number_columns,
)
from leftout.solvers.gram_smoother import GramSmoother


def kernel_ridge_parts(estimator: KernelRidge, data: TrainingData) -> EstimatorParts:
    """Return a fitted KernelRidge as smoothers.

    Raises:
        NotPositiveError: a kernel matrix plus alpha that is not positive definite to rounding; where
            scikit-learn falls back to least squares.
        ShapeError: a precomputed kernel that is not square.

    Cost:
        n³ for each different alpha.
    """
    check_double("KernelRidge", estimator.dual_coef_)
    data.check_gram_fits()
    precomputed = estimator.kernel == "precomputed"
    if precomputed and data.inputs.shape[0] != data.inputs.shape[1]:
        raise ShapeError(
            "`X` must be the kernel between all training examples where the kernel is precomputed; got shape "
            f"{tuple(data.inputs.shape)}."
        )
    train = data.inputs.numpy()

    def compare(inputs: Float64[Tensor, "m d"]) -> Float64[Tensor, "m n"]:
        if precomputed:
            return inputs
        return torch.from_numpy(np.asarray(kernel_values(estimator, inputs.numpy(), train), dtype=np.float64))

    gram = compare(data.inputs)
    check_symmetric("the kernel matrix of X", gram)
    columns, targets = number_columns(data.targets)
    ridges, smoother_of = distinct_ridges(estimator.alpha, targets.shape[1])
    return EstimatorParts(
        smoothers=[
            GramSmoother(gram, scale=data.scale, noise=torch.full_like(data.scale, ridge)) for ridge in ridges
        ],
        smoother_of=smoother_of,
        targets=targets,
        columns=columns,
        compare=compare,
        reference=estimator.predict,
        settings={
            "alpha": np.asarray(estimator.alpha).tolist(),
            "kernel": getattr(estimator.kernel, "__name__", estimator.kernel),
        },
    )


def kernel_values(estimator: KernelRidge, queries: np.ndarray, inputs: np.ndarray) -> Any:
    """Return the kernel of an estimator between queries and inputs."""
    if callable(estimator.kernel):
        options = estimator.kernel_params or {}
    else:
        options = {"gamma": estimator.gamma, "degree": estimator.degree, "coef0": estimator.coef0}
    return pairwise_kernels(queries, inputs, metric=estimator.kernel, filter_params=True, **options)

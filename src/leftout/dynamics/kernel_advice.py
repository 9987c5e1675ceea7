"""What to call where something else stands in place of a kernel: what people type first."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from torch import nn
from torch.utils.data import DataLoader, Dataset

from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted

CALLS = {
    "relu": "ReLU(2)",
    "two-layer-relu": "TwoLayerReLU()",
    "erf": "Erf(2)",
    "tanh": "Tanh(2)",
    "conv-relu": "ConvReLU(2)",
}
"""How a kernel is made that the command line calls so."""

A_KERNEL = "a kernel, such as lo.kernels.ReLU(2)"


def kernel_advice(given: object) -> str:
    """Return the call to make of what stands in place of a kernel, in a sentence; "" where there is none."""
    if isinstance(given, str):
        return _of_name(given)
    if isinstance(given, nn.Module):
        return (
            "The kernel of a module is lo.kernels.Empirical(module), and that of its architecture, "
            "infinitely wide, lo.kernels.of(module)."
        )
    if is_estimator(given):
        return "An estimator of scikit-learn is asked by lo.from_sklearn(estimator, X, y), once it is fitted."
    if isinstance(given, Fitted):
        return "This is a model already: ask it, as lo.leave_one_out(fitted, query)."
    if isinstance(given, Examples | Dataset | DataLoader):
        return "It stands before the data: lo.fit(lo.kernels.ReLU(2), train)."
    if is_data(given):
        return (
            "It stands before the data, which are one pair: lo.fit(lo.kernels.ReLU(2), (X, y)). The kernel "
            "of a matrix is lo.kernels.Precomputed(gram)."
        )
    if callable(given) and not isinstance(given, type):
        return "The kernel of a function of two sets of inputs is lo.kernels.From(function)."
    return ""


def is_estimator(given: object) -> bool:
    """Return whether an object is an estimator of scikit-learn, which is not imported for that."""
    return not isinstance(given, type) and all(
        hasattr(given, name) for name in ("fit", "predict", "get_params")
    )


def is_data(given: Any) -> bool:
    """Return whether an object is arrays, a frame, or a list or dictionary of such."""
    return getattr(given, "ndim", 0) >= 1 or isinstance(given, tuple | list | Mapping)


def _of_name(name: str) -> str:
    """Return how the kernel of a name is made, or one that may have been meant."""
    word = name.strip().lower().replace("_", "-")
    if word in CALLS:
        return f"The kernel of this name is lo.kernels.{CALLS[word]}."
    near = get_close_matches(word, CALLS, n=1)
    return f"Did you mean lo.kernels.{CALLS[near[0]]}?" if near else ""

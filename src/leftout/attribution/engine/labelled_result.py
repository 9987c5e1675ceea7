"""What is written on every result: axes, sign, units, and what it was made from."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from leftout.core.checks import check_choice
from leftout.core.version import __version__
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.fitted_estimator import FittedEstimator
from leftout.dynamics.losses import SQUARED
from leftout.dynamics.nystrom import check_agreement
from leftout.dynamics.rules import Rule
from leftout.dynamics.train import Trained
from leftout.kernels.base import Kernel

Of = Literal["loss", "prediction"]

SIGN: dict[str, str] = {
    "loss": "loss without the example minus loss with it: positive = the example helped",
    "prediction": "prediction with the example minus prediction without it",
}
SINGLE_EFFECTS = {"leave_one_out", "leave_out", "relabel", "reweight", "add", "first_order", "information"}
"""Answers about single examples, or a few: of an approximate kernel they are compared with exact ones."""

EDIT_SIGN: dict[str, str] = {
    "loss": "loss with the example as edited minus loss as it is: positive = it is better as it is",
    "prediction": "prediction with the example as it is minus prediction with it as edited",
}


def units_of(rule: Rule, of: Of) -> str:
    """Return the units of influence on a loss or a prediction."""
    return rule.example_loss.units if of == "loss" else rule.example_loss.prediction_units


def check_of(of: Of) -> None:
    """Raise unless `of` names something that changes."""
    check_choice("of", of, tuple(SIGN))


@dataclass(frozen=True, eq=False)
class DescribedModel:
    """A model whose matrix is elsewhere: what results say about the model they are of.

    Attributes:
        record: as `Fitted.record`.
    """

    kernel: Kernel
    train: Examples
    rule: Rule
    record: dict[str, Any]


def attributes(
    fitted: Fitted | DescribedModel, query: Examples, *, of: Of, method: str, sign: str, **more: Any
) -> dict[str, Any]:
    """Return the attributes of a result; values are numbers or text, so that any format keeps them."""
    common = _of_any(fitted, query, of=of, method=method, sign=sign) | {
        "kernel": json.dumps(fitted.kernel.record),
        "kernel_dtype": fitted.record["kernel_dtype"],
        "fitted_fingerprint": fitted.record["weights"],
    }
    if not isinstance(fitted, Fitted) or method not in SINGLE_EFFECTS:
        return common | more
    return common | more | check_agreement(fitted)


def network_attributes(
    trained: Trained, query: Examples, *, of: Of, method: str, sign: str, **more: Any
) -> dict[str, Any]:
    """Return the attributes of a result about a finite network, in the words of `attributes`."""
    common = _of_any(trained, query, of=of, method=method, sign=sign) | {
        "network": json.dumps(trained.record),
        "converged": int(trained.converged),
        "training": str(trained.status),
        "relative_gradient": float(trained.relative_gradient),
    }
    return common | more


def estimator_attributes(
    fitted: FittedEstimator, query: Examples, *, of: Of, method: str, sign: str
) -> dict[str, Any]:
    """Return the attributes of a result about another library's estimator, in the words of `attributes`."""
    units = SQUARED.units if of == "loss" else SQUARED.prediction_units
    fingerprints = fitted.train.fingerprint, query.fingerprint
    return _common(fingerprints, of=of, method=method, sign=sign, units=units) | {
        "loss": "sum",
        "estimator": json.dumps(fitted.settings | {"estimator": fitted.name}),
        "condition": fitted.condition,
        "fitted_fingerprint": fitted.record["weights"],
    }


def _of_any(
    model: Fitted | DescribedModel | Trained, query: Examples, *, of: Of, method: str, sign: str
) -> dict[str, Any]:
    """Return what every result about a rule of training says of itself, whatever was asked."""
    fingerprints = model.train.fingerprint, query.fingerprint
    common = _common(fingerprints, of=of, method=method, sign=sign, units=units_of(model.rule, of))
    return common | {"rule": json.dumps(model.rule.record), "loss": model.rule.loss}


def _common(fingerprints: tuple[str, str], *, of: Of, method: str, sign: str, units: str) -> dict[str, Any]:
    """Return what every result says of itself; fingerprints are those of training examples and queries."""
    return {
        "method": method,
        "of": of,
        "sign": sign,
        "units": units,
        "orientation": "rows are queries, columns training examples",
        "dtype": "float64",
        "leftout_version": __version__,
        "train_fingerprint": fingerprints[0],
        "query_fingerprint": fingerprints[1],
    }


def labelled_array(
    values: np.ndarray,
    *,
    times: Sequence[float],
    scalar: bool,
    coordinates: dict[str, Sequence[Any]],
    attrs: dict[str, Any],
    name: str,
) -> xr.DataArray:
    """Return values (at, …) under their axes; the axis `at` goes when one time was asked for.

    Args:
        coordinates: name and labels of every axis after `at`, in order.
    """
    dims = ("at", *coordinates)
    labels: dict[str, Any] = {axis: np.asarray(list(entries)) for axis, entries in coordinates.items()}
    array = xr.DataArray(
        values, dims=dims, coords={"at": np.asarray(times, dtype=float), **labels}, attrs=attrs, name=name
    )
    if not scalar:
        return array
    end = "end of training" if times[0] == math.inf else float(times[0])
    return array.isel(at=0, drop=True).assign_attrs(at=end)

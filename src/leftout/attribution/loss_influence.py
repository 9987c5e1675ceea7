"""Influence on the loss from influence on predictions, without a second pass over the training examples.

With error e = f − y and c the prediction with an example minus the prediction without it,

    ½ Σ (e − c)² − ½ Σ e² = Σ (½ c² − e c)        over outputs,

and under cross-entropy ce(f − c) − ce(f).
"""

import math

import numpy as np
import torch
import xarray as xr

from leftout.attribution.engine.labelled_result import SIGN, units_of
from leftout.attribution.engine.query_blocks import queries_like
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.losses import SquaredLoss


def loss_influence(fitted: Fitted, query: Examples, changes: xr.DataArray) -> xr.DataArray:
    """Return influence on the loss (at, query, train).

    Args:
        fitted: the model with all examples.
        query: the queries of `changes`.
        changes: from `leave_one_out` at a sequence of times, of="prediction": (at, query, train, output).

    Cost:
        two products over `changes`, and the predictions of the model with all examples.
    """
    loss = fitted.rule.example_loss
    predictions = torch.stack(
        [
            fitted.predict(query, None if math.isinf(time) else time).cpu()
            for time in changes["at"].values.tolist()
        ]
    )  # (at, query, output)
    effect = changes.values
    if isinstance(loss, SquaredLoss):
        errors = (predictions - query.targets).numpy()
        influence = np.einsum("tqik,tqik->tqi", effect, effect) / 2 - np.einsum(
            "tqik,tqk->tqi", effect, errors
        )
    else:
        targets = queries_like(fitted.train, query).targets
        without = torch.from_numpy(-effect)
        influence = loss.change(predictions[:, :, None], without, targets[:, None]).numpy()
    array = changes.isel(output=0, drop=True).copy(data=influence)
    return array.assign_attrs(of="loss", sign=SIGN["loss"], units=units_of(fitted.rule, "loss"))

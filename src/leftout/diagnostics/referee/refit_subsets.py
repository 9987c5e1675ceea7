"""What would each query's loss be, had the kernel model been fitted to a subset? Exactly, by one solve a
subset.

    f_S(x) = f_0(x) + K(x, S) (K_SS + λI)⁻¹ (Y_S − f_0(S))

For |S| = n / 2 that is n³/24 flops a subset; K and K(queries, X) are computed once.
"""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.attribution.engine.labelled_result import attributes
from leftout.attribution.engine.query_blocks import QueryBlock, queries_of, query_blocks
from leftout.attribution.engine.refit import refit
from leftout.core.blocks import check_fits
from leftout.core.progress import with_progress
from leftout.data.pairs import Data
from leftout.diagnostics.retraining.query_losses import query_losses
from leftout.diagnostics.retraining.retrain_subsets import loss_dataset
from leftout.diagnostics.retraining.subsets import Subsets, subset_membership, tensor_rows
from leftout.dynamics.fitted import Fitted, check_fitted
from leftout.dynamics.rules import At


def refit_subsets(fitted: Fitted, query: Data, subsets: Subsets, *, at: At = None) -> xr.Dataset:
    """Return the loss of each query after fitting the model to each subset only, exactly.

    Args:
        fitted: the model; its kernel and rule are used. A kernel that depends on labels is fitted to them
            again.
        query: Examples, or a pair (inputs, targets) like the training data.
        subsets: rows kept, one row of row numbers or of truth values for each model, such as `random_subsets`
            gives; a mapping names them.
        at: training time; None for the end.

    Returns:
        A Dataset as of `retrain_subsets`, without seeds: `loss` (subset, query) and `kept` (subset, train).

    Raises:
        OptionError: a subset that is empty, or rows out of range or repeated.
        NotPositiveError: the kernel matrix of a subset is singular without a ridge.
        MemoryBudgetError: the kernel between queries and training examples does not fit.

    Cost:
        (n/2)³/3 flops for each half at the end of training, 9 (n/2)³ at a finite time; K(queries, X) once.

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=40, n_query=10)
        >>> fitted = lo.fit(lo.kernels.ReLU(1), train, rule=lo.Ridge(0.1))
        >>> truth = lo.refit_subsets(fitted, query, lo.random_subsets(40, count=5))
        >>> dict(truth.loss.sizes)
        {'subset': 5, 'query': 10}
    """
    check_fitted(fitted)
    examples = queries_of(fitted, query)
    names, kept = subset_membership(subsets, len(fitted))
    time = fitted.rule.time(at)
    check_fits(
        f"The kernel between {len(examples)} queries and {len(fitted)} training examples",
        8 * fitted.rows.matrices * len(examples) * fitted.outputs_per_example * len(fitted.gram),
        fitted.memory,
        advice="Take fewer queries, or raise `memory`.",
    )
    queries = list(query_blocks(fitted, examples))
    losses = np.empty((len(names), len(examples)))
    for row, members in zip(losses, with_progress(kept, what="refits on subsets"), strict=True):
        outputs = subset_outputs(fitted, queries, tensor_rows(members), time)
        row[:] = query_losses(outputs.cpu(), examples, "squared")
    about = attributes(fitted, examples, of="loss", method="refit_subsets", sign="")
    more = {name: about[name] for name in ("kernel", "kernel_dtype", "rule", "fitted_fingerprint")}
    return loss_dataset(
        losses,
        names=names,
        kept=kept,
        train=fitted.train,
        query=examples,
        loss="squared",
        method="refit_subsets",
        **more,
    )


def subset_outputs(
    fitted: Fitted, queries: Sequence[QueryBlock], keep: Int64[Tensor, " s"], time: float
) -> Float64[Tensor, "m k"]:
    """Return what the model fitted to some of the examples predicts at all queries."""
    model = refit(fitted, [time], keep)
    return torch.cat([model.predictions(block)[0] for block in queries])

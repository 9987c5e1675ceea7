"""What would each query's loss be, had the kernel model been fitted to a subset? Exactly, by a fit of each.

    f_S(x) = f_0(x) + K(x, S) (K_SS + λI)⁻¹ (Y_S − f_0(S))        (Ridge; by Newton's method under Logistic)

For |S| = n / 2 that is n³/24 flops a subset; K and K(queries, X) are computed once.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from leftout.attribution.engine.cross_entropy_minimum import TOGETHER, subset_duals
from leftout.attribution.engine.labelled_result import attributes
from leftout.attribution.engine.query_blocks import QueryBlock, queries_of, query_blocks
from leftout.attribution.engine.refit import refit
from leftout.core.blocks import blocks, check_fits
from leftout.core.progress import with_progress
from leftout.data.pairs import Data
from leftout.diagnostics.retraining.retrain_subsets import loss_dataset
from leftout.diagnostics.retraining.subsets import Subsets, subset_membership, tensor_rows
from leftout.dynamics.fitted import Fitted, check_fitted
from leftout.dynamics.losses import SquaredLoss
from leftout.dynamics.rules import At, Logistic
from leftout.solvers.logistic import ARRAYS


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
    loss = fitted.rule.example_loss
    predictions = (
        cross_entropy_outputs(fitted, queries, kept)
        if isinstance(fitted.rule, Logistic) and not fitted.depends_on_labels
        else (subset_outputs(fitted, queries, tensor_rows(members), time) for members in kept)
    )
    progress = with_progress(range(len(kept)), what="refits on subsets")
    for row, outputs, _ in zip(losses, predictions, progress, strict=True):
        row[:] = loss.of(outputs.cpu(), examples.targets)
    about = attributes(fitted, examples, of="loss", method="refit_subsets", sign="")
    more = {name: about[name] for name in ("kernel", "kernel_dtype", "rule", "fitted_fingerprint")}
    return loss_dataset(
        losses,
        names=names,
        kept=kept,
        train=fitted.train,
        query=examples,
        loss="squared" if isinstance(loss, SquaredLoss) else "cross-entropy",
        method="refit_subsets",
        **more,
    )


def subset_outputs(
    fitted: Fitted, queries: Sequence[QueryBlock], keep: Int64[Tensor, " s"], time: float
) -> Float64[Tensor, "m k"]:
    """Return what the model fitted to some of the examples predicts at all queries."""
    model = refit(fitted, [time], keep)
    return torch.cat([model.predictions(block)[0] for block in queries])


def cross_entropy_outputs(
    fitted: Fitted, queries: Sequence[QueryBlock], kept: Bool[np.ndarray, "s n"]
) -> Iterator[Float64[Tensor, "m k"]]:
    """Yield what the models fitted to the subsets under Logistic predict at all queries, many at a time."""
    size = max(1, fitted.memory // (3 * ARRAYS * 8 * fitted.targets.numel()))
    for rows in blocks(len(kept), min(size, TOGETHER)):
        duals = subset_duals(fitted, torch.from_numpy(kept[rows]).to(fitted.device))
        for dual in duals:
            yield torch.cat([block.initial + fitted.learned(block.cross, dual) for block in queries])

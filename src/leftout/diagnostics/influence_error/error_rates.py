"""The relative error of the classical influence function, |I − Î| / |I|, summarised in three ways.

The mean over pairs is dominated by the few with I near 0; the median and the ratio of sums, Σ |I − Î| / Σ
|I|, are not. Apart from term 2, which is small, none is below s_min / (s_min + λ) (theorem 3), and all are
near the mean leverage, tr K(K + λI)⁻¹ / n.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from torch import Tensor

from leftout.attribution.engine.labelled_result import attributes
from leftout.attribution.engine.query_blocks import queries_of
from leftout.core.blocks import check_fits
from leftout.core.checks import check_kind
from leftout.core.errors import OptionError
from leftout.data.examples import Examples
from leftout.data.pairs import Data
from leftout.diagnostics.influence_error.bounds import smallest_eigenvalue
from leftout.diagnostics.influence_error.decomposition import InfluenceDecomposition
from leftout.dynamics.fitted import Fitted, check_fitted
from leftout.dynamics.rules import Ridge

SIGN = "rates are sizes: |exact − classical influence| / |exact influence|"
UNITS = "none: shares; `zeros` and `pooled_zeros` are numbers of pairs"
ORIENTATION = "rows are ridges, columns training examples; queries are summarised"


def error_rates(fitted: Fitted, query: Data, *, ridges: Sequence[float] | None = None) -> xr.Dataset:
    """Return the error rates of the classical influence function, by ridge and training example.

    A pair whose influence is exactly 0 has no rate: `zeros` counts such pairs, and means and medians are over
    the rest. Where no pair is left, a rate is 0 if the classical influence is right (0), else inf.

    Args:
        fitted: from `fit`; the end of its training, sums of losses.
        query: Examples, or a pair (inputs, targets) like the training data.
        ridges: of the models, with kernel, data and loss of `fitted`; None for its ridge alone.

    Returns:
        A Dataset with `mean_rate`, `median_rate`, `ratio_of_sums`, `zeros` and `leverage` over
        (ridge, train), and over (ridge) the same of all pairs together, `pooled_mean_rate`,
        `pooled_median_rate`, `pooled_ratio_of_sums`, `pooled_zeros`, with `mean_leverage` and
        `bound`, s_min / (s_min + ridge).

    Raises:
        OptionError: no ridge, one below 0, or a mean of losses under a ridge.
        NotPositiveError: ridge 0 on a singular Gram matrix.
        MemoryBudgetError: the rates of all pairs, 16mn bytes, would not fit.

    Cost:
        4n³/3 for s_min unless the spectrum is known; n³ + 4mn² and a sort of mn numbers for each ridge.

    Source:
        Rethinking influence functions, figures 2, 3, 9 and 10.

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=40, n_query=10)
        >>> fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(0.1))
        >>> lo.error_rates(fitted, query, ridges=[0.1, 1.0]).pooled_median_rate.round(3).values.tolist()
        [0.597, 0.143]
    """
    check_fitted(fitted)
    fitted.check_squared_loss()
    examples = queries_of(fitted, query)
    if ridges is not None:
        check_kind("ridges", ridges, (Sequence, np.ndarray, Tensor), what="a list of ridges")
    models = (
        [fitted] if ridges is None else [fitted.with_rule(Ridge(ridge, fitted.rule.loss)) for ridge in ridges]
    )
    if not models:
        raise OptionError("`ridges` must hold at least one ridge; got none.")
    m, n = len(examples), len(fitted)
    check_fits(
        f"The rates of all pairs ({m} × {n}, twice)",
        16 * m * n,
        fitted.memory,
        advice="Ask for fewer queries.",
    )
    least = smallest_eigenvalue(fitted)
    rates: dict[str, list[np.ndarray | float]] = {}
    for model in models:
        for name, array in _rates_at_ridge(model, examples, least).items():
            rates.setdefault(name, []).append(array)
    stacked = {name: np.stack([np.asarray(row) for row in values]) for name, values in rates.items()}
    return xr.Dataset(
        {name: (("ridge", "train")[: array.ndim], array) for name, array in stacked.items()},
        coords={
            "ridge": [model.rule.effective_ridge(n) for model in models],
            "train": list(fitted.train.ids),
        },
        attrs=attributes(
            fitted,
            examples,
            of="loss",
            method="error_rates",
            sign=SIGN,
            s_min=least,
            queries=m,
            units=UNITS,
            orientation=ORIENTATION,
        ),
    )


def _rates_at_ridge(fitted: Fitted, query: Examples, least: float) -> dict[str, np.ndarray | float]:
    """Return all rates at one ridge."""
    decomposition = InfluenceDecomposition(fitted)
    m, n = len(query), len(fitted)
    rates = np.empty((m, n))
    missed, size, zeros = np.zeros(n), np.zeros(n), np.zeros(n, dtype=np.int64)
    for block in decomposition.blocks(query, room=10):
        error, influence = block.error.cpu().numpy(), block.influence.abs().cpu().numpy()
        # A pair without a rate is inf here: it is sorted last, and not counted.
        rate = np.full_like(error, np.inf)
        with np.errstate(over="ignore"):
            rates[block.rows] = np.divide(error, influence, out=rate, where=influence > 0)
        missed += error.sum(0)
        size += influence.sum(0)
        zeros += (influence == 0).sum(0)
    means, medians = _summaries(rates, m - zeros, missed)
    # The columns are sorted by now; for the statistics of all pairs their order does not matter.
    nothing = zeros.sum(keepdims=True)
    pooled = _summaries(rates.reshape(-1, 1), m * n - nothing, missed.sum(keepdims=True))
    leverage = decomposition.leverage.cpu().numpy()
    return {
        "mean_rate": means,
        "median_rate": medians,
        "ratio_of_sums": _ratios(missed, size),
        "zeros": zeros,
        "leverage": leverage,
        "pooled_mean_rate": float(pooled[0][0]),
        "pooled_median_rate": float(pooled[1][0]),
        "pooled_ratio_of_sums": float(_ratios(missed.sum(keepdims=True), size.sum(keepdims=True))[0]),
        "pooled_zeros": int(nothing[0]),
        "mean_leverage": float(leverage.mean()),
        "bound": least / (least + decomposition.ridge),
    }


def _summaries(rates: np.ndarray, counts: np.ndarray, missed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and median of the first `counts` of every column, which is sorted in place."""
    rates.sort(axis=0)
    columns = np.arange(rates.shape[1])
    none = np.where(missed > 0, np.inf, 0.0)
    there = np.arange(len(rates))[:, None] < counts
    mean = np.where(there, rates, 0.0).sum(0) / np.maximum(counts, 1)
    low, high = rates[np.maximum(counts - 1, 0) // 2, columns], rates[counts // 2, columns]
    return np.where(counts > 0, mean, none), np.where(counts > 0, (low + high) / 2, none)


def _ratios(missed: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return Σ |I − Î| / Σ |I|; where the influence is 0 throughout, 0 if the error is 0, else inf."""
    ratios = np.where(missed > 0, np.inf, 0.0)
    np.divide(missed, size, out=ratios, where=size > 0)
    return ratios

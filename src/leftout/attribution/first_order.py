"""What does the classical influence function say, in the limit of infinite width?

    first_order(x, i) = −d/dω ½ Σ (f(x) − y)²  at ω = 1        positive = i helped, to first order

with ω the weight of example i in the training loss: what `reweight` measures, for a small step. With
G = (K + λI)⁻¹, α(x) = K(x, X) G and the training residuals R = Y − f(X) = λ G (Y − f_0), outputs summed
(where the kernel tells outputs apart, α_i(x) is a matrix of them),

    loss="sum"     s_i = α_i(x) R_i · (y − f(x))
    loss="mean"    s_i − (1/n) Σ_j s_j,  nλ for λ in all of it

Under "mean" the data term is divided by the sum of the weights, so that more of one example is less
of all others and weighing all alike changes nothing: the values of a query add up to zero.

It is the derivative of a minimiser, so there is none before the end of training. The exact influence
under "sum" is s_i / (1 − A_i) + ½ α_i² R_i² / (1 − A_i)², A_i the leverage of i.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import xarray as xr
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.between_networks import asked_of_networks
from leftout.attribution.engine.cross_entropy_minimum import CrossEntropyMinimum
from leftout.attribution.engine.labelled_result import SIGN, attributes, labelled_array
from leftout.attribution.engine.query_blocks import COLUMNS, QueryBlock, queries_of, query_blocks
from leftout.core.blocks import blocks, check_fits
from leftout.core.checks import check_choice
from leftout.core.errors import OptionError
from leftout.core.progress import spinner
from leftout.core.structured_matrix import to_numbers
from leftout.data.examples import Examples
from leftout.data.pairs import Data
from leftout.dynamics.fitted import Fitted, check_fitted
from leftout.dynamics.rules import At, Logistic

INTERPOLATED = "identically 0: with ridge 0 the training residuals are 0, and so are all derivatives"


@asked_of_networks
def first_order(fitted: Fitted, query: Data, at: At = None, *, mean: bool = False) -> xr.DataArray:
    """Return the classical influence of every training example on every query, in the NTK limit.

    Args:
        fitted: from `fit`.
        query: Examples, or a pair (inputs, targets) like the training data.
        at: None or inf, the end of training: nothing else is a minimiser.
        mean: keep only the mean over queries.

    Returns:
        A DataArray (query, train), with `mean` (train). With ridge 0 it is 0, and `note` says why.

    Raises:
        OptionError: a finite training time.
        MemoryBudgetError: the result would not fit; with `mean` it is a row.
        DivergenceError: a rate at or above the critical one.
        NotPositiveError: ridge 0 on a singular Gram matrix.

    Cost:
        n³/3 for the factor, then 2mn² for m queries; with `mean` 2n²k in all, and the kernel.

    Accuracy:
        10·cond(K + λI)·eps of the largest value; under Logistic 1e-6 of it, where conjugate gradients
        stop. As a stand-in for `leave_one_out` it is off by about the leverage: too small by 1 − A_i where
        the second order does not matter.

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=40, n_query=10)
        >>> lo.first_order(lo.fit(lo.kernels.ReLU(1), train, rule=lo.Ridge(0.1)), query).dims
        ('query', 'train')

    Source:
        Rethinking influence functions, proposition 1 and eq. 13; "mean" is ours.
    """
    check_fitted(fitted)
    if fitted.rule.time(at) != math.inf:
        raise OptionError(
            "`at` must be None, the end of training: the classical influence function is the "
            f"derivative of a minimiser, which training has not reached before; got {at!r}. "
            "`leave_one_out` is exact at any time."
        )
    check_choice("mean", mean, (True, False))
    examples = queries_of(fitted, query)
    n, rows = len(fitted), 1 if mean else len(examples)
    check_fits(
        f"The result ({rows} × {n})",
        8 * rows * n,
        fitted.memory,
        advice="Keep only the mean over queries, `mean=True`, or ask for fewer queries.",
    )
    if isinstance(fitted.rule, Logistic):
        values = _of_cross_entropy(fitted, examples, mean=mean)
        return _labelled(fitted, examples, values, mean=mean)
    fitted.check_trainable([math.inf], total=n)
    dual = fitted.dual(math.inf)
    scores_of = _mean if mean else _by_query
    scores = scores_of(fitted, examples, dual) if fitted.rule.ridge else dual.new_zeros(rows, n)
    if fitted.rule.loss == "mean":
        scores -= scores.mean(1, keepdim=True)
    return _labelled(fitted, examples, scores, mean=mean)


def _labelled(fitted: Fitted, query: Examples, scores: Tensor, *, mean: bool) -> xr.DataArray:
    """Return scores, (1, n) with `mean` and else (m, n), under their axes."""
    axes: dict[str, Sequence[str]] = {} if mean else {"query": query.ids}
    axes["train"] = fitted.train.ids
    values = scores.cpu().numpy()
    return labelled_array(
        values if mean else values[None],
        times=[math.inf],
        scalar=True,
        coordinates=axes,
        attrs=_attributes(fitted, query, mean=mean),
        name="influence",
    )


def _of_cross_entropy(fitted: Fitted, query: Examples, *, mean: bool) -> Float64[Tensor, "rows n"]:
    """Return the slope of each query's loss times the derivative of its logits by leaving examples out."""
    fitted.check_kernel_fixed()
    n, loss = len(fitted), fitted.rule.example_loss
    engine = CrossEntropyMinimum(fitted, total=n, newton_steps=0)
    scores = fitted.targets.new_zeros(len(query), n)
    for block in query_blocks(fitted, query):
        slope = loss.slope(engine.predictions(block), block.targets)
        for columns in blocks(n, COLUMNS):
            for output in range(fitted.outputs):
                change = engine.singles(block, columns, output)
                scores[block.rows, columns] += slope[:, output, None] * change
    if fitted.rule.loss == "mean":
        scores -= scores.mean(1, keepdim=True)
    return scores.mean(0, keepdim=True) if mean else scores


def _by_query(fitted: Fitted, query: Examples, dual: Float64[Tensor, "rows c"]) -> Float64[Tensor, "m n"]:
    """Return s, a block of queries at a time."""
    ridge = fitted.rule.effective_ridge(len(fitted))
    factor = fitted.factor(ridge)
    residual = ridge * dual  # R: no digit is lost to the difference of Y and f(X)
    scores = dual.new_empty(len(query), len(fitted))
    with spinner("classical influence"):
        for block in query_blocks(fitted, query):
            wrong = _residual(fitted, block, dual)
            if fitted.outputs_per_example == 1:
                share = factor.solve(block.cross.T).T  # α, (m, n)
                torch.mul(share, wrong @ residual.T, out=scores[block.rows])
            else:  # (y − f)ᵀ α first: one row a query, not one an output
                cross = torch.unflatten(to_numbers(block.cross), 0, (-1, fitted.outputs_per_example))
                pulled = torch.einsum("mb,mbr->rm", wrong, cross)
                scores[block.rows] = _by_example(fitted, factor.solve(pulled) * residual).T
    return scores


def _by_example(fitted: Fitted, rows: Float64[Tensor, "rows x"]) -> Float64[Tensor, "n x"]:
    """Return numbers by row of the kernel added up over the rows of an example."""
    return torch.unflatten(rows, 0, (-1, fitted.outputs_per_example)).sum(1)


def _mean(fitted: Fitted, query: Examples, dual: Float64[Tensor, "rows c"]) -> Float64[Tensor, "1 n"]:
    """Return the mean of s over queries, summed before G is applied: k solves instead of m."""
    ridge = fitted.rule.effective_ridge(len(fitted))
    together = torch.zeros_like(dual)
    with spinner("classical influence"):
        for block in query_blocks(fitted, query):
            wrong = fitted.by_row(_residual(fitted, block, dual))
            together += block.cross.T @ wrong  # (rows, c)
    scores = fitted.factor(ridge).solve(together / len(query)) * ridge * dual
    return _by_example(fitted, scores).sum(1)[None]


def _residual(fitted: Fitted, block: QueryBlock, dual: Float64[Tensor, "rows c"]) -> Float64[Tensor, "m k"]:
    """Return y − f at a block of queries."""
    return block.targets - block.initial - fitted.learned(block.cross, dual)


def _attributes(fitted: Fitted, query: Examples, *, mean: bool) -> dict[str, Any]:
    """Return the attributes of the result, with what its reader must know."""
    more = {"mean_over": "query"} if mean else {}
    if fitted.rule.ridge == 0:
        more["note"] = INTERPOLATED
    return attributes(fitted, query, of="loss", method="first_order", sign=SIGN["loss"], **more)

"""What would be predicted without each training example: exactly, for all of them at once.

    influence(x, i) = ½ Σ (f_without_i(x) − y)² − ½ Σ (f(x) − y)²        positive = i helped

(cross-entropy under `Logistic`) at every training time, from one factorisation: the cost of a matrix
product, not of n trainings.
"""

import math
from collections.abc import Sequence
from typing import Literal, overload

import torch
import xarray as xr
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.between_networks import asked_of_networks
from leftout.attribution.engine.at_times import engines
from leftout.attribution.engine.cross_entropy_minimum import check_newton_steps
from leftout.attribution.engine.effect_array import influence_array
from leftout.attribution.engine.labelled_result import SIGN, Of, attributes, check_of
from leftout.attribution.engine.query_blocks import is_scalar, queries_of
from leftout.attribution.engine.ranked import by_rank, check_top, streamed_extremes
from leftout.attribution.engine.single_changes import (
    blocks_at_times,
    loss_change_columns,
    loss_changes,
    prediction_change_columns,
    prediction_changes,
    streamed_queries,
    streamed_width,
)
from leftout.attribution.estimator_questions import (
    asked_of_estimators,
    estimator_leave_one_out,
    estimator_out_of_sample,
)
from leftout.attribution.initialisation_spread import with_spread
from leftout.core.blocks import check_fits
from leftout.core.checks import check_choice
from leftout.core.errors import OptionError
from leftout.core.work import WorkCount, thin_product
from leftout.data.pairs import Data
from leftout.dynamics.fitted import Fitted, check_fitted, dual_work
from leftout.dynamics.rules import At, Logistic
from leftout.kernels.base import Kernel
from leftout.solvers.resolvent import left_out_diagonal_work


@overload
def leave_one_out(
    fitted: Fitted,
    query: Data,
    *,
    at: At | Sequence[At] = None,
    of: Of = "loss",
    top: None = None,
    mean: bool = False,
    spread: Literal[False] = False,
    prior: None = None,
    newton_steps: int | None = 1,
) -> xr.DataArray: ...


@overload
def leave_one_out(
    fitted: Fitted,
    query: Data,
    *,
    at: At | Sequence[At] = None,
    of: Of = "loss",
    top: int,
    mean: bool = False,
    spread: Literal[False] = False,
    prior: None = None,
    newton_steps: int | None = 1,
) -> xr.Dataset: ...


@overload
def leave_one_out(
    fitted: Fitted,
    query: Data,
    *,
    at: At | Sequence[At] = None,
    of: Of = "loss",
    top: None = None,
    mean: bool = False,
    spread: Literal[True],
    prior: Kernel | None = None,
    newton_steps: int | None = 1,
) -> xr.Dataset: ...


@asked_of_estimators(estimator_leave_one_out)
@asked_of_networks
def leave_one_out(
    fitted: Fitted,
    query: Data,
    *,
    at: At | Sequence[At] = None,
    of: Of = "loss",
    top: int | None = None,
    mean: bool = False,
    spread: bool = False,
    prior: Kernel | None = None,
    newton_steps: int | None = 1,
) -> xr.DataArray | xr.Dataset:
    """Return the exact effect of every training example on every query.

    Args:
        fitted: from `fit`.
        query: Examples, or a pair (inputs, targets) like the training data.
        at: training time or a sequence of them (which adds a leading axis `at`); None and inf are
            the end of training. 100 times cost little more than their matrix products.
        of: "loss" for influence, loss without the example minus loss with it; "prediction" for
            prediction with it minus without, with a last axis `output`.
        top: keep only so many most helpful and most harmful examples of each query.
        mean: keep only the mean over queries.
        spread: say how much of each number the initial weights decide: influence has a distribution
            over the initialisations of an infinitely wide network.
        prior: the Gaussian process that the networks are before training; that of the kernel
            (`Kernel.prior`) if not said.
        newton_steps: under Logistic, Newton steps from the model to that without an example; None is all
            until convergence. Under squared loss one is exact, and more change nothing.

    Returns:
        A DataArray (query, train); with `mean` (train); with `top` a Dataset with `helpful` and
        `harmful` (query, rank), influences, and `helpful_train`, `harmful_train`, row numbers. With
        `spread` a Dataset of `influence`, as without, of a network that starts from f_0 = 0, and of
        `mean` and `spread`, mean and standard deviation over initialisations.

    Raises:
        MemoryBudgetError: the result would not fit; `top` and `mean` never hold (query, train).
        DivergenceError: a rate at or above the critical one.
        NotPositiveError: ridge 0 at the end of training on a singular Gram matrix.
        OptionError: `spread` of a kernel of one network, or one whose prior is neither known nor said.

    Cost:
        end of training: n³ for factor and inverse, 2mn² for all queries. Finite times: 9n³ once,
        then 2mn² k + 160n²k a time. `spread` adds n² evaluations of the prior and 2n³ + 4mn² at the
        end; 2ρn³ a window of times and 4ρmn² a time before it, ρ = 20 to 45 (`spread`). Under Logistic a
        Newton step is 10 to 20 products (n × n)(n × nk), and n²k numbers are kept.

    Accuracy:
        exact up to rounding: relative to the largest change 1e−12, or 10·cond·eps where that is more,
        cond = (s_max + λ) / max(s_min + λ, 1/ηt). Descent just below its critical rate loses
        10·eps·min(t, 1 / (2 − η(s_max + λ))) if that is more. `certify` gives the numbers, with a
        proved bound on the quadrature's part. Under Logistic one Newton step is an approximation, whose error
        `certify` measures on examples that are really left out; until convergence it is exact.

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=40, n_query=10)
        >>> fitted = lo.fit(lo.kernels.ReLU(1), train, rule=lo.Ridge(0.1))
        >>> lo.leave_one_out(fitted, query).dims  # positive: the example helped
        ('query', 'train')

    Source:
        Rethinking influence functions, eqs. 7 to 9; at finite times the resolvent identity of
        `solvers.resolvent`.
    """
    check_of(of)
    check_newton_steps(newton_steps)
    check_choice("mean", mean, (True, False))
    check_choice("spread", spread, (True, False))
    if spread and (mean or top is not None):
        raise OptionError("`spread` is of single influences: leave `mean` and `top` out.")
    if prior is not None and not spread:
        raise OptionError("`prior` is what a spread comes from: give it with `spread=True`.")
    examples = queries_of(fitted, query)
    check_top(top, len(fitted), mean=mean, of=of)
    if spread:
        return with_spread(fitted, examples, at=at, of=of, prior=prior)
    n, m, k = len(fitted), len(examples), fitted.outputs
    times = fitted.times(at)
    outputs = k if of == "prediction" else 1
    rows = 1 if mean else m
    if top is None:
        check_fits(
            f"The result ({len(times)} × {rows} × {n} × {outputs})",
            8 * len(times) * rows * n * outputs,
            fitted.memory,
            advice="Keep less of it: `top=` or `mean=True`; or ask for fewer queries or times.",
        )
    at_times = engines(fitted, times, newton_steps=newton_steps)
    attrs = attributes(fitted, examples, of=of, method="leave_one_out", sign=SIGN[of])
    if isinstance(fitted.rule, Logistic) and not fitted.depends_on_labels:
        attrs["newton_steps"] = "to convergence" if newton_steps is None else newton_steps
    shape = (len(times), m, 4, top) if top else (len(times), rows, n, *[k] * (of == "prediction"))
    scores = torch.zeros(shape, dtype=torch.float64, device=fitted.device)
    size = streamed_queries(fitted) if mean or top else None
    for block, place, engine in blocks_at_times(examples, at_times, size=size):
        if mean or top:
            columns_of = loss_change_columns if of == "loss" else prediction_change_columns
            streamed = columns_of(engine, block, width=streamed_width(fitted, len(block.targets)))
        if mean:
            for columns, change in streamed:
                scores[place, 0, columns] += change.sum(0) / m
        elif top:
            scores[place, block.rows] = streamed_extremes(streamed, top)
        elif of == "loss":
            loss_changes(engine, block, into=scores[place, block.rows])
        else:
            prediction_changes(engine, block, into=scores[place, block.rows])
    values = scores.cpu().numpy()
    if top:
        return by_rank(values, times, is_scalar(at), examples.ids, attrs)
    scalar = is_scalar(at)
    return influence_array(
        fitted, examples, values, times=times, scalar=scalar, of=of, mean=mean, attrs=attrs
    )


@asked_of_estimators(estimator_out_of_sample)
@asked_of_networks
def out_of_sample(
    fitted: Fitted, at: At | Sequence[At] = None, *, newton_steps: int | None = 1
) -> Float64[Tensor, "... n k"]:
    """Return the prediction of every training example by the model that never saw it.

    At the trained weights of a network it is the network with the example taken out of its last fit, and not
    the prediction of one that never saw it: the weights remember it.

    Args:
        at: training time; a sequence adds a leading axis.
        newton_steps: as for `leave_one_out`, under Logistic.

    Cost:
        n³ at the end of training; 160n²k a time else, after the spectrum. No n × n result. It is made once
        for a model and the times asked for.

    Example:
        >>> import leftout as lo
        >>> train, _ = lo.load("digits", n_train=40, n_query=10)
        >>> lo.out_of_sample(lo.fit(lo.kernels.ReLU(1), train)).shape
        torch.Size([40, 10])
    """
    check_fitted(fitted)
    check_newton_steps(newton_steps)
    times = fitted.times(at)
    at_times = engines(fitted, times, newton_steps=newton_steps)
    predictions = [engine.out_of_sample() for engine in at_times]
    return predictions[0].clone() if is_scalar(at) else torch.stack(predictions)


def out_of_sample_work(n: int, k: int, time: float) -> WorkCount:
    """Return the work of `out_of_sample` at one time, the model's resolvents at hand."""
    work = dual_work(n, time) + thin_product(n)
    return work + k * left_out_diagonal_work(n) if 0 < time < math.inf else work

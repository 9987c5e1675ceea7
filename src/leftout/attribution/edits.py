"""What if a label were another, an example weighed more, or one more were there?

Each is a rank-one edit of the same resolvents as leaving out, exact at any training time. Edits given
together are separate: each is made alone, to the full data.

Sign, as everywhere: `relabel` and `reweight` compare the example as it is ("with") with the example
as edited ("without"), so weight 0 is leaving out. `add` compares with the new example and without.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, SupportsIndex

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.between_networks import asked_of_networks
from leftout.attribution.engine.at_times import edits
from leftout.attribution.engine.edit_engines import edit_engines
from leftout.attribution.engine.edits import dual_effects
from leftout.attribution.engine.effect_array import effect_array
from leftout.attribution.engine.labelled_result import EDIT_SIGN, SIGN, Of, check_of
from leftout.attribution.engine.query_blocks import is_scalar, queries_of
from leftout.attribution.estimator_questions import (
    asked_of_estimators,
    estimator_add,
    estimator_relabel,
    estimator_reweight,
)
from leftout.core.checks import as_list, check_at_least, check_index, row_numbers, shown
from leftout.core.errors import DivergenceError, OptionError, ShapeError
from leftout.data.pairs import Data
from leftout.data.probabilities import check_probabilities
from leftout.dynamics.fitted import Fitted, check_fitted
from leftout.dynamics.rules import At
from leftout.solvers.krylov import largest_eigenvalue

Rows = SupportsIndex | Sequence[SupportsIndex]
"""One row number or several: integers, or an array or tensor of them."""


@asked_of_estimators(estimator_relabel)
@asked_of_networks
def relabel(
    fitted: Fitted, query: Data, index: Rows, target: Any, *, at: At | Sequence[At] = None, of: Of = "loss"
) -> xr.DataArray:
    """Return the effect of giving training examples other targets, each alone.

    Args:
        index: row number of a training example, or several.
        target: the new class (name or number) or value of each, in the units of the given targets;
            one for all, or one each.

    Returns:
        A DataArray (query, edit): positive = the loss is lower with the target as it is.

    Raises:
        OptionError: a row number out of range, or a class that training does not have.

    Cost:
        n² an edit and time, after the factorisation; a kernel that depends on labels is fitted to them
        again, and the model in n³/3 (9n³ at finite times).

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=40, n_query=10)
        >>> fitted = lo.fit(lo.kernels.ReLU(1), train, rule=lo.Ridge(0.1))
        >>> lo.relabel(fitted, query, 3, "7").dims
        ('query', 'edit')
    """
    check_fitted(fitted)
    check_of(of)
    rows = _rows(fitted, index)
    examples = queries_of(fitted, query)
    targets = _targets(fitted, target, len(rows))
    times = fitted.times(at)
    values = edits(fitted, times).with_targets(examples, rows, targets, of)
    return effect_array(
        fitted,
        examples,
        values if of == "loss" else -values,
        times=times,
        scalar=is_scalar(at),
        of=of,
        axis="edit",
        names=[fitted.train.ids[i] for i in rows.tolist()],
        method="relabel",
        sign=EDIT_SIGN[of],
    )


@asked_of_estimators(estimator_reweight)
@asked_of_networks
def reweight(
    fitted: Fitted, query: Data, index: Rows, weight: float, *, at: At | Sequence[At] = None, of: Of = "loss"
) -> xr.DataArray:
    """Return the effect of training examples weighing `weight` in the loss, each alone.

    Args:
        index: row number of a training example, or several.
        weight: ω ≥ 0; 0 leaves the example out, 1 changes nothing, 2 counts it twice. Under
            `loss="mean"` the loss is divided by the sum of the weights.

    Returns:
        A DataArray (query, edit): positive = the loss is lower with the example as it is.

    Cost:
        n² an edit and time, after the factorisation.

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=40, n_query=10)
        >>> fitted = lo.fit(lo.kernels.ReLU(1), train, rule=lo.Ridge(0.1))
        >>> lo.reweight(fitted, query, [0, 1], 2.0).dims
        ('query', 'edit')
    """
    check_fitted(fitted)
    check_of(of)
    check_at_least("weight", weight, 0)
    rows = _rows(fitted, index)
    examples = queries_of(fitted, query)
    times = fitted.times(at)
    total = len(fitted) - 1 + weight
    # K^½ D K^½ = K + (ω − 1) K^½ e eᵀ K^½: the top eigenvalue rises by at most (ω − 1) K_ii.
    traces = torch.unflatten(fitted.gram.diagonal(), 0, (len(fitted), -1)).sum(1)[rows]
    bound = max(0.0, weight - 1) * float(traces.max())
    tops = (_top_reweighted(fitted, row, weight) for row in rows.tolist())
    engines = edit_engines(fitted, times, total=total, beyond=_rise(fitted, total, bound, tops))
    duals = torch.stack([engine.reweight_duals(rows, weight) for engine in engines])
    values = dual_effects(fitted, examples, duals, times, of)
    return effect_array(
        fitted,
        examples,
        values if of == "loss" else -values,
        times=times,
        scalar=is_scalar(at),
        of=of,
        axis="edit",
        names=[fitted.train.ids[i] for i in rows.tolist()],
        method="reweight",
        sign=EDIT_SIGN[of],
    )


@asked_of_estimators(estimator_add)
@asked_of_networks
def add(
    fitted: Fitted, query: Data, inputs: Any, targets: Any, *, at: At | Sequence[At] = None, of: Of = "loss"
) -> xr.DataArray:
    """Return the effect of training on one more example, for several candidates each alone.

    Args:
        inputs: (a, d…) prepared like the training inputs, or one example (d…).
        targets: class or value of each, in the units of the given targets.

    Returns:
        A DataArray (query, edit): positive = adding the example lowers the loss. It is what
        `leave_one_out` says of the example in a model fitted with it.

    Raises:
        NotPositiveError: at ridge 0 an input that training has already.

    Cost:
        n²a after the factorisation, and the kernel to the new examples.

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=40, n_query=10)
        >>> fitted = lo.fit(lo.kernels.ReLU(1), train, rule=lo.Ridge(0.1))
        >>> lo.add(fitted, query, query.inputs[:2], ["3", "7"]).dims
        ('query', 'edit')
    """
    check_fitted(fitted)
    check_of(of)
    examples = queries_of(fitted, query)
    try:
        points = torch.as_tensor(inputs, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError, NotImplementedError, OverflowError):
        raise OptionError(f"`inputs` must be an array of numbers; got {shown(inputs)}.") from None
    if points.shape == fitted.train.inputs.shape[1:]:
        points = points[None]
        targets = [targets] if not hasattr(targets, "__len__") else targets
    if points.shape[1:] != fitted.train.inputs.shape[1:] or not len(points):
        raise ShapeError(
            f"`inputs` must have shape {('a', *fitted.train.inputs.shape[1:])} like the training "
            f"inputs; got {tuple(points.shape)}."
        )
    fitted.kernel.check("inputs", points)
    values = _targets(fitted, targets, len(points))
    times = fitted.times(at)
    to_itself = torch.stack([fitted.rows.between(point[None], point[None]) for point in points])
    to_train = fitted.cross(points).T
    # The top eigenvalue of a block matrix is at most the sum of its diagonal blocks'.
    bound = float(to_itself.diagonal(dim1=1, dim2=2).sum(1).max())
    borders = torch.unflatten(to_train.T, 0, (len(points), -1)).mT  # (a, rows, b)
    tops = (_top_bordered(fitted, k, corner) for k, corner in zip(borders, to_itself, strict=True))
    total = len(fitted) + 1
    engines = edit_engines(fitted, times, total=total, beyond=_rise(fitted, total, bound, tops))
    start = fitted.start_at(points, to_train.T)
    duals, new = zip(
        *(engine.add_duals(to_train, to_itself, values, start) for engine in engines), strict=True
    )
    change = dual_effects(fitted, examples, torch.stack(duals), times, of, new=(points, torch.stack(new)))
    return effect_array(
        fitted,
        examples,
        -change if of == "loss" else change,
        times=times,
        scalar=is_scalar(at),
        of=of,
        axis="edit",
        names=range(len(points)),
        method="add",
        sign=SIGN[of],
    )


def _rise(fitted: Fitted, total: float, bound: float, tops: Iterator[float]) -> float:
    """Return how far edits can raise the spectrum: by a bound, or exactly where that would diverge."""
    if bound == 0:
        return 0.0
    try:
        fitted.rule.check_converges(fitted.largest + bound, total)
    except DivergenceError:
        return max(0.0, max(tops) - fitted.largest)
    return bound


def _top_reweighted(fitted: Fitted, row: int, weight: float) -> float:
    """Return the top eigenvalue of D^½ K D^½, D the identity but for one weight."""
    root = torch.ones(len(fitted.gram), dtype=torch.float64, device=fitted.device)
    root[fitted.rows.of_examples(slice(row, row + 1))] = math.sqrt(weight)
    return largest_eigenvalue(
        lambda x: root * (fitted.gram @ (root * x)),
        len(fitted.gram),
        generator=torch.Generator().manual_seed(0),
        device=fitted.device,
    )


def _top_bordered(
    fitted: Fitted, to_train: Float64[Tensor, "rows b"], to_itself: Float64[Tensor, "b b"]
) -> float:
    """Return the top eigenvalue of K with the rows and columns of one more example."""
    rows = len(fitted.gram)

    def apply(x: Tensor) -> Tensor:
        old, new = x[:rows], x[rows:]
        return torch.cat([fitted.gram @ old + to_train @ new, to_train.T @ old + to_itself @ new])

    return largest_eigenvalue(
        apply, rows + len(to_itself), generator=torch.Generator().manual_seed(0), device=fitted.device
    )


def _rows(fitted: Fitted, index: Rows) -> Tensor:
    rows = row_numbers("index", index)
    if not rows:
        raise OptionError("`index` must name at least one training example; got none.")
    for row in rows:
        check_index("index", row, len(fitted))
    return torch.tensor(rows, dtype=torch.long, device=fitted.device)


def _targets(fitted: Fitted, target: Any, count: int) -> Float64[Tensor, "b k"]:
    """Return new targets, encoded like those of training: one for all, or one each."""
    encoding = fitted.train.encoding
    if encoding.classes is not None:
        names = np.atleast_1d(np.asarray(as_list("target", target))).tolist()
        numbers = [_class_number(name, encoding.classes) for name in names]
        values = encoding.encode(torch.tensor(numbers, dtype=torch.long, device="cpu"))
    else:
        try:
            values = torch.as_tensor(as_list("target", target), dtype=torch.float64, device="cpu")
            values = values.reshape(-1, encoding.outputs)
        except (TypeError, ValueError, RuntimeError):
            raise OptionError(
                f"`target` must hold {encoding.outputs} numbers an example, as in training; "
                f"got {shown(target)}."
            ) from None
        values = values - torch.tensor(encoding.offset, dtype=torch.float64, device="cpu")
    if len(values) not in (1, count):
        raise ShapeError(
            f"`target` must hold one entry for all or one for each of {count} examples; got {len(values)}."
        )
    if not bool(torch.isfinite(values).all()):
        raise OptionError(f"`target` must be finite; got {shown(target)}.")
    if encoding.as_probabilities:
        check_probabilities(values, [str(row) for row in range(len(values))], "target")
    return values.expand(count, -1).to(fitted.device)


def _class_number(name: Any, classes: tuple[str, ...]) -> int:
    """Return the number of a class: by its name first, so that class "7" is what 7 means."""
    if isinstance(name, str | int | float | np.generic) and str(name) in classes:
        return classes.index(str(name))
    if isinstance(name, int | np.integer) and 0 <= int(name) < len(classes):
        return int(name)
    raise OptionError(
        f"`target` must be a class of the training data, by name ({', '.join(classes[:20])}) or by "
        f"number 0 … {len(classes) - 1}; got {shown(name)}."
    )

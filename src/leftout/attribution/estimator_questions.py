"""The questions about leaving out and editing, answered of a fitted estimator of another library.

Changes of predictions are those of `solvers.smoother`. Where the estimator centres targets at their mean
(GaussianProcessRegressor with `normalize_y`), the mean is another one without an example: with u and v what
is predicted of the targets, centred at the mean of all, and of the target 1,

    f(x) = ȳ + u(x),      f_without_i(x) − f(x) = Δu(x) + δ_i (1 − v(x) − Δv(x)),      δ_i = ȳ_without_i − ȳ
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import torch
import xarray as xr
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.attribution.engine.effect_array import effect_array, influence_array
from leftout.attribution.engine.labelled_result import EDIT_SIGN, SIGN, Of, check_of, estimator_attributes
from leftout.attribution.engine.query_blocks import is_scalar
from leftout.attribution.engine.ranked import by_rank, check_top, extremes
from leftout.attribution.groups import Groups, named_groups
from leftout.core.blocks import check_fits
from leftout.core.checks import as_list, check_at_least, check_choice, check_index, row_numbers
from leftout.core.errors import OptionError, ShapeError
from leftout.dynamics.fitted_estimator import EstimatorBlock, FittedEstimator
from leftout.dynamics.rules import At
from leftout.solvers.smoother import Smoother

Question = TypeVar("Question", bound=Callable[..., Any])


def asked_of_estimators(answer: Callable[..., Any]) -> Callable[[Question], Question]:
    """Return a question of a model that may be asked of a `FittedEstimator` as well.

    Args:
        answer: gives the answer for it; it takes all arguments of the question by name.
    """

    def with_estimators(question: Question) -> Question:
        signature = inspect.signature(question)

        @functools.wraps(question)
        def ask(fitted: Any, *arguments: Any, **options: Any) -> Any:
            if not isinstance(fitted, FittedEstimator):
                return question(fitted, *arguments, **options)
            bound = signature.bind(fitted, *arguments, **options)
            bound.apply_defaults()
            return answer(**bound.arguments)

        return cast(Question, ask)

    return with_estimators


def estimator_leave_one_out(
    fitted: FittedEstimator,
    query: Any,
    *,
    at: At | Sequence[At],
    of: Of,
    top: int | None,
    mean: bool,
    spread: bool,
    prior: object,
    newton_steps: int | None,
) -> xr.DataArray | xr.Dataset:
    """Return the effect of every training example on every query, as `leave_one_out` does.

    Cost:
        mn·k flops and the comparison of queries, after 2mn² (kernels) or 2mnp (features).
    """
    check_of(of)
    check_choice("mean", mean, (True, False))
    check_choice("spread", spread, (True, False))
    if spread or prior is not None:
        raise OptionError("`spread` is over the initial weights of networks, and an estimator has none.")
    check_top(top, len(fitted), mean=mean, of=of)
    examples = fitted.queries(query)
    times = fitted.times(at)
    n, m, k = len(fitted), len(examples), fitted.outputs
    shape = (m, 4, top) if top else (1 if mean else m, n, *[k] * (of == "prediction"))
    check_fits(
        f"The result {shape}",
        8 * torch.Size(shape).numel(),
        fitted.memory,
        advice="Keep less of it: `top=` or `mean=True`; or ask for fewer queries.",
    )
    scores = torch.zeros(shape, dtype=torch.float64, device="cpu")
    for block in fitted.query_blocks(examples):
        changes = _effect_of(single_changes(fitted, block), of, block)
        if mean:
            scores[0] += changes.sum(0) / m
        elif top:
            scores[block.rows] = extremes(changes, top)
        else:
            scores[block.rows] = changes
    attrs = estimator_attributes(fitted, examples, of=of, method="leave_one_out", sign=SIGN[of])
    values = scores.expand(len(times), *shape).numpy()
    if top:
        return by_rank(values, times, is_scalar(at), examples.ids, attrs)
    scalar = is_scalar(at)
    return influence_array(
        fitted, examples, values, times=times, scalar=scalar, of=of, mean=mean, attrs=attrs
    )


def estimator_out_of_sample(
    fitted: FittedEstimator, at: At | Sequence[At], *, newton_steps: int | None
) -> Float64[Tensor, "... n k"]:
    """Return the prediction of every training example without itself, in the units of the estimator."""
    times = fitted.times(at)
    outputs = []
    for output, smoother in _outputs(fitted):
        scale, targets = smoother.scale, fitted.targets[:, output]
        diagonal = smoother.checked_diagonal()
        # y − f_without, of examples that weigh nothing: y − f.
        weighs = scale > 0
        missing = fitted.duals[:, output] / diagonal / scale.where(weighs, 1)
        if fitted.centred:
            missing = missing - _mean_shifts(fitted)[:, output] * (fitted.constant_duals[:, 0] / diagonal)
        outputs.append(targets - missing)
        if not bool(weighs.all()):
            rows = (~weighs).nonzero().flatten()
            weightless = fitted.comparison(fitted.train.inputs[rows])
            outputs[-1][rows] = fitted.predictions(weightless)[:, output]
    predictions = torch.stack(outputs, dim=1) + fitted.offset
    return predictions if is_scalar(at) else predictions.expand(len(times), -1, -1).clone()


def estimator_leave_out(
    fitted: FittedEstimator, query: Any, groups: Groups, *, at: At | Sequence[At], of: Of
) -> xr.DataArray:
    """Return the effect of removing each group, as `leave_out` does.

    Cost:
        10g³ for a group of g examples.
    """
    check_of(of)
    names, rows = named_groups(groups, len(fitted))
    for name, group in zip(names, rows, strict=True):
        if len(group) == len(fitted):
            raise OptionError(
                f"`groups`: group {name!r} holds all examples; an estimator is fitted to one at least."
            )
    return _effects(
        fitted,
        query,
        lambda block: group_changes(fitted, block, rows),
        at=at,
        of=of,
        axis="group",
        names=names,
        method="leave_out",
        sign=SIGN[of],
    )


def estimator_relabel(
    fitted: FittedEstimator, query: Any, index: Any, target: Any, *, at: At | Sequence[At], of: Of
) -> xr.DataArray:
    """Return the effect of giving examples other targets, each alone, as `relabel` does."""
    check_of(of)
    rows = _rows(fitted, index)
    axes = _axes_of(target)
    # A single target, or the numbers of one example for several outputs.
    alone = axes == 0 or (axes == 1 and fitted.columns.codes is None and fitted.outputs > 1)
    targets = fitted.columns.encode("target", [as_list("target", target)] if alone else target)
    if len(targets) not in (1, len(rows)):
        raise ShapeError(
            f"`target` must hold one entry for all or one for each of {len(rows)} examples; got "
            f"{len(targets)}."
        )
    targets = targets.expand(len(rows), -1)
    by = targets - fitted.offset - fitted.targets[rows]
    weights = fitted.relabel_weights(rows, targets)
    return _effects(
        fitted,
        query,
        lambda block: relabel_changes(fitted, block, rows, by, weights),
        at=at,
        of=of,
        axis="edit",
        names=[fitted.train.ids[i] for i in rows.tolist()],
        method="relabel",
        sign=EDIT_SIGN[of],
    )


def estimator_reweight(
    fitted: FittedEstimator, query: Any, index: Any, weight: float, *, at: At | Sequence[At], of: Of
) -> xr.DataArray:
    """Return the effect of examples weighing `weight` times as much, each alone, as `reweight` does."""
    check_of(of)
    check_at_least("weight", weight, 0)
    if not fitted.has_weights:
        raise OptionError(
            f"{fitted.name} weighs no examples: ask leave_out, or fit with another `alpha` of an example."
        )
    rows = _rows(fitted, index)
    return _effects(
        fitted,
        query,
        lambda block: reweight_changes(fitted, block, rows, float(weight)),
        at=at,
        of=of,
        axis="edit",
        names=[fitted.train.ids[i] for i in rows.tolist()],
        method="reweight",
        sign=EDIT_SIGN[of],
    )


def estimator_add(fitted: FittedEstimator, **arguments: Any) -> xr.DataArray:
    """Raise: the estimator says itself what one more example makes of it."""
    raise OptionError(
        f"`add` is of kernels that leftout fits. Fit {fitted.name} with the new example in it, and ask "
        "leave_one_out about that."
    )


def single_changes(fitted: FittedEstimator, block: EstimatorBlock) -> Iterator[Float64[Tensor, "m n"]]:
    """Yield, for each output, the prediction without each example minus the prediction."""
    shares: dict[int, Tensor] = {}
    for output, smoother in _outputs(fitted):
        number = fitted.smoother_of[output]
        if number not in shares:
            shares = {number: smoother.shares(block.compared)}
        diagonal = smoother.checked_diagonal()
        change = shares[number] * -(fitted.duals[:, output] / diagonal)
        if fitted.centred:
            constant = shares[number] * (fitted.constant_duals[:, 0] / diagonal)  # −Δv
            change += _mean_shifts(fitted)[:, output] * (fitted.below_constant(block.compared) + constant)
        yield change


def group_changes(
    fitted: FittedEstimator, block: EstimatorBlock, groups: Sequence[Int64[Tensor, " _"]]
) -> Iterator[Float64[Tensor, "m g"]]:
    """Yield, for each output, the prediction without each group minus the prediction."""
    for output, smoother in _outputs(fitted):
        shares = smoother.shares(block.compared)
        changes = []
        for group in groups:
            change = -shares[:, group] @ smoother.solve_block(group, fitted.duals[:, [output]])
            if fitted.centred:
                constant = shares[:, group] @ smoother.solve_block(group, fitted.constant_duals)
                shift = -fitted.targets[group, output].sum() / (len(fitted) - len(group))
                change = change + shift * (fitted.below_constant(block.compared) + constant)
            changes.append(change)
        yield torch.cat(changes, dim=1)


def relabel_changes(
    fitted: FittedEstimator,
    block: EstimatorBlock,
    rows: Int64[Tensor, " e"],
    by: Float64[Tensor, "e k"],
    weights: Float64[Tensor, " e"],
) -> Iterator[Float64[Tensor, "m e"]]:
    """Yield, for each output, how the prediction changes when targets move, each alone.

    Args:
        by: how far each target moves.
        weights: what each example weighs then, times its weight now: that of another class.
    """
    for output, smoother in _outputs(fitted):
        scaled = smoother.scale[rows] * by[:, output]
        duals = fitted.duals[rows, output] + smoother.diagonal[rows] * scaled
        change = smoother.shares(block.compared)[:, rows] * (scaled - _ratio(smoother, rows, duals, weights))
        if fitted.centred:
            change = change + by[:, output] / len(fitted) * fitted.below_constant(block.compared)
        yield change


def reweight_changes(
    fitted: FittedEstimator, block: EstimatorBlock, rows: Int64[Tensor, " e"], weight: float
) -> Iterator[Float64[Tensor, "m e"]]:
    """Yield, for each output, how the prediction changes when each example weighs so many times as much."""
    weights = torch.full((len(rows),), weight, dtype=torch.float64, device="cpu")
    for output, smoother in _outputs(fitted):
        ratio = _ratio(smoother, rows, fitted.duals[rows, output], weights)
        yield smoother.shares(block.compared)[:, rows] * -ratio


def _ratio(
    smoother: Smoother,
    rows: Int64[Tensor, " e"],
    duals: Float64[Tensor, " e"],
    weights: Float64[Tensor, " e"],
) -> Float64[Tensor, " e"]:
    """Return e α (1 − ω) / (ω + (1 − ω) e P_ii), or α / P_ii where ω = 0, of examples of weights ω."""
    lighter = (1 - weights) * smoother.noise[rows]
    below = weights + lighter * smoother.diagonal[rows]
    if not bool((weights == 0).any()):
        return lighter * duals / below
    # Without noise data are interpolated whatever they weigh, until they weigh nothing.
    without = duals / smoother.checked_diagonal()[rows]
    return torch.where(weights == 0, without, lighter * duals / below.where(weights > 0, 1))


def _outputs(fitted: FittedEstimator) -> Iterator[tuple[int, Smoother]]:
    """Yield each output and its smoother."""
    for output, number in enumerate(fitted.smoother_of):
        yield output, fitted.smoothers[number]


def _mean_shifts(fitted: FittedEstimator) -> Float64[Tensor, "n k"]:
    """Return how the mean of the targets, now 0, changes without each example."""
    return -fitted.targets / (len(fitted) - 1)


def _effect_of(
    changes: Iterator[Float64[Tensor, "m e"]], of: Of, block: EstimatorBlock
) -> Float64[Tensor, "m e ..."]:
    """Return effects of changes of predictions: on the loss, edited minus as it is; on predictions, minus."""
    if of == "prediction":
        return -torch.stack(list(changes), dim=2)
    error, total = block.predictions - block.targets, None
    for output, change in enumerate(changes):
        # With error e = f − y and change c, ½ (e + c)² − ½ e² = c (e + c/2).
        effect = change * (error[:, [output]] + change / 2)
        total = effect if total is None else total + effect
    assert total is not None
    return total


def _effects(
    fitted: FittedEstimator,
    query: Any,
    changes: Callable[[EstimatorBlock], Iterator[Float64[Tensor, "m e"]]],
    *,
    at: At | Sequence[At],
    of: Of,
    axis: str,
    names: Sequence[Any],
    method: str,
    sign: str,
) -> xr.DataArray:
    """Return the effects of edits at the queries, under their axes."""
    examples = fitted.queries(query)
    times = fitted.times(at)
    effects = torch.cat([_effect_of(changes(block), of, block) for block in fitted.query_blocks(examples)])
    return effect_array(
        fitted,
        examples,
        effects.expand(len(times), *effects.shape),
        times=times,
        scalar=is_scalar(at),
        of=of,
        axis=axis,
        names=names,
        method=method,
        sign=sign,
    )


def _axes_of(target: Any) -> int:
    """Return the number of axes of an array, or how deep a list is; a text has none."""
    if not isinstance(target, list | tuple | range):
        return int(getattr(target, "ndim", 0))
    return 1 + (_axes_of(target[0]) if len(target) else 0)


def _rows(fitted: FittedEstimator, index: Any) -> Int64[Tensor, " e"]:
    rows = row_numbers("index", index)
    if not rows:
        raise OptionError("`index` must name at least one training example; got none.")
    for row in rows:
        check_index("index", row, len(fitted))
    return torch.tensor(rows, dtype=torch.long, device="cpu")

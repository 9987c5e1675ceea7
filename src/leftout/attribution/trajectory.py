"""Predictions of every training example over training time, with it and without it.

    fitted     f_t(x_i) = f_0(x_i) + [K g_t(K) (Y − f_0)]_i
    left_out   the same without example i, exactly: with the resolvents R(z) of `solvers.resolvent`,
               f_t without i (x_i) − f_t(x_i) = −Re Σ_q w_q(t) [R(z_q) (Y − f_0)]_i [K R(z_q)]_ii / R(z_q)_ii

What stands behind the weights depends on the nodes alone, and the nodes serve all times within a factor
of 10: a curve of thirty times costs hardly more than its decades.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Complex128, Float64
from torch import Tensor

from leftout.attribution.engine.end_of_training import EndOfTraining
from leftout.attribution.engine.labelled_result import attributes, labelled_array
from leftout.attribution.engine.query_blocks import is_scalar
from leftout.core.blocks import check_fits
from leftout.core.errors import OptionError
from leftout.core.progress import with_progress
from leftout.core.work import WorkCount, passes, product
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted, check_fitted, dual_work
from leftout.dynamics.rules import At, GradientDescent, Rule
from leftout.solvers.quadrature import NODES
from leftout.solvers.resolvent import Resolvents, left_out_ratios, resolvents_at_nodes, resolvents_work

COUNT = 30
"""Times of a curve where none are given: about five per decade."""

DECADES = 7
"""Of training time on a curve, where its work is counted: 5 to 8 on pictures, as the spectrum spreads."""

MOVED, SETTLED = 0.1, 5.0
"""τσ at which a mode has learned a tenth of its share, and all but e⁻⁵ < 1 % of it."""

SAFE = 0.045
"""Share of −1/s_min, s_min < 0 by rounding, up to which `check_trainable` lets time go (it says 0.05), less
what the rounding of a time to two digits can add."""

SIGN = "predictions, not effects: `fitted` by the model of all examples, `left_out` without that very one"


def trajectory(fitted: Fitted, at: At | Sequence[At] = None) -> xr.Dataset:
    """Return what is predicted for every training example over time, with it and without it.

    Args:
        fitted: from `fit`, under a rule with training time.
        at: a training time, or a sequence of them, where None and inf stand for the end; None alone
            is `training_times`, from where the model begins to move to where it has settled.

    Returns:
        A Dataset over (at, train, output) with the predictions `fitted` and `left_out`, in centred
        target units, and over (at, train) with `fitted_loss` and `left_out_loss`, ½ Σ (f − y)² over
        outputs; with classes also `fitted_margin` and `left_out_margin`, the score of the given
        class minus the best of the others.

    Raises:
        OptionError: a rule that has no training time, or a time that is none of the rule's.
        MemoryBudgetError: the result would not fit.
        DivergenceError, NotPositiveError: as for `leave_one_out`.

    Cost:
        9n³ for the spectrum, once; 160n²(k + 2) for each decade of time (twice that for descent
        beyond rate·s = 1), 2n²k and 160nk a time. The end of training: n³.

    Accuracy:
        that of `leave_one_out`.

    Example:
        >>> import leftout as lo
        >>> train, _ = lo.load("digits", n_train=40, n_query=10)
        >>> fitted = lo.fit(lo.kernels.ReLU(1), train, rule=lo.GradientFlow(1.0))
        >>> lo.trajectory(fitted, [1.0, 10.0])["left_out_loss"].dims
        ('at', 'train')

    Source:
        Rethinking influence functions, "Track influential samples during training", eq. 20 in the
        units of `GradientFlow`; exact at every time rather than the influence of the end.
    """
    check_fitted(fitted)
    check_timed(fitted.rule)
    times = training_times(fitted) if at is None else fitted.times(at)
    n, k = len(fitted), fitted.outputs
    check_fits(
        f"A trajectory of {len(times)} × {n} × {k} predictions",
        len(times) * time_bytes(fitted.residual.numel()),
        fitted.memory,
        advice="Ask for fewer times.",
    )
    ascending = sorted(set(times))
    places = [ascending.index(time) for time in times]
    with_it, without_it = (predicted[places] for predicted in _predictions(fitted, ascending))
    arrays = _arrays(fitted.train, "fitted", with_it) | _arrays(fitted.train, "left_out", without_it)
    attrs = attributes(
        fitted,
        fitted.train,
        of="prediction",
        method="trajectory",
        sign=SIGN,
        units="target units; losses ½ Σ (prediction − target)² over outputs",
        orientation="an entry for each training time and training example",
    )
    scalar = at is not None and is_scalar(at)
    named = {"train": fitted.train.ids, "output": fitted.output_names}
    by_name = {
        name: labelled_array(
            values,
            times=times,
            scalar=scalar,
            attrs=dict(attrs),
            name=name,
            coordinates=dict(list(named.items())[: values.ndim - 1]),
        )
        for name, values in arrays.items()
    }
    end = {"at": "end of training" if times[0] == math.inf else times[0]} if scalar else {}
    return xr.Dataset(by_name, attrs=attrs | end)


def time_bytes(numbers: int) -> int:
    """Return the bytes that a trajectory holds for a time of so many predictions: they, duals and changes."""
    return 4 * 8 * numbers


def trajectory_bytes(n: int, k: int, times: int) -> int:
    """Return the bytes of a trajectory of so many times, and of the resolvents of a window."""
    return times * time_bytes(n * k) + 3 * 16 * NODES * n * (k + 1)


def trajectory_work(n: int, k: int, times: int) -> WorkCount:
    """Return the work of a trajectory: resolvents for each decade, a product for each of so many times."""
    of_a_decade = resolvents_work(n, k) + product(n, n, 2 * NODES)
    of_a_time = dual_work(n, 1.0) + product(n, n, k) + passes(NODES * n * k, 2)
    return DECADES * of_a_decade + times * of_a_time


def has_training_curve(rule: Rule, last: float) -> bool:
    """Return whether training has times between its beginning and the last one asked about."""
    return rule.has_time and last > 0


def check_timed(rule: Rule) -> None:
    """Raise unless training under this rule takes time."""
    if not rule.has_time:
        raise OptionError(
            f"`fitted` must be trained under a rule with training time; got {rule!r}, which gives "
            "the end of training alone. Use GradientFlow or GradientDescent with the same ridge, "
            "whose end it is."
        )


def training_times(fitted: Fitted, count: int = COUNT) -> tuple[float, ...]:
    """Return times from where the first mode moves to where the last one has settled.

    They are evenly spaced in the logarithm, and rounded to two digits as a person would say them
    (steps of descent to whole numbers, each once). Modes below the rounding of the Gram matrix, as
    those of repeated inputs, are not waited for.

    Cost:
        the spectrum, 9n³, once.
    """
    check_timed(fitted.rule)
    n, rule, values = len(fitted), fitted.spectral_rule, fitted.spectrum.values
    fewer = n - 1 or n
    shifted = values + rule.effective_ridge(n)
    noise = n * torch.finfo(fitted.kernel_dtype).eps * fitted.spectrum.largest
    resolvable = shifted[shifted > noise]
    # K = 0 without a ridge: nothing ever moves, and any times show it.
    high, low = (float(resolvable[0]), float(resolvable[-1])) if len(resolvable) else (1.0, 1.0)
    first = MOVED / high / rule.effective_time(1.0, n)
    last = SETTLED / low / rule.effective_time(1.0, n)
    lowest = fitted.spectrum.smallest + rule.effective_ridge(fewer)
    if lowest < 0:
        last = min(last, SAFE / -lowest / rule.effective_time(1.0, fewer))
    spaced = np.geomspace(first, max(first, last), count)
    rounded = [float(f"{time:.1e}") for time in spaced]
    if isinstance(rule, GradientDescent):
        rounded = [float(max(1, round(steps))) for steps in rounded]
    return tuple(sorted(set(rounded)))


def _predictions(
    fitted: Fitted, times: Sequence[float]
) -> tuple[Float64[Tensor, "t n k"], Float64[Tensor, "t n k"]]:
    """Return the predictions at the training examples with them, and each without itself.

    Args:
        times: ascending, each once.
    """
    n = len(fitted)
    # Without its only example the network stays at f_0, whatever the filter: any total will do.
    total = n - 1 or n
    for remaining in (n, total):
        fitted.check_trainable(times, total=remaining)
    start = fitted.initial_at_train
    with_it = start + _learned_part(fitted, times, n)
    # Under loss="mean" the filter itself changes when one example goes.
    same = fitted.rule.loss == "sum" or total == n
    refiltered = with_it if same else start + _learned_part(fitted, times, total)
    return with_it, _predictions_without(fitted, times, with_it, refiltered, total)


def _learned_part(fitted: Fitted, times: Sequence[float], total: float) -> Float64[Tensor, "t n k"]:
    """Return K g(K) (Y − f_0) at every time, in one product."""
    duals = torch.stack([fitted.dual(time, total=total) for time in times], dim=1)  # (rows, t, c)
    product = fitted.gram @ duals.flatten(1)  # (rows, t·c)
    learned = product.view(duals.shape).transpose(0, 1)  # (t, rows, c)
    return learned.reshape(len(times), len(fitted), fitted.outputs)


def _predictions_without(
    fitted: Fitted,
    times: Sequence[float],
    with_it: Float64[Tensor, "t n k"],
    refiltered: Float64[Tensor, "t n k"],
    total: float,
) -> Float64[Tensor, "t n k"]:
    """Return each prediction without the example that it is for."""
    without = refiltered.clone()
    inside = [j for j, time in enumerate(times) if 0 < time < math.inf]
    finite = [times[j] for j in inside]
    groups = []
    if finite:
        high = fitted.spectrum.largest
        groups = fitted.spectral_rule.quadratures(finite, total=total, high=high)
    for group, quadrature in with_progress(groups, what="training times", total=len(groups)):
        nodes = resolvents_at_nodes(
            fitted.spectrum, fitted.residual, quadrature, outputs_per_example=fitted.outputs_per_example
        )
        terms = _terms_of_each(nodes).flatten(1)  # (q, n·k)
        weights = quadrature.weights.to(terms.device)
        change = (weights @ terms).real  # (t, n·k)
        without[[inside[j] for j in group]] -= change.view(-1, len(fitted), fitted.outputs)
    if times[-1] == math.inf:
        without[-1] = with_it[-1] + EndOfTraining(fitted, total=total).diagonal()
    return without


def _terms_of_each(nodes: Resolvents) -> Complex128[Tensor, "q n b c"]:
    """Return [K R(z)]_ii R(z)_ii⁻¹ [R(z) y]_i: what goes with example i from its own prediction.

    [K R]_ii = z R_ii − 1, which would lose its digits at early times, where |z| is far beyond K.
    """
    scaled = nodes.poles * nodes.spectrum.values  # s / (z − s), (q, r)
    ratios = torch.unflatten(left_out_ratios(nodes), 1, (-1, nodes.outputs_per_example))  # (q, n, b, c)
    diagonal = nodes.spectrum.diagonal(scaled, nodes.outputs_per_example)  # (q, n, b, b)
    return ratios * diagonal if nodes.outputs_per_example == 1 else diagonal @ ratios


def _arrays(train: Examples, name: str, predicted: Float64[Tensor, "t n k"]) -> dict[str, np.ndarray]:
    """Return predictions, losses and, with classes, margins, by name."""
    predicted = predicted.cpu()
    losses = (predicted - train.targets).square().sum(2) / 2
    arrays = {name: predicted, f"{name}_loss": losses}
    if train.labels is not None:
        arrays[f"{name}_margin"] = _margins(train, predicted)
    return {key: values.numpy() for key, values in arrays.items()}


def _margins(train: Examples, predicted: Float64[Tensor, "t n k"]) -> Float64[Tensor, "t n"]:
    """Return the score of the given class minus the best of the others."""
    assert train.labels is not None
    times, n = predicted.shape[:2]
    scores = train.encoding.class_scores(predicted.flatten(0, 1))  # (t·n, c)
    labels = train.labels.repeat(times)[:, None]
    of_label = scores.gather(1, labels)[:, 0]
    best_other = scores.scatter(1, labels, -torch.inf).amax(1)
    return (of_label - best_other).view(times, n)

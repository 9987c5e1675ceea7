"""Means and variances over many trained networks, of predictions and influences, against closed forms.

    f_t ~ Gaussian process:  mean  K(x, X) g_t(K) Y,    variance  Var [f_0(x) − K(x, X) g_t(K) f_0(X)]

(Lee et al., eqs. 14 to 16), and with it every leave-one-out influence: trained erf networks of one hidden
layer, of growing width, against `ensemble` and `leave_one_out(spread=True)`. At width m the tangent kernel
differs from network to network by O(m^(−1/2)), which adds O(1/m) to every variance.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import leftout as lo
from leftout.core import with_progress
from leftout.dynamics import WideNetwork
from leftout_papers.drawing import BLUE, FAINT, ORANGE, RED, panels
from leftout_papers.exhibit import Holds, Outcome, Row
from leftout_papers.material import Material, Size

EXAMPLES, LEFT_OUT = 10, (0, 1, 2)
QUERIES = {Size.QUICK: 12, Size.USUAL: 24, Size.PAPER: 48}
KERNEL = lo.kernels.Erf(1, 2.0, 0.1)
RIDGE = 0.5
STEPS = {Size.QUICK: (0, 3, 60), Size.USUAL: (0, 3, 10, 30, 200), Size.PAPER: (0, 3, 10, 30, 200)}
WIDTHS = {Size.QUICK: (64, 256), Size.USUAL: (64, 256, 1024), Size.PAPER: (64, 256, 1024, 4096)}
MEMBERS = {Size.QUICK: 40, Size.USUAL: 100, Size.PAPER: 400}

SURE = 3.0
"""Standard errors within which a ratio agrees: about a dozen are compared, and their tails are heavy."""

COARSE = 0.5
"""The largest half-width of the interval of a ratio, relative to it, that can agree with 1."""

Weights = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Runs:
    """Predictions of trained networks of one width at the queries, at every time.

    Attributes:
        everyone: trained on all examples.
        without: trained without each of the examples `LEFT_OUT`.
    """

    everyone: Float64[Tensor, "t s m"]
    without: Float64[Tensor, "left t s m"]


def simulate_ensembles(material: Material) -> Outcome:
    """Compare the ensembles with their closed forms."""
    size = material.size
    (inputs, targets), (points, wanted) = circle(QUERIES[size])
    steps, widths = STEPS[size], WIDTHS[size]
    largest = float(torch.linalg.eigvalsh(KERNEL.block(inputs, inputs))[-1])
    rate = 1 / (largest + RIDGE)
    fitted = lo.fit(KERNEL, (inputs, targets), rule=lo.GradientDescent(rate, RIDGE))
    runs = {
        width: train_networks(material, width, fitted, points, steps)
        for width in with_progress(widths, what="ensembles of networks", total=len(widths))
    }
    theory = lo.ensemble(fitted, points, at=list(steps), covariance=True)
    scores = {
        of: lo.leave_one_out(fitted, (points, wanted), at=list(steps), of=of, spread=True)
        for of in ("prediction", "loss")
    }
    spreads = {
        of: torch.from_numpy(labelled["spread"].values.reshape(len(steps), len(points), -1))[:, :, LEFT_OUT]
        for of, labelled in scores.items()
    }
    ratios = {width: _ratios(run, theory, spreads, wanted) for width, run in runs.items()}
    rows = _rows(widths, steps, runs[widths[-1]], theory, ratios)
    record: dict[str, Any] = {
        "steps": list(steps),
        "widths": list(widths),
        "members": MEMBERS[size],
        "rate": rate,
        "ridge": RIDGE,
        "left_out": list(LEFT_OUT),
        "mean": theory.mean[..., 0].tolist(),
        "variance": theory.variance[..., 0].tolist(),
        "ratios": {str(w): r for w, r in ratios.items()},
        "spread": {of: spread.tolist() for of, spread in spreads.items()},
    }
    figure = _figure(fitted, points, steps, runs[widths[-1]], theory, spreads, widths, ratios)
    notes = (
        f"{MEMBERS[size]} erf networks of each width, {EXAMPLES} examples on the circle, descent at "
        f"{rate:.3g} = 1 / (s_max + λ), λ = {RIDGE:g}. A ratio is of sums over queries (and the "
        f"{len(LEFT_OUT)} left-out examples), ± two standard errors from the jackknife; it differs beyond "
        f"{SURE:g}.",
        "The review prints no numbers for this; the formula is that of Lee et al., section 2.3.",
    )
    return Outcome(rows, record, figure, notes)


def circle(count: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return examples at uneven angles on the circle of radius √2, and queries all around it."""

    def at(angle: Tensor) -> tuple[Tensor, Tensor]:
        inputs = math.sqrt(2) * torch.stack([angle.cos(), angle.sin()], dim=1)
        return inputs, (angle.sin() + torch.cos(3 * angle) / 2)[:, None]

    place = torch.arange(EXAMPLES, dtype=torch.float64) / EXAMPLES
    around = torch.arange(count, dtype=torch.float64) / count
    return at(2 * math.pi * place.pow(1.3)), at(2 * math.pi * around)


def train_networks(
    material: Material, width: int, fitted: lo.Fitted, points: Float64[Tensor, "m d"], steps: tuple[int, ...]
) -> Runs:
    """Return predictions of networks from independent weights, with all examples and without some."""
    start = draw_weights(material, width, points.shape[1])
    n = len(fitted)
    keeps = [torch.ones(n, dtype=torch.float64) for _ in range(1 + len(LEFT_OUT))]
    for keep, row in zip(keeps[1:], LEFT_OUT, strict=True):
        keep[row] = 0
    predictions = [_descend(start, fitted, keep, points, steps) for keep in keeps]
    return Runs(predictions[0], torch.stack(predictions[1:]))


def draw_weights(material: Material, width: int, features: int) -> Weights:
    """Return the weights of networks, side by side."""
    networks = [
        WideNetwork(
            width,
            features,
            activation="erf",
            weight_variance=KERNEL.weight_variance,
            bias_variance=KERNEL.bias_variance,
            generator=material.independent("ensemble", width, member),
        )
        for member in range(MEMBERS[material.size])
    ]
    return {
        name: torch.stack([net.get_parameter(name).detach() for net in networks])
        for name, _ in networks[0].named_parameters()
    }


def outputs(weights: Weights, inputs: Float64[Tensor, "a d"]) -> Float64[Tensor, "s a"]:
    """Return f of every network: `WideNetwork.forward`, side by side."""
    w, b = math.sqrt(KERNEL.weight_variance), math.sqrt(KERNEL.bias_variance)
    first, second = weights["weights.0"], weights["weights.1"]  # (s, h, d), (s, 1, h)
    hidden = first @ (inputs.T * (w / math.sqrt(inputs.shape[1]))) + b * weights["biases.0"][..., None]
    readout = second @ torch.erf(hidden) * (w / math.sqrt(first.shape[1]))  # (s, 1, a)
    return readout[:, 0] + b * weights["biases.1"]


def _descend(
    start: Weights,
    fitted: lo.Fitted,
    keep: Float64[Tensor, " n"],
    points: Float64[Tensor, "m d"],
    steps: tuple[int, ...],
) -> Float64[Tensor, "t s m"]:
    """Return predictions at each time of networks trained on the examples that are kept."""
    rule = fitted.rule
    assert isinstance(rule, lo.GradientDescent)
    inputs, targets = fitted.train.inputs, fitted.train.targets[:, 0]
    weights, predictions = start, []
    for step in range(steps[-1] + 1):
        if step in steps:
            predictions.append(outputs(weights, points))
        leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
        loss = (keep * (outputs(leaves, inputs) - targets).square()).sum() / 2
        slopes = torch.autograd.grad(loss, list(leaves.values()))
        weights = {
            name: weights[name] - rule.rate * (slope + rule.ridge * (weights[name] - start[name]))
            for name, slope in zip(weights, slopes, strict=True)
        }
    return torch.stack(predictions)


def _ratios(
    runs: Runs, theory: lo.Ensemble, spreads: dict[str, Tensor], wanted: Float64[Tensor, "m 1"]
) -> dict[str, list[tuple[float, float]]]:
    """Return measured over closed form, with its standard error, at each time but of influence at 0.

    Variances and squared spreads are summed over queries and left-out examples first.
    """
    change = runs.everyone[None] - runs.without  # (left, t, s, m)
    target = wanted[:, 0]
    loss = ((runs.without - target).square() - (runs.everyone[None] - target).square()) / 2
    ratios = {
        "variance": [
            jackknife_ratio(predictions, float(theory.variance[t].sum()))
            for t, predictions in enumerate(runs.everyone)
        ]
    }
    for name, values in (("prediction", change), ("loss", loss)):
        ratios[name] = [
            jackknife_ratio(values[:, t].permute(1, 0, 2).flatten(1), float(spreads[name][t].square().sum()))
            for t in range(1, len(runs.everyone))
        ]
    return ratios


def jackknife_ratio(values: Float64[Tensor, "s a"], expected: float) -> tuple[float, float]:
    """Return the sum of variances over networks, over what is expected, and its standard error."""
    count = len(values)
    squares = (values - values.mean(0)).square()
    # Leaving member s out of a variance: the sum of squares falls by n/(n − 1) of its square.
    without = (squares.sum(0) - squares * count / (count - 1)).sum(1) / (count - 2)
    error = ((count - 1) * (without - without.mean()).square().mean()).sqrt()
    return float(squares.sum() / (count - 1)) / expected, float(error) / expected


def _rows(
    widths: tuple[int, ...],
    steps: tuple[int, ...],
    widest: Runs,
    theory: lo.Ensemble,
    ratios: dict[int, dict[str, list[tuple[float, float]]]],
) -> tuple[Row, ...]:
    top = widths[-1]
    rows = []
    for t, step in enumerate(steps):
        ratio, doubt = distance_of_means(widest.everyone[t], theory, t)
        rows.append(
            Row(
                f"mean of predictions after {step} steps, width {top}: squared distance from the closed "
                "form over what so many networks leave",
                "1, in the limit",
                f"{ratio:.2f} (deviation {doubt:.2f})",
                ratio < 1 + SURE * doubt,
            )
        )
    for t, step in enumerate(steps):
        rows.append(
            _ratio_row(f"variance of predictions after {step} steps", top, ratios[top]["variance"][t])
        )
    for name, quantity in (("prediction", "change of predictions"), ("loss", "influence on the loss")):
        for t, step in enumerate(steps[1:]):
            rows.append(
                _ratio_row(f"squared spread, {quantity}, after {step} steps", top, ratios[top][name][t])
            )
    first, last = (ratios[width]["prediction"][-1][0] for width in (widths[0], top))
    rows.append(
        Row(
            f"squared spread of changes at the end over closed form, width {widths[0]} → {top}",
            "→ 1",
            f"{first:.2f} → {last:.2f}",
        )
    )
    return tuple(rows)


def distance_of_means(values: Float64[Tensor, "s m"], theory: lo.Ensemble, t: int) -> tuple[float, float]:
    """Return |mean − closed form|² over its expectation tr C / members, and that ratio's deviation."""
    assert theory.covariance is not None
    covariance = theory.covariance[t]
    trace = float(covariance.trace())
    square = float((values.mean(0) - theory.mean[t, :, 0]).square().sum())
    return square * len(values) / trace, math.sqrt(2) * float(covariance.norm()) / trace


def _ratio_row(quantity: str, width: int, ratio: tuple[float, float]) -> Row:
    estimate, error = ratio
    return Row(
        f"{quantity}, width {width}, measured over closed form",
        "1, in the limit",
        f"{estimate:.2f} ± {2 * error:.2f}",
        is_one(estimate, error),
    )


def is_one(ratio: float, error: float) -> Holds:
    """Return whether a ratio agrees with 1, by its logarithm: the error of a variance is relative."""
    share = error / ratio
    if abs(math.log(ratio)) > SURE * share:
        return False
    return True if SURE * share < COARSE else "open"


def _figure(
    fitted: lo.Fitted,
    points: Float64[Tensor, "m d"],
    steps: tuple[int, ...],
    widest: Runs,
    theory: lo.Ensemble,
    spreads: dict[str, Tensor],
    widths: tuple[int, ...],
    ratios: dict[int, dict[str, list[tuple[float, float]]]],
) -> Figure:
    figure, grid = panels(4, width=4.0, height=3.5)
    for axes, t in zip(grid[0], (0, len(steps) - 1), strict=False):
        _draw_band(axes, fitted, points, widest.everyone[t], theory, t)
        axes.set_title(f"After {steps[t]} steps, width {widths[-1]}")
    scatter, trend = grid[0, 2:]
    ours = (widest.everyone[None] - widest.without).std(2)[:, -1].T  # (m, left)
    scatter.scatter(spreads["prediction"][-1], ours, s=12, color=BLUE)
    reach = float(spreads["prediction"][-1].max())
    scatter.plot([0, reach], [0, reach], color=FAINT, lw=1)
    scatter.set_xlabel("spread, closed form")
    scatter.set_ylabel("spread over trained networks")
    scatter.set_title("Changes without one, at the end")
    for name, colour, label in (
        ("variance", BLUE, "predictions"),
        ("prediction", ORANGE, "changes"),
        ("loss", RED, "influence"),
    ):
        last = np.array([ratios[width][name][-1] for width in widths])
        trend.errorbar(widths, last[:, 0], 2 * last[:, 1], fmt="o-", color=colour, ms=4, label=label)
    trend.axhline(1, color=FAINT, lw=1)
    trend.set_xscale("log")
    trend.set_xlabel("width")
    trend.set_title("Variance / closed form, at the end")
    trend.legend(fontsize=8)
    return figure


def _draw_band(
    axes: Axes,
    fitted: lo.Fitted,
    points: Float64[Tensor, "m d"],
    values: Float64[Tensor, "s m"],
    theory: lo.Ensemble,
    t: int,
) -> None:
    """Draw mean and two standard deviations, of the formula as a band and of networks as marks."""
    angle = torch.atan2(points[:, 1], points[:, 0]) % (2 * math.pi)
    mean, deviation = theory.mean[t, :, 0], theory.deviation[t, :, 0]
    axes.fill_between(angle, mean - 2 * deviation, mean + 2 * deviation, color=BLUE, alpha=0.2, lw=0)
    axes.plot(angle, mean, color=BLUE, label="closed form: mean ± 2 deviations")
    axes.errorbar(
        angle, values.mean(0), 2 * values.std(0), fmt="o", ms=3, lw=1, color=ORANGE, label="networks"
    )
    train = fitted.train
    train_angle = torch.atan2(train.inputs[:, 1], train.inputs[:, 0]) % (2 * math.pi)
    axes.plot(train_angle, train.targets[:, 0], "x", color=RED, label="examples")
    axes.set_xlabel("angle")
    axes.legend(fontsize=7)

"""Theorem 2.1: how fast do network and linearisation come together as the network widens?

    sup_t ‖f_t(x) − f_t^lin(x)‖,    sup_t ‖w_t − w_0‖ / √width,    sup_t ‖K_t − K_0‖_F

each O(width^(−1/2)), by steps of gradient descent at half the critical rate, and by the flow; of one and
of two hidden layers.
"""

from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float64
from matplotlib.figure import Figure
from torch import Generator, Tensor

import leftout as lo
from leftout.core import with_progress
from leftout.dynamics import WideNetwork
from leftout_papers.drawing import BLUE, FAINT, GREEN, RED, panels
from leftout_papers.exhibit import Outcome, Row
from leftout_papers.material import Material, Size
from leftout_papers.rethinking_influence.width import exponent
from leftout_papers.verdicts import at_most
from leftout_papers.wide_networks.setting import Activation

EXAMPLES, QUERIES, FEATURES = 20, 20, 10
RATE, ROOM, SLOWER = -0.5, 0.05, -0.25
"""The theorem's exponent, what the next order in 1/√width may add to a fit over finite widths, and an
exponent half as fast: to agree, an interval must exclude it."""

DEPTHS = (1, 2)
ACTIVATIONS: tuple[tuple[Activation, float], ...] = (("relu", 2.0), ("tanh", 1.0))
"""With the variance of the weights under which signals keep their size, or nearly."""

Time = Literal["descent", "flow"]
TIMES: dict[Time, int] = {"descent": 150, "flow": 60}
"""Steps: of descent at half the critical rate; of the flow, about 1/s_max each once it has begun."""

QUICK_SHARE = 10
"""How many times fewer steps a quick run takes."""

WIDTHS: dict[Size, dict[int, tuple[int, ...]]] = {
    Size.QUICK: {1: (64, 512), 2: (32, 256)},
    Size.USUAL: {1: (64, 128, 256, 512, 1024, 2048), 2: (64, 128, 256, 512, 1024)},
    Size.PAPER: {1: (64, 128, 256, 512, 1024, 2048, 4096, 8192), 2: (64, 128, 256, 512, 1024, 2048, 4096)},
}
SEEDS = {Size.QUICK: 2, Size.USUAL: 6, Size.PAPER: 12}

MEASURES = {"outputs": "eq. 2, outputs at queries", "weights": "eq. 3, weights", "kernel": "eq. 4, kernel"}
COLOURS = {"outputs": BLUE, "weights": GREEN, "kernel": RED}

Pair = tuple[Float64[Tensor, "n d"], Float64[Tensor, "n 1"]]
Case = tuple[int, tuple[Activation, float], Time]


def problem(generator: Generator) -> tuple[Pair, Pair]:
    """Return training examples and queries on the sphere of radius √d, with a smooth target."""
    inputs = torch.randn(EXAMPLES + QUERIES, FEATURES, generator=generator, dtype=torch.float64)  # (n + m, d)
    inputs *= FEATURES**0.5 / inputs.norm(dim=1, keepdim=True)
    along = torch.randn(FEATURES, 1, generator=generator, dtype=torch.float64)
    targets = torch.sin(inputs @ along)
    return (inputs[:EXAMPLES], targets[:EXAMPLES]), (inputs[EXAMPLES:], targets[EXAMPLES:])


def centre_targets(network: WideNetwork, pair: Pair) -> Pair:
    """Return the pair with f_0 added to the targets, so that f − f_0 learns the original ones."""
    inputs, targets = pair
    with torch.no_grad():
        return inputs, targets + network(inputs)


def sweep(material: Material) -> Outcome:
    """Measure the suprema of theorem 2.1 at each width."""
    train, query = problem(material.generator())
    seeds, widths = range(SEEDS[material.size]), WIDTHS[material.size]
    cases = list(product(DEPTHS, ACTIVATIONS, TIMES))
    todo = [(case, width, seed) for case in cases for width in widths[case[0]] for seed in seeds]
    steps = {time: most // (QUICK_SHARE if material.quick else 1) for time, most in TIMES.items()}
    runs_by_case: dict[Case, list[dict[str, float]]] = {}
    for case, width, seed in with_progress(todo, what="width sweep"):
        depth, (activation, variance), time = case
        network = WideNetwork(
            width,
            FEATURES,
            depth=depth,
            activation=activation,
            weight_variance=variance,
            generator=material.independent(depth, activation, width, seed),
        )
        rule = lo.GradientFlow() if time == "flow" else None
        test = lo.linearity_test(
            network,
            centre_targets(network, train),
            query,
            rule=rule,
            steps=steps[time],
            memory=material.memory,
            device=material.device,
        )
        runs_by_case.setdefault(case, []).append(_suprema(test, width))
    table = {
        case: {
            name: np.array([run[name] for run in runs]).reshape(-1, len(seeds))  # (width, seed)
            for name in (*MEASURES, "step_error")
        }
        for case, runs in runs_by_case.items()
    }
    return _outcome(table, widths, steps)


def _suprema(test: lo.LinearityTest, width: int) -> dict[str, float]:
    """Return the three suprema as the theorem has them."""
    assert not test.diverged, test.status
    return {
        "outputs": test.gap,
        "weights": test.weights * test.weights_norm / width**0.5,
        "kernel": test.kernel * test.kernel_norm,
        "step_error": test.step_error,
    }


def _outcome(
    table: dict[Case, dict[str, np.ndarray]], widths: dict[int, tuple[int, ...]], steps: dict[Time, int]
) -> Outcome:
    slopes = {
        case: {name: exponent(widths[case[0]], values[name]) for name in MEASURES}
        for case, values in table.items()
    }
    rows = tuple(
        Row(
            f"{_name(case)}: {MEASURES[name]}, exponent of the width",
            "at most −1/2 (upper bound)",
            f"{slope:.3f} (95 %: {low:.3f} to {high:.3f})",
            at_most(RATE + ROOM, low, high, beyond=SLOWER),
        )
        for case, fits in slopes.items()
        for name, (slope, low, high) in fits.items()
    )
    record: dict[str, Any] = {
        "examples": EXAMPLES,
        "queries": QUERIES,
        "features": FEATURES,
        "steps": steps,
        "cases": {
            _name(case): {
                "widths": list(widths[case[0]]),
                **{name: array.tolist() for name, array in values.items()},
                "exponents": slopes[case],
            }
            for case, values in table.items()
        },
    }
    return Outcome(rows, record, _figure(table, slopes, widths), _notes(table))


def _name(case: Case) -> str:
    depth, (activation, _), time = case
    layers = "one hidden layer" if depth == 1 else f"{depth} hidden layers"
    return f"{activation}, {layers}, {time}"


def _notes(table: dict[Case, dict[str, np.ndarray]]) -> tuple[str, ...]:
    flows = [values for case, values in table.items() if case[2] == "flow"]
    worst = max(float((flow["step_error"] / flow["outputs"]).max()) for flow in flows)
    return (
        "The supremum is over snapshots, two to each doubling of the steps, of the root mean square "
        "over queries; of descent at half of each network's critical rate.",
        "Outputs are centred, f − f_0: else ‖f_0 − y‖, which is random and a factor of all three bounds, "
        "scatters them.",
        "Weights in the tangent parametrisation, where ‖w_t − w_0‖ stays of one size and √width is the "
        "theorem's; inputs on the sphere of radius √d, which fan-in divides.",
        f"The flow is followed by Runge-Kutta steps; on the linearised network they are off by {worst:.1g} "
        "of the gap at most.",
        "Exponents below −1/2 are no contradiction: of smooth networks the leading change of the kernel "
        "is O(1/width).",
    )


def _figure(
    table: dict[Case, dict[str, np.ndarray]],
    slopes: dict[Case, dict[str, tuple[float, float, float]]],
    widths: dict[int, tuple[int, ...]],
) -> Figure:
    figure, grid = panels(len(TIMES) * len(ACTIVATIONS), len(DEPTHS), width=3.1, height=3.0)
    for axes, (case, values) in zip(grid.flat, table.items(), strict=True):
        xs = widths[case[0]]
        for name, colour in COLOURS.items():
            middle = np.exp(np.log(values[name]).mean(1))
            for seed_values in values[name].T:
                axes.loglog(xs, seed_values, ".", color=colour, ms=3, alpha=0.5)
            axes.loglog(xs, middle, color=colour, label=f"{name} {slopes[case][name][0]:.2f}")
            reference = middle[0] * (np.array(xs) / xs[0]) ** RATE
            axes.loglog(xs, reference, "--", color=FAINT, lw=0.8)
        axes.set_title(_name(case))
        axes.set_xlabel("width")
        axes.legend(fontsize=7)
    return figure

"""Does the verdict of `linearity` say when exact leave-one-out of the kernel is that of the network?

    python benchmarks/linearity.py           twenty networks from lazy to feature-learning, five minutes

Each network is trained beside its linearisation, and trained again without each of 16 examples. The
measures of the first are set beside how the exact leave-one-out influence of the kernel agrees with
that of really training again: Pearson's correlation and the slope, 1 and 1 where the kernel speaks. The
thresholds of the verdict were chosen on one pair of digits and are checked on another, of another seed.
"""

import copy
import time
from typing import get_args

import torch
from measure import record
from scipy.stats import spearmanr
from torch import nn

import leftout as lo
from leftout.core.errors import DivergenceError
from leftout.diagnostics.linearity.linearisation_gap import linearisation_gap
from leftout.diagnostics.linearity.linearity_test import Verdict, linearity_test
from leftout.dynamics.wide import WideNetwork
from leftout.kernels.network.empirical import Empirical

PROBLEMS = {"chosen on": (("4", "9"), 0), "checked on": (("3", "8"), 1)}
"""Digits told apart, and seed of the split."""

COUNTS = {"n_train": 80, "n_query": 40}
LEFT_OUT = 16
STEPS = 300
MEASURES = (
    "relative_gap",
    "relative_gap_train",
    "weights",
    "kernel",
    "kernel_learned",
    "relative_gap_linearised",
)


class Scaled(nn.Module):
    """α (f(x; w) − f(x; w_0)): lazy where α is large, learning features where it is small."""

    def __init__(self, module, alpha):
        super().__init__()
        self.module, self.alpha = module, alpha
        self.start = copy.deepcopy(module).requires_grad_(False)

    def forward(self, x):
        return self.alpha * (self.module(x) - self.start(x))


def seeded(build):
    """Return a module as PyTorch draws it, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().double()


def wide(width, alpha=None, **options):
    """Return a network in the tangent parametrisation."""
    net = WideNetwork(width, 64, generator=torch.Generator().manual_seed(0), **options)
    return net if alpha is None else Scaled(net, alpha)


def perceptron(width, depth=1):
    """Return a network with the initial weights of PyTorch."""

    def build():
        layers, size = [nn.Flatten()], 64
        for _ in range(depth):
            layers += [nn.Linear(size, width), nn.ReLU()]
            size = width
        return nn.Sequential(*layers, nn.Linear(size, 1))

    return seeded(build)


def convolutional():
    """Return two convolutions and a readout, with the initial weights of PyTorch."""
    return seeded(
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 8)),
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(144, 1),
        )
    )


def pretrained(pair, width=64):
    """Return a perceptron that learned the other eight digits, with a new readout."""
    net = perceptron(width, 2)
    body = nn.Sequential(*net[:-1])
    others = [name for name in "0123456789" if name not in pair]
    train, _ = lo.load("digits", classes=others, normalise="sphere", n_train=800, n_query=50)
    whole = seeded(lambda: nn.Sequential(body, nn.Linear(width, len(others))))
    done = lo.train(whole, train, rule=lo.GradientDescent(0.1, loss="mean"), steps=500, tolerance=None)
    head = seeded(lambda: nn.Linear(width, 1))
    return nn.Sequential(copy.deepcopy(done.module[0]), head)


NETWORKS = {
    "ReLU, width 1024": (lambda _: wide(1024), STEPS),
    "ReLU, width 512": (lambda _: wide(512), STEPS),
    "ReLU, width 256": (lambda _: wide(256), STEPS),
    "ReLU, width 128": (lambda _: wide(128), STEPS),
    "ReLU, width 64": (lambda _: wide(64), STEPS),
    "ReLU, width 16": (lambda _: wide(16), STEPS),
    "ReLU, width 64, 5 steps": (lambda _: wide(64), 5),
    "ReLU, width 64, 2000 steps": (lambda _: wide(64), 2000),
    "ReLU, three layers of 128": (lambda _: wide(128, depth=3), STEPS),
    "ReLU, three layers of 64": (lambda _: wide(64, depth=3), STEPS),
    "tanh, width 256": (lambda _: wide(256, activation="tanh", weight_variance=1.0), STEPS),
    "tanh, two layers of 64": (lambda _: wide(64, depth=2, activation="tanh", weight_variance=1.0), STEPS),
    "ReLU, width 256, α = 10": (lambda _: wide(256, 10.0), STEPS),
    "ReLU, width 256, α = 0.3": (lambda _: wide(256, 0.3), STEPS),
    "ReLU, width 256, α = 0.1": (lambda _: wide(256, 0.1), STEPS),
    "ReLU, width 256, α = 0.03": (lambda _: wide(256, 0.03), STEPS),
    "PyTorch's perceptron, width 256": (lambda _: perceptron(256), STEPS),
    "PyTorch's perceptron, two layers of 64": (lambda _: perceptron(64, 2), STEPS),
    "PyTorch's convolutions": (lambda _: convolutional(), STEPS),
    "pretrained on other digits": (pretrained, STEPS),
}


def measured(module, steps, train, query):
    """Return verdict, measures and agreement of one network."""
    began = time.perf_counter()
    found = linearity_test(module, train, query, steps=steps)
    said = {"verdict": found.verdict, "status": found.status}
    said |= {name: getattr(found, name) for name in MEASURES[:-1]}
    fitted = lo.fit(Empirical(module, weights="initial"), train, rule=found.rule)
    try:
        beside = linearisation_gap(fitted, query, at=steps, retrain_examples=LEFT_OUT, jobs=1)
        said |= {"pearson": beside.retraining.pearson, "slope": beside.retraining.slope}
    except DivergenceError:
        beside = linearisation_gap(fitted, query, at=steps)
        said |= {"pearson": None, "slope": None}
    said["relative_gap_linearised"] = beside.relative_gap
    return said | {"seconds": round(time.perf_counter() - began, 1)}


def problem(pair, seed):
    """Return every network's numbers, how the measures rank them, and what each verdict stood for."""
    train, query = lo.load("digits", classes=pair, normalise="sphere", seed=seed, **COUNTS)
    networks = {}
    for name, (build, steps) in NETWORKS.items():
        networks[name] = measured(build(pair), steps, train, query)
        print(name, networks[name], flush=True)
    told = [one for one in networks.values() if one["pearson"] is not None]
    pearson = [one["pearson"] for one in told]
    return {
        "classes": pair,
        "seed": seed,
        "examples": len(train),
        "queries": len(query),
        "left_out": LEFT_OUT,
        "networks": networks,
        "spearman_of_measure_with_pearson": {
            name: float(spearmanr([one[name] for one in told], pearson).statistic) for name in MEASURES
        },
        "verdicts": {
            verdict: ranges([one for one in told if one["verdict"] == verdict])
            for verdict in get_args(Verdict)
        },
    }


def ranges(networks):
    """Return how many there are, and from where to where their agreement goes."""
    return {"networks": len(networks)} | {
        name: [min(one[name] for one in networks), max(one[name] for one in networks)]
        for name in ("pearson", "slope")
        if networks
    }


def main():
    """Measure and keep the record."""
    torch.set_num_threads(1)
    record("linearity", {name: problem(*which) for name, which in PROBLEMS.items()})


if __name__ == "__main__":
    main()

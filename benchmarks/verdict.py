"""How well does the agreement of two answers tell whether they speak for the network trained again?

    python benchmarks/verdict.py measure OUT [NUMBER/OF]     trains and measures, network by network; resumes
    python benchmarks/verdict.py singles OUT                 the same without single examples, some networks
    python benchmarks/verdict.py record OUT                  calibration, checks, and the record

For each of some forty networks as people train them: two answers about every query, from its trained weights
(`Empirical`, `Logistic`) and from the kernel of its architecture (`lo.kernels.of`), and the truth: the
network trained again on random halves. Per query: how the two answers agree, and the linear datamodeling
score (LDS) of the answer at the trained weights, and of the consensus of both.
"""

import itertools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import data_folder, record
from scipy.stats import spearmanr
from sklearn import datasets
from torch import nn
from torch.nn.functional import cross_entropy

import leftout as lo
from leftout.data.pairs import examples_of
from leftout.diagnostics.retraining.sgd_training import train_alone

SUBSETS, SEEDS, QUERIES = 48, 2, 60
DEFAULT_SHARE = 0.01


@dataclass(frozen=True)
class Net:
    """A network of the calibration: data, architecture, training."""

    data: str
    n: int
    hidden: tuple[int, ...]
    epochs: int
    rate: float
    decay: float = 1e-3
    momentum: float = 0.9
    batch: int = 50
    wrong: float = 0.0
    """Share of the training labels that were drawn anew."""

    @property
    def name(self) -> str:
        units = "-".join(map(str, self.hidden))
        wrong = f"-wrong{self.wrong:g}" if self.wrong else ""
        return f"{self.data}-n{self.n}-{units}-e{self.epochs}-lr{self.rate:g}-b{self.batch}{wrong}"


def networks() -> list[Net]:
    """Return the networks: data sets, sizes, depths, widths, early and late, labels right and wrong."""
    made = []
    for epochs, rate in ((60, 0.02), (8, 0.02)):
        made += [Net("digits", 300, hidden, epochs, rate) for hidden in ((64,), (128, 128), (64, 64, 64))]
        made += [Net("mnist", 400, hidden, epochs, rate) for hidden in ((128,), (128, 128))]
        made += [Net("mnist3", 400, (32,), epochs, rate)]
        made += [Net("cifar3", 250, hidden, epochs // 2, rate / 2) for hidden in ((128,), (128, 128))]
        made += [
            Net("cifar3-cnn", 300, (16, 40), epochs // 2, 0.01),
            Net("mnist-cnn", 400, (8, 16), epochs, rate),
        ]
        made += [Net("cifar2-cnn", 300, (16, 40), epochs // 2, 0.01)]
        made += [Net("cancer", 250, (32,), epochs, rate), Net("wine", 100, (32, 32), epochs, rate)]
        made += [Net("moons", 200, (64, 64), epochs, rate)]
    for data, n, hidden in (("digits", 300, (128,)), ("mnist", 400, (128, 128)), ("cancer", 250, (64, 64))):
        made.append(Net(data, n, hidden, 60, 0.02, wrong=0.1))
        made.append(Net(data, n, hidden, 60, 0.02, wrong=1.0))
    made += [Net("digits", 300, (256,), 30, 0.1, momentum=0.0, decay=0.0, batch=20)]
    made += [Net("mnist3", 400, (128,), 20, 0.05, momentum=0.0, decay=1e-2, batch=100)]
    made += [Net("cifar3-cnn", 200, (32, 64), 20, 0.02, decay=5e-4), Net("cifar3", 300, (64,), 20, 0.01)]
    return made


def examples(net: Net) -> tuple[lo.Examples, lo.Examples]:
    """Return training examples and queries."""
    size = {"n_train": net.n, "n_query": QUERIES, "seed": 0}
    kind = net.data.partition("-")[0]
    folder = data_folder()
    if kind == "digits":
        train, query = lo.load("digits", normalise="sphere", **size)
    elif kind == "mnist":
        train, query = lo.load(f"mnist:{folder}/mnist", normalise="sphere", **size)
    elif kind == "mnist3":
        train, query = lo.load(f"mnist:{folder}/mnist", classes=["3", "5", "8"], normalise="sphere", **size)
    elif kind in ("cifar3", "cifar2"):
        classes = ["cat", "automobile", "ship"] if kind == "cifar3" else ["cat", "dog"]
        train, query = lo.load(f"{folder}/cifar10.zip", classes=classes, normalise="sphere", **size)
    else:
        inputs, labels = _table(kind)
        order = np.random.default_rng(0).permutation(len(labels))
        first, second = order[: net.n], order[net.n : net.n + QUERIES]
        train, query = (
            examples_of((torch.tensor(inputs[rows]), torch.tensor(labels[rows]))) for rows in (first, second)
        )
    if net.wrong:
        generator = np.random.default_rng(1)
        labels = train.labels.clone()
        rows = torch.tensor(generator.choice(net.n, size=round(net.wrong * net.n), replace=False))
        labels[rows] = torch.tensor(generator.integers(len(train.classes), size=len(rows)))
        train = examples_of((train.inputs, labels))
    return train, query


def _table(kind: str) -> tuple[Any, Any]:
    if kind == "moons":
        return datasets.make_moons(400, noise=0.25, random_state=0)
    inputs, labels = {"cancer": datasets.load_breast_cancer, "wine": datasets.load_wine}[kind](
        return_X_y=True
    )
    return (inputs - inputs.mean(0)) / inputs.std(0), labels


def build(net: Net, train: lo.Examples) -> Callable[[], nn.Module]:
    """Return a function that makes the network."""
    outputs = len(train.classes)
    shape = tuple(train.inputs.shape[1:])

    def perceptron() -> nn.Module:
        widths = (int(np.prod(shape)), *net.hidden)
        layers = [nn.Flatten()]
        for a, b in itertools.pairwise(widths):
            layers += [nn.Linear(a, b), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))

    def convolutional() -> nn.Module:
        channels = (shape[0] if len(shape) == 3 else 1, *net.hidden)
        layers: list[nn.Module] = [] if len(shape) == 3 else [nn.Unflatten(1, (1, shape[0]))]
        for a, b in itertools.pairwise(channels):
            layers += [nn.Conv2d(a, b, 3, stride=2), nn.ReLU()]
        layers.append(nn.Flatten())
        with torch.no_grad():
            features = nn.Sequential(*layers)(torch.zeros(1, *shape)).shape[1]
        return nn.Sequential(*layers, nn.Linear(features, outputs))

    return convolutional if "cnn" in net.data else perceptron


def analytic_kernel(net: Net) -> lo.kernels.Kernel:
    """Return the kernel of the architecture."""
    if "cnn" in net.data:
        return lo.kernels.ConvReLU(len(net.hidden), stride=2, padding="valid")
    return lo.kernels.ReLU(len(net.hidden))


def recipe_of(net: Net, train: lo.Examples) -> lo.SGDTraining:
    """Return how the network is trained."""
    return lo.SGDTraining(
        build=build(net, train),
        epochs=net.epochs,
        learning_rate=net.rate,
        batch_size=net.batch,
        momentum=net.momentum,
        weight_decay=net.decay,
    )


def run_ridge(net: Net, recipe: lo.SGDTraining) -> float:
    """Return the ridge that stands for its training."""
    return lo.training_ridge(
        n=net.n,
        learning_rates=net.rate,
        steps=recipe.steps(net.n),
        weight_decay=net.decay,
        momentum=net.momentum,
    )


def measure(net: Net, out: Path) -> dict[str, Any]:
    """Return per query: agreement of answers, and their LDS; trainings are kept in a folder."""
    began = time.perf_counter()
    train, query = examples(net)
    recipe = recipe_of(net, train)
    halves = lo.random_subsets(net.n, count=SUBSETS, seed=0)
    truth = lo.retrain_subsets(recipe, train, query, halves, seeds=range(SEEDS), jobs=1, out=out / net.name)
    # The loss of a query may be 0 to the last bit in every training: there is nothing to rank then.
    moves = np.flatnonzero(np.ptp(truth.loss.mean("seed").transpose("query", "subset").values, axis=1) > 0)
    truth = truth.isel(query=moves)
    module = train_alone(recipe, train, (torch.arange(net.n), 1000))
    trained_for = time.perf_counter() - began

    ridge = run_ridge(net, recipe)
    tangent = lo.kernels.Empirical(module)
    scale = float(lo.kernels.Empirical(module, "trace").diagonal(train.inputs.float()).mean())
    initial = lo.kernels.Empirical(recipe.network(0), "trace", weights="initial")
    initial_scale = float(initial.diagonal(train.inputs.float()).mean())

    scores: dict[str, Any] = {}
    ridges = {"run": ridge, "loss": lo.ridge_from_loss(tangent, train), "default": DEFAULT_SHARE * scale}
    for name, strength in ridges.items():
        fitted = lo.fit(tangent, train, rule=lo.Logistic(strength))
        scores[f"tangent-{name}"] = lo.leave_one_out(fitted, query)
        if name == "run":
            scores["first-run"] = lo.first_order(fitted, query)
    kernel = analytic_kernel(net)
    diagonal = float(kernel.diagonal(train.inputs).mean())
    for name, strength in ridges.items():
        fitted = lo.fit(kernel, train, rule=lo.Logistic(strength / scale * diagonal))
        scores[f"analytic-{name}"] = lo.leave_one_out(fitted, query)

    scores = {name: each.isel(query=moves) for name, each in scores.items()}
    arrays = {name: np.asarray(each.values, dtype=float) for name, each in scores.items()}
    result: dict[str, Any] = {"name": net.name, "net": vars(net), "queries": {}}
    for name in arrays:
        judged = lo.referee(scores[name], truth, resamples=50)
        result["queries"][f"lds {name}"] = judged.per_query.sel(measure_of_query="lds").values.tolist()
    for first, second in (
        ("tangent-run", "analytic-run"),
        ("tangent-loss", "analytic-loss"),
        ("tangent-default", "analytic-default"),
        ("first-run", "analytic-run"),
    ):
        both = lo.consensus([scores[first], scores[second]])
        judged = lo.referee(both, truth, resamples=50)
        result["queries"][f"lds {first} + {second}"] = judged.per_query.sel(
            measure_of_query="lds"
        ).values.tolist()
        a, b = arrays[first], arrays[second]
        result["queries"][f"pearson {first}, {second}"] = [
            float(np.corrcoef(x, y)[0, 1]) for x, y in zip(a, b, strict=True)
        ]
        ranks = [np.argsort(np.argsort(each, axis=1), axis=1) for each in (a, b)]
        result["queries"][f"spearman {first}, {second}"] = [
            float(np.corrcoef(x, y)[0, 1]) for x, y in zip(*ranks, strict=True)
        ]
    result["queries"]["ceiling"] = judged.per_query_ceiling.sel(measure_of_query="lds").values.tolist()
    with torch.no_grad():
        logits = module(query.inputs.float())
    result["queries"]["loss"] = cross_entropy(logits, query.labels, reduction="none")[moves].tolist()
    result["relative ridge"] = {name: strength / scale for name, strength in ridges.items()}
    result["relative ridge"]["run, at initialisation"] = ridge / initial_scale
    result["accuracy"] = float((logits.argmax(1) == query.labels).double().mean())
    result["seconds"] = {"training": trained_for, "all": time.perf_counter() - began}
    return result


AUDITS = (("tangent-run", "analytic-run"), ("tangent-loss", "analytic-loss"))
"""Answer and second opinion: at the ridge of the run, and at that which its training loss tells."""

GOOD, ENOUGH = 0.5, 0.8
"""LDS of a query from which answers are good; share of trusted queries that are to be."""

THRESHOLDS = np.arange(0.0, 0.96, 0.05).round(2)
RESAMPLES = 2000


def calibrate(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the threshold, and how often networks that it was not chosen on bore it out."""
    names = [result["name"] for result in results]
    agreement = [
        np.array([result["queries"][f"pearson {first}, {second}"] for first, second in AUDITS]).ravel()
        for result in results
    ]
    lds = [np.array([result["queries"][f"lds {first}"] for first, _ in AUDITS]).ravel() for result in results]
    known = [np.isfinite(a) & np.isfinite(b) for a, b in zip(agreement, lds, strict=True)]
    agreement = [a[rows] for a, rows in zip(agreement, known, strict=True)]
    lds = [b[rows] for b, rows in zip(lds, known, strict=True)]

    def threshold(chosen: list[int]) -> float:
        a, b = (np.concatenate([numbers[i] for i in chosen]) for numbers in (agreement, lds))
        shares = [(b[a >= edge] >= GOOD).mean() if (a >= edge).any() else 0.0 for edge in THRESHOLDS]
        enough = [edge for edge, share in zip(THRESHOLDS, shares, strict=True) if share >= ENOUGH]
        return float(enough[0]) if enough else 1.0

    everyone = list(range(len(results)))
    counts, offsets, held_out = [], [], []
    means = np.array([[a.mean(), b.mean()] for a, b in zip(agreement, lds, strict=True)])
    for i in everyone:
        others = [j for j in everyone if j != i]
        trusted = agreement[i] >= threshold(others)
        good = lds[i] >= GOOD
        counts.append([trusted.sum(), (trusted & good).sum(), (~trusted).sum(), (~trusted & good).sum()])
        slope, intercept = np.polyfit(*means[others].T, 1)
        offsets.append(means[i, 1] - intercept - slope * means[i, 0])
        held_out.append(threshold(others))
    counts = np.array(counts)
    draws = np.random.default_rng(0).integers(len(results), size=(RESAMPLES, len(results)))
    resampled = counts[draws].sum(1)

    def share(part: int, whole: int) -> list[float]:
        ratios = resampled[:, part] / np.maximum(resampled[:, whole], 1)
        total = counts.sum(0)
        return [total[part] / max(total[whole], 1), *np.quantile(ratios, (0.025, 0.975))]

    slope, intercept = np.polyfit(*means.T, 1)
    low, high = np.quantile(offsets, (0.05, 0.95))
    numbers = {
        "threshold": threshold(everyone),
        "trusted": share(1, 0),
        "noise": share(3, 2),
        "intercept": intercept,
        "slope": slope,
        "low": low,
        "high": high,
    }
    rounded = {name: np.round(number, 3).tolist() for name, number in numbers.items()}
    shuffled = [np.random.default_rng(i).permutation(a) for i, a in enumerate(agreement)]
    return {
        "networks": len(results),
        "queries": int(sum(len(a) for a in agreement)),
        "good": GOOD,
        **rounded,
        "thresholds without each network": sorted(set(held_out)),
        "share trusted": round(float(counts[:, 0].sum() / counts[:, [0, 2]].sum()), 3),
        "correlation of means": round(float(np.corrcoef(means.T)[0, 1]), 3),
        "correlation within networks": round(_within(agreement, lds), 3),
        "control, agreement of other queries of the network": round(_within(shuffled, lds), 3),
        "by network": {
            name: {"agreement": round(a, 3), "lds": round(b, 3)}
            for name, (a, b) in zip(names, means.tolist(), strict=True)
        },
    }


def _within(agreement: list[np.ndarray], lds: list[np.ndarray]) -> float:
    """Return the mean over networks of the rank correlation over queries."""
    return float(np.mean([spearmanr(a, b).statistic for a, b in zip(agreement, lds, strict=True)]))


def measure_all(out: Path, part: int, of: int) -> None:
    """Measure what is missing."""
    for net in sorted(networks(), key=lambda net: net.epochs * net.n * (3 if "cifar" in net.data else 1))[
        part::of
    ]:
        path = out / f"{net.name}.json"
        if path.exists():
            continue
        result = measure(net, out)
        path.write_text(json.dumps(result))
        print(net.name, result["seconds"], result["accuracy"], flush=True)


SINGLES, SINGLE_SEEDS, SINGLE_STEP = 30, 3, 5
"""Examples and seeds of each fifth network, trained again without single examples."""


def measure_singles(net: Net) -> dict[str, Any]:
    """Return how training without single examples agrees between seeds, and with the answers."""
    train, query = examples(net)
    recipe = recipe_of(net, train)
    rows = np.sort(np.random.default_rng(0).permutation(net.n)[:SINGLES])
    kept = np.ones((SINGLES + 1, net.n), dtype=bool)
    kept[np.arange(1, SINGLES + 1), rows] = False
    losses = lo.retrain_subsets(recipe, train, query, kept, seeds=range(SINGLE_SEEDS), jobs=1).loss
    effects = (losses[1:].values - losses[:1].values).transpose(1, 2, 0)  # (seed, query, example)
    module = train_alone(recipe, train, (torch.arange(net.n), 1000))
    fitted = lo.fit(lo.kernels.Empirical(module), train, rule=lo.Logistic(run_ridge(net, recipe)))
    scores = lo.leave_one_out(fitted, query).values[:, rows]

    def mean_rank(first: np.ndarray, second: np.ndarray) -> float:
        pairs = zip(first, second, strict=True)
        known = [spearmanr(a, b).statistic for a, b in pairs if np.ptp(a) > 0 and np.ptp(b) > 0]
        return float(np.mean(known))

    between = [mean_rank(effects[i], effects[j]) for i, j in itertools.combinations(range(SINGLE_SEEDS), 2)]
    return {
        "between seeds": round(float(np.mean(between)), 3),
        "answers and mean of seeds": round(mean_rank(scores, effects.mean(0)), 3),
    }


def main() -> None:
    """Measure, or calibrate and write the record."""
    out = Path(sys.argv[2])
    out.mkdir(exist_ok=True)
    if sys.argv[1] == "singles":
        path = out / "singles.json"
        done = json.loads(path.read_text()) if path.exists() else {}
        for net in networks()[::SINGLE_STEP]:
            if net.name not in done:
                done[net.name] = measure_singles(net)
                print(net.name, done[net.name], flush=True)
                path.write_text(json.dumps(done))
        return
    if sys.argv[1] == "measure":
        measure_all(out, *(map(int, sys.argv[3].split("/")) if len(sys.argv) > 3 else (0, 1)))
        return
    results = [
        json.loads((out / f"{net.name}.json").read_text())
        for net in networks()
        if (out / f"{net.name}.json").exists()
    ]
    methods = [name for name in results[0]["queries"] if name.startswith("lds ")]
    means = {
        result["name"]: {
            name: round(float(np.mean(result["queries"][name])), 3) for name in (*methods, "ceiling")
        }
        | {"relative ridge": result["relative ridge"], "accuracy": round(result["accuracy"], 3)}
        for result in results
    }
    queries = {
        result["name"]: {
            f"{kind} {audit[0]}": np.round(
                result["queries"][f"lds {audit[0]}" if kind == "lds" else f"pearson {audit[0]}, {audit[1]}"],
                3,
            ).tolist()
            for audit in AUDITS
            for kind in ("agreement", "lds")
        }
        for result in results
    }
    for result in results:  # the calibration is of what the record keeps
        for audit in AUDITS:
            kept = queries[result["name"]]
            result["queries"][f"lds {audit[0]}"] = kept[f"lds {audit[0]}"]
            result["queries"][f"pearson {audit[0]}, {audit[1]}"] = kept[f"agreement {audit[0]}"]
    singles = json.loads((out / "singles.json").read_text())
    calibration = calibrate(results)
    record("verdict", {"calibration": calibration, "singles": singles, "means": means, "queries": queries})


if __name__ == "__main__":
    main()

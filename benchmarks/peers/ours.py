"""What this package answers, and controls. No ridge is chosen by the truth.

python benchmarks/peers/ours.py OUT/TASK METHOD
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measured import Method, Task, main
from networks import kind, trained
from tasks import TASKS, build, data, networks_in_training, recipe, ridge, subsets
from torch.nn.functional import cross_entropy

import leftout as lo

SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Ridges among which leave-one-out chooses, relative to the kernel's mean diagonal."""

SAMPLED = 20
"""Places along a training, dense at its start, at which its tangent kernel is looked at."""

LARGE = ("dattri-regression", "dattri-mlp")
"""Tasks of 5000 examples and ten outputs, whose tangent kernel has 50,000 rows: read as its trace."""


def architecture(task: Task) -> lo.kernels.Kernel:
    """Return the kernel that knows of the network what is known before training."""
    about = kind(task.folder.name)
    if about == "cifar":
        return lo.kernels.ConvReLU(2, stride=2, padding="valid")
    if about == "resnet":
        torch.manual_seed(0)
        return lo.kernels.Empirical(build(about), weights="initial")
    if about == "dattri-regression":  # its tangent kernel, whatever the weights
        return lo.kernels.From(lambda x, z: x.flatten(1) @ z.flatten(1).T + 1, name="linear")
    return lo.kernels.ReLU(2)


def mean_diagonal(kernel: lo.kernels.Kernel, train: lo.Examples) -> float:
    return float(kernel.diagonal(train.inputs).mean())


def carried_over(task: Task, fitted: lo.Fitted, weights: str) -> float:
    """Return the ridge of the run in units of a kernel: its share of the mean diagonal of the tangent kernel,
    at the weights where training started, or at those where it ended.
    """
    torch.manual_seed(0)
    start = build(task.folder.name).eval()
    module = start if weights == "initial" else trained(str(task.folder), 1)[0]
    tangent = lo.kernels.Empirical(module, "trace", weights=weights)
    scale = mean_diagonal(fitted.kernel, fitted.train) / mean_diagonal(tangent, fitted.train)
    return scale * ridge(task.folder.name, len(fitted))


def along_the_path(task: Task, fitted: lo.Fitted) -> float:
    """Return the ridge of the run relative to the mean diagonal of the tangent kernel while it learned: over
    the training, weighted by what was left to learn, the mean of 1 − p of the labels.

    A training moves its outputs by ∫ K r dt, r = y − p: it is this mean of K that acts in it.
    """
    about, train = task.folder.name, fitted.train
    steps = recipe(about).steps(len(train))
    sampled = sorted({round(steps * (i / SAMPLED) ** 2) for i in range(SAMPLED + 1)})
    some = train.select(range(0, len(train), len(train) // 200))
    weights, diagonals = [], []
    for step, module in enumerate(networks_in_training(about, train, 1000)):
        if step in sampled:
            module.eval()
            with torch.no_grad():
                right = module(some.inputs.float()).softmax(1).gather(1, some.labels[:, None])
            weights.append(float(1 - right.mean()))
            diagonals.append(mean_diagonal(lo.kernels.Empirical(module, "trace"), some))
            module.train()
    acted = np.trapezoid(np.multiply(weights, diagonals), sampled) / np.trapezoid(weights, sampled)
    print("diagonal at start, along the path, at the end:", diagonals[0], acted, diagonals[-1])
    return mean_diagonal(fitted.kernel, train) / acted * ridge(about, len(train))


def as_well_fitted(task: Task, fitted: lo.Fitted) -> float:
    """Return the ridge at which the model explains the training examples as well as the network: that has
    the same mean loss of them.
    """
    train = fitted.train
    with torch.no_grad():
        wanted = cross_entropy(trained(str(task.folder), 1)[0](train.inputs.float()), train.labels)
    low, high = (np.log(mean_diagonal(fitted.kernel, train) * share) for share in (1e-5, 1e3))
    for _ in range(12):
        middle = (low + high) / 2
        logits = fitted.with_rule(lo.Logistic(float(np.exp(middle)))).logistic.logits
        low, high = (low, middle) if cross_entropy(logits, train.labels) > wanted else (middle, high)
    return float(np.exp((low + high) / 2))


def by_leave_one_out(task: Task, fitted: lo.Fitted) -> float:
    """Return the ridge of the least loss of training examples without themselves."""
    ridges = [mean_diagonal(fitted.kernel, fitted.train) * share for share in SHARES]
    left_out = [lo.out_of_sample(fitted.with_rule(lo.Logistic(each))) for each in ridges]
    return ridges[int(np.argmin([cross_entropy(outputs, fitted.train.labels) for outputs in left_out]))]


RIDGES = {
    "start": partial(carried_over, weights="initial"),
    "end": partial(carried_over, weights="trained"),
    "path": along_the_path,
    "fit": as_well_fitted,
    "loo": by_leave_one_out,
}


def analytic(task: Task, ridge_by: str, rule: type, refits: bool) -> Path:
    train, query = data(task.folder.name)
    fitted = lo.fit(architecture(task), train, rule=rule(1.0))
    strength = RIDGES[ridge_by](task, fitted)
    print("ridge / mean diagonal:", strength / mean_diagonal(fitted.kernel, train))
    return answer(task, fitted.with_rule(rule(strength)), query, refits)


def tangent(task: Task, count: int, refits: bool) -> Path:
    train, query = data(task.folder.name)
    modules = trained(str(task.folder), count)
    reading = "trace" if kind(task.folder.name) in LARGE else "full"
    kernel = lo.kernels.Empirical(modules if count > 1 else modules[0], reading)
    fitted = lo.fit(kernel, train, rule=lo.Logistic(ridge(task.folder.name, len(train))))
    return answer(task, fitted, query, refits)


def tangent_first(task: Task) -> Path:
    train, query = data(task.folder.name)
    reading = "trace" if kind(task.folder.name) in LARGE else "full"
    kernel = lo.kernels.Empirical(trained(str(task.folder), 1)[0], reading)
    fitted = lo.fit(kernel, train, rule=lo.Logistic(ridge(task.folder.name, len(train))))
    np.save(task.out / "scores.npy", lo.first_order(fitted, query).values)
    return task.out / "scores.npy"


def answer(task: Task, fitted: lo.Fitted, query: lo.Examples, refits: bool) -> Path:
    """Save refits on the truth's subsets, or leave-one-out of single examples."""
    kept = subsets(task.folder.name, len(fitted))
    if refits and TASKS[task.folder.name].singles:
        removed = np.nonzero(~kept)[1]
        scores = np.full((len(query), len(fitted)), np.nan)  # NaN: not asked
        scores[:, removed] = lo.leave_out(fitted, query, removed[:, None].tolist()).values
        np.save(task.out / "scores.npy", scores)
    elif refits:
        losses = lo.refit_subsets(fitted, query, kept)
        losses.to_zarr(task.out / "losses.zarr", mode="w", zarr_format=2, consolidated=False)
        return task.out / "losses.zarr"
    else:
        scores = lo.leave_one_out(fitted, query)
        np.save(task.out / "scores.npy", getattr(scores, "influence", scores).values)
    return task.out / "scores.npy"


def shuffled(task: Task) -> Path:
    scores = np.random.default_rng(0).standard_normal((len(task.query_labels), len(task.train_labels)))
    np.save(task.out / "scores.npy", scores)
    return task.out / "scores.npy"


def features(task: Task, cosine: bool) -> Path:
    same = task.query_labels[:, None] == task.train_labels
    module = trained(str(task.folder), 1)[0]
    a, b = (module[:-1](inputs).detach() for inputs in (task.query_inputs, task.train_inputs))
    if cosine:
        near = torch.nn.functional.normalize(a) @ torch.nn.functional.normalize(b).T
    else:
        near = (torch.cdist(a, b).argsort(1).argsort(1) < 10).double() + 1e-3 * -torch.cdist(a, b)
    np.save(task.out / "scores.npy", torch.where(same, near, -near).numpy())
    return task.out / "scores.npy"


def gradients(task: Task) -> Path:
    module = trained(str(task.folder), 1)[0]
    weights = {name: weight.detach() for name, weight in module.named_parameters()}

    def loss(weights, x, y):
        return cross_entropy(torch.func.functional_call(module, weights, (x[None],)), y[None])

    rows = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))
    a = rows(weights, task.query_inputs, task.query_labels)
    parts = []
    for inputs, labels in task.loader("train"):
        b = rows(weights, inputs, labels)
        parts.append(sum(a[name].flatten(1) @ b[name].flatten(1).T for name in weights))
    np.save(task.out / "scores.npy", torch.cat(parts, 1).numpy())
    return task.out / "scores.npy"


def method(ask, label, networks=0, not_of=()):
    used = {"analytic": (architecture, mean_diagonal, answer), "tangent": (answer,)}
    helpers = used.get(getattr(ask, "func", ask).__name__, ())
    helpers += (RIDGES[ask.keywords["ridge_by"]],) if "ridge_by" in getattr(ask, "keywords", {}) else ()
    return Method(ask, label, "leftout", "leftout", networks, helpers=helpers, not_of=not_of)


HOURS = LARGE
"""Leave-one-out of all examples costs n³ k: hours for these tasks."""


METHODS = {
    **{
        f"analytic-{name}-refits": method(
            partial(analytic, ridge_by=name, rule=lo.Logistic, refits=True),
            f"architecture's kernel, refits; ridge by {name}",
            networks=0 if name in ("start", "loo") else 1,
            not_of=HOURS if name == "loo" else ("dattri-regression",) if name in ("start", "path") else (),
        )
        for name in RIDGES
    },
    **{
        f"analytic-{name}-alo": method(
            partial(analytic, ridge_by=name, rule=lo.Logistic, refits=False),
            f"architecture's kernel, leave-one-out; ridge by {name}",
            networks=0 if name == "start" else 1,
            not_of=HOURS,
        )
        for name in RIDGES
        if name in ("start", "path")
    },
    "analytic-squared-refits": method(
        partial(analytic, ridge_by="path", rule=lo.Ridge, refits=True),
        "architecture's kernel, squared loss, refits; ridge by path",
        networks=1,
    ),
    **{
        f"tangent-alo-{count}": method(
            partial(tangent, count=count, refits=False), "trained weights, leave-one-out", count, HOURS
        )
        for count in (1, 5)
    },
    **{
        f"tangent-refits-{count}": method(
            partial(tangent, count=count, refits=True), "trained weights, refits", count
        )
        for count in (1, 5)
    },
    "tangent-first-1": method(tangent_first, "trained weights, first order", 1),
    "control-shuffled": method(shuffled, "control: random numbers"),
    "control-neighbours": method(
        partial(features, cosine=False), "control: ten nearest neighbours in features", 1
    ),
    "control-cosine": method(partial(features, cosine=True), "control: cosine of features", 1),
    "control-gradients": method(gradients, "control: product of loss gradients", 1),
}


if __name__ == "__main__":
    main(METHODS)

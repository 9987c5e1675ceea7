"""What this package answers, and controls. No ridge is chosen by the truth: all stand for the training run.

python benchmarks/peers/ours.py OUT/TASK METHOD
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measured import Method, Task, main
from networks import trained
from tasks import SUBSETS, data, recipe, ridge
from torch.nn.functional import cross_entropy

import leftout as lo

SHARES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Ridges relative to the kernel's mean diagonal."""

ANALYTIC = {"mnist": lo.kernels.ReLU(2), "cifar": lo.kernels.ConvReLU(2, stride=2, padding="valid")}


def analytic_ridge(task: Task, kernel: lo.kernels.Kernel, train: lo.Examples) -> float:
    """Return the ridge of the run in units of the analytic kernel: relative to the mean diagonal of the
    tangent kernel at initialisation.
    """
    torch.manual_seed(0)
    initial = lo.kernels.Empirical(recipe(task.folder.name).build(), "trace", weights="initial")
    scale = kernel.diagonal(train.inputs).mean() / initial.diagonal(train.inputs.float()).mean()
    return float(scale) * ridge(task.folder.name, len(train))


def analytic(task: Task, rule: type, refits: bool) -> Path:
    train, query = data(task.folder.name)
    kernel = ANALYTIC[task.folder.name.partition("-")[0]]
    fitted = lo.fit(kernel, train, rule=rule(analytic_ridge(task, kernel, train)))
    return answer(task, fitted, query, refits)


def analytic_chosen(task: Task, refits: bool) -> Path:
    # For who does not know how the network was trained: the ridge of the least leave-one-out loss.
    train, query = data(task.folder.name)
    kernel = ANALYTIC[task.folder.name.partition("-")[0]]
    scale = float(kernel.diagonal(train.inputs).mean())
    fits = [lo.fit(kernel, train, rule=lo.Logistic(scale * share)) for share in SHARES]
    losses = [cross_entropy(lo.out_of_sample(fitted), train.labels) for fitted in fits]
    return answer(task, fits[int(np.argmin(losses))], query, refits)


def tangent(task: Task, count: int, refits: bool) -> Path:
    train, query = data(task.folder.name)
    modules = trained(str(task.folder), count)
    kernel = lo.kernels.Empirical(modules if count > 1 else modules[0])
    fitted = lo.fit(kernel, train, rule=lo.Logistic(ridge(task.folder.name, len(train))))
    return answer(task, fitted, query, refits)


def tangent_first(task: Task) -> Path:
    train, query = data(task.folder.name)
    kernel = lo.kernels.Empirical(trained(str(task.folder), 1)[0])
    fitted = lo.fit(kernel, train, rule=lo.Logistic(ridge(task.folder.name, len(train))))
    np.save(task.out / "scores.npy", lo.first_order(fitted, query).values)
    return task.out / "scores.npy"


def answer(task: Task, fitted: lo.Fitted, query: lo.Examples, refits: bool) -> Path:
    """Save refits on the truth's subsets, or leave-one-out of single examples."""
    if refits:
        losses = lo.refit_subsets(fitted, query, lo.random_subsets(len(fitted), count=SUBSETS, seed=0))
        losses.to_zarr(task.out / "losses.zarr", mode="w", zarr_format=2, consolidated=False)
        return task.out / "losses.zarr"
    scores = lo.leave_one_out(fitted, query)
    np.save(task.out / "scores.npy", getattr(scores, "influence", scores).values)
    return task.out / "scores.npy"


def shuffled(task: Task) -> Path:
    scores = np.random.default_rng(0).standard_normal((len(task.query_labels), len(task.train_labels)))
    np.save(task.out / "scores.npy", scores)
    return task.out / "scores.npy"


def features(task: Task, count: int, cosine: bool) -> Path:
    same = task.query_labels[:, None] == task.train_labels
    total = 0.0
    for module in trained(str(task.folder), count):
        a, b = (module[:-1](inputs).detach() for inputs in (task.query_inputs, task.train_inputs))
        if cosine:
            near = torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=-1)
        else:
            near = (torch.cdist(a, b).argsort(1).argsort(1) < 10).double() + 1e-3 * -torch.cdist(a, b)
        total = total + torch.where(same, near, -near)
    np.save(task.out / "scores.npy", total.numpy())
    return task.out / "scores.npy"


def gradients(task: Task, count: int) -> Path:
    total = 0.0
    for module in trained(str(task.folder), count):
        weights = {name: weight.detach() for name, weight in module.named_parameters()}

        def loss(weights, x, y, module=module):
            logits = torch.func.functional_call(module, weights, (x[None],))
            return torch.nn.functional.cross_entropy(logits, y[None])

        rows = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))
        a = rows(weights, task.query_inputs, task.query_labels)
        b = rows(weights, task.train_inputs, task.train_labels)
        total = total + sum(a[name].flatten(1) @ b[name].flatten(1).T for name in weights)
    np.save(task.out / "scores.npy", total.numpy())
    return task.out / "scores.npy"


def method(ask, label, networks=0):
    used = {"analytic": (analytic_ridge, answer), "analytic_chosen": (answer,), "tangent": (answer,)}
    helpers = used.get(getattr(ask, "func", ask).__name__, ())
    return Method(ask, label, "leftout", "leftout", networks, helpers=helpers)


METHODS = {
    "analytic-refits": method(
        partial(analytic, rule=lo.Logistic, refits=True), "analytic kernel, cross-entropy, refits of subsets"
    ),
    "analytic-alo": method(
        partial(analytic, rule=lo.Logistic, refits=False), "analytic kernel, cross-entropy, leave-one-out"
    ),
    "analytic-chosen-refits": method(
        partial(analytic_chosen, refits=True),
        "analytic kernel, cross-entropy, refits of subsets; ridge by leave-one-out loss",
    ),
    "analytic-ridge-refits": method(
        partial(analytic, rule=lo.Ridge, refits=True), "analytic kernel, squared loss, refits of subsets"
    ),
    "analytic-ridge-loo": method(
        partial(analytic, rule=lo.Ridge, refits=False), "analytic kernel, squared loss, leave-one-out"
    ),
    **{
        f"tangent-alo-{count}": method(
            partial(tangent, count=count, refits=False), "trained weights, leave-one-out", count
        )
        for count in (1, 5)
    },
    **{
        f"tangent-refits-{count}": method(
            partial(tangent, count=count, refits=True), "trained weights, refits of subsets", count
        )
        for count in (1, 5)
    },
    "tangent-first-1": method(partial(tangent_first), "trained weights, first order", 1),
    "control-shuffled": method(shuffled, "control: random numbers"),
    "control-neighbours": method(
        partial(features, count=1, cosine=False), "control: ten nearest neighbours in features", 1
    ),
    "control-cosine": method(partial(features, count=1, cosine=True), "control: cosine of features", 1),
    "control-gradients": method(partial(gradients, count=1), "control: product of loss gradients", 1),
}


if __name__ == "__main__":
    main(METHODS)

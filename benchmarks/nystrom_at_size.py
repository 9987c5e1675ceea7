"""Nyström models of many pictures: time and memory, and how far left-out predictions are off.

    python benchmarks/nystrom_at_size.py --n 60000 --rank 2000           time and memory alone
    python benchmarks/nystrom_at_size.py --n 8000 --rank 2000 --dense    beside the matrix itself

Of MNIST, with the kernel of a wide network of two layers of rectifiers. `fit` draws the columns and takes the
singular values; predictions are at the end of training and at a finite time. With --dense, left-out
predictions of every training example (exact duals, block-local leverages) and their losses are correlated
with those of the whole matrix, under the given labels and, as a control, under shuffled ones; and the
agreement of single effects that is measured on eight exact columns with their true correlation on 100
queries.
"""

import argparse
import resource
import time

import numpy as np
import torch
from measure import data_folder, record

import leftout as lo


def seconds(function, *args, **options):
    """Return how long a call takes, and what it returns."""
    began = time.perf_counter()
    result = function(*args, **options)
    return time.perf_counter() - began, result


def correlation(one, other) -> float:
    return float(np.corrcoef(np.asarray(one).ravel(), np.asarray(other).ravel())[0, 1])


def left_out_losses(predicted, targets):
    return (predicted - targets).square().sum(1) / 2


def beside_the_matrix(kernel, train, query, fitted, rule, solver) -> dict:
    """Return how left-out predictions and single effects compare with those of the matrix itself."""
    dense_seconds, dense = seconds(lo.fit, kernel, train, rule=rule, solver="dense", memory="20GB")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    shuffled = train.with_labels(train.labels[order])
    result = {}
    for name, model, other in (
        ("labels", fitted, dense),
        ("shuffled labels", lo.fit(kernel, shuffled, rule=rule, solver=solver), None),
    ):
        if other is None:  # the inverse is that of the model before: a dual and a division
            inverse = dense.inverse(rule.ridge)
            dual = inverse @ model.residual
            exact = model.targets - dual / inverse.diagonal()[:, None]
        else:
            dense_outside_seconds, exact = seconds(lo.out_of_sample, other)
        near_seconds, near = seconds(lo.out_of_sample, model)
        result[name] = {
            "seconds": near_seconds,
            "R of left-out predictions": correlation(near, exact),
            "R of left-out losses": correlation(
                left_out_losses(near, model.targets), left_out_losses(exact, model.targets)
            ),
        }
    effects = lo.leave_one_out(fitted, query)
    result["single effects"] = {
        "agreement": effects.attrs["nystrom_agreement"],
        "correlation": correlation(effects.values, lo.leave_one_out(dense, query).values),
    }
    return result | {"dense_seconds": dense_seconds + dense_outside_seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=60_000)
    parser.add_argument("--rank", type=int, default=2000)
    parser.add_argument("--ridge", type=float, default=0.1)
    parser.add_argument("--dense", action="store_true")
    options = parser.parse_args()
    train, query = lo.load(f"mnist:{data_folder() / 'mnist'}", n_train=options.n, n_query=100, seed=0)
    kernel, rule = lo.kernels.ReLU(2), lo.Ridge(options.ridge)
    solver = lo.Nystrom(rank=options.rank, agreement=-0.99)
    fit_seconds, fitted = seconds(lo.fit, kernel, train, rule=rule, solver=solver, memory="4GB")
    spectrum_seconds, _ = seconds(lambda: fitted.spectrum)
    predict_seconds, _ = seconds(fitted.predict, query)
    flow = fitted.with_rule(lo.GradientFlow(1.0 / options.n))
    time_seconds, _ = seconds(flow.predict, query, at=10.0)
    result = {
        "n": options.n,
        "rank": len(fitted.kernel.lower),
        "ridge": options.ridge,
        "missed_trace": fitted.kernel.missed,
        "seconds": {
            "fit": fit_seconds,
            "singular values": spectrum_seconds,
            "predictions": predict_seconds,
            "predictions at a finite time": time_seconds,
            "all": fit_seconds + spectrum_seconds + predict_seconds + time_seconds,
        },
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "promised_seconds": 60,
        "promised_bytes": 4e9,
        "query_accuracy": query.accuracy(fitted.predict(query)),
    }
    if options.dense:
        result["beside the matrix"] = beside_the_matrix(kernel, train, query, fitted, rule, solver)
    record(f"nystrom-dense-{options.n}" if options.dense else "nystrom-at-size", result)


if __name__ == "__main__":
    main()

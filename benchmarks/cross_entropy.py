"""What does cross-entropy cost, beside a Cholesky factorisation and its floor? And how far is one step?

    python benchmarks/cross_entropy.py              MNIST, n = 2000, ten classes, 1000 queries
    python benchmarks/cross_entropy.py --n 500      smaller

Fit: Newton's method against n³/3 flops of a Cholesky factorisation of K + λI, in turns.

All one-step leave-one-outs: n problems, each of n k unknowns. The floor is 12 products with K, as many as
conjugate gradients take at least, 2 n² · n k flops each, and one product to the queries, 2 m n · n k, at the
speed of such a product alone.

Exact refits on 48 halves at n = 1000 against one fit.

Error of one step: against fits to convergence without 20 examples, relative to the largest influence.
"""

import argparse
from dataclasses import replace

import torch
from measure import alternating, data_folder, peak_bytes, record, seconds

import leftout as lo
from leftout.solvers.cross_entropy import probabilities
from leftout.solvers.logistic import fit_logistic, refit_logistic

RIDGES = (0.1, 0.01, 0.001)
LEFT_OUT = 20


def fit_costs(fitted):
    """Return seconds of a factorisation and of a fit, in turns, and what the fit took."""
    shifted = fitted.gram.clone()
    shifted.diagonal().add_(fitted.rule.ridge)
    every = fitted.logistic.problem
    times = alternating(
        {
            "cholesky": lambda: torch.linalg.cholesky(shifted),
            # A copy has no leading directions of the kernel yet: a fit has to find them.
            "fit": lambda: fit_logistic(replace(every)),
        },
        repeats=5,
    )
    fit = fit_logistic(every)
    return times | {
        "fit / cholesky": times["fit"] / times["cholesky"],
        "newton steps": fit.newton_steps,
        "products": fit.products,
        "gradient": fit.gradient,
    }


def leave_one_out_costs(fitted, query):
    """Return seconds of all one-step leave-one-outs beside their floor, and the peak of memory."""
    n, k, m = len(fitted), fitted.outputs, len(query)
    fitted.rows.keep_comparison(query.inputs)
    _ = fitted.logistic.preconditioner
    columns = torch.randn(n, 256 * k, dtype=torch.float64)
    product = seconds(lambda: fitted.gram @ columns) * n / 256
    to_queries = product * m / n
    results = {}
    peak = peak_bytes(
        lambda: results.update(seconds=seconds(lambda: lo.leave_one_out(fitted, query), repeats=1))
    )
    weights = torch.ones(n, LEFT_OUT, dtype=torch.float64)
    weights[torch.arange(LEFT_OUT), torch.arange(LEFT_OUT)] = 0
    one = seconds(lambda: refit_logistic(fitted.logistic, weights=weights, newton_steps=1), repeats=1)
    floor = 12 * product + to_queries
    return results | {
        "one product with K, for all": product,
        "floor of 12 products": floor,
        "times the floor": results["seconds"] / floor,
        "20 examples alone": one,
        "peak GB": peak / 1e9,
    }


def step_errors(fitted, query):
    """Return the error of one and two steps on a few examples, relative to the largest influence of them."""
    rows = torch.randperm(len(fitted), generator=torch.Generator().manual_seed(0))[:LEFT_OUT]
    exact = lo.leave_out(fitted, query, [[row] for row in rows.tolist()]).values
    largest = abs(exact).max()
    errors = {}
    weights = torch.ones(len(fitted), LEFT_OUT, dtype=torch.float64)
    weights[rows, torch.arange(LEFT_OUT)] = 0
    cross = fitted.cross(query.inputs)
    before = fitted.predict(query)
    loss = fitted.rule.example_loss
    wanted = torch.nn.functional.one_hot(query.labels, fitted.outputs).double()
    for steps in (1, 2):
        duals = refit_logistic(fitted.logistic, weights=weights, newton_steps=steps)
        change = torch.einsum("mn,nbk->mbk", cross, duals - fitted.logistic.dual[:, None])
        influence = loss.change(before[:, None], change, wanted[:, None]).numpy()
        errors[f"{steps} step, largest error / largest influence"] = float(
            abs(influence - exact).max() / largest
        )
    confident = probabilities(fitted.logistic.logits).amax(1).mean()
    return errors | {"mean probability of the likeliest class": float(confident)}


def halves(kernel, train, query, ridge):
    """Return seconds of 48 exact refits on halves at n = 1000 beside one fit."""
    thousand = train.select(range(min(1000, len(train))))
    fitted = lo.fit(kernel, thousand, rule=lo.Logistic(ridge))
    fit = seconds(lambda: fit_logistic(replace(fitted.logistic.problem)))
    subsets = lo.random_subsets(len(thousand), count=48, seed=0)
    _ = fitted.logistic.preconditioner
    refits = seconds(lambda: lo.refit_subsets(fitted, query, subsets), repeats=1)
    return {"fit": fit, "48 halves": refits, "48 halves / fit": refits / fit}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--data", default=None)
    parser.add_argument("--save", action="store_true", help="write a record")
    arguments = parser.parse_args()
    source = arguments.data or f"mnist:{data_folder() / 'mnist'}"
    train, query = lo.load(source, n_train=arguments.n, n_query=arguments.queries, normalise="sphere")
    kernel = lo.kernels.ReLU(2)
    diagonal = float(lo.kernels.gram(kernel, train.inputs[:10]).diagonal().mean())
    result = {"n": len(train), "queries": len(query), "classes": len(train.classes), "by ridge": {}}
    for share in RIDGES:
        fitted = lo.fit(kernel, train, rule=lo.Logistic(share * diagonal))
        row = {"fit": fit_costs(fitted), "one step": step_errors(fitted, query)}
        if share == RIDGES[-1]:
            row["leave-one-out"] = leave_one_out_costs(fitted, query)
        result["by ridge"][f"{share:g} of the diagonal"] = row
        print(share, row, flush=True)
    result["halves"] = halves(kernel, train, query, RIDGES[-1] * diagonal)
    print(result["halves"])
    if arguments.save:
        print(record("cross-entropy", result))


if __name__ == "__main__":
    main()

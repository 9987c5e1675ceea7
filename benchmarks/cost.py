"""What does exact leave-one-out cost, against the floor?

    python benchmarks/cost.py end       t = infinity, against Cholesky, its inverse and two products
    python benchmarks/cost.py memory    the same, peak memory against n² doubles
    python benchmarks/cost.py times     32 times, against one eigh and 32 products
    python benchmarks/cost.py refits    against fitting again without each point (a timed sample)
    python benchmarks/cost.py kernel    the kernel, against one product and one pass of arccos
    python benchmarks/cost.py growth    how cost grows with n: a plot and the fitted exponents

Floor, one output: t = infinity n³/3 + 2n³/3 + 2mn² flops and 3n² numbers; T times 9n³ + 2Tmn². Data:
MNIST 7 v 9 where it is at hand, else random unit vectors (the flops are the same).
"""

import argparse
import json
from functools import partial

import matplotlib
import numpy as np
import torch
from measure import alternating, data_folder, peak_bytes, record, seconds

import leftout as lo
from leftout.kernels.assemble import cross as cross_of
from leftout.kernels.assemble import gram as gram_of

matplotlib.use("Agg")
import matplotlib.pyplot as plt

KERNEL = lo.kernels.TwoLayerReLU()


def problem(n, m):
    """Return training inputs and targets, queries and theirs."""
    folder = data_folder()
    if folder is not None and n + m <= 12000:
        train, query = lo.load(f"mnist:{folder / 'mnist'}", classes=["7", "9"], n_train=n, n_query=m, seed=0)
        return "mnist 7 v 9", train, query
    draw = torch.Generator().manual_seed(0)
    points = torch.randn(n + m, 784, generator=draw, dtype=torch.float64)
    points /= points.norm(dim=1, keepdim=True)
    labels = (points[:, 0] > 0).long()
    encoding = lo.fit(lo.kernels.TwoLayerReLU(), (points[:8], labels[:8])).train.encoding

    def make(rows):
        return lo.Examples(points[rows], encoding.encode(labels[rows]), encoding, labels[rows])

    return "random unit vectors", make(slice(0, n)), make(slice(n, n + m))


def known(train, query):
    """Return a fitted model and queries whose kernel is computed already, and the matrices."""
    whole = torch.cat([train.inputs, query.inputs]).flatten(1)
    kernel = lo.kernels.Precomputed(gram_of(KERNEL, whole))
    n = len(train)
    rows = torch.arange(n, len(whole), dtype=torch.float64)
    ask = lo.Examples(rows, query.targets, query.encoding, query.labels)
    points = lo.Examples(torch.arange(n, dtype=torch.float64), train.targets, train.encoding, train.labels)
    return kernel, points, ask


def end(n, m):
    """The end of training."""
    source, train, query = problem(n, m)
    kernel, points, ask = known(train, query)
    fitted = lo.fit(kernel, points, rule=lo.Ridge(1.0))
    gram, cross = fitted.gram, fitted.cross(ask.inputs)
    targets = fitted.residual

    def bare():
        shifted = gram.clone()
        shifted.diagonal().add_(1.0)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(shifted))
        return cross @ inverse, inverse @ targets

    def ours():
        fitted._factor = fitted._inverse = None  # as if never asked before
        return lo.leave_one_out(fitted, ask)

    took = alternating({"bare": bare, "ours": ours})
    return {
        "data": source,
        "n": n,
        "queries": m,
        "seconds": took,
        "ratio": took["ours"] / took["bare"],
        "target": 1.5,
    }


def memory(n, m):
    """The peak of kernel, fit and leave-one-out, t = infinity, in a process that did nothing else."""
    source, train, query = problem(n, m)
    small = train.select(range(64))  # libraries load and threads start before the measurement
    lo.leave_one_out(lo.fit(KERNEL, small, rule=lo.Ridge(1.0)), query.select(range(8)))
    peak = peak_bytes(lambda: lo.leave_one_out(lo.fit(KERNEL, train, rule=lo.Ridge(1.0)), query))
    return {
        "data": source,
        "n": n,
        "queries": m,
        "peak_bytes": peak,
        "peak_in_n_squared_doubles": peak / (8 * n * n),
        "target": 3.5,
    }


def times(n, m, count=32):
    """Finite training times."""
    source, train, query = problem(n, m)
    kernel, points, ask = known(train, query)
    rule = lo.GradientFlow(1.0)
    at = np.geomspace(1e-2, 1e4, count).tolist()
    fitted = lo.fit(kernel, points, rule=rule)
    gram, cross = fitted.gram, fitted.cross(ask.inputs)

    def bare():
        _, vectors = torch.linalg.eigh(gram)
        for _ in range(count):
            product = cross @ vectors
        return product

    def ours():
        again = lo.Fitted(kernel, points, rule, gram, kernel_dtype=torch.float64, memory=fitted.memory)
        return lo.leave_one_out(again, ask, at=at)

    took = alternating({"bare": bare, "ours": ours}, repeats=2)
    return {
        "data": source,
        "n": n,
        "queries": m,
        "times": count,
        "from": at[0],
        "to": at[-1],
        "seconds": took,
        "ratio": took["ours"] / took["bare"],
        "target": 1.6,
    }


def refits(n, m, count=32, sample=5):
    """Against fitting again without each point at every time."""
    source, train, query = problem(n, m)
    kernel, points, ask = known(train, query)
    rule = lo.GradientFlow(1.0)
    at = np.geomspace(1e-2, 1e4, count).tolist()
    fitted = lo.fit(kernel, points, rule=rule)
    gram, cross, targets = fitted.gram, fitted.cross(ask.inputs), fitted.residual

    moments = torch.tensor(at, dtype=torch.float64)

    def again(i):
        """One eigendecomposition without i serves all its times: the cheapest honest refit."""
        keep = torch.arange(n) != i
        values, vectors = torch.linalg.eigh(gram[keep][:, keep])
        inside = vectors.T @ targets[keep]
        spectral = cross[:, keep] @ vectors
        learned = -torch.expm1(-moments[:, None] * values) / values
        return spectral @ (learned[:, :, None] * inside)  # (t, m, 1)

    def at_one_time(i):
        """Fit without i at one time, from scratch."""
        keep = torch.arange(n) != i
        values, vectors = torch.linalg.eigh(gram[keep][:, keep])
        learned = -torch.expm1(-moments[0] * values) / values
        return cross[:, keep] @ (vectors @ (learned[:, None] * (vectors.T @ targets[keep])))

    def ours():
        whole = lo.Fitted(kernel, points, rule, gram, kernel_dtype=torch.float64, memory=fitted.memory)
        return lo.leave_one_out(whole, ask, at=at, of="prediction")

    chosen = np.random.default_rng(0).choice(n, sample, replace=False).tolist()
    one = seconds(lambda: [again(i) for i in chosen], repeats=2) / sample
    single = seconds(lambda: [at_one_time(i) for i in chosen], repeats=2) / sample
    mine = seconds(ours, repeats=2)
    scores = ours().values
    full = torch.stack([fitted.predict(ask, t) for t in at])
    worst = max(
        float(np.abs(scores[:, :, i] - (full - again(i)).numpy()).max() / np.abs(scores).max())
        for i in chosen
    )
    return {
        "data": source,
        "n": n,
        "queries": m,
        "times": count,
        "refits_timed": sample,
        "seconds_one_refit_all_times": one,
        "seconds_one_refit_one_time": single,
        "seconds_ours": mine,
        "target": 1000,
        "speedup_a_refit_each_point_and_time": single * n * count / mine,
        "speedup_a_refit_each_point_sharing_its_eigendecomposition": one * n / mine,
        "largest_difference_relative": worst,
    }


def kernel(n, m):
    """The kernel against one product and one pass of arccos."""
    source, train, query = problem(n, m)
    points = train.inputs.flatten(1)
    product = (points @ points.T).clamp_(-1, 1)
    took = alternating(
        {
            "product": lambda: points @ points.T,
            "arccos": lambda: product.arccos(),
            "gram": lambda: gram_of(KERNEL, train.inputs),
            "cross": lambda: cross_of(KERNEL, query.inputs, train.inputs),
        },
        repeats=5,
    )
    floor = took["product"] + took["arccos"]
    return {
        "data": source,
        "n": n,
        "seconds": took,
        "ratio": took["gram"] / floor,
        "target": 2,
        "cross_ratio_per_entry": took["cross"] / (floor * m / n),
    }


def growth(sizes, m=500):
    """Seconds against n, and the exponents."""
    rows = []
    for n in sizes:
        source, train, query = problem(n, m)
        row = {"n": n}
        kept = {}

        def kernel_only(train=train, kept=kept):
            kept["gram"] = gram_of(KERNEL, train.inputs)

        row["kernel"] = seconds(kernel_only, repeats=2)

        def leave(rule, at, train=train, query=query, kept=kept):
            made = lo.Fitted(KERNEL, train, rule, kept["gram"], kernel_dtype=torch.float64, memory=10**10)
            lo.leave_one_out(made, query, at=at)

        row["end of training"] = seconds(partial(leave, lo.Ridge(1.0), None))
        row["one finite time"] = seconds(
            partial(leave, lo.GradientFlow(1.0), 10.0), repeats=1 if n > 4000 else 2
        )
        rows.append(row)
        print(row, flush=True)
    exponents = {
        name: float(np.polyfit(np.log([r["n"] for r in rows]), np.log([r[name] for r in rows]), 1)[0])
        for name in rows[0]
        if name != "n"
    }
    return {"data": source, "queries": m, "rows": rows, "exponents": exponents}


def plot_growth(result, path):
    """Draw seconds against n."""
    figure, axes = plt.subplots(figsize=(6, 4))
    sizes = [row["n"] for row in result["rows"]]
    for name, exponent in result["exponents"].items():
        taken = [row[name] for row in result["rows"]]
        axes.loglog(sizes, taken, marker="o", label=f"{name}: n^{exponent:.2f}")
    axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axes.minorticks_off()
    axes.set_xlabel("training examples n")
    axes.set_ylabel(f"seconds, {result['queries']} queries")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


def main():
    """Run one benchmark and keep its record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=["end", "memory", "times", "refits", "kernel", "growth"])
    parser.add_argument("--n", type=int)
    parser.add_argument("--queries", type=int, default=1000)
    given = parser.parse_args()
    if given.which == "growth":
        sizes = [500, 1000, 2000, 4000, 8000]
        result = growth([n for n in sizes if given.n is None or n <= given.n])
        plot_growth(result, record("growth", result) / "growth.svg")
        return
    n = given.n or (1000 if given.which == "refits" else 5000)
    result = globals()[given.which](n, given.queries)
    record(f"cost-{given.which}", json.loads(json.dumps(result)))


if __name__ == "__main__":
    main()

"""What does smooth unique information cost, against one matrix exponential per removed example?

    python benchmarks/information.py [--n 1000] [--queries 1000] [--sample 3]

One finite time, weights and function, kernel and its rows of the queries known on both sides. Without
the engine, each example's removal takes e^{−tK} of what remains and a solve: a few removals are timed,
by the faster of SciPy's and torch's exponential, and the rest is multiplied out. Every smoothing and the
end of training are timed beside it, on the same model made afresh. Data: that of `cost.py`.
"""

import argparse
import json
from functools import partial

import numpy as np
import scipy.linalg
import torch
from cost import known, problem
from measure import alternating, record

import leftout as lo
from leftout.attribution.information import information
from leftout.attribution.weight_noise import InverseFisher, Isotropic, Langevin, SteadyState

TIME = 10.0
"""Between nothing and everything learned: with n = 1000, modes from s = 0.1 on."""

EXPONENTIALS = {
    "scipy": lambda matrix: torch.from_numpy(scipy.linalg.expm(matrix.numpy())),
    "torch": torch.linalg.matrix_exp,
}


def removal(gram, residual, i, exponential):
    """Return the dual of the model that never saw one example."""
    n = len(gram)
    keep = torch.arange(n) != i
    dual = torch.zeros_like(residual)
    part = gram[keep][:, keep]
    learned = residual[keep] - exponential(-TIME * part) @ residual[keep]
    dual[keep] = torch.cholesky_solve(learned, torch.linalg.cholesky(part))
    return dual


def measured(gram, cross, change):
    """Return ½ |dw|² and ½ mean (df)² of a change of the dual."""
    moved = cross @ change
    return [float((change * (gram @ change)).sum()) / 2, float(moved.square().sum(1).mean()) / 2]


def cost(n, m, sample):
    """Seconds and ratios."""
    source, train, query = problem(n, m)
    kernel, points, ask = known(train, query)
    rule = lo.GradientFlow(1.0)
    fitted = lo.fit(kernel, points, rule=rule)
    gram, cross, residual = fitted.gram, fitted.cross(ask.inputs), fitted.residual

    def fresh(of=rule):
        return lo.Fitted(kernel, points, of, gram, kernel_dtype=torch.float64, memory=fitted.memory)

    decayed = lo.GradientFlow(1.0, 0.1)
    ours = {
        "isotropic": lambda: information(fresh(), ask, at=TIME, smoothing=Isotropic()),
        "inverse Fisher": lambda: information(fresh(), ask, at=TIME, smoothing=InverseFisher()),
        "Langevin": lambda: information(fresh(decayed), ask, at=TIME, smoothing=Langevin(1e-3, batch=10)),
        "steady state": lambda: information(
            fresh(decayed), ask, at=TIME, smoothing=SteadyState(1e-3, batch=10)
        ),
        "end of training": lambda: information(fresh(decayed), ask),
    }
    chosen = np.random.default_rng(0).choice(n, sample, replace=False).tolist()

    def again(exponential):
        full = torch.cholesky_solve(
            residual - exponential(-TIME * gram) @ residual, torch.linalg.cholesky(gram)
        )
        return [measured(gram, cross, full - removal(gram, residual, i, exponential)) for i in chosen]

    theirs = {name: partial(again, exponential) for name, exponential in EXPONENTIALS.items()}
    took = alternating(ours | theirs, repeats=4)
    # The model of all examples is one exponential more, which n removals share.
    single = {name: took.pop(name) / (sample + 1) for name in EXPONENTIALS}
    found = ours["isotropic"]()
    got = np.stack([found.weights.values[chosen], found.function.values[chosen]], axis=1)
    want = np.array(again(EXPONENTIALS[min(single, key=single.get)]))
    return {
        "data": source,
        "n": n,
        "queries": m,
        "time": TIME,
        "seconds": took,
        "target_seconds": 5,
        "removals_timed": sample,
        "seconds_one_exponential": single,
        "speedup": min(single.values()) * n / took["isotropic"],
        "target_speedup": 500,
        "speedup_is_of": "n times the mean of the removals timed",
        "largest_difference_relative": (np.abs(got - want).max(0) / np.abs(want).max(0)).tolist(),
    }


def main():
    """Run it and keep its record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--sample", type=int, default=3)
    given = parser.parse_args()
    result = cost(given.n, given.queries, given.sample)
    record("cost-information", json.loads(json.dumps(result)))


if __name__ == "__main__":
    main()

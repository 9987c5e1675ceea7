"""Leave-one-out of a million examples of 512 features: time and memory beside what the hardware would need.

    python benchmarks/features_at_size.py                             n = 1,000,000, d = 512, 1,000 queries
    python benchmarks/features_at_size.py --n 100000 --features 128   smaller

The data are drawn (unit-variance features, a target of which half is noise), so what is timed is `fit`, the
20 best and worst examples of every query, the mean over queries, and the left-out prediction of every
example. The memory is the largest of the whole process, data and Python included. `floor_seconds` is what the
products alone take at the speed of a matrix product measured here: 2nd² for the singular values, twice 2mnd
for scores and their mean.
"""

import argparse
import resource
import time

import torch
from measure import record

import leftout as lo
from leftout.data.encoding import encoding_of_numbers
from leftout.data.examples import Examples


def seconds(function, *args, **options):
    """Return how long a call takes, and what it returns."""
    began = time.perf_counter()
    result = function(*args, **options)
    return time.perf_counter() - began, result


def flops_per_second(features: int) -> float:
    """Return the speed of a product (8192 × d)(d × d) of float64, the best of five."""
    a = torch.randn(8192, features, dtype=torch.float64)
    b = torch.randn(features, features, dtype=torch.float64)
    best = min(seconds(torch.mm, a, b)[0] for _ in range(5))
    return 2 * 8192 * features**2 / best


def draw(n: int, features: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs and targets; inputs are drawn in pieces, into the memory that they keep."""
    weights = torch.randn(features, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inputs = torch.empty(n, features, dtype=torch.float64)
    targets = torch.empty(n, 1, dtype=torch.float64)
    for start in range(0, n, 65536):
        piece = inputs[start : start + 65536]
        torch.randn(piece.shape, generator=generator, out=piece)
        noise = torch.randn(len(piece), 1, generator=generator, dtype=torch.float64)
        targets[start : start + 65536] = piece @ weights / features**0.5 + noise
    return inputs, targets


def refit_difference(fitted, query, ranked, rows: list[int]) -> float:
    """Return the largest relative difference of listed influences from fits without the example."""
    inputs, targets = fitted.train.inputs, fitted.train.targets
    ridge, worst = fitted.rule.ridge, 0.0
    second_moment = inputs.T @ inputs + ridge * torch.eye(inputs.shape[1], dtype=torch.float64)
    moment = inputs.T @ targets
    points, wanted = query
    for j in rows:
        i = int(ranked.helpful_train[j, 0])
        x, y = inputs[i : i + 1], targets[i : i + 1]
        whole = torch.linalg.solve(second_moment, moment)
        without = torch.linalg.solve(second_moment - x.T @ x, moment - x.T @ y)
        before, after = ((points[j] @ w - wanted[j]).square().sum() / 2 for w in (whole, without))
        influence = float(ranked.helpful[j, 0])
        worst = max(worst, abs(influence - float(after - before)) / abs(influence))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--top", type=int, default=20)
    parser.add_argument("--at", type=float, help="a training time of gradient flow besides")
    options = parser.parse_args()
    n, d, m = options.n, options.features, options.queries
    generator = torch.Generator().manual_seed(0)
    inputs, targets = draw(n, d, generator)
    # Examples are used as they are; of a pair of arrays a copy would be made.
    train = Examples(inputs, targets, encoding_of_numbers(targets, centre="none"))
    query = draw(m, d, generator)
    speed = flops_per_second(d)
    fit_seconds, fitted = seconds(
        lo.fit, lo.kernels.LinearFeatures(), train, rule=lo.Ridge(float(d)), memory="6GB"
    )
    top_seconds, ranked = seconds(lo.leave_one_out, fitted, query, top=options.top)
    mean_seconds, _ = seconds(lo.leave_one_out, fitted, query, mean=True)
    outside_seconds, _ = seconds(lo.out_of_sample, fitted)
    memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total = fit_seconds + top_seconds + mean_seconds + outside_seconds
    result = {
        "n": n,
        "features": d,
        "queries": m,
        "top": options.top,
        "seconds": {
            "fit": fit_seconds,
            "top, with the singular values": top_seconds,
            "mean": mean_seconds,
            "out of sample": outside_seconds,
            "all": total,
        },
        "floor_seconds": (2 * n * d**2 + 4 * m * n * d) / speed,
        "product_flops_per_second": speed,
        "peak_bytes": memory,
        "bytes_of_the_inputs": 8 * n * d,
        "refit_difference": refit_difference(fitted, query, ranked, [0, m // 2]),
        "promised_seconds": 180,
        "promised_bytes": 6e9,
    }
    if options.at is not None:
        flow = fitted.with_rule(lo.GradientFlow(1.0 / d))
        time_seconds, _ = seconds(lo.leave_one_out, flow, query, at=options.at, top=options.top)
        result["seconds"]["top at a finite time"] = time_seconds
        result["at"] = options.at
        result["peak_bytes_with_the_time"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    record("features-at-size", result)


if __name__ == "__main__":
    main()

"""Is what a learning curve foretells what larger samples then show? Predicted, held out, and measured.

    python benchmarks/curve.py                  MNIST and CIFAR-10 from 1000 to 10 000, digits from 500
    python benchmarks/curve.py --largest 3000   to 3000 only: minutes instead of half an hour
    python benchmarks/curve.py --draws 5        from so many disjoint samples of each

All examples come from one file (the official test images are a little easier than the training images):
10 000 of which samples are drawn, 5000 held out. Measured: the model fitted to the first n of the 10 000, on
all held out. An interval is for the expected error; beside it stands whether the one measured lies inside.

Three other ways are beside it: a line through the logarithms of what quarters, halves and all of the sample
measure ("line"); eigenlearning with the sample's own modes and coefficients, each example used twice
("plug-in"); and no change.
"""

import argparse
import time

import numpy as np
import torch
from measure import data_folder, record

import leftout as lo
from leftout.diagnostics.eigenlearning.eigenvalue_equation import kappa_of
from leftout.diagnostics.learning_curve.learning_curve import learning_curve

# Kernel, and its ridges: small, medium and the default.
KERNELS = {
    "two-layer-relu": (lo.kernels.TwoLayerReLU(), (0.01, 0.1, 1.0)),
    "relu, 2": (lo.kernels.ReLU(2), (0.1, 1.0)),
}


def measured(gram, every, n, ridge, pool, splits):
    """Return error, its standard error, and accuracy: of n of the pool, on all that are outside the pool.

    Where there are few examples (digits) that is repeated with other splits of all of them.
    """
    errors, answers = [], []
    for split in range(splits):
        order = torch.arange(len(every))
        if split:
            order = torch.randperm(len(every), generator=torch.Generator().manual_seed(split))
        some, held = order[:n], order[pool:]
        shifted = gram[some][:, some]
        shifted.diagonal().add_(ridge)
        torch.linalg.cholesky(shifted, out=shifted)
        dual = torch.cholesky_solve(every.targets[some], shifted)
        predicted = gram[held][:, some] @ dual
        own = every.select(held)
        errors.append((predicted - own.targets).square().sum(1))
        answers.append(own.accuracy(predicted))
    each = torch.stack(errors)
    # Splits share examples: the standard error is that of all examples once, not of all splits.
    spread = float(each.std()) / min(each.numel(), len(every)) ** 0.5
    return float(each.mean()), spread, float(np.mean(answers))


def line(curve, n):
    """Return the error at n on a line through the logarithms of what was measured."""
    sizes = np.log([one.n for one in curve.measured])
    slope, height = np.polyfit(sizes, np.log([one.error for one in curve.measured]), 1)
    return float(np.exp(height + slope * np.log(n)))


def plug_in(fitted, n, ridge):
    """Return the error that the sample's own modes and coefficients foretell."""
    values = fitted.spectrum.values.clamp_min(0) / len(fitted)
    power = fitted.spectrum.coordinates(fitted.residual).square().sum(1) / len(fitted)
    learned = values / (values + kappa_of(values, n=n, ridge=ridge))
    return float(n / (n - learned.square().sum()) * ((1 - learned).square() * power).sum())


def row(curve, fitted, place, truth, ridge):
    """Return one comparison."""
    n, (error, spread, accuracy) = curve.n[place], truth
    low, high = curve.error_low[place], curve.error_high[place]
    return {
        "n": n,
        "error": curve.error[place],
        "error_low": low,
        "error_high": high,
        "measured": error,
        "relative": curve.error[place] / error - 1,
        "measured_standard_error": spread,
        "inside": low <= error <= high,
        "inside_with_its_spread": low - 1.96 * spread <= error <= high + 1.96 * spread,
        "width": high / curve.error[place] - 1,
        "extrapolated": curve.extrapolated[place],
        "accuracy": curve.accuracy[place],
        "accuracy_low": curve.accuracy_low[place],
        "accuracy_high": curve.accuracy_high[place],
        "accuracy_measured": accuracy,
        "accuracy_inside": curve.accuracy_low[place] <= accuracy <= curve.accuracy_high[place],
        "line": line(curve, n) / error - 1,
        "plug_in": plug_in(fitted, n, ridge) / error - 1,
        "no_change": curve.measured[-1].error / error - 1,
    }


def compared(source, name, *, pool_size, held_size, at_hand, sizes, draws, splits):
    """Return all comparisons of one data set and kernel."""
    kernel, ridges = KERNELS[name]
    every, _ = lo.load(source, n_train=pool_size + held_size, n_query=10, normalise=kernel.normalise)
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(1))
    every = every.select(order)
    pool, gram = every.select(range(pool_size)), lo.fit(kernel, every).gram
    rows = []
    for ridge in ridges:
        truths = [measured(gram, every, n, ridge, pool_size, splits) for n in sizes]
        for draw in range(draws):
            sample = pool.select(range(draw * at_hand, (draw + 1) * at_hand))
            fitted = lo.fit(kernel, sample, rule=lo.Ridge(ridge))
            began = time.perf_counter()
            curve = learning_curve(fitted, sizes, seed=draw)
            took = time.perf_counter() - began
            for place, truth in enumerate(truths):
                told = row(curve, fitted, place, truth, ridge)
                told |= {"kernel": name, "ridge": ridge, "draw": draw, "seconds": took}
                rows.append(told)
                print(
                    f"{source.split(':')[0]:8} {name:15} λ {ridge:<5g} n {told['n']:6} {told['error']:.4f} "
                    f"({told['error_low']:.4f} … {told['error_high']:.4f}) measured {told['measured']:.4f} "
                    f"{told['relative']:+.1%} {'inside' if told['inside'] else 'OUTSIDE'}; "
                    f"line {told['line']:+.0%}, plug-in {told['plug_in']:+.0%}",
                    flush=True,
                )
    return rows


def summary(rows):
    """Return what the rows come to, by size."""
    return {
        str(n): {
            "comparisons": len(some),
            "inside": sum(one["inside"] for one in some),
            "inside_with_its_spread": sum(one["inside_with_its_spread"] for one in some),
            "accuracy_inside": sum(one["accuracy_inside"] for one in some),
            "narrow": sum(one["width"] <= 0.1 for one in some),
            "narrow_and_within_10_percent": sum(
                one["width"] <= 0.1 and abs(one["relative"]) <= 0.1 for one in some
            ),
            **{
                f"mean_abs_{key}": float(np.mean([abs(one[key]) for one in some]))
                for key in ("relative", "line", "plug_in", "no_change")
            },
            "mean_width": float(np.mean([one["width"] for one in some])),
        }
        for n in sorted({one["n"] for one in rows})
        for some in [[one for one in rows if one["n"] == n]]
    }


def main():
    """Compare and keep the record."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--largest", type=int, default=10_000)
    asked.add_argument("--draws", type=int, default=3)
    given = asked.parse_args()
    result, folder = {}, data_folder()
    sets = {"digits": ("digits", 1200, 580, 500, (1000, 1200))}
    if folder is not None:
        sizes = tuple(n for n in (2000, 5000, 10_000) if n <= given.largest) or (given.largest,)
        held = min(5000, given.largest)
        sets["mnist"] = (f"mnist:{folder / 'mnist'}", given.largest, held, 1000, sizes)
        sets["cifar10"] = (f"cifar10:{folder / 'cifar10.zip'}", given.largest, held, 1000, sizes)
    for name, (source, pool, held, at_hand, sizes) in sets.items():
        rows = [
            one
            for kernel in KERNELS
            for one in compared(
                source,
                kernel,
                pool_size=pool,
                held_size=held,
                at_hand=at_hand,
                sizes=sizes,
                draws=min(given.draws, pool // at_hand),
                splits=10 if name == "digits" else 1,
            )
        ]
        result[name] = {"at_hand": at_hand, "summary": summary(rows), "rows": rows}
    record("curve", result)


if __name__ == "__main__":
    main()

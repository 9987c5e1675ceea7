"""Exact left-out predictions: leftout beside BoTorch's efficient_loo_cv, scikit-learn's RidgeCV, and refits.

    python benchmarks/scale.py [--n 5000] [--tools PYTHON]

The same numbers by all: a Gaussian kernel with its width and noise given (leftout, BoTorch, refits by
KernelRidge), and linear features with a ridge (leftout, RidgeCV). Every tool runs in a process of its own, in
float64, on the same threads, three times in turns; given are the shortest time, loading and import aside, and
the rise of the resident size. Refits are timed for three examples, and all of them counted. Floor: Cholesky
and inverse, n³ operations, and 8n² bytes for a matrix; of d features 2nd² and 8nd. Needs an interpreter with
BoTorch (--tools; this one if not said).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

D, WIDTH, RIDGE, REFITS = 16, 4.0, 0.1, 3


def problem(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and numbers to predict."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(n, D))
    y = np.sin(x[:, 0]) + x[:, 1] * x[:, 2] / 2 + 0.3 * draw.normal(size=n)
    return x, (y - y.mean())[:, None]


def gaussian(x, z):
    """Return exp(−|x − z|² / 2w²), of tensors."""
    squares = (x**2).sum(1)[:, None] + (z**2).sum(1) - 2 * x @ z.T
    return (-squares.clamp(min=0) / (2 * WIDTH**2)).exp()


def by_leftout(x, y):
    import leftout as lo

    return lambda: lo.out_of_sample(lo.fit(lo.kernels.From(gaussian), (x, y), rule=lo.Ridge(RIDGE))).numpy()


def by_leftout_in_tiles(x, y):
    import torch

    import leftout as lo

    options = {"rule": lo.Ridge(RIDGE), "solver": "tiled", "tile_dtype": torch.float64}
    return lambda: lo.out_of_sample(lo.fit(lo.kernels.From(gaussian), (x, y), **options)).numpy()


def by_leftout_features(x, y):
    import leftout as lo

    return lambda: lo.out_of_sample(lo.fit(lo.kernels.LinearFeatures(), (x, y), rule=lo.Ridge(RIDGE))).numpy()


def by_botorch(x, y):
    import torch
    from botorch.cross_validation import efficient_loo_cv
    from botorch.models import SingleTaskGP
    from gpytorch.kernels import RBFKernel
    from gpytorch.means import ZeroMean

    def run():
        inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
        kernel = RBFKernel()
        noise = torch.full_like(targets, RIDGE)
        model = SingleTaskGP(
            inputs, targets, noise, covar_module=kernel, mean_module=ZeroMean(), outcome_transform=None
        )
        kernel.lengthscale = WIDTH
        model.double().eval()
        with torch.no_grad():
            return efficient_loo_cv(model).posterior.mean.reshape(-1, 1).numpy()

    return run


def by_ridge_cv(x, y):
    from sklearn.linear_model import RidgeCV

    def run():
        model = RidgeCV(
            alphas=[RIDGE], fit_intercept=False, scoring="neg_mean_squared_error", store_cv_results=True
        )
        return model.fit(x, y[:, 0]).cv_results_.reshape(-1, 1)

    return run


def by_refits(x, y):
    from sklearn.kernel_ridge import KernelRidge

    def run():
        answers = []
        for row in range(REFITS):
            keep = np.arange(len(x)) != row
            model = KernelRidge(alpha=RIDGE, kernel="rbf", gamma=1 / (2 * WIDTH**2)).fit(x[keep], y[keep])
            answers.append(model.predict(x[row : row + 1]))
        return np.concatenate(answers)

    return run


TOOLS = {
    "leftout, dense": by_leftout,
    "leftout, tiles": by_leftout_in_tiles,
    "BoTorch efficient_loo_cv": by_botorch,
    "KernelRidge refits": by_refits,
    "leftout, features": by_leftout_features,
    "RidgeCV": by_ridge_cv,
}
OURS = tuple(name for name in TOOLS if name.startswith("leftout"))


def _kilobytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    raise KeyError(key)


def work(name: str, n: int, out: Path) -> None:
    """Run one tool once in this process, and write what it took."""
    run = TOOLS[name](*problem(n))
    TOOLS[name](*problem(200))()  # what is loaded when first used
    Path("/proc/self/clear_refs").write_text("5")
    before, began = _kilobytes("VmRSS"), time.perf_counter()
    answer = run()
    took = time.perf_counter() - began
    np.save(out.with_suffix(".npy"), answer)
    out.write_text(json.dumps({"seconds": took, "bytes": 1024 * (_kilobytes("VmHWM") - before)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=5000)
    parser.add_argument("--tools", default=sys.executable)
    parser.add_argument("--work", nargs=2, metavar=("NAME", "FILE"))
    asked = parser.parse_args()
    if asked.work:
        work(asked.work[0], asked.n, Path(asked.work[1]))
        return
    taken: dict[str, dict[str, float]] = {}
    answers = {}
    with tempfile.TemporaryDirectory() as place:
        for _ in range(3):
            for name in TOOLS:
                out = Path(place) / "out.json"
                python = sys.executable if name in OURS else asked.tools
                words = [python, __file__, "--n", str(asked.n), "--work", name, str(out)]
                subprocess.run(words, check=True)
                once = json.loads(out.read_text())
                best = taken.setdefault(name, once)
                taken[name] = {key: min(best[key], once[key]) for key in once}
                answers[name] = np.load(out.with_suffix(".npy"))
    refits = taken["KernelRidge refits"]
    refits["seconds for all"] = refits["seconds"] / REFITS * asked.n
    same = {
        "tiles": ("leftout, tiles", "leftout, dense"),
        "BoTorch": ("BoTorch efficient_loo_cv", "leftout, dense"),
        "RidgeCV": ("RidgeCV", "leftout, features"),
    }
    difference = {
        name: float(np.abs(answers[a] - answers[b]).max() / np.abs(answers[b]).max())
        for name, (a, b) in same.items()
    }
    difference["refits"] = float(
        np.abs(answers["KernelRidge refits"] - answers["leftout, dense"][:REFITS]).max()
        / np.abs(answers["leftout, dense"]).max()
    )
    from measure import record

    record("scale", {"n": asked.n, "d": D, "taken": taken, "largest difference, relative": difference})


if __name__ == "__main__":
    main()

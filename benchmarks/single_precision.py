"""What a kernel matrix in float32 changes: predictions and influence, beside float64.

    python benchmarks/single_precision.py        MNIST digits, 1,000 and 2,000 of them, 1,000 queries

The kernel is evaluated and kept in float32 (`dtype=torch.float32`), then fitted in float64 as always. Of each
kernel, number of digits and ridge: how many queries' predicted classes change, the largest change of a
prediction beside the largest prediction, and the same of leave-one-out influence. The control: how many
classes change where the matrix is rounded to the 8 bits of bfloat16. The convolutional kernel sees pictures
of 14 × 14.
"""

import argparse
from typing import Any

import torch
from measure import data_folder, record

import leftout as lo

QUERIES = 1000
KERNELS = {
    "fully connected, 2 hidden layers": (lo.kernels.ReLU(2, bias_variance=0.3), (1000, 2000)),
    "fully connected, 8 hidden layers": (lo.kernels.ReLU(8, bias_variance=0.1), (1000, 2000)),
    "convolutional, 3 layers, flattened": (lo.kernels.ConvReLU(3), (1000,)),
}
RIDGES = (1e-3, 0.1, 1.0)


def fit(matrix: torch.Tensor, targets: torch.Tensor, rows: torch.Tensor, ridge: float) -> Any:
    """Return the model of some rows of a matrix."""
    return lo.fit(lo.kernels.Precomputed(matrix), (rows, targets), rule=lo.Ridge(ridge))


def effects(matrices: dict[str, torch.Tensor], train: Any, query: Any, ridge: float) -> dict[str, float]:
    """Return how far models of float32 and float64 matrices are apart."""
    numbers = torch.arange(len(train) + len(query), dtype=torch.float64)[:, None]
    rows, queries = numbers[: len(train)], numbers[len(train) :]
    models = {name: fit(matrix, train.targets, rows, ridge) for name, matrix in matrices.items()}
    double, single, half = (models[name].predict(queries) for name in ("float64", "float32", "bfloat16"))
    asked = queries[:50], query.targets[:50]
    scores = [lo.leave_one_out(models[name], asked).values for name in ("float64", "float32")]
    return {
        "classes_changed": int((double.argmax(1) != single.argmax(1)).sum()),
        "prediction_change": float((double - single).abs().max() / double.abs().max()),
        "influence_change": float(abs(scores[0] - scores[1]).max() / abs(scores[0]).max()),
        "classes_changed_by_bfloat16": int((double.argmax(1) != half.argmax(1)).sum()),
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    folder = data_folder()
    if folder is None:
        raise SystemExit("no real data: set LEFTOUT_DATA to a folder with mnist/")
    rows = []
    for name, (kernel, sizes) in KERNELS.items():
        for n in sizes:
            train, query = lo.load(
                f"mnist:{folder / 'mnist'}", n_train=n, n_query=QUERIES, seed=0, normalise="sphere"
            )
            inputs = torch.cat([train.inputs, query.inputs]).double()
            if "convolutional" in name:
                inputs = torch.nn.functional.avg_pool2d(inputs.reshape(-1, 1, 28, 28), 2)
            matrices = {
                "float64": lo.kernels.gram(kernel, inputs),
                "float32": lo.kernels.gram(kernel, inputs, dtype=torch.float32),
            }
            matrices["bfloat16"] = matrices["float64"].bfloat16().double()
            kernel_change = (matrices["float64"] - matrices["float32"]).abs().max()
            for ridge in RIDGES:
                rows.append(
                    {
                        "kernel": name,
                        "n": n,
                        "ridge": ridge,
                        "ridge_over_mean_diagonal": ridge / float(matrices["float64"].diagonal().mean()),
                        "kernel_change": float(kernel_change / matrices["float64"].abs().max()),
                        **effects(matrices, train, query, ridge),
                    }
                )
                print(rows[-1], flush=True)
    record("single-precision", {"queries": QUERIES, "rows": rows})


if __name__ == "__main__":
    main()

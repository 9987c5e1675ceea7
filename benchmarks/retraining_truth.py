"""Truth by retraining: MNIST, 10 classes, an MLP 784-128-128-10, random halves and seeds, stopped late and
early.

    python benchmarks/retraining_truth.py OUT_FOLDER
    python benchmarks/retraining_truth.py OUT_FOLDER --subsets 4 --seeds 2      a try

SGD with momentum .9, weight decay 1e-3, batches of 50, mean cross-entropy. `OUT_FOLDER/late` and `early` hold
the trainings, so that a run that was stopped goes on; `late.zarr` and `early.zarr` hold the truth, as
`referee` takes it; `networks.json` what was trained and how long it took.
"""

import argparse
import json
import time
from pathlib import Path

from measure import data_folder
from torch import nn

import leftout as lo

EPOCHS = {"late": 40, "early": 4}


def build() -> nn.Module:
    """Return the MLP with random weights."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def recipe(epochs: int) -> lo.SGDTraining:
    """Return how the networks are trained."""
    return lo.SGDTraining(
        build=build, epochs=epochs, batch_size=50, learning_rate=0.01, momentum=0.9, weight_decay=1e-3
    )


def main() -> None:
    """Train all networks of both settings, and save what they say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--subsets", type=int, default=48)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    train, query = lo.load(
        f"mnist:{data_folder() / 'mnist'}", n_train=1000, n_query=100, seed=0, normalise="sphere"
    )
    subsets = lo.random_subsets(len(train), count=arguments.subsets, seed=0)
    report = {}
    for name, epochs in EPOCHS.items():
        began = time.perf_counter()
        truth = lo.retrain_subsets(
            recipe(epochs),
            train,
            query,
            subsets,
            seeds=range(arguments.seeds),
            jobs=arguments.jobs,
            out=arguments.out / name,
        )
        seconds = time.perf_counter() - began
        truth.to_zarr(arguments.out / f"{name}.zarr", mode="w", zarr_format=2, consolidated=False)
        report[name] = {
            "recipe": recipe(epochs).record,
            "steps": recipe(epochs).steps(len(train) // 2),
            "seconds": seconds,
            "mean_loss": float(truth.loss.mean()),
            "way": truth.attrs["way"],
        }
        print(name, json.dumps(report[name]))
    (arguments.out / "networks.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

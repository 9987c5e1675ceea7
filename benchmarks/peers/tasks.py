"""Data and training of every task: a data set and its network, stopped late and early."""

from typing import Any

from measure import data_folder
from networks import BUILD

import leftout as lo

NETWORKS = 5
"""Networks trained on all examples, for methods that take several."""

DATA: dict[str, dict[str, Any]] = {
    "mnist": {"name": "mnist:{}/mnist", "n_train": 1000, "classes": None},
    "cifar": {"name": "{}/cifar10.zip", "n_train": 600, "classes": ["cat", "automobile", "ship"]},
}

RECIPES: dict[str, dict[str, Any]] = {
    "mnist-late": {"epochs": 40, "learning_rate": 0.01, "seeds": 3},
    "mnist-early": {"epochs": 4, "learning_rate": 0.01, "seeds": 3},
    "cifar-late": {"epochs": 20, "learning_rate": 0.005, "seeds": 2},
    "cifar-early": {"epochs": 5, "learning_rate": 0.005, "seeds": 2},
}

SUBSETS = 48


def data(task: str) -> tuple[lo.Examples, lo.Examples]:
    """Return training examples and 100 queries."""
    settings = DATA[_kind(task)]
    name = settings["name"].format(data_folder())
    kept = {"n_train": settings["n_train"], "n_query": 100, "seed": 0, "normalise": "sphere"}
    return lo.load(name, classes=settings["classes"], **kept)


def recipe(task: str) -> lo.SGDTraining:
    """Return how the networks of a task are trained: mean cross-entropy in batches of 50."""
    return lo.SGDTraining(
        build=BUILD[_kind(task)],
        epochs=RECIPES[task]["epochs"],
        learning_rate=RECIPES[task]["learning_rate"],
        batch_size=50,
        momentum=0.9,
        weight_decay=1e-3,
    )


def ridge(task: str, n: int) -> float:
    """Return the ridge that stands for a run on n examples, in the units of the tangent kernel."""
    training = recipe(task)
    rate, decay = training.learning_rate, training.weight_decay
    return lo.training_ridge(
        n=n, learning_rates=rate, steps=training.steps(n), weight_decay=decay, momentum=0.9
    )


def _kind(task: str) -> str:
    return task.partition("-")[0]

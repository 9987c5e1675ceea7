"""What does keeping a label-aware kernel as it is change, and save, when an example is left out?

python benchmarks/labels_frozen.py

For each estimator, at the strength that true leaving one out chooses: time of all scores, how the scores
agree, and what either says of the loss on unseen examples beside the loss on held-out ones.
"""

import argparse

import numpy as np
import torch
from measure import data_folder, record, seconds

import leftout as lo
from leftout.dynamics.fitted import Fitted
from leftout.kernels.pairwise.estimates import ESTIMATORS
from leftout.kernels.pairwise.label_aware import LabelAware

RIDGE = 0.1


def compared(source, classes, estimator, n, m, *, seed):
    """Return one comparison."""
    train, query = lo.load(source, classes=classes, n_train=n, n_query=m, normalise="sphere", seed=seed)
    base, rule = lo.kernels.ReLU(1), lo.Ridge(RIDGE)
    found = lo.choose_strength(LabelAware(base, estimator), train, rule=rule)
    kernel = found.kernel
    strength = kernel.strength or 0.1  # where labels add nothing, at the paper's strength
    fitted = lo.fit(LabelAware(base, estimator, strength), train, rule=rule)
    frozen = fitted.freeze_labels()
    took = {"true": seconds(lambda: lo.leave_one_out(fitted, query), repeats=1)}
    true, kept = lo.leave_one_out(fitted, query).values, lo.leave_one_out(frozen, query).values
    took["frozen"] = seconds(lambda: lo.leave_one_out(_frozen(fitted), query))

    def loss(model):
        return float((lo.out_of_sample(model) - train.targets).square().sum(1).mean() / 2)

    held = float(query.mean_loss(fitted.predict(query)))
    blind = lo.fit(base, train, rule=rule)
    return {
        "estimator": estimator,
        "seed": seed,
        "chosen": kernel.strength,
        "strength": strength,
        "pearson": float(np.corrcoef(true.ravel(), kept.ravel())[0, 1]),
        "relative": float(np.linalg.norm(true - kept) / np.linalg.norm(true)),
        "times": took["true"] / took["frozen"],
        "seconds": took,
        "loss": {
            "held_out": held,
            "left_out": loss(fitted),
            "left_out_frozen": loss(frozen),
            "blind_held_out": float(query.mean_loss(blind.predict(query))),
            "blind_left_out": loss(blind),
        },
    }


def _frozen(fitted):
    """Return the model frozen, with nothing known yet of its inverse."""
    kernel = fitted.kernel.freeze_labels()
    return Fitted(
        kernel, fitted.train, fitted.rule, fitted.gram, kernel_dtype=fitted.kernel_dtype, memory=fitted.memory
    )


def main():
    """Compare and keep the record."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--n", type=int, default=200)
    asked.add_argument("--seeds", type=int, default=3)
    given = asked.parse_args()
    torch.set_num_threads(1)
    folder = data_folder()
    sets = {"digits": ("digits", ["3", "8"], 150)}
    if folder is not None:
        sets["cifar10"] = (f"cifar10:{folder / 'cifar10.zip'}", ["deer", "dog"], 1000)
    result = {}
    for name, (source, classes, held) in sets.items():
        rows = [
            compared(source, classes, one, given.n, held, seed=seed)
            for one in ESTIMATORS
            for seed in range(given.seeds)
        ]
        for one in rows:
            print(name, one, flush=True)
        result[name] = {"n": given.n, "ridge": RIDGE, "rows": rows}
    record("labels-frozen", result)


if __name__ == "__main__":
    main()

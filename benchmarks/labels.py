"""How well are wrong labels found and put right, where 10 % were flipped and the truth was kept?

    python benchmarks/labels.py              digits, and 3000 MNIST images where they are at hand

The area under the ROC curve ranks all training examples by their exact left-out margin. A suggestion is
right if it is the label before the flip. Two shares: over the flips among as many rows of least margin as
there are flips (what a person looks at who knows the noise level), and over all flips, where the margin is
negative.
"""

import torch
from measure import data_folder, record
from sklearn.metrics import roc_auc_score

import leftout as lo
from leftout.curation.mislabelled import find_mislabelled, label_margins
from leftout.data.planted import flip_labels

RIDGE = 0.1


def measured(source, seed, ridge, **counts):
    """Return the three numbers for one draw of examples and flips."""
    train, _ = lo.load(source, seed=seed, **counts)
    planted = flip_labels(train, 0.1, generator=torch.Generator().manual_seed(seed))
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), planted.examples, rule=lo.Ridge(ridge))
    found = find_mislabelled(fitted)
    _, _, suggested = label_margins(planted.examples, lo.out_of_sample(fitted))
    order = [row for row in found.margins.argsort(stable=True).tolist() if float(found.margins[row]) < 0]
    flipped = torch.zeros(len(train), dtype=torch.bool)
    flipped[planted.rows] = True
    right = {row: suggested[row] == int(planted.truth[row]) for row in order if flipped[row]}
    first = [row for row in order[: len(planted.rows)] if flipped[row]]
    return {
        "seed": seed,
        "ridge": ridge,
        "examples": len(train),
        "flipped": len(planted.rows),
        "doubted": len(found.suspects),
        "flips_doubted": sum(bool(flipped[suspect.row]) for suspect in found.suspects),
        "auc": float(roc_auc_score(flipped.numpy(), -found.margins.numpy())),
        "suggestions_right_among_first": sum(right[row] for row in first) / len(first),
        "suggestions_right_of_all_flips": sum(right.values()) / len(planted.rows),
    }


def main():
    """Measure and keep the record."""
    result = {"digits": [measured("digits", seed, RIDGE) for seed in range(5)]}
    folder = data_folder()
    if folder is not None:
        result["mnist"] = [
            measured(f"mnist:{folder / 'mnist'}", seed, ridge, n_train=3000, n_query=100)
            for ridge in (0.03, RIDGE)
            for seed in range(5)
        ]
    keys = ("auc", "suggestions_right_among_first", "suggestions_right_of_all_flips")
    result["means"] = {
        f"{name}, ridge {ridge}": {
            key: sum(row[key] for row in rows if row["ridge"] == ridge)
            / sum(row["ridge"] == ridge for row in rows)
            for key in keys
        }
        for name, rows in list(result.items())
        for ridge in sorted({row["ridge"] for row in rows})
    }
    record("labels", result)


if __name__ == "__main__":
    main()

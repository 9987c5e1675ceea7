"""Does training make an ordinary network local, and does that hold at examples it was not trained on?

    python benchmarks/elasticity.py

Digits, 1000 to train on and the others as queries; two fully connected layers, 512 hidden units, 200 epochs
of Adam at 0.001 in batches of 100, mean squared error. The relative ratio of all 45 pairs of classes before
and after, between queries and training examples.
"""

import argparse

import numpy as np
import torch
from measure import record
from torch import nn

import leftout as lo

HIDDEN, EPOCHS, BATCH, RATE = 512, 200, 100, 1e-3


def trained(module, train, *, seed):
    """Train the module, in place."""
    generator = torch.Generator().manual_seed(seed)
    inputs, targets = train.inputs.float(), train.targets.float()
    optimiser = torch.optim.Adam(module.parameters(), lr=RATE)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(inputs), generator=generator).split(BATCH):
            optimiser.zero_grad()
            nn.functional.mse_loss(module(inputs[rows]), targets[rows]).backward()
            optimiser.step()


def ratios(module, train, query):
    """Return RR of each two classes, between queries and training examples."""
    found = lo.elasticity(lo.kernels.Empirical(module, outputs="trace"), train, query)
    return {
        f"{found['class'].values[a]} and {found['class'].values[b]}": float(found["query_ratio"][a, b])
        for a, b in zip(*np.triu_indices(len(found["class"]), 1), strict=True)
    }


def measured(seed):
    """Return what training one network changes."""
    train, query = lo.load("digits", n_train=1000, normalise=None, centre="none", seed=seed)
    torch.manual_seed(seed)
    features = train.inputs[0].numel()
    module = nn.Sequential(nn.Flatten(), nn.Linear(features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))
    before = ratios(module, train, query)
    trained(module, train, seed=seed)
    after = ratios(module, train, query)
    with torch.no_grad():
        right = module(query.inputs.float()).argmax(1) == query.labels
    return {
        "seed": seed,
        "queries": len(query),
        "right": float(right.double().mean()),
        "before": float(np.mean(list(before.values()))),
        "after": float(np.mean(list(after.values()))),
        "risen": sum(after[pair] > before[pair] for pair in before),
        "pairs": len(before),
        "least": min(after.items(), key=lambda one: one[1]),
        "most": max(after.items(), key=lambda one: one[1]),
    }


def main():
    """Measure and keep the record."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--seeds", type=int, default=5)
    rows = [measured(seed) for seed in range(asked.parse_args().seeds)]
    for one in rows:
        print(one, flush=True)
    record("elasticity", {"rows": rows})


if __name__ == "__main__":
    main()

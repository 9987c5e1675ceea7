"""What does the kernel of the neural tangent hierarchy cost, against the floor?

    python benchmarks/hierarchy.py              n = 50 to 200, MNIST where it is at hand
    python benchmarks/hierarchy.py --largest 100 --neurons 8192

Floor of the mean over neurons, all pairs of n training inputs: for each neuron 18 n² flops of matrix products
for ReLU, 24 n² for smooth activations (`hierarchy/fourth_order.py`), at the pace of products of n × n by
n × 1024 of this very run; activations and passes over memory are not in it. Beside it stands what forming
the fourth-order kernel would take: n⁴ numbers; and the exact expectation by orthants, n⁴/24 of them.
"""

import argparse

import numpy as np
import torch
from measure import alternating, data_folder, peak_bytes, record, seconds

import leftout as lo
from leftout.kernels.hierarchy.hierarchy import NeuralTangentHierarchy
from leftout.kernels.hierarchy.relu_fourth import fourth_order

PRODUCTS = {"relu": 9, "tanh": 12, "erf": 12, "gelu": 12}
"""Products n × n by n × neurons that the floor has."""


def problem(n):
    """Return unit inputs, their labels and targets."""
    folder = data_folder()
    source = "digits" if folder is None else f"mnist:{folder / 'mnist'}"
    train, _ = lo.load(source, classes=["7", "9"], n_train=n, n_query=10, seed=0)
    return train.inputs.flatten(1), train.labels, train.targets


def sampled(n, activation, neurons):
    """Return time against the floor, memory and accuracy of a mean over neurons."""
    inputs, labels, targets = problem(n)
    asked = NeuralTangentHierarchy(width=1, activation=activation, neurons=neurons)
    kernel = asked.fit_labels(inputs, labels, targets)
    square, wide = torch.randn(n, n).double(), torch.randn(n, 1024).double()
    blocks = PRODUCTS[activation] * neurons // 1024
    took = alternating(
        {
            "change": lambda: kernel.change(inputs),
            "floor": lambda: [torch.mm(square, wide) for _ in range(blocks)],
        }
    )
    change = kernel.change(inputs)
    return {
        "n": n,
        "activation": activation,
        "neurons": neurons,
        "seconds": took["change"],
        "floor_seconds": took["floor"],
        "over_floor": took["change"] / took["floor"],
        "standard_error": float(change.standard_error.norm() / change.value.norm()),
        "peak_bytes": peak_bytes(lambda: kernel.change(inputs)),
        "bytes_of_k4": 8 * n**4,
    }


def exact(n):
    """Return the time of the table of all orthants."""
    inputs, _, _ = problem(n)
    took = seconds(lambda: fourth_order(inputs), repeats=2)
    return {"n": n, "seconds": took, "orthants": n * (n + 1) * (n + 2) * (n + 3) // 24}


def main():
    """Measure and keep the record."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--largest", type=int, default=200)
    asked.add_argument("--neurons", type=int, default=2**16)
    given = asked.parse_args()
    sizes = [n for n in (50, 100, 200) if n <= given.largest]
    rows = [sampled(n, activation, given.neurons) for activation in PRODUCTS for n in sizes]
    tables = [exact(n) for n in (10, 20, 40) if n <= given.largest]
    growth = {
        activation: float(
            np.polyfit(
                np.log(sizes), np.log([one["seconds"] for one in rows if one["activation"] == activation]), 1
            )[0]
        )
        for activation in PRODUCTS
    }
    each = tables[-1]["seconds"] / tables[-1]["orthants"]
    n = sizes[-1]
    result = {
        "threads": torch.get_num_threads(),
        "neurons": rows,
        "growth_exponents": growth,
        "orthants": tables,
        "orthants_at_largest": {
            "n": n,
            "seconds_extrapolated": each * n * (n + 1) * (n + 2) * (n + 3) / 24,
            "bytes": 17 * 8 * n * (n + 1) * (n + 2) * (n + 3) // 24,
        },
    }
    record("hierarchy", result)


if __name__ == "__main__":
    main()

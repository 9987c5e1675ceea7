"""What does an empirical tangent kernel cost, by whole Jacobians and layer by layer, against the floor?

    python benchmarks/empirical.py gram          Gram matrices of several networks, by every method
    python benchmarks/empirical.py cross         a block of queries, once the training side is known
    python benchmarks/empirical.py projection    time and distortion of every projection
    python benchmarks/empirical.py gram --n 500 --only mlp

Floor of a Gram matrix of n inputs, e rows each: one forward and e backward passes over the inputs, and
n² e² p multiplications and additions of a triangle in float64, p parameters, or for a linear layer with
t positions, d inputs and c outputs n² t² (d + e² c + e²) where that is fewer. Passes and products are
timed in the same run, the products as one matrix product of that many operations. Bytes: of the rows, or
of what layers see.
"""

import argparse
import json

import torch
from measure import alternating, record
from torch import nn

from leftout.kernels import Empirical, Gaussian, Rademacher, RandomCoordinates, Sparse
from leftout.kernels.assemble import cross as cross_of
from leftout.kernels.assemble import gram as gram_of
from leftout.kernels.network.features import FactoredGradients

METHODS = ("jacobian", "layers", "auto")


def convolution(channels, outputs, stride=1):
    """Return a convolution and its activation."""
    return [nn.Conv2d(channels, outputs, 3, stride=stride, padding=1), nn.ReLU()]


class Block(nn.Module):
    """A residual block with batch norms."""

    def __init__(self, channels):
        super().__init__()
        first, second = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
        self.inside = nn.Sequential(
            first, nn.BatchNorm2d(channels), nn.ReLU(), second, nn.BatchNorm2d(channels)
        )

    def forward(self, x):
        return torch.relu(x + self.inside(x))


def networks():
    """Return networks, the shape of an input, by name."""
    torch.manual_seed(0)
    return {
        "mlp 784-1024-1": (nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1)), (784,)),
        "mlp 784-256-256-10": (
            nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)),
            (784,),
        ),
        "cnn 28 x 28, 4 layers, 1": (
            nn.Sequential(
                *convolution(1, 32, 2),
                *convolution(32, 32, 2),
                *convolution(32, 64, 2),
                *convolution(64, 64, 2),
                nn.Flatten(),
                nn.Linear(256, 1),
            ),
            (1, 28, 28),
        ),
        "residual 16 x 16, 10": (
            nn.Sequential(
                *convolution(3, 16),
                Block(16),
                *convolution(16, 32, 2),
                Block(32),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(32, 10),
            ).eval(),
            (3, 16, 16),
        ),
    }


def drawn(n, shape, seed=0):
    """Return random inputs: the cost does not depend on them."""
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def looked_at(kernel, inputs):
    """Return the kernel once it knows its network."""
    gram_of(kernel, inputs[:3])
    return kernel


def afresh(kernel, inputs, **options):
    """Return the Gram matrix as if it was never asked for before."""
    kernel._shelf.features = None
    return gram_of(kernel, inputs, **options)


def product_operations(kernel, inputs):
    """Return multiplications and additions of a triangle of n² pairs, as kept by this kernel."""
    parts = kernel._extract(inputs)(inputs[:1])
    each = parts[0].outputs_per_example
    total = 0
    for part in parts:
        if isinstance(part, FactoredGradients):
            (_, t, d), c = part.activations.shape, part.signals.shape[3]
            total += t**2 * (d + each**2 * (c + 1))
        else:
            total += each**2 * part.values.shape[2]
    return total * len(inputs) ** 2


def passes(kernel, inputs):
    """One forward and e backward passes over all inputs, together."""
    outputs = kernel.module(inputs)
    weights = [one for one in kernel.module.parameters() if one.requires_grad]
    for o in range(outputs.shape[1]):
        torch.autograd.grad(outputs[:, o].sum(), weights, retain_graph=True)


def bare_product(operations, side):
    """Return a product of float64 matrices of this side with that many operations."""
    inner = max(1, operations // (2 * side**2))
    left, right = torch.randn(side, inner).double(), torch.randn(inner, side).double()
    return lambda: left @ right


def gram(chosen, n):
    """Every method against the floor."""
    rows = {}
    for name, (module, shape) in chosen.items():
        rows[name] = gram_of_one(module, drawn(n, shape))
        print(name, json.dumps(rows[name], indent=2), flush=True)
    return rows


def gram_of_one(module, inputs):
    """Return times, operations, bytes and ratios of one network."""
    kernels = {one: looked_at(Empirical(module, method=one), inputs) for one in METHODS}
    auto = kernels["auto"]
    operations = {one: product_operations(kernel, inputs) for one, kernel in kernels.items()}
    least = min(operations.values())
    # Pairs at all positions of early convolutions would take minutes to no end.
    timed = [one for one in METHODS if one != "layers" or operations[one] < 50 * least]
    works = {one: lambda k=kernels[one]: afresh(k, inputs) for one in timed}
    works["passes"] = lambda: passes(auto, inputs)
    works["product"] = bare_product(least, min(len(inputs) * auto.outputs, 512))
    took = alternating(works, repeats=2)
    floor = took["passes"] + took["product"]
    whole = afresh(kernels["jacobian"], inputs)
    return {
        "n": len(inputs),
        "outputs": auto.outputs,
        "parameters": auto.record["parameters"],
        "seconds": took,
        "operations": operations,
        "bytes_an_input": {one: k._extract(inputs).bytes_kept for one, k in kernels.items()},
        "over_floor": {one: took[one] / floor for one in timed},
        "jacobian_over_auto": took["jacobian"] / took["auto"],
        "largest_difference_relative": {
            one: float((afresh(kernels[one], inputs) - whole).abs().max() / whole.abs().max())
            for one in timed
        },
    }


def cross(chosen, n, m=100):
    """Queries by the block, against their own passes and one product."""
    rows = {}
    for name, (module, shape) in chosen.items():
        inputs, queries = drawn(n, shape), drawn(m, shape, seed=1)
        kernel = looked_at(Empirical(module), inputs)
        afresh(kernel, inputs)
        kept = kernel._shelf.features is not None
        operations = 2 * product_operations(kernel, inputs) * m // n
        side = min(m * kernel.outputs, 512)
        took = alternating(
            {
                "cross": lambda k=kernel, q=queries, x=inputs: cross_of(k, q, x),
                "passes": lambda k=kernel, q=queries: passes(k, q),
                "product": bare_product(operations, side),
            }
        )
        rows[name] = {
            "n": n,
            "queries": m,
            "training_side_kept": kept,
            "seconds": took,
            "over_floor": took["cross"] / (took["passes"] + took["product"]),
        }
    return rows


def projection(chosen, n, size=200):
    """Time beside that of the exact kernel, and the error it buys."""
    rows = {}
    for name, (module, shape) in chosen.items():
        inputs = drawn(n, shape)
        kinds = {
            "random coordinates": RandomCoordinates(),
            "gaussian": Gaussian(size=size),
            "rademacher": Rademacher(size=size),
            "sparse": Sparse(size=size),
        }
        kernels = {kind: Empirical(module, projection=one) for kind, one in kinds.items()}
        kernels = {"exact": Empirical(module)} | kernels
        for kernel in kernels.values():
            looked_at(kernel, inputs)
        works = {kind: lambda k=kernel, x=inputs: afresh(k, x) for kind, kernel in kernels.items()}
        found = {kind: kernel.distortion(inputs, sample=30) for kind, kernel in kernels.items()}
        rows[name] = {
            "n": n,
            "seconds": alternating(works, repeats=1),
            "distortion": {kind: one.record for kind, one in found.items() if one is not None},
        }
        print(name, json.dumps(rows[name], indent=2), flush=True)
    return rows


def main():
    """Run one benchmark and keep its record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("which", choices=["gram", "cross", "projection"])
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--only", default="", help="networks whose name begins so")
    parser.add_argument("--dry", action="store_true", help="print, and keep no record")
    asked = parser.parse_args()
    chosen = {name: one for name, one in networks().items() if name.startswith(asked.only)}
    result = {"threads": torch.get_num_threads(), **globals()[asked.which](chosen, asked.n)}
    if asked.dry:
        print(json.dumps(result, indent=2))
    else:
        record(f"empirical-{asked.which}", result)


if __name__ == "__main__":
    main()

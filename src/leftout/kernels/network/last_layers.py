"""How many of the last layers does a tangent kernel take, where those of all would take too long?

The matrix of a kernel with k outputs has for each pair of examples k² products of rows of as many numbers as
there are weights (fewer where a layer's activations and signals are kept in place of rows):

    products = (n (n + 1) / 2 + m n) Σ_layers products of a pair

They are counted, not timed: one network and one set of data have the same answer on every machine. A layer
is a submodule with parameters of its own, and the last ones are those registered last.
"""

import torch
from torch import Tensor

from leftout.core.module_call import call, in_any_mode
from leftout.core.module_checks import sample_rows
from leftout.core.modules import layers_of
from leftout.kernels.network.empirical import Empirical
from leftout.kernels.network.layerwise import candidate_layers, factored_products, watch_calls

MOST = 2e12
"""Products of numbers for a kernel matrix from which on only last layers are taken: about a minute of two
cores. ResNet-20 (271,000 weights, 10 outputs) with 500 examples and 100 queries has 4.7e12."""


def affordable_layers(kernel: Empirical, inputs: Tensor, *, queries: int, most: float = MOST) -> int | None:
    """Return how many last layers a kernel can take; None where it can take all.

    Args:
        inputs: of the training examples.
        queries: their number.
        most: products of numbers, at the most; one layer is taken in any case.

    Cost:
        a forward pass of three inputs.
    """
    n = len(inputs)
    left = most / (n * (n + 1) / 2 + queries * n)
    by_layer = list(products_by_layer(kernel, inputs).values())
    for taken, products in enumerate(reversed(by_layer)):
        left -= products
        if left < 0:
            return max(1, taken)
    return None


@in_any_mode
def products_by_layer(kernel: Empirical, inputs: Tensor) -> dict[str, int]:
    """Return the products of numbers that a pair of inputs takes, by layer in their order."""
    rows, sizes = kernel.outputs or 1, {name: weight.numel() for name, weight in kernel.weights.items()}
    linear = {layer.name: layer for layer in candidate_layers(kernel.module, kernel.weights)}
    sample = sample_rows(inputs).to(kernel.device)
    sample = sample.to(kernel.dtype) if sample.is_floating_point() else sample
    with watch_calls(list(linear.values())) as watch, torch.no_grad():
        call(kernel.module, {}, sample)
    products = {}
    for name, names in layers_of(sizes).items():
        products[name] = rows**2 * sum(sizes[parameter] for parameter in names)
        layer = linear.get(name)
        if layer is not None and layer.weight and layer.groups == 1 and watch.fits(layer, len(sample)):
            inside, outside = layer.module.weight[0].numel(), len(layer.module.weight)
            positions = watch.probes[name][0].numel() // outside
            factored = factored_products(positions=positions, inside=inside, outside=outside, outputs=rows)
            products[name] = min(products[name], factored)
    return products

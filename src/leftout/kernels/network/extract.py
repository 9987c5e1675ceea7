"""Which gradient features are kept of each input, and which passes make them; chosen once for each shape.

| parameters of | kept where that is cheaper | otherwise |
|---|---|---|
| a Linear or Conv2d used once | activations and signals | rows made of them |
| anything else | | rows by vmap over inputs |

Where some parameters need the pass by vmap, rows of all others come along with it. Rows may be
projected: then they are made parameter tensor by parameter tensor, and shortened at once.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from leftout.core.errors import OptionError
from leftout.core.modules import Parameters, bytes_per_row
from leftout.kernels.network.features import FactoredGradients, JacobianRows, LayerFeatures, bytes_of
from leftout.kernels.network.jacobian import fitting_jacobian
from leftout.kernels.network.layerwise import (
    LayerPass,
    LinearLayer,
    layer_passes,
    linear_layers,
    prefer_factors,
)
from leftout.kernels.network.projection import WIDTH, Projection

Method = Literal["auto", "jacobian", "layers"]

PASSES = 4
"""Times what a forward pass keeps of an input that forward and backward hold of it."""


WORTHWHILE = 0.1
"""Share of all parameters in factored layers below which a second kind of pass costs more than it saves."""


@dataclass(frozen=True)
class NetworkOutputs:
    """A network and the combinations of its outputs whose gradients are wanted.

    Attributes:
        module: never written to.
        weights: the parameters that gradients are taken in.
        combinations: one a row.
        merged: whether products are summed over the combinations.
    """

    module: nn.Module
    weights: Parameters
    combinations: Float[Tensor, "r k"]
    merged: bool

    @property
    def rows_per_input(self) -> int:
        """Return how many rows of the kernel each input has."""
        return 1 if self.merged else len(self.combinations)

    @property
    def sizes(self) -> list[int]:
        """Return how many numbers each parameter tensor has."""
        return [weight.numel() for weight in self.weights.values()]


@final
class Extract:
    """Makes the gradient features of batches of inputs.

    Args:
        sample: one to three inputs of the shape it is for, to look at the network with.
        without: names of layers that are not used once by every input, whose parameters need rows.

    Raises:
        OptionError: method="layers", and no layer allows it.

    Warns:
        LoopWarning: Jacobians are taken one input at a time.
    """

    def __init__(
        self,
        network: NetworkOutputs,
        *,
        method: Method,
        projection: Projection | None,
        sample: Tensor,
        without: Collection[str] = (),
    ) -> None:
        self.network = network
        self.method = method
        self.projection = projection
        module, weights = network.module, network.weights
        self.layers = [] if method == "jacobian" else linear_layers(module, weights, sample, without=without)
        if method == "layers" and not self.layers:
            raise OptionError(
                'method="layers" needs a Linear or Conv2d layer that is called once and whose '
                f"parameters nothing else uses; {type(module).__name__} has none among the "
                'parameters asked for. Pass method="auto".'
            )
        if method == "auto" and len(weights) > sum(len(layer.names) for layer in self.layers):
            self.layers = self._layers_worth_a_pass(sample[:1])
        covered = {name for layer in self.layers for name in layer.names}
        self.other_weights = {name: weight for name, weight in weights.items() if name not in covered}
        self.jacobian = None
        if self.other_weights:
            outputs = network.combinations.shape[1]
            self.jacobian = fitting_jacobian(module, self.other_weights, sample[:2], outputs=outputs)
        self.bytes_kept, self.bytes_working = self._bytes(sample)

    def __call__(self, inputs: Tensor) -> list[LayerFeatures]:
        """Return the features of a batch."""
        if self.projection is not None:
            return [self._projected_rows(inputs, self.projection)]
        features: list[LayerFeatures] = []
        for layer, layer_pass in self._layer_passes(inputs):
            features += self._layer_features(layer, layer_pass)
        features += [self._rows(rows) for rows in self._jacobians(inputs).values()]
        return features

    def bytes_of_tile(self, side: int) -> int:
        """Return the bytes held by products of `side` inputs with as many, beside values and rows.

        Pieces of products between positions are not among them.
        """
        drawn = 0 if self.projection is None else 2 * 8 * WIDTH * self.projection.size
        return drawn + 2 * 8 * side * self.numbers_converted

    def _layers_worth_a_pass(self, sample: Tensor) -> list[LinearLayer]:
        """Return the layers to keep as factors, where other parameters need a pass by vmap anyway.

        That pass makes rows at no more cost than signals would, so all other layers become rows too.
        """
        if self.projection is not None:
            return []
        sizes = {name: weight.numel() for name, weight in self.network.weights.items()}
        paired = [layer for layer, passed in self._layer_passes(sample) if self._as_factors(layer, passed)]
        share = sum(sizes[name] for layer in paired for name in layer.names) / sum(sizes.values())
        return paired if share > WORTHWHILE else []

    def _layer_passes(self, inputs: Tensor) -> list[tuple[LinearLayer, LayerPass]]:
        if not self.layers:
            return []
        network = self.network
        passes = layer_passes(network.module, self.layers, network.combinations, inputs)
        return [(layer, passes[layer.name]) for layer in self.layers]

    def _jacobians(self, inputs: Tensor) -> Parameters:
        if self.jacobian is None:
            return {}
        network = self.network
        jacobians = self.jacobian(network.module, self.other_weights, network.combinations, inputs)
        return {
            # Of a parameter without axes as well: (n, r) become (n, r, 1).
            name: rows.reshape(*rows.shape[:2], self.other_weights[name].numel())
            for name, rows in jacobians.items()
        }

    def _layer_features(self, layer: LinearLayer, layer_pass: LayerPass) -> list[LayerFeatures]:
        """Return the features of a layer: its factors, or rows of its weight and of its bias."""
        if self._as_factors(layer, layer_pass):
            activations, signals = layer_pass.activations.flatten(2), layer_pass.signals.flatten(3)
            if self.network.merged:
                signals = signals.transpose(1, 2).flatten(2)[:, None]  # (n, 1, t, r c)
            return [FactoredGradients(activations, signals, bias=layer.bias)]
        rows: list[LayerFeatures] = [self._rows(layer_pass.weight_rows())] if layer.weight else []
        return [*rows, self._rows(layer_pass.bias_rows())] if layer.bias else rows

    def _as_factors(self, layer: LinearLayer, layer_pass: LayerPass) -> bool:
        """Return whether factors are kept of a layer, and not rows."""
        if not layer.weight or layer.groups > 1:
            return False
        _, t, _, d = layer_pass.activations.shape
        rows, c = layer_pass.signals.shape[1], layer_pass.signals.shape[4]
        outside, outputs = rows * c if self.network.merged else c, self.network.rows_per_input
        cheaper = prefer_factors(positions=t, inside=d, outside=outside, outputs=outputs)
        return cheaper or self.method == "layers"

    def _rows(self, rows: Float[Tensor, "n r s"]) -> LayerFeatures:
        return JacobianRows(rows.flatten(1)[:, None] if self.network.merged else rows)

    def _projected_rows(self, inputs: Tensor, projection: Projection) -> LayerFeatures:
        """Return projected rows, shortened one parameter tensor after the other."""
        network = self.network
        sizes, numbers = network.sizes, {name: i for i, name in enumerate(network.weights)}
        into = self._empty(inputs, projection)

        def add(name: str, rows: Tensor) -> None:
            projection.add(into, rows.detach(), tensor=numbers[name], sizes=sizes)

        for layer, layer_pass in self._layer_passes(inputs):
            for name in layer.names:
                add(name, layer_pass.weight_rows() if name.endswith("weight") else layer_pass.bias_rows())
        for name, rows in self._jacobians(inputs).items():
            add(name, rows)
        return self._rows(into)

    def _empty(self, inputs: Tensor, projection: Projection) -> Float64[Tensor, "n r w"]:
        """Return zeros in the shape of projected rows."""
        network = self.network
        shape = (len(inputs), len(network.combinations), projection.width(network.sizes))
        return inputs.new_zeros(shape, dtype=torch.float64)

    def _bytes(self, sample: Tensor) -> tuple[int, int]:
        """Return the bytes kept for each input, and those held while they are made."""
        network = self.network
        x, projection = sample[:1], self.projection
        features = self(x) if projection is None else [self._rows(self._empty(x, projection))]
        bytes_kept = bytes_of(features)
        itemsize = next(iter(network.weights.values())).itemsize
        self.numbers_converted = max(kept.numbers_converted for kept in features)
        self.smallest_piece = max(kept.smallest_piece for kept in features)
        rows = len(network.combinations)
        forward = bytes_per_row(network.module, sample[:2])
        working = PASSES * forward * (1 + rows)
        # Jacobians, as they are made and as they are put together.
        working += 2 * rows * itemsize * sum(weight.numel() for weight in self.other_weights.values())
        largest = [sum(network.weights[name].numel() for name in layer.names) for layer in self.layers]
        return bytes_kept, working + bytes_kept + 2 * rows * itemsize * max(largest, default=0)

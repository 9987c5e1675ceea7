"""What is kept of each input, and by which passes is it made? Chosen once for inputs of one shape.

| parameters of | kept where that is cheaper | otherwise |
|---|---|---|
| a Linear or Conv2d used once | activations and signals | rows made of them |
| anything else | | rows by vmap over inputs |

Where some parameters need the pass by vmap, rows of all others come along with it. Rows may be
projected: then they are made parameter tensor by parameter tensor, and shortened at once.
"""

from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from leftout.core.errors import OptionError
from leftout.core.modules import Parameters, bytes_per_row
from leftout.kernels.network.features import Pairs, Part, Rows, bytes_of
from leftout.kernels.network.jacobian import fitting_jacobian
from leftout.kernels.network.layerwise import Layer, Seen, linear_layers, pairs_are_cheaper, seen
from leftout.kernels.network.projection import WIDTH, Projection

Method = Literal["auto", "jacobian", "layers"]

PASSES = 4
"""Times what a forward pass keeps of an input that forward and backward hold of it."""


WORTHWHILE = 0.1
"""Share of all parameters in pairs below which a second way of passing costs more than it saves."""


@dataclass(frozen=True)
class Network:
    """A network and the combinations of its outputs whose gradients are wanted.

    Attributes:
        module: not written to, and nobody else does.
        weights: the parameters that are asked for.
        combinations: one a row.
        merged: whether products are summed over the combinations.
    """

    module: nn.Module
    weights: Parameters
    combinations: Float[Tensor, "r k"]
    merged: bool

    @property
    def sizes(self) -> list[int]:
        """Return how many numbers each parameter tensor has."""
        return [one.numel() for one in self.weights.values()]


@final
class Extract:
    """Makes the parts that are kept of a batch of inputs.

    Args:
        few: one to three inputs of the shape it is for, to look at the network with.

    Raises:
        OptionError: layer by layer was asked for and no layer allows it.

    Warns:
        LoopWarning: Jacobians are taken one input at a time.
    """

    def __init__(
        self, network: Network, *, method: Method, projection: Projection | None, few: Tensor
    ) -> None:
        self.network = network
        self.method = method
        self.projection = projection
        module, weights = network.module, network.weights
        self.layers = [] if method == "jacobian" else linear_layers(module, weights, few)
        if method == "layers" and not self.layers:
            raise OptionError(
                'method="layers" needs a Linear or Conv2d layer that is called once and whose '
                f"parameters nothing else uses; {type(module).__name__} has none among the "
                'parameters asked for. Pass method="auto".'
            )
        if method == "auto" and len(weights) > sum(len(one.names) for one in self.layers):
            self.layers = self._worthwhile(few[:1])
        taken = {name for layer in self.layers for name in layer.names}
        self.others = {name: one for name, one in weights.items() if name not in taken}
        self.jacobian = None
        if self.others:
            outputs = network.combinations.shape[1]
            self.jacobian = fitting_jacobian(module, self.others, few[:2], outputs=outputs)
        self.bytes_kept, self.bytes_working = self._bytes(few)

    def __call__(self, inputs: Tensor) -> list[Part]:
        """Return the parts of a batch."""
        if self.projection is not None:
            return [self._projected(inputs, self.projection)]
        found: list[Part] = []
        for layer, one in self._seen(inputs):
            found += self._parts(layer, one)
        found += [self._rows(rows.flatten(2)) for rows in self._jacobians(inputs).values()]
        return found

    def bytes_of_tile(self, side: int) -> int:
        """Return the bytes that products of `side` inputs with as many hold, beside values and rows.

        Pieces of products between positions are not among them.
        """
        drawn = 0 if self.projection is None else 2 * 8 * WIDTH * self.projection.size
        return drawn + 2 * 8 * side * self.converted

    def _worthwhile(self, few: Tensor) -> list[Layer]:
        """Return the layers to keep in pairs, where other parameters need a pass by vmap anyway.

        That pass makes rows at no more cost than signals would, so what is left to rows goes along.
        """
        if self.projection is not None:
            return []
        sizes = {name: one.numel() for name, one in self.network.weights.items()}
        paired = [layer for layer, one in self._seen(few) if self._as_pairs(layer, one)]
        share = sum(sizes[name] for layer in paired for name in layer.names) / sum(sizes.values())
        return paired if share > WORTHWHILE else []

    def _seen(self, inputs: Tensor) -> list[tuple[Layer, Seen]]:
        if not self.layers:
            return []
        network = self.network
        found = seen(network.module, self.layers, network.combinations, inputs)
        return [(layer, found[layer.name]) for layer in self.layers]

    def _jacobians(self, inputs: Tensor) -> Parameters:
        if self.jacobian is None:
            return {}
        network = self.network
        return self.jacobian(network.module, self.others, network.combinations, inputs)

    def _parts(self, layer: Layer, one: Seen) -> list[Part]:
        """Return what is kept of a layer: its pairs, or rows of its weight and of its bias."""
        if self._as_pairs(layer, one):
            activations, signals = one.activations.flatten(2), one.signals.flatten(3)
            if self.network.merged:
                signals = signals.transpose(1, 2).flatten(2)[:, None]  # (n, 1, t, r c)
            return [Pairs(activations, signals, bias=layer.bias)]
        found: list[Part] = [self._rows(one.weight_rows())] if layer.weight else []
        return [*found, self._rows(one.bias_rows())] if layer.bias else found

    def _as_pairs(self, layer: Layer, one: Seen) -> bool:
        """Return whether pairs are kept of a layer, and not rows."""
        if not layer.weight or layer.groups > 1:
            return False
        _, t, _, d = one.activations.shape
        rows, c = one.signals.shape[1], one.signals.shape[4]
        each, outside = (1, rows * c) if self.network.merged else (rows, c)
        return self.method == "layers" or pairs_are_cheaper(positions=t, inside=d, outside=outside, each=each)

    def _rows(self, rows: Float[Tensor, "n r s"]) -> Part:
        return Rows(rows.flatten(1)[:, None] if self.network.merged else rows)

    def _projected(self, inputs: Tensor, projection: Projection) -> Part:
        """Return rows that were shortened one parameter tensor after the other."""
        network = self.network
        sizes, numbers = network.sizes, {name: i for i, name in enumerate(network.weights)}
        into = self._empty(inputs, projection)

        def add(name: str, rows: Tensor) -> None:
            projection.add(into, rows.detach(), tensor=numbers[name], sizes=sizes)

        for layer, one in self._seen(inputs):
            for name in layer.names:
                add(name, one.weight_rows() if name.endswith("weight") else one.bias_rows())
        for name, rows in self._jacobians(inputs).items():
            add(name, rows.flatten(2))
        return self._rows(into)

    def _empty(self, inputs: Tensor, projection: Projection) -> Float64[Tensor, "n r w"]:
        """Return zeros in the shape of projected rows."""
        network = self.network
        shape = (len(inputs), len(network.combinations), projection.width(network.sizes))
        return inputs.new_zeros(shape, dtype=torch.float64)

    def _bytes(self, few: Tensor) -> tuple[int, int]:
        """Return the bytes that are kept of an input, and those that making them holds besides."""
        network = self.network
        parts = (
            self(few[:1]) if self.projection is None else [self._rows(self._empty(few[:1], self.projection))]
        )
        kept = bytes_of(parts)
        item = next(iter(network.weights.values())).itemsize
        self.converted = max(one.converted for one in parts)
        self.smallest_piece = max(one.smallest_piece for one in parts)
        rows = len(network.combinations)
        forward = bytes_per_row(network.module, few[:2])
        working = PASSES * forward * (1 + rows)
        # Jacobians, as they are made and as they are put together.
        working += 2 * rows * item * sum(one.numel() for one in self.others.values())
        largest = [sum(network.weights[name].numel() for name in layer.names) for layer in self.layers]
        return kept, working + kept + 2 * rows * item * max(largest, default=0)

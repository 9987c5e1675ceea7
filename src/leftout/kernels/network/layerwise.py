"""Gradients of linear layers from activations and backpropagated signals, without Jacobians.

A linear layer z_t = W a_t + b, applied once at positions t of an input, has ∂f/∂W = Σ_t s_t a_tᵀ with
signals s_t = ∂f/∂z_t. As no output depends on another input of the batch, the gradient in z of the sum
of an output over the batch holds the signals of all inputs at once: one forward and k backward passes.
Conv2d is such a layer, its a_t the patches that the kernel sees.

That holds only where W and b are used in one call of this layer and nowhere else, by every input. It is
compared with autograd on a few inputs, and looked up for all of them in the graph of a forward pass
(`check_batch`); all other parameters need whole Jacobians.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from leftout.core.errors import OptionError
from leftout.core.module_call import call, derivatives, gradients_recorded
from leftout.core.module_checks import are_close, check_same_apart, evaluate, graph_of, parts_of_batch
from leftout.core.modules import Parameters, checked_outputs


@dataclass(frozen=True)
class LinearLayer:
    """A linear layer, by name, and which of its parameters gradients are taken in."""

    name: str
    module: nn.Linear | nn.Conv2d
    weight: bool
    bias: bool

    @property
    def names(self) -> list[str]:
        """Return the names of those parameters in the network."""
        trained = {"weight": self.weight, "bias": self.bias}
        return [_inside(self.name, parameter) for parameter, wanted in trained.items() if wanted]

    @property
    def groups(self) -> int:
        """Return how many layers side by side it is."""
        return self.module.groups if isinstance(self.module, nn.Conv2d) else 1


@dataclass(frozen=True)
class LayerPass:
    """Inputs of a layer for a batch, by position and group, and the signals that come back to it."""

    activations: Float[Tensor, "n t g d"]
    signals: Float[Tensor, "n r t g c"]

    def weight_rows(self) -> Float[Tensor, "n r w"]:
        """Return ∂f/∂W, in the order of W's numbers."""
        return torch.einsum("nrtgc,ntgd->nrgcd", self.signals, self.activations).flatten(2)

    def bias_rows(self) -> Float[Tensor, "n r b"]:
        """Return ∂f/∂b."""
        return self.signals.sum(2).flatten(2)


def linear_layers(
    module: nn.Module, weights: Parameters, sample: Tensor, *, without: Collection[str] = ()
) -> list[LinearLayer]:
    """Return the layers whose gradients can be made of activations and signals.

    Args:
        weights: the parameters of the kernel; the module requires gradients of no others.
        sample: two or three inputs to try it on.
        without: names of layers that are not asked for.
    """
    candidates = [layer for layer in candidate_layers(module, weights) if layer.name not in without]
    if not candidates:
        return []
    with watch_calls(candidates) as watch, gradients_recorded():
        outputs = call(module, {}, sample)
    single = _used_once(outputs, module, watch)
    good = [
        layer for layer in candidates if watch.fits(layer, len(sample)) and single.issuperset(layer.names)
    ]
    like = next(iter(weights.values()))
    row = torch.linspace(1, 2, outputs.shape[1], dtype=like.dtype, device=like.device)[None]
    # A layer that mixes inputs of a batch may show it at another batch size only.
    for batch in (sample, sample[:1]):
        good = _as_autograd_has_it(module, good, row, batch)
    return good


def check_batch(
    module: nn.Module, layers: Sequence[LinearLayer], inputs: Tensor, *, outputs: int, first: int
) -> set[str]:
    """Return the names of layers that some inputs do not use as `layer_passes` needs it.

    That is once for each input, in their order in the batch, and parameters nowhere else. What layers are
    given in parts of the batch is compared with what they are given in the whole.

    Args:
        outputs: k, how many numbers the module returns for each input.
        first: number of the first input, for messages.

    Raises:
        OptionError: outputs depend on other inputs of the batch.
        ShapeError: they have another shape.

    Cost:
        two forward passes.
    """
    fitting: list[LinearLayer] = []
    if not layers:
        together = checked_outputs(evaluate(module, {}, inputs), inputs, outputs=outputs)
    else:
        with watch_calls(layers) as watch, gradients_recorded():
            returned = checked_outputs(call(module, {}, inputs), inputs, outputs=outputs)
        single = _used_once(returned, module, watch)
        fitting = [
            layer for layer in layers if watch.fits(layer, len(inputs)) and single.issuperset(layer.names)
        ]
        together = returned.detach()
    apart = torch.empty_like(together)
    for rows in parts_of_batch(together, inputs):
        with watch_calls(fitting) as watch_part:
            alone = inputs[rows]
            apart[rows] = checked_outputs(evaluate(module, {}, alone), alone, outputs=outputs)
        fitting = [
            layer
            for layer in fitting
            if watch_part.fits(layer, len(rows))
            and are_close(watch.activations[layer.name][rows], watch_part.activations[layer.name])
        ]
    check_same_apart(module, together, apart, first=first)
    return {layer.name for layer in layers} - {layer.name for layer in fitting}


def layer_passes(
    module: nn.Module, layers: Sequence[LinearLayer], combinations: Float[Tensor, "r k"], inputs: Tensor
) -> dict[str, LayerPass]:
    """Return activations and signals of some layers for a batch, by name of the layer.

    Raises:
        OptionError: a layer was not called once with all inputs of the batch, as it was at first.
    """
    with watch_calls(layers) as watch, gradients_recorded():
        outputs = call(module, {}, inputs)
    for layer in layers:
        if not watch.fits(layer, len(inputs)):
            raise OptionError(
                f"`module` must call {layer.name!r} once for every input, as on the first inputs; "
                'on these it does not. Pass method="jacobian".'
            )
    probes = [watch.probes[layer.name] for layer in layers]
    signals = [probe.new_empty(len(combinations), *probe.shape) for probe in probes]
    for r, row in enumerate(combinations.to(outputs.dtype)):
        # Outputs that depend on no layer have no graph; their signals are zero.
        gradients = [torch.zeros_like(probe) for probe in probes]
        if outputs.requires_grad:
            with derivatives(module):
                gradients = list(
                    torch.autograd.grad(
                        outputs,
                        probes,
                        row.expand_as(outputs),
                        retain_graph=r + 1 < len(combinations),
                        materialize_grads=True,
                    )
                )
        for signal, gradient in zip(signals, gradients, strict=True):
            signal[r] = gradient
    return {
        layer.name: _by_position(layer, watch.activations[layer.name], signal.transpose(0, 1))
        for layer, signal in zip(layers, signals, strict=True)
    }


class Watch:
    """Inputs of layers, and zeros added to their outputs, in which gradients are taken."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.activations: dict[str, Tensor] = {}
        self.probes: dict[str, Tensor] = {}
        self.nodes: dict[str, Any] = {}

    def fits(self, layer: LinearLayer, batch: int) -> bool:
        """Return whether a layer was called once, with the inputs of the batch in its first axis."""
        if self.calls[layer.name] != 1 or layer.name not in self.probes:
            return False
        activations, returned = self.activations[layer.name], self.probes[layer.name]
        axes = (4,) if isinstance(layer.module, nn.Conv2d) else range(2, 9)
        return activations.ndim in axes and len(activations) == len(returned) == batch

    def look(self, name: str, arguments: tuple[Any, ...], returned: Any) -> Any:
        """Keep the inputs of a layer; return its outputs plus zeros."""
        self.calls[name] += 1
        if len(arguments) != 1 or not isinstance(arguments[0], Tensor) or not isinstance(returned, Tensor):
            return returned
        # Copies: later operations may change the inputs in place. For the same reason the gradient is
        # taken in zeros that are added, not in the layer's output itself.
        self.activations[name] = arguments[0].detach().clone()
        self.nodes[name] = returned.grad_fn
        self.probes[name] = torch.zeros_like(returned).requires_grad_()
        return returned + self.probes[name]


@contextmanager
def watch_calls(layers: Sequence[LinearLayer]) -> Iterator[Watch]:
    """Look at the calls of some layers."""
    watch = Watch()

    def hook(name: str) -> Any:
        return lambda _, given, returned: watch.look(name, given, returned)

    handles = [layer.module.register_forward_hook(hook(layer.name)) for layer in layers]
    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()


def candidate_layers(module: nn.Module, weights: Parameters) -> list[LinearLayer]:
    """Return the Linear and Conv2d layers whose parameters belong to no other module."""
    # Slots, not names: a layer may have several names and still be called once.
    owners = Counter(id(p) for layer in module.modules() for p in layer._parameters.values())
    layers = []
    for name, layer in module.named_modules():
        # Subclasses may compute something else.
        if type(layer) is not nn.Linear and type(layer) is not nn.Conv2d:
            continue
        if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
            continue
        parameters = dict(layer.named_parameters())
        wanted = {key: _inside(name, key) in weights for key in ("weight", "bias")}
        shared = any(owners[id(parameters[key])] > 1 for key in wanted if wanted[key])
        if set(parameters) <= set(wanted) and not shared and any(wanted.values()):
            layers.append(LinearLayer(name, layer, **wanted))
    return layers


def _used_once(outputs: Tensor, module: nn.Module, watch: "Watch") -> set[str]:
    """Return the names of parameters that the graph of the outputs uses in one call of a layer, or never.

    A layer whose outputs are not in the graph must not have its parameters there either.
    """
    graph = graph_of(outputs)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    called = {name for name, node in watch.nodes.items() if node in graph.nodes}
    return {
        name for i, name in names.items() if graph.uses.get(i, 0) == int(name.rpartition(".")[0] in called)
    }


def _as_autograd_has_it(
    module: nn.Module, layers: list[LinearLayer], row: Float[Tensor, "1 k"], batch: Tensor
) -> list[LinearLayer]:
    """Return the layers whose gradients from activations and signals are those of autograd."""
    with watch_calls(layers) as watch, gradients_recorded():
        call(module, {}, batch)
    layers = [layer for layer in layers if watch.fits(layer, len(batch))]
    if not layers:
        return []
    passes = layer_passes(module, layers, row, batch)
    wrong: set[str] = set()
    parameters = dict(module.named_parameters())
    for i, x in enumerate(batch):
        with gradients_recorded():
            output = call(module, {}, x[None])[0]
        for layer in layers:
            want = torch.autograd.grad(
                output,
                [parameters[name] for name in layer.names],
                row[0].to(output.dtype),
                retain_graph=True,
                materialize_grads=True,
            )
            rows = [passes[layer.name].weight_rows()] * layer.weight
            rows += [passes[layer.name].bias_rows()] * layer.bias
            for gradient, expected in zip(rows, want, strict=True):
                if not _near(gradient[i, 0], expected.flatten()):
                    wrong.add(layer.name)
    return [layer for layer in layers if layer.name not in wrong]


def _near(gradient: Tensor, expected: Tensor) -> bool:
    if not bool(torch.isfinite(expected).all()):
        return True  # NaN and infinity are reported with the kernel, by row
    error = float((gradient - expected).norm())
    return error <= float(torch.finfo(expected.dtype).eps ** 0.5) * float(expected.norm())


def _by_position(layer: LinearLayer, activations: Tensor, signals: Float[Tensor, "n r ..."]) -> LayerPass:
    """Return activations and signals of a layer by position and group."""
    module = layer.module
    if isinstance(module, nn.Linear):
        n, rows = signals.shape[:2]
        return LayerPass(
            activations.reshape(n, -1, 1, module.in_features),
            signals.reshape(n, rows, -1, 1, module.out_features),
        )
    padded = nn.functional.pad(activations, _zeros_around(module))
    size, dilation, stride = module.kernel_size, module.dilation, module.stride
    patches = nn.functional.unfold(padded, size, dilation=dilation, stride=stride)  # (n, d, t)
    n, d, t = patches.shape
    activations = patches.view(n, module.groups, d // module.groups, t).permute(0, 3, 1, 2)
    channels = signals.flatten(3).view(n, signals.shape[1], module.groups, -1, t)
    return LayerPass(activations, channels.permute(0, 1, 4, 2, 3))


def _zeros_around(layer: nn.Conv2d) -> list[int]:
    """Return zeros to the left, right, above and below."""
    if layer.padding == "same":
        total = [s * (size - 1) for s, size in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [side for gap in reversed(total) for side in (gap // 2, gap - gap // 2)]
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    above, beside = (int(zeros) for zeros in layer.padding)
    return [beside, beside, above, above]


def _inside(layer: str, parameter: str) -> str:
    return f"{layer}.{parameter}" if layer else parameter


def prefer_factors(*, positions: int, inside: int, outside: int, outputs: int) -> bool:
    """Return whether products of pairs take fewer operations than products of whole rows.

    Args:
        positions: t, of the layer in one input.
        inside: d, columns of its weight.
        outside: c, rows of its weight; k c where products are summed over outputs.
        outputs: e, rows of the kernel for each input.
    """
    factored = factored_products(positions=positions, inside=inside, outside=outside, outputs=outputs)
    return factored <= outputs**2 * inside * outside


def factored_products(*, positions: int, inside: int, outside: int, outputs: int) -> int:
    """Return the products of numbers for one pair of inputs by factors; arguments as for `prefer_factors`."""
    # Inner products of activations and of signals at all pairs of positions, and their product and sum,
    # which waits for memory as long as about 16 operations take.
    return positions**2 * (inside + outputs**2 * (outside + 16))

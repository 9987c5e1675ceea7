"""Which layers of a network need no Jacobian, and what do they see in one forward and k backward passes?

A linear layer z_t = W a_t + b, applied once at positions t of an input, has ∂f/∂W = Σ_t s_t a_tᵀ with
signals s_t = ∂f/∂z_t. As no input of a batch has a part in another's outputs, the gradient of the sum
of an output over the batch in z holds the signals of all inputs at once: no pass for each of them.
Conv2d is such a layer, its a_t the patches that the kernel sees.

That holds only where W and b act in one call of this very layer and nowhere else. It is looked up in
the graph of a forward pass, tried against autograd on a few inputs, and the shapes are watched later;
every other parameter is left to whole Jacobians.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from leftout.core.errors import OptionError
from leftout.core.modules import Parameters


@dataclass(frozen=True)
class LinearLayer:
    """A linear layer, by name, and which of its parameters are asked for."""

    name: str
    module: nn.Linear | nn.Conv2d
    weight: bool
    bias: bool

    @property
    def names(self) -> list[str]:
        """Return the names of those parameters in the network."""
        given = {"weight": self.weight, "bias": self.bias}
        return [_inside(self.name, one) for one, asked in given.items() if asked]

    @property
    def groups(self) -> int:
        """Return how many layers side by side it is."""
        return self.module.groups if isinstance(self.module, nn.Conv2d) else 1


@dataclass(frozen=True)
class LayerPass:
    """What a layer sees of a batch: its inputs by position and group, and the signals that come back."""

    activations: Float[Tensor, "n t g d"]
    signals: Float[Tensor, "n r t g c"]

    def weight_rows(self) -> Float[Tensor, "n r w"]:
        """Return ∂f/∂W, in the order of W's numbers."""
        return torch.einsum("nrtgc,ntgd->nrgcd", self.signals, self.activations).flatten(2)

    def bias_rows(self) -> Float[Tensor, "n r b"]:
        """Return ∂f/∂b."""
        return self.signals.sum(2).flatten(2)


def linear_layers(module: nn.Module, weights: Parameters, few: Tensor) -> list[LinearLayer]:
    """Return the layers that can be taken from activations and signals.

    Args:
        weights: the parameters that are asked for; the module requires gradients of no others.
        few: two or three inputs to look at it with.
    """
    candidates = _candidates(module, weights)
    if not candidates:
        return []
    with _watched(candidates) as watch, torch.enable_grad():
        outputs = module(few)
    single = _used_once(outputs, module)
    good = [
        one for one in candidates if watch.fits(one, len(few)) and all(name in single for name in one.names)
    ]
    like = next(iter(weights.values()))
    row = torch.linspace(1, 2, outputs.shape[1], dtype=like.dtype, device=like.device)[None]
    # A layer that does not depend on the batch as it should may show it at another batch size only.
    for batch in (few, few[:1]):
        good = _as_autograd_has_it(module, good, row, batch)
    return good


def seen(
    module: nn.Module, layers: Sequence[LinearLayer], combinations: Float[Tensor, "r k"], inputs: Tensor
) -> dict[str, LayerPass]:
    """Return activations and signals of some layers for a batch, by name of the layer.

    Raises:
        OptionError: a layer was not called once with the whole batch, as it was when it was looked at.
    """
    with _watched(layers) as watch, torch.enable_grad():
        outputs = module(inputs)
    for one in layers:
        if not watch.fits(one, len(inputs)):
            raise OptionError(
                f"`module` must call {one.name!r} once for every input, as it did when it was looked "
                'at; on these inputs it does not. Pass method="jacobian".'
            )
    probes = [watch.probes[one.name] for one in layers]
    signals = [probe.new_empty(len(combinations), *probe.shape) for probe in probes]
    for r, row in enumerate(combinations.to(outputs.dtype)):
        # Outputs that no layer has a part in have no graph; their signals are zero.
        found = [torch.zeros_like(probe) for probe in probes]
        if outputs.requires_grad:
            found = list(
                torch.autograd.grad(
                    outputs,
                    probes,
                    row.expand_as(outputs),
                    retain_graph=r + 1 < len(combinations),
                    materialize_grads=True,
                )
            )
        for to, value in zip(signals, found, strict=True):
            to[r] = value
    return {
        one.name: _by_position(one, watch.activations[one.name], value.transpose(0, 1))
        for one, value in zip(layers, signals, strict=True)
    }


class _Watch:
    """What layers were called with, and zeros added to what they returned: handles for gradients."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.activations: dict[str, Tensor] = {}
        self.probes: dict[str, Tensor] = {}

    def fits(self, layer: LinearLayer, batch: int) -> bool:
        """Return whether a layer was called once, with the inputs of the batch in its first axis."""
        if self.calls[layer.name] != 1 or layer.name not in self.probes:
            return False
        given, returned = self.activations[layer.name], self.probes[layer.name]
        axes = (4,) if isinstance(layer.module, nn.Conv2d) else range(2, 9)
        return given.ndim in axes and len(given) == len(returned) == batch

    def look(self, name: str, given: tuple[Any, ...], returned: Any) -> Any:
        """Keep what a layer was given; return what it returned, plus zeros."""
        self.calls[name] += 1
        if len(given) != 1 or not isinstance(given[0], Tensor) or not isinstance(returned, Tensor):
            return returned
        # Copies: what is changed in place later on is not what the layer saw. For the same reason
        # the gradient is taken in zeros that are added, not in the layer's output itself.
        self.activations[name] = given[0].detach().clone()
        self.probes[name] = torch.zeros_like(returned).requires_grad_()
        return returned + self.probes[name]


@contextmanager
def _watched(layers: Sequence[LinearLayer]) -> Iterator[_Watch]:
    watch = _Watch()

    def hook(name: str) -> Any:
        return lambda _, given, returned: watch.look(name, given, returned)

    handles = [one.module.register_forward_hook(hook(one.name)) for one in layers]
    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()


def _candidates(module: nn.Module, weights: Parameters) -> list[LinearLayer]:
    """Return the layers whose kind is known and whose parameters have no other owner."""
    owners = Counter(id(one) for _, one in module.named_parameters(remove_duplicate=False))
    found = []
    for name, one in module.named_modules():
        # Subclasses may compute something else.
        if type(one) is not nn.Linear and type(one) is not nn.Conv2d:
            continue
        if isinstance(one, nn.Conv2d) and one.padding_mode != "zeros":
            continue
        own = dict(one.named_parameters())
        asked = {key: _inside(name, key) in weights for key in ("weight", "bias")}
        known = set(own) <= set(asked) and not any(owners[id(own[key])] > 1 for key in asked if asked[key])
        if known and any(asked.values()):
            found.append(LinearLayer(name, one, **asked))
    return found


def _used_once(outputs: Tensor, module: nn.Module) -> set[str]:
    """Return the names of parameters that the graph of the outputs refers to exactly once."""
    names = {id(one): name for name, one in module.named_parameters()}
    uses: Counter[str] = Counter()
    waiting, known = [outputs.grad_fn], {outputs.grad_fn}
    while waiting:
        node = waiting.pop()
        for after, _ in node.next_functions if node is not None else ():
            if after is None:
                continue
            variable = getattr(after, "variable", None)
            if variable is not None and id(variable) in names:
                uses[names[id(variable)]] += 1
            if after not in known:
                known.add(after)
                waiting.append(after)
    return {name for name, count in uses.items() if count == 1}


def _as_autograd_has_it(
    module: nn.Module, layers: list[LinearLayer], row: Float[Tensor, "1 k"], batch: Tensor
) -> list[LinearLayer]:
    """Return the layers whose gradients from activations and signals are those of autograd."""
    with _watched(layers) as watch, torch.enable_grad():
        module(batch)
    layers = [one for one in layers if watch.fits(one, len(batch))]
    if not layers:
        return []
    found = seen(module, layers, row, batch)
    wrong: set[str] = set()
    own = dict(module.named_parameters())
    for i, x in enumerate(batch):
        with torch.enable_grad():
            output = module(x[None])[0]
        for one in layers:
            want = torch.autograd.grad(
                output,
                [own[name] for name in one.names],
                row[0].to(output.dtype),
                retain_graph=True,
                materialize_grads=True,
            )
            rows = [found[one.name].weight_rows()] * one.weight
            rows += [found[one.name].bias_rows()] * one.bias
            for value, expected in zip(rows, want, strict=True):
                if not _near(value[i, 0], expected.flatten()):
                    wrong.add(one.name)
    return [one for one in layers if one.name not in wrong]


def _near(value: Tensor, expected: Tensor) -> bool:
    if not bool(torch.isfinite(expected).all()):
        return True  # numbers that are none show in the kernel, with the row they come from
    off = float((value - expected).norm())
    return off <= float(torch.finfo(expected.dtype).eps ** 0.5) * float(expected.norm())


def _by_position(layer: LinearLayer, given: Tensor, signals: Float[Tensor, "n r ..."]) -> LayerPass:
    """Return activations and signals of a layer by position and group."""
    one = layer.module
    if isinstance(one, nn.Linear):
        n, rows = signals.shape[:2]
        return LayerPass(
            given.reshape(n, -1, 1, one.in_features), signals.reshape(n, rows, -1, 1, one.out_features)
        )
    patches = nn.functional.unfold(
        nn.functional.pad(given, _padding(one)), one.kernel_size, dilation=one.dilation, stride=one.stride
    )  # (n, d, t)
    n, d, t = patches.shape
    activations = patches.view(n, one.groups, d // one.groups, t).permute(0, 3, 1, 2)
    channels = signals.flatten(3).view(n, signals.shape[1], one.groups, -1, t)
    return LayerPass(activations, channels.permute(0, 1, 4, 2, 3))


def _padding(layer: nn.Conv2d) -> list[int]:
    """Return zeros to the left, right, above and below."""
    if layer.padding == "same":
        total = [s * (size - 1) for s, size in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [side for one in reversed(total) for side in (one // 2, one - one // 2)]
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    high, wide = (int(one) for one in layer.padding)
    return [wide, wide, high, high]


def _inside(layer: str, parameter: str) -> str:
    return f"{layer}.{parameter}" if layer else parameter


def pairs_are_cheaper(*, positions: int, inside: int, outside: int, each: int) -> bool:
    """Return whether products of pairs take fewer operations than products of whole rows.

    Args:
        positions: t, of the layer in one input.
        inside: d, columns of its weight.
        outside: c, rows of its weight; k c where products are summed over outputs.
        each: e, rows of the kernel for each input.
    """
    # For one pair of inputs: inner products of activations and of signals at all pairs of positions,
    # and their product and sum, which waits for memory as long as about 16 operations take.
    pairs = positions**2 * (inside + each**2 * (outside + 16))
    return pairs <= each**2 * inside * outside

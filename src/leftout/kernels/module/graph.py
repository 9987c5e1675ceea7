"""The graph of a traced forward as layers one behind the other, sums of branches as residual blocks.

From the output backwards: a call with one input is a layer behind what made that input; a sum of two is a
residual block behind the node at which the paths to both part, the last that both depend on.
"""

import inspect
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from leftout.core.errors import OptionError
from leftout.kernels.layers.chain import axes_behind
from leftout.kernels.layers.flatten import Flatten
from leftout.kernels.layers.layer import Axes, Layer
from leftout.kernels.layers.residual import Residual
from leftout.kernels.layers.scale import Scale
from leftout.kernels.module.initialisation import Variances
from leftout.kernels.module.module_layers import (
    ANY_ADVICE,
    FLATTEN_ADVICE,
    layer_of_function,
    layer_of_module,
    unknown,
)

SUMS = {operator.add: 1.0, operator.iadd: 1.0, torch.add: 1.0, "add": 1.0, "add_": 1.0}
SUMS |= {operator.sub: -1.0, operator.isub: -1.0, torch.sub: -1.0, "sub": -1.0, "sub_": -1.0}
"""Sums, and the sign of the second branch."""

PRODUCTS = (operator.mul, operator.imul, torch.mul, "mul", "mul_")
QUOTIENTS = (operator.truediv, operator.itruediv, torch.div, "div", "div_")
NEGATIVES = (operator.neg, torch.neg, "neg")
UNCHANGED = ("contiguous", "float", "double", "clone")
"""Methods that change no number."""

DROPOUTS = tuple(
    getattr(nn.functional, name) for name in ("dropout", "dropout1d", "dropout2d", "alpha_dropout")
)
"""Functions that change no number where they are told that nothing is trained."""

PICTURES = (nn.Conv2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.MaxPool2d)


def layers_of_graph(
    graph: fx.Graph, module: nn.Module, variances: Variances, tolerance: float
) -> list[Layer]:
    """Return the layers of a traced module.

    Raises:
        OptionError: a layer or a way of branching of which no kernel is known.
    """
    inputs = [node for node in graph.nodes if node.op == "placeholder" and node.users]
    (output,) = (node for node in graph.nodes if node.op == "output")
    if len(inputs) != 1:
        names = ", ".join(node.name for node in inputs) or "none"
        raise OptionError(f"`module` must have a forward of one tensor of inputs; it uses {names}.")
    if not isinstance(output.args[0], fx.Node):
        raise OptionError("`module` must return one tensor; its forward returns several things.")
    start: Axes = "images" if any(isinstance(layer, PICTURES) for layer in module.modules()) else "rows"
    return _Reader(graph, module, variances, tolerance).chain(output.args[0], inputs[0], start)


class _Reader:
    """Reads parts of one graph."""

    def __init__(self, graph: fx.Graph, module: nn.Module, variances: Variances, tolerance: float) -> None:
        self._place = {node: place for place, node in enumerate(graph.nodes)}
        self._module = module
        self._variances = variances
        self._tolerance = tolerance
        self._called: set[str] = set()
        shapes: set[fx.Node] = set()
        for node in graph.nodes:
            if _asks_shape(node) or (node.all_input_nodes and set(node.all_input_nodes) <= shapes):
                shapes.add(node)
        self._shapes = shapes

    def chain(self, end: fx.Node, start: fx.Node, axes: Axes) -> list[Layer]:
        """Return the layers from one node to a later one; `axes` is what the first is given."""
        calls: list[tuple[fx.Node, fx.Node]] = []
        node = end
        while node is not start:
            before = self._fork(node) if self._is_sum(node) else self._only_input(node)
            if self._place[before] < self._place[start]:
                raise OptionError(
                    "`module` must have branches that part at one point and meet at another; those that meet "
                    f"at {end.name!r} do not. Empirical(module) takes any network as it is."
                )
            calls.append((node, before))
            node = before
        layers: list[Layer] = []
        for node, before in reversed(calls):
            now = axes_behind(layers, axes)
            if self._is_sum(node):
                layers.append(self._residual(node, before, now))
            else:
                layer = self._layer(node, now, first=not layers and before.op == "placeholder")
                layers += [] if layer is None else [layer]
        return layers

    def _residual(self, node: fx.Node, fork: fx.Node, axes: Axes) -> Residual:
        a, b = self._terms(node)
        ours, theirs = self.chain(a, fork, axes), self.chain(b, fork, axes)
        alpha: Any = node.kwargs.get("alpha", 1.0)
        weight = SUMS[node.target] * float(alpha)
        if weight != 1:
            theirs.append(Scale(weight))
        return Residual(ours, theirs) if ours else Residual(theirs, ours)

    def _is_sum(self, node: fx.Node) -> bool:
        return node.op != "call_module" and node.target in SUMS and len(self._terms(node)) == 2

    def _terms(self, node: fx.Node) -> list[fx.Node]:
        return [term for term in node.args[:2] if isinstance(term, fx.Node) and term not in self._shapes]

    def _fork(self, node: fx.Node) -> fx.Node:
        """Return the last node that both parts of a sum depend on."""
        self._check_no_weights(node, self._terms(node))
        a, b = (self._ancestors(term) for term in self._terms(node))
        common = a & b
        if not common:
            raise unknown(f"the sum {node.name!r}, of parts that have nothing in common", ANY_ADVICE)
        return max(common, key=self._place.__getitem__)

    def _ancestors(self, node: fx.Node) -> set[fx.Node]:
        """Return the node and all that it depends on."""
        ancestors, open_nodes = {node}, [node]
        while open_nodes:
            for source in open_nodes.pop().all_input_nodes:
                if source not in ancestors and source not in self._shapes:
                    ancestors.add(source)
                    open_nodes.append(source)
        return ancestors

    def _only_input(self, node: fx.Node) -> fx.Node:
        sources = list(dict.fromkeys(source for source in node.all_input_nodes if source not in self._shapes))
        self._check_no_weights(node, sources)
        if len(sources) != 1:
            what = "no input" if not sources else "several: a product or a list of branches"
            raise unknown(f"{self._words(node)} of {what}", ANY_ADVICE)
        return sources[0]

    def _check_no_weights(self, node: fx.Node, sources: Sequence[fx.Node]) -> None:
        """Raise if a call works on a weight or a buffer that belongs to no layer."""
        weights = [str(source.target) for source in sources if source.op == "get_attr"]
        if weights:
            raise unknown(
                f"{weights[0]}, a weight or a buffer that is used by itself, in {self._words(node)}",
                "Do to the data before what it does to them, or take Empirical(module), which takes any "
                "network as it is.",
            )

    def _layer(self, node: fx.Node, axes: Axes, *, first: bool) -> Layer | None:
        """Return what one call does; None where it changes no number."""
        if node.op == "call_module":
            name = str(node.target)
            layer = self._module.get_submodule(name)
            if name in self._called and next(layer.parameters(), None) is not None:
                raise OptionError(
                    f"`module` must have layers with weights of their own; {name} is called twice. "
                    "Empirical(module) takes it as it is."
                )
            self._called.add(name)
            if isinstance(layer, nn.Unflatten):
                if first and layer.dim == 1:
                    return None
                raise unknown(f"{name} (Unflatten), behind other layers", FLATTEN_ADVICE)
            return layer_of_module(layer, name, axes, self._variances, self._tolerance)
        if node.target in DROPOUTS:
            self._check_dropout(node)
            return None
        if node.target in ("to", "type", "type_as"):
            self._check_type(node)
            return None
        if node.target in UNCHANGED or self._adds_nothing(node):
            return None
        if node.target in ("view", "reshape", torch.reshape):
            return self._reshape(node, first)
        if node.target in ("squeeze", torch.squeeze) and axes == "rows":
            return None
        if node.target in ("unsqueeze", torch.unsqueeze) and first:
            dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
            if dim in (1, -3):
                return None
            raise unknown(f"{self._words(node)}, which makes no channel of images", "Write x.unsqueeze(1).")
        if node.target in (*PRODUCTS, *QUOTIENTS, *NEGATIVES):
            return self._scale(node)
        args = tuple(argument for argument in node.args if not isinstance(argument, fx.Node))
        return layer_of_function(node.target, node.name, args, node.kwargs, self._tolerance)

    def _check_dropout(self, node: fx.Node) -> None:
        """Raise if numbers are dropped in evaluation as well."""
        function: Any = node.target
        call = inspect.signature(function).bind(*node.args, **node.kwargs)
        call.apply_defaults()
        if call.arguments["training"] is not False:
            raise unknown(
                f"{self._words(node)} that drops units in evaluation too",
                "Pass training=self.training to it.",
            )

    def _check_type(self, node: fx.Node) -> None:
        """Raise if numbers are made whole numbers or truth values, which changes them."""
        for given in (*node.args[1:], *node.kwargs.values()):
            whole = isinstance(given, torch.dtype) and not given.is_floating_point
            if whole or given in (int, bool, "torch.LongTensor", "torch.IntTensor"):
                raise unknown(f"{self._words(node)} to {given}, which rounds units", "Leave it out.")

    @staticmethod
    def _adds_nothing(node: fx.Node) -> bool:
        """Return whether a call adds the number 0, as `sum` of a list of branches begins."""
        numbers = [argument for argument in node.args if not isinstance(argument, fx.Node)]
        return node.target in (operator.add, operator.iadd) and numbers == [0]

    def _reshape(self, node: fx.Node, first: bool) -> Layer | None:
        given = node.args[1:]
        sizes = list(given[0]) if len(given) == 1 and isinstance(given[0], list | tuple) else list(given)
        if len(sizes) == 2 and _is_count(sizes[0]):
            return Flatten()
        if len(sizes) == 4 and first:
            return None
        raise unknown(f"{self._words(node)} to {len(sizes)} axes", FLATTEN_ADVICE)

    def _scale(self, node: fx.Node) -> Layer:
        if node.target in NEGATIVES:
            return Scale(-1.0)
        numbers = [argument for argument in node.args if not isinstance(argument, fx.Node)]
        if (
            len(numbers) != 1
            or node.kwargs
            or not isinstance(numbers[0], int | float)
            or isinstance(node.args[1], fx.Node) != (node.args[0] is numbers[0])
        ):
            raise unknown(f"{self._words(node)} with something other than a number", ANY_ADVICE)
        number: Any = numbers[0]
        if node.target in QUOTIENTS:
            if node.args[0] is number:
                raise unknown(f"{self._words(node)}, a number over units", ANY_ADVICE)
            return Scale(1 / number)
        return Scale(float(number))

    @staticmethod
    def _words(node: fx.Node) -> str:
        target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.name)
        return f"a call of {target} ({node.name!r})"


def _asks_shape(node: fx.Node) -> bool:
    """Return whether a call asks for a shape."""
    if node.op == "call_method":
        return node.target in ("size", "dim", "numel")
    if node.op != "call_function" or node.target is not getattr:
        return False
    return node.args[1] in ("shape", "ndim", "device", "dtype")


def _is_count(size: Any) -> bool:
    """Return whether the first size of a reshape leaves examples apart: −1, or how many there are."""
    if not isinstance(size, fx.Node):
        return isinstance(size, int)
    if size.target in (operator.getitem, "size"):
        return size.args[1:] == (0,)
    return False

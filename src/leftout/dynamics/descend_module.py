"""How is any network trained on its full batch? Gradients by autograd, summed over chunks of examples.

The point is one vector w of all parameters that are trained. f(x; w) and its gradient are those of a copy of
the module whose parameters hold w: whatever shares them, recomputes activations or takes derivatives sees w.
Only activations grow with the number of examples, and a chunk is as many as fit the memory.
"""

from collections.abc import Iterator
from typing import final

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from leftout.core.blocks import blocks
from leftout.core.module_call import copy_module, derivatives, gradients_recorded
from leftout.core.modules import (
    bytes_per_row,
    flatten_parameters,
    outputs_of,
    parameters_of,
    unflatten_parameters,
)
from leftout.dynamics.objective import Look, Objective, as_targets

BACKWARD = 3
"""Times what a forward pass keeps that forward, backward and a tangent may hold together."""


@final
class ModuleObjective(Objective):
    """The objective of any module, at a point in the space of its trained parameters.

    Args:
        module: as it was given, the centre of the ridge.
        inputs: (n, d…), of any dtype; used in that of the module.
        start: where to begin instead; None for the module itself.
        memory: bytes that activations may take.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Tensor,
        targets: Float[Tensor, "n k"],
        ridge: float,
        *,
        start: nn.Module | None,
        memory: int,
    ) -> None:
        self.module = module
        self.moving = copy_module(module)  # at the point, or wherever it was last asked
        self.like = parameters_of(module)
        self.leaves = {name: leaf for name, leaf in self.moving.named_parameters() if name in self.like}
        self.initial = flatten_parameters(self.like)  # (p,)
        super().__init__(as_targets(targets, self.initial.device), ridge)
        self.inputs = inputs.to(self.initial)
        # The point is w − w_0: single precision then resolves the ridge's small pull on it.
        begin = self.initial if start is None else flatten_parameters(parameters_of(start)).to(self.initial)
        self.start = begin - self.initial
        self.point = self.start
        self.previous: Tensor | None = None
        self.marked: Tensor | None = None
        room = BACKWARD * bytes_per_row(module, self.inputs[:2])
        self.chunk = max(1, min(len(targets), memory // room))
        self.gradient = torch.zeros_like(self.point)
        self._refresh()

    def advance(self, rate: float, momentum: float = 0.0) -> None:
        last = self.point if self.previous is None else self.previous
        moved = torch.add(self.point, self.gradient, alpha=-rate)
        self.point = torch.lerp(last, moved, 1 + momentum) if momentum else moved
        self.previous = moved if momentum else None
        self._refresh()

    def look(self) -> Look:
        far = float(self.point.square().sum(dtype=torch.float64))
        steep = float(self.gradient.square().sum(dtype=torch.float64))
        return Look(self.data_loss + self.ridge * far / 2, steep**0.5)

    @property
    def rounding_error(self) -> float:
        largest = float((self.residual + self.targets).abs().max())
        return torch.finfo(self.point.dtype).eps * largest

    def mark(self) -> None:
        self.marked = self.point

    def mean_gradient(self, rate: float, steps: int) -> float:
        assert self.marked is not None, "nothing was marked"
        return float((self.marked - self.point).double().norm()) / (rate * steps)

    def tangent(self, vector: Float64[Tensor, "n k"]) -> Float64[Tensor, "n k"]:
        across = vector.to(self.point)
        pulled = torch.zeros_like(self.point)
        for rows in self._chunks():
            pulled += self._pull(rows, across[rows])[1]
        return torch.cat([self._push(rows, pulled) for rows in self._chunks()])

    def rewind(self) -> None:
        self.move(self.start)

    def move(self, point: Float[Tensor, " p"]) -> None:
        """Go to another point w − w_0, from a standstill."""
        self.previous = None
        self.point = point
        self._refresh()

    def trained_module(self) -> nn.Module:
        module = copy_module(self.module)
        weights = unflatten_parameters(self.initial + self.point, self.like)
        for name, parameter in module.named_parameters():
            if name in weights:
                parameter.data.copy_(weights[name])
        return module

    def _refresh(self) -> None:
        """Compute residual and gradient at the point."""
        gradient = self.point * self.ridge
        residuals = []
        for rows in self._chunks():
            residual, pulled = self._pull(rows, None)
            gradient += pulled
            residuals.append(residual)
        self.gradient = gradient
        self.residual = torch.cat(residuals)

    def _pull(
        self, rows: slice, vector: Float[Tensor, "b k"] | None
    ) -> tuple[Float64[Tensor, "b k"], Float[Tensor, " p"]]:
        """Return the residual of a chunk, and Jᵀ times it or times a vector."""
        outputs = self._outputs(rows)
        residual = outputs.detach().double() - self.targets[rows]
        along = residual.to(outputs) if vector is None else vector
        return residual, self._gradient(outputs, along)

    def _push(self, rows: slice, along: Float[Tensor, " p"]) -> Float64[Tensor, "b k"]:
        """Return J u of a chunk: Jᵀ v is linear in v, and its derivative along u is asked for.

        Backward twice, where forward mode would do it once: more modules are able to.
        """
        with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
            outputs = self._outputs(rows)
        vector = torch.zeros_like(outputs, requires_grad=True)
        pulled = self._gradient(outputs, vector, create_graph=True)
        if not pulled.requires_grad:
            return torch.zeros_like(outputs).double()
        with derivatives(self.module):
            return torch.autograd.grad(pulled, vector, along)[0].double()

    def _outputs(self, rows: slice) -> Float[Tensor, "b k"]:
        """Return the outputs of a chunk at the point, with their graph."""
        weights = unflatten_parameters(self.initial + self.point, self.like)
        for name, leaf in self.leaves.items():
            leaf.data = weights[name]
        with gradients_recorded():
            return outputs_of(self.moving, {}, self.inputs[rows], outputs=self.targets.shape[1])

    def _gradient(
        self, outputs: Float[Tensor, "b k"], along: Float[Tensor, "b k"], *, create_graph: bool = False
    ) -> Float[Tensor, " p"]:
        """Return Jᵀ v of a chunk; 0 for parameters that it does not use."""
        if not outputs.requires_grad:
            return torch.zeros_like(self.point)
        leaves = list(self.leaves.values())
        with derivatives(self.module):
            gradients = torch.autograd.grad(
                outputs, leaves, along, create_graph=create_graph, materialize_grads=True
            )
        return flatten_parameters(dict(zip(self.leaves, gradients, strict=True)))

    def _chunks(self) -> Iterator[slice]:
        return blocks(len(self.targets), self.chunk)

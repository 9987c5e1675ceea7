"""What is a product with the curvature of a network's training objective, without the matrix?

At weights w, with f_i = f(x_i; w), J_i = ∂f_i/∂w and the sum ½ Σ_i |f_i − y_i|² over the training set,

    "hessian"   H v = Σ_i [J_iᵀ J_i + Σ_c (f_i − y_i)_c ∇²f_ic] v + shift·v
    "ggn"       G v = Σ_i J_iᵀ (J_i v) + shift·v                    generalised Gauss-Newton

The first is v pulled back through the gradient, the second a push forward and a pull back; each costs
a few evaluations of the network. They agree where f is linear in w, and almost everywhere where it is
piecewise so. G is positive semi-definite always, H at a minimum. All derivatives are reverse, twice:
as fast as forward over reverse, and of any module that can be trained.

Everything is evaluated in float64, whatever the network was trained in: systems are solved with it.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, final

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from leftout.core.blocks import blocks
from leftout.core.module_call import call, copy_module, derivatives, gradients_recorded
from leftout.core.modules import Parameters, bytes_per_row, parameters_of
from leftout.data.examples import Examples
from leftout.kernels.network.jacobian import FAILURES

Kind = Literal["hessian", "ggn"]
KINDS: tuple[Kind, ...] = ("hessian", "ggn")

PASSES = 8
"""Times what a forward pass keeps of an example that a product holds of it, for each column."""

VECTORS = 6
"""Copies of its columns that a product holds: as weights, of a chunk, of all chunks, and between."""

CHUNK = 2**27
"""Bytes of columns, and of temporaries of examples, beyond which taking more together is no faster."""


@final
class Curvature:
    """The curvature matrix of a network at its weights, by products: `curvature(vectors)`.

    Args:
        module: the network; it is not written to.
        train: the examples that the objective is a sum over.
        kind: which of the two matrices.
        shift: added to the diagonal: the ridge as it enters the sum, and damping.
        memory: bytes that a product may take besides its columns.

    Cost:
        a product with b columns: about 4b evaluations of the network on all examples. Examples and
        columns are taken in chunks that fit the memory.
    """

    def __init__(self, module: nn.Module, train: Examples, *, kind: Kind, shift: float, memory: int) -> None:
        self.module = copy_module(module).double()
        self.weights = {name: weight.detach() for name, weight in parameters_of(self.module).items()}
        self.device = next(iter(self.weights.values())).device
        self.side = sum(weight.numel() for weight in self.weights.values())
        self.train = train
        self.kind = kind
        self.shift = shift
        self.memory = memory
        self.vectorised = True
        two = train.inputs[:1].expand(2, *train.inputs.shape[1:]).to(self.device)
        self.kept = bytes_per_row(self.module, two)

    def __call__(self, vectors: Float64[Tensor, "p b"], rows: Tensor | None = None) -> Float64[Tensor, "p b"]:
        """Return the matrix times each column.

        Args:
            rows: examples to take the sum over, scaled up to all of them; None takes all.
        """
        product = self._hessian if self.kind == "hessian" else self._ggn
        scale = 1.0 if rows is None else len(self.train) / len(rows)
        total = self.shift * vectors.T  # (b, p)
        for columns in blocks(vectors.shape[1], self._columns):
            tangents = self.unflat(vectors[:, columns].T)
            for x, y in self._chunks(columns.stop - columns.start, rows):
                with derivatives(self.module):
                    products = product(tangents, x, y)
                total[columns].add_(self.flat(products), alpha=scale)
        return total.T

    def gradients(self, inputs: Tensor, targets: Float64[Tensor, "b k"]) -> Float64[Tensor, "p b"]:
        """Return the gradient of ½ |f(x) − y|² at each of some points, in columns."""
        gradients = torch.empty(len(inputs), self.side, dtype=torch.float64, device=self.device)
        for rows in blocks(len(inputs), self._columns):
            x, y = inputs[rows].to(self.device), targets[rows].to(self.device)
            with derivatives(self.module):
                gradients[rows] = self.flat(self._row_gradients(x, y))
        return gradients.T

    def slopes(self, vectors: Float64[Tensor, "p b"], rows: Tensor | None = None) -> Float64[Tensor, "b n"]:
        """Return how fast the loss of each example grows along each column: (f_i − y_i) · (J_i v).

        Its gradient times the column, without the gradient: one push forward.
        """
        slopes = []
        for columns in blocks(vectors.shape[1], self._columns):
            tangents = self.unflat(vectors[:, columns].T)
            by_chunk = []
            for x, y in self._chunks(columns.stop - columns.start, rows):
                leaves, outputs = self._graph(x)
                with derivatives(self.module):
                    changes = self._push(tangents, leaves, outputs)
                by_chunk.append(torch.einsum("bck,ck->bc", changes, outputs.detach() - y))
            slopes.append(torch.cat(by_chunk, dim=1))
        return torch.cat(slopes)

    def flat(self, weights: Parameters) -> Float64[Tensor, "b p"]:
        """Return b sets of weights, one a row."""
        return torch.cat(
            [weight.reshape(len(weight), weight[0].numel()) for weight in weights.values()], dim=1
        )

    def unflat(self, rows: Float64[Tensor, "b p"]) -> Parameters:
        """Return the rows as sets of weights."""
        sizes = [weight.numel() for weight in self.weights.values()]
        named = zip(self.weights.items(), torch.split(rows, sizes, dim=1), strict=True)
        return {name: columns.reshape(len(rows), *like.shape) for (name, like), columns in named}

    def _graph(self, x: Tensor) -> tuple[Parameters, Float64[Tensor, "c k"]]:
        """Return weights to differentiate in, and the outputs."""
        with gradients_recorded(), sdpa_kernel(SDPBackend.MATH):  # the fused one has no second derivative
            leaves = {name: weight.detach().requires_grad_() for name, weight in self.weights.items()}
            return leaves, call(self.module, leaves, x)

    def _row_gradients(self, x: Tensor, y: Float64[Tensor, "c k"]) -> Parameters:
        """Return the gradient of the loss at each of some points."""
        if self.vectorised:
            try:
                return self._row_gradients_by_vmap(x, y)
            except FAILURES:  # a module that vmap refuses
                self.vectorised = False
        rows = []
        for i in range(len(x)):
            leaves, outputs = self._graph(x[i : i + 1])
            gradients = _products(outputs, leaves, (outputs.detach() - y[i : i + 1])[None])
            rows.append(gradients)
        return {name: torch.cat([row[name] for row in rows]) for name in self.weights}

    def _row_gradients_by_vmap(self, x: Tensor, y: Float64[Tensor, "c k"]) -> Parameters:
        def loss(weights: Parameters, point: Tensor, target: Tensor) -> Tensor:
            return (call(self.module, weights, point[None]) - target[None]).square().sum() / 2

        gradients: Parameters = vmap(grad(loss), in_dims=(None, 0, 0))(self.weights, x, y)
        return gradients

    def _push(
        self, tangents: Parameters, leaves: Parameters, outputs: Float64[Tensor, "c k"]
    ) -> Float64[Tensor, "b c k"]:
        """Return J v for each tangent: u ↦ Jᵀu is linear, and pulling v back through it is J v."""
        columns = len(next(iter(tangents.values())))
        zero = outputs.new_zeros(columns, *outputs.shape)
        if not outputs.requires_grad:
            return zero
        u = torch.zeros_like(outputs, requires_grad=True)
        pulled = _gradients(outputs, leaves, u)
        if not pulled:
            return zero
        along = [tangents[name] for name in pulled]
        return torch.autograd.grad(list(pulled.values()), u, along, is_grads_batched=True)[0]

    def _ggn(self, tangents: Parameters, x: Tensor, y: Tensor) -> Parameters:
        leaves, outputs = self._graph(x)
        return _products(outputs, leaves, self._push(tangents, leaves, outputs))

    def _hessian(self, tangents: Parameters, x: Tensor, y: Tensor) -> Parameters:
        leaves, outputs = self._graph(x)
        columns = len(next(iter(tangents.values())))
        total = {name: leaf.new_zeros(columns, *leaf.shape) for name, leaf in leaves.items()}
        if not outputs.requires_grad:
            return total
        gradient = _gradients((outputs - y).square().sum() / 2, leaves, None)
        if not gradient:
            return total
        products = torch.autograd.grad(
            list(gradient.values()),
            list(leaves.values()),
            [tangents[name] for name in gradient],
            is_grads_batched=True,
            allow_unused=True,
        )
        return _filled(total, products)

    def _chunks(self, columns: int, rows: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield examples and targets that fit the memory beside so many columns."""
        room = min(self.memory // 2, max(CHUNK, VECTORS * 8 * self.side))
        size = max(1, room // (PASSES * self.kept * (columns + 1)))
        examples = torch.arange(len(self.train), device="cpu") if rows is None else rows.cpu()
        for chunk in torch.split(examples, size):
            inputs, targets = self.train.inputs[chunk], self.train.targets[chunk]
            yield inputs.to(self.device), targets.to(self.device)

    @property
    def _columns(self) -> int:
        """Return how many columns fit, beside a single example at least."""
        of_vectors = min(self.memory // 2, CHUNK) // (VECTORS * 8 * self.side)
        of_examples = self.memory // 2 // (PASSES * self.kept) - 1
        return max(1, min(of_vectors, of_examples))


def _gradients(outputs: Tensor, leaves: Parameters, along: Tensor | None) -> Parameters:
    """Return gradients that can be differentiated again, of the leaves that have any."""
    gradients = torch.autograd.grad(
        outputs, list(leaves.values()), along, create_graph=True, allow_unused=True
    )
    return {
        name: gradient
        for name, gradient in zip(leaves, gradients, strict=True)
        if gradient is not None and gradient.requires_grad
    }


def _products(outputs: Tensor, leaves: Parameters, along: Float64[Tensor, "b c k"]) -> Parameters:
    """Return Jᵀu for each u."""
    zeros = {name: leaf.new_zeros(len(along), *leaf.shape) for name, leaf in leaves.items()}
    if not outputs.requires_grad:
        return zeros
    products = torch.autograd.grad(
        outputs, list(leaves.values()), along, is_grads_batched=True, allow_unused=True
    )
    return _filled(zeros, products)


def _filled(zeros: Parameters, products: Sequence[Tensor | None]) -> Parameters:
    """Return products by parameter, zeros where the outputs do not depend on one."""
    return {
        name: zero if product is None else product
        for (name, zero), product in zip(zeros.items(), products, strict=True)
    }

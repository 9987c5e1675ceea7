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

from collections.abc import Callable, Iterator
from typing import Literal, final

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.func import grad, vjp, vmap

from leftout.core.blocks import blocks
from leftout.core.module_call import call, copy_module
from leftout.core.modules import Parameters, bytes_per_row, parameters_of
from leftout.data.examples import Examples

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
                total[columns].add_(self.flat(product(tangents, x, y)), alpha=scale)
        return total.T

    def gradients(self, inputs: Tensor, targets: Float64[Tensor, "b k"]) -> Float64[Tensor, "p b"]:
        """Return the gradient of ½ |f(x) − y|² at each of some points, in columns."""

        def loss(weights: Parameters, x: Tensor, y: Tensor) -> Tensor:
            return self._loss(weights, x[None], y[None])

        gradients = torch.empty(len(inputs), self.side, dtype=torch.float64, device=self.device)
        for rows in blocks(len(inputs), self._columns):
            x, y = inputs[rows].to(self.device), targets[rows].to(self.device)
            gradients[rows] = self.flat(vmap(grad(loss), in_dims=(None, 0, 0))(self.weights, x, y))
        return gradients.T

    def slopes(self, vectors: Float64[Tensor, "p b"], rows: Tensor | None = None) -> Float64[Tensor, "b n"]:
        """Return how fast the loss of each example grows along each column: (f_i − y_i) · (J_i v).

        Its gradient times the column, without the gradient: one push forward.
        """
        slopes = []
        for columns in blocks(vectors.shape[1], self._columns):
            tangents = self.unflat(vectors[:, columns].T)
            by_chunk = [
                torch.einsum("bck,ck->bc", self._push(tangents, x), self._outputs(x) - y)
                for x, y in self._chunks(columns.stop - columns.start, rows)
            ]
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

    def _outputs(self, x: Tensor, weights: Parameters | None = None) -> Float64[Tensor, "c k"]:
        return call(self.module, self.weights if weights is None else weights, x)

    def _loss(self, weights: Parameters, x: Tensor, y: Tensor) -> Tensor:
        return (call(self.module, weights, x) - y).square().sum() / 2

    def _push(self, tangents: Parameters, x: Tensor) -> Float64[Tensor, "b c k"]:
        """Return J v for each tangent: u ↦ Jᵀu is linear, and pulling v back through it is J v."""

        def pull_back(u: Tensor) -> Parameters:
            return pull(u)[0]

        outputs, pull = self._outputs_and_pull(x)
        push = vjp(pull_back, torch.zeros_like(outputs))[1]
        return vmap(push)(tangents)[0]

    def _ggn(self, tangents: Parameters, x: Tensor, y: Tensor) -> Parameters:
        pull = self._outputs_and_pull(x)[1]
        return vmap(pull)(self._push(tangents, x))[0]

    def _hessian(self, tangents: Parameters, x: Tensor, y: Tensor) -> Parameters:
        gradient = grad(lambda weights: self._loss(weights, x, y))
        pull = vjp(gradient, self.weights)[1]
        return vmap(pull)(tangents)[0]

    def _outputs_and_pull(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Parameters]]]:
        """Return the outputs, and u ↦ Jᵀu."""
        outputs, pull, *_ = vjp(lambda weights: self._outputs(x, weights), self.weights)
        return outputs, pull

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

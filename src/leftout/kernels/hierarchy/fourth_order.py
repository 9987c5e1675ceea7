"""Sums of K₃ and K₄ of a two-layer network over examples and pairs, computed without forming either.

f(x) = m^-1/2 Σ_r a_r σ(w_r·x), both layers trained. Every kernel is a sum over neurons, m^-1 for K₂, m^-3/2
for K₃, m^-2 for K₄, and every term of a neuron's K₄(1, 2, i, j) is a product of one factor in i, one in j
and at most one x_i·x_j. With α and C of `pull`, C + Cᵀ = α αᵀ, X the inputs, G = X Xᵀ and, of one neuron,
s, s', s'', s''' at the n examples (vectors) or at a point 1 or 2 (subscripts), the sum over all pairs is of

    l = α·s,   A = Xᵀ(s' ∘ α),   V = Xᵀ(s' ∘ C s),   Z = Xᵀ(s'' ∘ (C ∘ G) s'),

as Xᵀ(s' ∘ Cᵀ s) = l A − V, sᵀC s = l²/2 and s'ᵀ(C ∘ G) s' = |A|²/2. With A, V, Z at a point for x·A, …:

    Σ_ij C_ij K₄(1, 2, i, j) = p_1 s_2 + s_1 p_2 + a² b_1 b_2 + x_1·x_2 (q_1 s'_2 + s'_1 q_2 + a⁴ c_1 c_2),
        p = s' (V + a² Z) + ½ a² s'' A²,     b = s' A,     c = s'' A,
        q = ½ s' (l² + a² |A|²) + s'' (a² (V + 2 l A) + a⁴ Z) + ½ a⁴ s''' A²;

    Σ_i α_i K₃(1, 2, i) = p_1 s_2 + s_1 p_2 + x_1·x_2 (q_1 s'_2 + s'_1 q_2),
        p = a s' A,     q = a l s' + a³ s'' A.

The last argument of K₄, j, is the one along whose ∇f(x_j) K₃(1, 2, i) is differentiated. Over a ~ N(0, 1) a²
and a⁴ have means 1 and 3.

Floor: K₄ formed is n⁴ numbers. This is, for each neuron and to N points, in flops,

    ReLU     4n² for V and |A|², 4Nn to take A and V to the points, 10N² for their pairs,
    smooth   6n² with Z, 6Nn, 12N²,

and some thirty passes over N + n responses.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.kernels.hierarchy.pull import Pull
from leftout.kernels.wide.activations import Response, response
from leftout.kernels.wide.options import Activation

Moment = float | Tensor
"""A power of the readout weights: one number for each neuron, or the mean of all."""


@dataclass(frozen=True, eq=False)
class WeightedExamples:
    """The training examples, and the weights α and C of each and of each pair in the change of the kernel.

    Attributes:
        inputs: X.
        pull: α and C.
    """

    inputs: Float64[Tensor, "n d"]
    pull: Pull

    @cached_property
    def gram(self) -> Float64[Tensor, "n n"]:
        """Return G."""
        return self.inputs @ self.inputs.T

    @cached_property
    def weighted_gram(self) -> Float64[Tensor, "n n"]:
        """Return C ∘ G."""
        return self.pull.pairs * self.gram

    def sums(self, activation: Activation, weights: Float64[Tensor, "r d"]) -> tuple["ExampleSums", Response]:
        """Return the sums over examples for each neuron, and the responses of the neurons to them."""
        responses = response(activation, self.inputs @ weights.T)
        alpha = self.pull.single
        single = responses.first * alpha[:, None]
        square = (single * (self.gram @ single)).sum(0)
        first = responses.first * (self.pull.pairs @ responses.value)
        curved = (
            None if responses.second is None else responses.second * (self.weighted_gram @ responses.first)
        )
        return ExampleSums(alpha @ responses.value, square, single, first, curved), responses


@dataclass(frozen=True, eq=False)
class ExampleSums:
    """Sums over the examples for each neuron: l, |A|², and vectors whose products with x·X are A, V, Z.

    Attributes:
        level: l.
        square: |A|².
        single, first, curved: of A, V, Z; the last is None where σ'' is 0.
    """

    level: Float64[Tensor, " r"]
    square: Float64[Tensor, " r"]
    single: Float64[Tensor, "n r"]
    first: Float64[Tensor, "n r"]
    curved: Float64[Tensor, "n r"] | None


@dataclass(frozen=True, eq=False)
class Factors:
    """A sum over neurons as products of factors of its two points.

    Attributes:
        plain, plain_turned: Σ plain_1 plain_turned_2, each (N, 3r) or (N, 2r).
        dotted, dotted_turned: the same, of the terms that are multiplied by x_1·x_2.
    """

    plain: Float64[Tensor, "n plain"]
    plain_turned: Float64[Tensor, "n plain"]
    dotted: Float64[Tensor, "n dotted"]
    dotted_turned: Float64[Tensor, "n dotted"]


def second_factors(
    responses: Response, links: Float64[Tensor, "n k"], sums: ExampleSums, second: Moment, fourth: Moment
) -> Factors:
    """Return the factors of Σ C_ij K₄ at points.

    Args:
        responses: responses at the points.
        links: their products with the examples, x·X.
        second, fourth: a² and a⁴.
    """
    single = links @ sums.single  # A, (N, r)
    first = links @ sums.first
    slope_single = responses.first * single
    plain = responses.first * first
    dotted = responses.first * ((sums.level.square() + second * sums.square) / 2)
    bent: Tensor | None = None
    if responses.second is not None:
        assert responses.third is not None
        assert sums.curved is not None
        curved = links @ sums.curved
        squared = single.square() / 2
        plain = plain + second * (responses.first * curved + responses.second * squared)
        turning = second * (first + 2 * sums.level * single) + fourth * curved
        dotted = dotted + responses.second * turning + fourth * responses.third * squared
        bent = responses.second * single
    return _factors(
        responses, plain, (second, slope_single), dotted, None if bent is None else (fourth, bent)
    )


def first_factors(
    responses: Response, links: Float64[Tensor, "n k"], sums: ExampleSums, readout: Float64[Tensor, " r"]
) -> Factors:
    """Return the factors of Σ α_i K₃ at points."""
    single = links @ sums.single
    dotted = responses.first * (readout * sums.level)
    if responses.second is not None:
        dotted = dotted + readout.pow(3) * responses.second * single
    return _factors(responses, readout * responses.first * single, None, dotted, None)


def _factors(
    responses: Response,
    plain: Tensor,
    plain_square: tuple[Moment, Tensor] | None,
    dotted: Tensor,
    dotted_square: tuple[Moment, Tensor] | None,
) -> Factors:
    """Return factors of p_1 s_2 + s_1 p_2 + c v_1 v_2, and the same with s' for the terms in x_1·x_2."""

    def pair(factor: Tensor, turned: Tensor, square: tuple[Moment, Tensor] | None) -> tuple[Tensor, Tensor]:
        first, second = [factor, turned], [turned, factor]
        if square is not None:
            moment, vector = square
            first.append(moment * vector)
            second.append(vector)
        return torch.cat(first, dim=1), torch.cat(second, dim=1)

    return Factors(*pair(plain, responses.value, plain_square), *pair(dotted, responses.first, dotted_square))


def between(rows: Factors, columns: Factors, dots: Float64[Tensor, "m n"]) -> Float64[Tensor, "m n"]:
    """Return the sum over neurons for every pair of points."""
    sums: Tensor = rows.plain @ columns.plain_turned.T
    return sums.addcmul_(rows.dotted @ columns.dotted_turned.T, dots)


def itself(factors: Factors, squares: Float64[Tensor, " n"]) -> Float64[Tensor, " n"]:
    """Return the sum over neurons for every point with itself."""
    plain = torch.linalg.vecdot(factors.plain, factors.plain_turned)
    dotted = torch.linalg.vecdot(factors.dotted, factors.dotted_turned)
    sums: Tensor = plain + squares * dotted
    return sums

"""What do K₃ and K₄ of a two-layer network sum to over examples and pairs, without being formed?

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

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.kernels.hierarchy.pull import Pull
from leftout.kernels.wide.activations import Response, response
from leftout.kernels.wide.options import Activation

Moment = float | Tensor
"""Of a readout: one for every neuron, or their common mean."""


@dataclass(frozen=True, eq=False)
class Pullers:
    """The training examples, and how hard each and each pair of them has pulled.

    Attributes:
        inputs: X.
        gram: G.
        weighted: C ∘ G.
    """

    inputs: Float64[Tensor, "n d"]
    pull: Pull
    gram: Float64[Tensor, "n n"]
    weighted: Float64[Tensor, "n n"]


def pullers(inputs: Float64[Tensor, "n d"], pulled: Pull) -> Pullers:
    """Return the examples with how hard they have pulled."""
    gram = inputs @ inputs.T
    return Pullers(inputs, pulled, gram, pulled.pairs * gram)


@dataclass(frozen=True, eq=False)
class Along:
    """What neurons make of the examples: l, |A|², and vectors whose product with x·X gives A, V, Z.

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


def along(
    examples: Pullers, activation: Activation, weights: Float64[Tensor, "r d"]
) -> tuple[Along, Response]:
    """Return what neurons make of the examples, and their responses there."""
    seen = response(activation, examples.inputs @ weights.T)
    alpha = examples.pull.single
    single = seen.first * alpha[:, None]
    square = (single * (examples.gram @ single)).sum(0)
    first = seen.first * (examples.pull.pairs @ seen.value)
    curved = None if seen.second is None else seen.second * (examples.weighted @ seen.first)
    return Along(alpha @ seen.value, square, single, first, curved), seen


@dataclass(frozen=True, eq=False)
class Factors:
    """A sum over neurons as products of factors of its two points.

    Attributes:
        plain, plain_turned: Σ plain_1 plain_turned_2, each (N, 3r) or (N, 2r).
        dotted, dotted_turned: the same, of what is multiplied by x_1·x_2.
    """

    plain: Float64[Tensor, "n plain"]
    plain_turned: Float64[Tensor, "n plain"]
    dotted: Float64[Tensor, "n dotted"]
    dotted_turned: Float64[Tensor, "n dotted"]


def second_factors(
    seen: Response, links: Float64[Tensor, "n k"], of: Along, second: Moment, fourth: Moment
) -> Factors:
    """Return the factors of Σ C_ij K₄ at points.

    Args:
        seen: responses at the points.
        links: their products with the examples, x·X.
        second, fourth: a² and a⁴.
    """
    single = links @ of.single  # A, (N, r)
    first = links @ of.first
    one = seen.first * single
    plain = seen.first * first
    dotted = seen.first * ((of.level.square() + second * of.square) / 2)
    bent: Tensor | None = None
    if seen.second is not None:
        assert seen.third is not None
        assert of.curved is not None
        curved = links @ of.curved
        squared = single.square() / 2
        plain = plain + second * (seen.first * curved + seen.second * squared)
        turning = second * (first + 2 * of.level * single) + fourth * curved
        dotted = dotted + seen.second * turning + fourth * seen.third * squared
        bent = seen.second * single
    return _factors(seen, plain, (second, one), dotted, None if bent is None else (fourth, bent))


def first_factors(
    seen: Response, links: Float64[Tensor, "n k"], of: Along, readout: Float64[Tensor, " r"]
) -> Factors:
    """Return the factors of Σ α_i K₃ at points."""
    single = links @ of.single
    dotted = seen.first * (readout * of.level)
    if seen.second is not None:
        dotted = dotted + readout.pow(3) * seen.second * single
    return _factors(seen, readout * seen.first * single, None, dotted, None)


def _factors(
    seen: Response,
    plain: Tensor,
    plain_square: tuple[Moment, Tensor] | None,
    dotted: Tensor,
    dotted_square: tuple[Moment, Tensor] | None,
) -> Factors:
    """Return factors of p_1 s_2 + s_1 p_2 + c v_1 v_2, and the same with s' for what is dotted."""

    def pair(factor: Tensor, turned: Tensor, square: tuple[Moment, Tensor] | None) -> tuple[Tensor, Tensor]:
        left, right = [factor, turned], [turned, factor]
        if square is not None:
            moment, vector = square
            left.append(moment * vector)
            right.append(vector)
        return torch.cat(left, dim=1), torch.cat(right, dim=1)

    return Factors(*pair(plain, seen.value, plain_square), *pair(dotted, seen.first, dotted_square))


def between(left: Factors, right: Factors, dots: Float64[Tensor, "m n"]) -> Float64[Tensor, "m n"]:
    """Return the sum over neurons for every pair of points."""
    value: Tensor = left.plain @ right.plain_turned.T
    return value.addcmul_(left.dotted @ right.dotted_turned.T, dots)


def itself(factors: Factors, squares: Float64[Tensor, " n"]) -> Float64[Tensor, " n"]:
    """Return the sum over neurons for every point with itself."""
    plain = torch.linalg.vecdot(factors.plain, factors.plain_turned)
    dotted = torch.linalg.vecdot(factors.dotted, factors.dotted_turned)
    value: Tensor = plain + squares * dotted
    return value

"""How likely do two inputs share a label? Estimated from ten or twenty features of the pair.

Linear least squares over all n² training pairs (i, i included), without intercept, of L_ij = ±1 on

    k(x, x') · x·x' · cos · |x − x'|² · |x||x'| · sin · angle · exp(−|x − x'|²/s²) · correlation · Σ|x − x'|

where s² is the mean squared distance of a training pair and the correlation is over the features of an
input. Variant V2 adds p_k(x) p_k(x') and |p_k(x) − p_k(x')| of five principal components. For two classes
the inputs have a constant 1 appended, for more they do not (as in the released program).

The n² × features matrix is never held: tiles of pairs are added up to the small Gram matrix of the
features, with one triangle of tiles counted twice. A sketch (`sketch`) replaces the sums by random
ones, which approach these as its size grows.

Where inputs have one norm, features are multiples of each other (x·x' and cos); coefficients are then those
of least norm, features measured in their root mean square. Predictions do not depend on the choice.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.errors import DataError
from leftout.kernels.pairwise.axes import COMPONENTS, Axes, principal_axes
from leftout.kernels.pairwise.pairs import (
    Pairs,
    Pixels,
    count_classes,
    symmetric_matrix,
    tile_size,
    triangle,
    write_mirrored,
)
from leftout.kernels.pairwise.sketch import Sketch

NAMES = (
    "kernel",
    "product",
    "cosine",
    "squared distance",
    "product of norms",
    "sine",
    "angle",
    "gaussian",
    "correlation",
    "l1 distance",
)

AXES_NAMES = (
    *(f"product on component {k}" for k in range(1, COMPONENTS + 1)),
    *(f"distance on component {k}" for k in range(1, COMPONENTS + 1)),
)

RANK = 1e-12
"""Mean square of a combination of features, over theirs, below which it is rounding and gets no weight.

Inputs that were given one norm and kept in float32 are off by 1e-7 of it, and so are features that would
be multiples of each other, in mean square 1e-14; normal equations in float64 have a rounding of 1e-15.
"""


FLAT = 1e-24
"""Share of an input's square below which its spread is the rounding of equal features."""

SAME = 1e-13
"""Mean squared distance of inputs, over their mean square, below which it is the rounding of equal inputs."""

STORED = 2**27
"""Bytes of features up to which they are kept between passes."""

ALL = slice(None)


@final
@dataclass(frozen=True)
class FeatureRegression:
    """Z as a linear function of pair features.

    Attributes:
        coefficients: one a feature, in the order of `names`.
        scale: s², the mean squared distance of a training pair.
        appended: whether inputs have a constant 1 appended.
        axes: principal components of the training inputs, where they are features.
        rank: how many combinations of features are linearly independent.
    """

    coefficients: Float64[Tensor, " f"]
    scale: float
    appended: bool
    axes: Axes | None
    rank: int

    def on(self, pairs: Pairs) -> Float64[Tensor, "m n"]:
        """Return Z of pairs of any input and a training input.

        Raises:
            DataError: an input without a direction or without a spread; the first is named.
        """
        if self.axes is None:
            return self.between(pairs, None)
        assert pairs.products is not None
        return self.between(pairs, (self.axes.scores_of(pairs.products), self.axes.scores))

    def between(self, pairs: Pairs, scores: tuple[Tensor, Tensor] | None) -> Float64[Tensor, "m n"]:
        """Return Z of any pairs, given the scores of row inputs and of column inputs; errors as `on`."""
        extended = checked_pairs(pairs, appended=self.appended)
        higher = torch.empty_like(pairs.kernel)
        size = tile_size(higher.device)
        for i in blocks(higher.shape[0], size):
            for j in blocks(higher.shape[1], size):
                higher[i, j] = self._tile(extended, i, j, scores)
        return higher

    def among(self, pairs: Pairs) -> Float64[Tensor, "n n"]:
        """Return Z of the training pairs: one triangle and its mirror."""
        from_axes = None if self.axes is None else (self.axes.scores, self.axes.scores)
        extended = checked_pairs(pairs, appended=self.appended)
        return symmetric_matrix(pairs.kernel, lambda i, j: self._tile(extended, i, j, from_axes))

    def of_each(
        self, diagonal: Float64[Tensor, " n"], pixels: Pixels, scores: Float64[Tensor, "n c"] | None
    ) -> Float64[Tensor, " n"]:
        """Return Z of each input with itself."""
        squares = (pixels.with_constant() if self.appended else pixels).squares
        ones, zeros = torch.ones_like(squares), torch.zeros_like(squares)
        columns = [diagonal, squares, ones, zeros, squares, zeros, zeros, ones, ones, zeros]
        if scores is not None:
            columns += [*scores.square().T, *torch.zeros_like(scores).T]
        return self.coefficients.to(squares) @ torch.stack(columns)

    def _tile(self, extended: Pairs, i: slice, j: slice, scores: tuple[Tensor, Tensor] | None) -> Tensor:
        total: Tensor | None = None
        for weight, feature in zip(
            self.coefficients.tolist(), features(extended, i, j, scale=self.scale, scores=scores), strict=True
        ):
            total = weight * feature if total is None else total.add_(feature, alpha=weight)
        assert total is not None
        return total

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the features."""
        return NAMES if self.axes is None else (*NAMES, *AXES_NAMES)

    @property
    def record(self) -> dict[str, Any]:
        """Return coefficients by feature, and the parameters of the features."""
        return {
            "coefficients": dict(zip(self.names, self.coefficients.tolist(), strict=True)),
            "scale": self.scale,
            "appended": self.appended,
            "rank": self.rank,
        }


Equations = Callable[[], Iterable[tuple[slice, slice, Float64[Tensor, "g e"]]]]
"""Tiles of a triangle of pairs: rows, columns, and an array of one row a feature and one of labels."""


def learn_features(
    pairs: Pairs, labels: Int64[Tensor, " n"], *, components: bool, sketch: Sketch | None
) -> tuple[FeatureRegression, Float64[Tensor, "n n"]]:
    """Return Z as fitted to all pairs of training inputs, and its values there.

    Args:
        components: V2, with features of five principal components.
        sketch: random combinations of pairs in place of all of them.

    Raises:
        DataError: an input without a direction or a spread, inputs that are all the same, or too few
            directions for components.

    Cost:
        10 (20) features of n²/2 pairs, an arc cosine and an exponential among them, and their products,
        n² · 100 (400) flops; V2 the leading eigenvectors besides. Features are made once and kept where
        they take 128 MB at most, else three times.

    Accuracy:
        Z is off by 1e-16 times the condition of the features, 1e6 at most; normal equations alone would
            square it.
    """
    assert pairs.products is not None
    assert pairs.left is not None
    appended = count_classes(labels) == 2
    # Σ_ij |x_i − x_j|² = 2n Σ |x_i|² − 2 Σ_ij x_i·x_j: nothing n × n is made of it.
    scale = 2 * float(pairs.left.squares.mean() - pairs.products.mean())
    if not scale > SAME * float(pairs.left.squares.mean()):
        raise DataError("Inputs must differ from each other; these are all the same.")
    axes = principal_axes(pairs.products) if components else None
    scores = None if axes is None else (axes.scores, axes.scores)
    extended = checked_pairs(pairs, appended=appended)
    labels = labels.to(pairs.kernel.device)
    if sketch is not None:
        columns = map(torch.flatten, features_and_label(extended, labels, scale=scale, scores=scores))
        count = len(NAMES) + (0 if axes is None else len(AXES_NAMES))
        short = sketch.of(columns, length=len(labels) ** 2, features=count)
        coefficients, rank = _least_squares(lambda: [(ALL, ALL, short)])
        regression = FeatureRegression(coefficients, scale, appended, axes, rank)
        return regression, regression.among(pairs)
    equations = _equations(extended, labels, scale=scale, scores=scores)
    coefficients, rank = _least_squares(equations)
    higher = torch.empty_like(pairs.kernel)
    for i, j, rows in equations():
        write_mirrored(higher, i, j, (coefficients @ rows[:-1]).view_as(higher[i, j]))
    return FeatureRegression(coefficients, scale, appended, axes, rank), higher


def checked_pairs(pairs: Pairs, *, appended: bool) -> Pairs:
    """Return the pairs that features are made of; raise if one has none.

    Raises:
        DataError: as of `FeatureRegression.on`.
    """
    extended = pairs.with_constant() if appended else pairs
    for side, name in ((extended.left, "row"), (extended.right, "column")):
        assert side is not None
        equal = side.spreads <= FLAT * side.squares
        for lacking, lacks in ((side.squares <= 0, "norm 0"), (equal, "all features equal")):
            flat = lacking.nonzero().flatten()
            if len(flat):
                raise DataError(
                    f"Inputs must have a direction and a spread for features of pairs; {name} input "
                    f'{int(flat[0])} has {lacks}. Drop it, or take "kr-v1".'
                )
    return extended


def features(
    pairs: Pairs, i: slice, j: slice, *, scale: float, scores: tuple[Tensor, Tensor] | None
) -> Iterator[Float64[Tensor, "a b"]]:
    """Yield the features of a tile of pairs, one after the other."""
    assert pairs.products is not None
    assert pairs.l1 is not None
    assert pairs.left is not None
    assert pairs.right is not None
    row_stats, column_stats = pairs.left.of(i), pairs.right.of(j)
    products = pairs.products[i, j]
    yield pairs.kernel[i, j]
    yield products
    lengths = torch.outer(row_stats.squares, column_stats.squares).sqrt_()
    cosine = (products / lengths).clamp_(-1, 1)
    # The angle is √2(1 − cos): a product's rounding, d eps at most, would make 1e-8 out of none.
    same = 1 - cosine.abs() <= row_stats.features * torch.finfo(torch.float64).eps
    cosine[same] = cosine[same].sign()
    yield cosine
    apart = (row_stats.squares[:, None] + column_stats.squares - 2 * products).clamp_(min=0)
    yield apart
    yield lengths
    yield (1 - cosine.square()).sqrt_()
    yield cosine.acos()
    yield apart.div(-scale).exp_()
    means = torch.outer(row_stats.features * row_stats.means, column_stats.means)
    yield (products - means) / torch.outer(row_stats.spreads, column_stats.spreads).sqrt_()
    yield pairs.l1[i, j]
    if scores is not None:
        ours, theirs = scores[0][i], scores[1][j]
        for k in range(COMPONENTS):
            yield torch.outer(ours[:, k], theirs[:, k])
        for k in range(COMPONENTS):
            yield (ours[:, None, k] - theirs[None, :, k]).abs()


def features_and_label(
    extended: Pairs,
    labels: Tensor,
    i: slice = ALL,
    j: slice = ALL,
    *,
    scale: float,
    scores: tuple[Tensor, Tensor] | None,
) -> Iterator[Float64[Tensor, "a b"]]:
    """Yield the features of a tile of training pairs, then L_ij: 1 where labels agree, −1 where not."""
    yield from features(extended, i, j, scale=scale, scores=scores)
    yield (labels[i][:, None] == labels[j]).double().mul_(2).sub_(1)


def _equations(
    extended: Pairs, labels: Tensor, *, scale: float, scores: tuple[Tensor, Tensor] | None
) -> Equations:
    """Return a function that yields the tiles: from memory where they are small."""

    def tiles() -> Iterator[tuple[slice, slice, Tensor]]:
        for i, j in triangle(len(labels), tile_size(labels.device)):
            columns = features_and_label(extended, labels, i, j, scale=scale, scores=scores)
            yield i, j, torch.stack([*columns]).flatten(1)

    count = len(NAMES) + 1 + (0 if scores is None else len(AXES_NAMES))
    if 8 * count * len(labels) ** 2 / 2 > STORED:
        return tiles
    stored = list(tiles())
    return lambda: stored


def _multiplicity(i: slice, j: slice) -> int:
    """Return how often a tile counts: twice off the diagonal, for its mirror."""
    return 1 if i == j else 2


def _least_squares(equations: Equations) -> tuple[Float64[Tensor, " f"], int]:
    """Return coefficients and rank, from two passes over the equations.

    The second corrects the rounding of the normal equations, whose condition is the square of the features':
    products of features and residuals are small, and so is their rounding.
    """
    sums = sum(_multiplicity(i, j) * (rows @ rows.T) for i, j, rows in equations())
    assert isinstance(sums, Tensor)
    sizes = sums.diagonal()[:-1].sqrt()
    sizes = torch.where(sizes > 0, sizes, 1.0)
    values, vectors = torch.linalg.eigh(sums[:-1, :-1] / torch.outer(sizes, sizes))
    usable = values > RANK * values[-1]
    values, vectors = values[usable], vectors[:, usable]

    def solve(moments: Tensor) -> Float64[Tensor, " f"]:
        coefficients: Tensor = vectors @ ((vectors.T @ (moments / sizes)) / values) / sizes
        return coefficients

    coefficients = solve(sums[:-1, -1])
    residuals = ((i, j, rows, rows[-1] - coefficients @ rows[:-1]) for i, j, rows in equations())
    moments = sum(_multiplicity(i, j) * (rows[:-1] @ residual) for i, j, rows, residual in residuals)
    assert isinstance(moments, Tensor)
    return coefficients + solve(moments), int(usable.sum())

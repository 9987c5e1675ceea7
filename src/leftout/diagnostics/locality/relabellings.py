"""Values of a function of labels at all labellings, or at a sample of them.

Labels are independent, label i is class a with probability p_i(a). If there are few labellings each is
evaluated once, weighted by its probability. Otherwise labellings are drawn; if two classes are equally
probable each draw comes with its opposite, so that even parts of the function add no variance to the odd
ones.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.core.checks import check_finite, check_kind
from leftout.core.errors import ShapeError
from leftout.core.progress import with_progress

LabelFunction = Callable[[Int64[Tensor, " n"]], Tensor]


@dataclass(frozen=True, eq=False)
class Relabellings:
    """Values of a function of labels, K(y) with e entries, at many labellings.

    Attributes:
        labels: the labellings.
        weights: their probabilities if these are all labellings, else None.
        probabilities: of each label and class.
        even: K(y), or (K(y) + K(−y)) / 2 with opposites.
        odd: K(y), or (K(y) − K(−y)) / 2.
        opposites: whether each draw came with its opposite.
    """

    labels: Int64[Tensor, "draws n"]
    weights: Float64[Tensor, " draws"] | None
    probabilities: Float64[Tensor, "n c"]
    even: Float64[Tensor, "draws e"]
    odd: Float64[Tensor, "draws e"]
    opposites: bool

    @property
    def square(self) -> Float64[Tensor, "draws e"]:
        """Return K² of each draw, averaged with that of its opposite if there is one."""
        square = self.even.square()
        return square.addcmul_(self.odd, self.odd) if self.opposites else square

    def alike(self, labels: Int64[Tensor, " n"]) -> Float64[Tensor, "draws n"]:
        """Return 1{Y_i = y_i} / p_i(y_i) − 1 for every draw Y and label i, the kernel of the projections."""
        chosen = self.probabilities.gather(1, labels[:, None])[:, 0]
        return (self.labels == labels).double() / chosen - 1

    def levels(self, block: slice) -> tuple[Float64[Tensor, "some draws"], Float64[Tensor, "some draws"]]:
        """Return Σ_i k_i and Σ_{i<j} k_i k_j for a block of draws and all, k_i = 1{Y_i = Y'_i} / p_i − 1."""
        p = self.probabilities
        count = p.shape[0]
        coded = torch.nn.functional.one_hot(self.labels, p.shape[1]).double()  # (d, n, c)
        first = (coded / p).flatten(1)
        squares = (coded * (1 / p - 2) / p).flatten(1)
        ones = coded.flatten(1)
        single = ones[block] @ first.T - count
        # k² = 1{Y = Y'} (1/p² − 2/p) + 1
        pair = (single.square() - (ones[block] @ squares.T + count)) / 2
        return single, pair


@dataclass(frozen=True)
class LabellingSettings:
    """The number and kind of labellings at which a function is evaluated.

    Attributes:
        count: number of labellings, not counting opposites.
        exact: whether these are all labellings.
        opposites: whether each comes with its opposite.
    """

    count: int
    exact: bool
    opposites: bool


def labelling_settings(probabilities: Float64[Tensor, "n c"], *, draws: int) -> LabellingSettings:
    """Return the settings for at most `draws` evaluations: all labellings if they are no more."""
    n, classes = probabilities.shape
    if classes**n <= draws:
        return LabellingSettings(classes**n, exact=True, opposites=False)
    opposites = classes == 2 and bool((probabilities == 0.5).all())
    return LabellingSettings(draws // 2 if opposites else draws, exact=False, opposites=opposites)


def values_at_labellings(
    kernel_of: LabelFunction,
    here: Float64[Tensor, "q r"],
    probabilities: Float64[Tensor, "n c"],
    settings: LabellingSettings,
    *,
    seed: int,
) -> Relabellings:
    """Return K at these labellings; each value must have the shape of `here`."""
    n, classes = probabilities.shape

    def values_of(labels: Int64[Tensor, "draws n"]) -> Float64[Tensor, "draws e"]:
        entries_of = here.new_empty(len(labels), here.numel())
        for row, labelling in enumerate(with_progress(labels, what="relabellings", total=len(labels))):
            entries_of[row] = value_at(kernel_of, labelling, here).flatten()
        return entries_of

    if settings.exact:
        labellings = torch.tensor(list(itertools.product(range(classes), repeat=n)), device="cpu")
        weights = probabilities[torch.arange(n, device="cpu"), labellings].prod(1)
        values = values_of(labellings)
        return Relabellings(labellings, weights, probabilities, values, values, False)
    generator = torch.Generator().manual_seed(seed)
    labellings = torch.multinomial(probabilities, settings.count, replacement=True, generator=generator).T
    even = odd = values_of(labellings)
    if settings.opposites:
        opposite = values_of(1 - labellings)
        odd = (even - opposite).div_(2)
        even.add_(opposite).div_(2)
    return Relabellings(labellings, None, probabilities, even, odd, settings.opposites)


def value_at(
    kernel_of: LabelFunction, labels: Int64[Tensor, " n"], like: Tensor | None = None
) -> Float64[Tensor, "q r"]:
    """Return the kernel at these labels; raise unless it is a finite matrix of the shape of `like`."""
    matrix = kernel_of(labels.clone())
    check_kind("kernel_of(labels)", matrix, Tensor, what="a tensor")
    matrix = matrix.detach().cpu().double()
    if matrix.ndim != 2 or not matrix.numel() or (like is not None and matrix.shape != like.shape):
        wanted = "two axes" if like is None else f"shape {tuple(like.shape)}, as before"
        raise ShapeError(f"`kernel_of(labels)` must be a matrix with {wanted}; got {tuple(matrix.shape)}.")
    check_finite("kernel_of(labels)", matrix)
    return matrix

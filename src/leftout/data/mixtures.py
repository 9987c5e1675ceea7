"""Two classes in tight clusters on the unit sphere: the setting of theorem 4 of the paper cited below.

A cluster is a centre, uniform on the sphere, and points of the sphere around it: x = c + ρ-long chord
in a uniform direction, ρ ≤ radius. The law is symmetric about its centre, so its mean is a·c with
a ≤ 1, and x is no further from a·c than from c: the radius about the mean is kept as well.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float64, Int64
from torch import Generator, Tensor

from leftout.core.checks import check_between
from leftout.core.errors import OptionError
from leftout.data.encoding import encoding_of_classes
from leftout.data.examples import Examples

CLASSES = ("negative", "positive")


def mixture(
    sizes: Sequence[int], inputs: int = 100, radius: float = 1e-3, *, generator: Generator
) -> tuple[Examples, Int64[Tensor, " n"]]:
    """Return examples of two classes in clusters, and the cluster of each.

    Every size makes two clusters, one of each class. All examples of a cluster are independent draws
    from one law, so queries of the same mixture are examples set aside with `Examples.select`.

    Args:
        sizes: examples in each cluster; the paper's are 50·2^k.
        inputs: dimension of the space, at least 2.
        radius: of every cluster, about its mean; below 1.

    Returns:
        Examples with unit inputs and targets −1 and +1, cluster after cluster, and their cluster
        numbers: those of the positive class first, in the order of `sizes`.

    Raises:
        OptionError: no size, or one below 1; fewer than 2 inputs; a radius outside (0, 1).

    Source:
        Rethinking influence functions, definition 1 and figure 12. The law within a cluster is not
        said there: ours is uniform in the tangent ball, so most points are near its rim.

    Example:
        >>> import torch
        >>> examples, clusters = mixture([2, 3], inputs=5, generator=torch.Generator().manual_seed(0))
        >>> clusters.tolist()
        [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    """
    counts = [int(size) for size in sizes]
    if not counts or min(counts) < 1 or counts != list(sizes):
        raise OptionError(f"`sizes` must hold whole numbers ≥ 1, a cluster each; got {sizes!r}.")
    if inputs < 2:
        raise OptionError(f"`inputs` must be at least 2, or a sphere is two points; got {inputs}.")
    check_between("radius", radius, 0, 1)
    clusters = torch.arange(2 * len(counts), device="cpu").repeat_interleave(
        torch.tensor(counts * 2, device="cpu")
    )
    labels = (clusters < len(counts)).long()
    centres = _unit(
        torch.randn(2 * len(counts), inputs, generator=generator, dtype=torch.float64, device="cpu")
    )
    points = _around(centres[clusters], radius, generator)
    encoding = encoding_of_classes(labels, CLASSES)
    preparation = {"data": "mixture", "sizes": counts, "radius": radius, "normalise": "unit"}
    return Examples(points, encoding.encode(labels), encoding, labels, preparation=preparation), clusters


def _around(centres: Float64[Tensor, "n d"], radius: float, generator: Generator) -> Float64[Tensor, "n d"]:
    """Return a point of the sphere near each centre, no chord longer than `radius`."""
    n, d = centres.shape
    noise = torch.randn(n, d, generator=generator, dtype=torch.float64, device="cpu")
    # Twice: a draw nearly along its centre loses most digits in the first projection.
    tangent = _across(_across(noise, centres), centres)
    share = torch.rand(n, 1, generator=generator, dtype=torch.float64, device="cpu") ** (1 / (d - 1))
    chord = radius * share
    # A chord ρ goes with cos θ = 1 − ρ²/2 and sin θ = ρ √(1 − ρ²/4): no small angle is rounded away.
    return (1 - chord.square() / 2) * centres + chord * (1 - chord.square() / 4).sqrt() * tangent


def _across(rows: Float64[Tensor, "n d"], centres: Float64[Tensor, "n d"]) -> Float64[Tensor, "n d"]:
    """Return the directions of the rows orthogonal to their centres."""
    return _unit(rows - (rows * centres).sum(1, keepdim=True) * centres)


def _unit(rows: Float64[Tensor, "n d"]) -> Float64[Tensor, "n d"]:
    return torch.nn.functional.normalize(rows, dim=1)

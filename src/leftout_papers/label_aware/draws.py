"""Which images do tables 1 and 2 compare methods on? Independent draws, each with its pairs made once.

The kernel of the paper's eight-layer network, and what estimators of shared labels look at, are made for all
images of a draw at once; tasks, training sizes, estimators and strengths take rows and columns of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

import leftout as lo
from leftout.core import DataError, with_progress
from leftout_papers.material import Material

CNTK = lo.kernels.ConvReLU(
    depth=7, kernel_size=3, stride=(1, 1, 1, 2, 1, 2, 1), weight_variance=1.0, last_relu=False
)
"""Eight layers with the readout: a convolution, then six with a ReLU before each, two of stride 2."""

PAIRED = lo.kernels.LabelAware(CNTK, "fjlt-v1")
"""A kernel that looks at pixels as well; what it knows of pairs serves all estimators."""


@dataclass(frozen=True, eq=False)
class Draw:
    """Images drawn together, and their pairs.

    Attributes:
        images, labels: of training.
        queries, query_labels: of the test.
        among: pairs of training images, from `LabelAware.pairs_of`.
        between: pairs of a test and a training image.
    """

    images: Float[Tensor, "n ..."]
    labels: Int64[Tensor, " n"]
    queries: Float[Tensor, "m ..."]
    query_labels: Int64[Tensor, " m"]
    among: Any
    between: Any

    def task(self, names: Sequence[int], *, each: int | None = None) -> "Draw":
        """Return the draw of some classes, numbered anew, and of `each` training images of a class."""
        rows = [(self.labels == name).nonzero().flatten()[:each] for name in names]
        asked = [(self.query_labels == name).nonzero().flatten() for name in names]
        kept, put = torch.cat(rows), torch.cat(asked)
        labels, query_labels = (
            torch.cat([torch.full((len(one),), k) for k, one in enumerate(parts)]).to(kept.device)
            for parts in (rows, asked)
        )
        return Draw(
            self.images[kept],
            labels,
            self.queries[put],
            query_labels,
            self.among.of(kept, kept),
            self.between.of(put, kept),
        )


def drawn(
    material: Material,
    names: Sequence[str] | None,
    *,
    count: int,
    train: int,
    query: int,
    tasks: Sequence[Sequence[str]] | None = None,
) -> Iterator[Draw]:
    """Yield draws that share no image, each of so many images of a class.

    Args:
        tasks: classes that are compared with each other, all with all if None; the kernel of other pairs,
            which costs most, is NaN.

    Raises:
        DataError: there are not that many.
    """
    pools = _loaded(material, names, train=count * train, query=count * query)
    wanted = None if names is None or tasks is None else _compared(names, tasks)
    for number in with_progress(range(count), what="draws of images"):
        one = [_part(material, pool, number, each) for pool, each in zip(pools, (train, query), strict=True)]
        (images, labels), (queries, query_labels) = one
        among = _pairs(material, one[0], one[0], wanted)
        between = _pairs(material, one[1], one[0], wanted)
        where = among.kernel.device
        yield Draw(
            images.to(where), labels.to(where), queries.to(where), query_labels.to(where), among, between
        )


def _compared(names: Sequence[str], tasks: Sequence[Sequence[str]]) -> set[tuple[int, int]]:
    """Return the numbers of classes that a task compares, in both orders."""
    return {(names.index(a), names.index(b)) for task in tasks for a in task for b in task}


def _pairs(
    material: Material,
    left: tuple[Tensor, Tensor],
    right: tuple[Tensor, Tensor],
    wanted: set[tuple[int, int]] | None,
) -> Any:
    """Return the pairs of images (with their labels), the kernel only of classes that are compared."""
    options: dict[str, Any] = {"dtype": torch.float32, "device": material.device, "memory": material.memory}
    symmetric = left is right
    (x, a), (z, b) = left, right
    where = torch.device(material.device) if material.device is not None else x.device
    if wanted is None:
        kernel = lo.kernels.gram(CNTK, x, **options) if symmetric else lo.kernels.cross(CNTK, x, z, **options)
        return PAIRED.pairs_of(kernel, x.to(where), z.to(where), dtype=torch.float32)
    kernel = torch.full((len(x), len(z)), torch.nan, dtype=torch.float64, device=where)
    for i, j in sorted(wanted):
        if symmetric and i > j:
            continue
        rows, columns = (a == i).nonzero().flatten(), (b == j).nonzero().flatten()
        same = symmetric and i == j
        part = (
            lo.kernels.gram(CNTK, x[rows], **options)
            if same
            else lo.kernels.cross(CNTK, x[rows], z[columns], **options)
        )
        rows, columns = rows.to(where), columns.to(where)
        kernel[rows[:, None], columns] = part
        if symmetric:
            kernel[columns[:, None], rows] = part.T
    return PAIRED.pairs_of(kernel, x.to(where), z.to(where), dtype=torch.float32)


def _loaded(
    material: Material, names: Sequence[str] | None, *, train: int, query: int
) -> tuple[lo.Examples, lo.Examples]:
    classes = 10 if names is None else len(names)
    # CIFAR's classes are of one size, and all of them are many gigabytes; of others all there is.
    counts = (classes * train, classes * query) if material.name == "cifar10" else (None, None)
    return lo.load(
        material.source,
        classes=names,
        n_train=counts[0],
        n_query=counts[1],
        seed=material.seed,
        normalise=None,
    )


def _part(material: Material, pool: lo.Examples, number: int, each: int) -> tuple[Tensor, Tensor]:
    """Return the images and labels of one draw, pixels from −1 to 1."""
    assert pool.labels is not None
    assert pool.classes is not None
    rows = []
    for k, name in enumerate(pool.classes):
        of_class = (pool.labels == k).nonzero().flatten()
        # The same order for all draws: they cut it into pieces.
        order = torch.randperm(len(of_class), generator=material.independent("draws", name))
        of_class = of_class[order[number * each : (number + 1) * each]]
        if len(of_class) < each:
            raise DataError(
                f"Class {name!r} must have {each} images for each draw; draw {number + 1} has "
                f"{len(of_class)}. Take a larger data set, or a smaller size."
            )
        rows.append(of_class)
    kept = torch.cat(rows)
    return (pool.inputs[kept] - 0.5) / 0.5, pool.labels[kept]

"""Disjoint draws of images for tables 1 and 2, each with its kernel and pair features computed once.

The kernel of the paper's eight-layer network, and the features of pairs that estimators of shared labels use,
are computed for all images of a draw; tasks, training sizes, estimators and strengths take rows and columns.
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
"""A kernel with features of pixels as well; its pair features serve all estimators."""


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

    def task(self, names: Sequence[int], *, per_class: int | None = None) -> "Draw":
        """Return the draw of these classes, numbered from 0, with `per_class` training images of a class."""
        train_rows = [(self.labels == name).nonzero().flatten()[:per_class] for name in names]
        query_rows = [(self.query_labels == name).nonzero().flatten() for name in names]
        train, query = torch.cat(train_rows), torch.cat(query_rows)
        labels, query_labels = (
            torch.cat([torch.full((len(rows),), k) for k, rows in enumerate(by_class)]).to(train.device)
            for by_class in (train_rows, query_rows)
        )
        return Draw(
            self.images[train],
            labels,
            self.queries[query],
            query_labels,
            self.among.of(train, train),
            self.between.of(query, train),
        )


def draw_images(
    material: Material,
    names: Sequence[str] | None,
    *,
    count: int,
    train: int,
    query: int,
    tasks: Sequence[Sequence[str]] | None = None,
) -> Iterator[Draw]:
    """Yield `count` draws that share no image, each of `train` and `query` images of a class.

    Args:
        tasks: groups of classes that are compared with each other, all with all if None; the kernel of other
            pairs, which costs most, is not computed and is NaN.

    Raises:
        DataError: a class has too few images.
    """
    pools = _load_pools(material, names, train=count * train, query=count * query)
    wanted = None if names is None or tasks is None else _compared_classes(names, tasks)
    for number in with_progress(range(count), what="draws of images"):
        training = images, labels = _images_of_draw(material, pools[0], number, train)
        test = queries, query_labels = _images_of_draw(material, pools[1], number, query)
        among = _pairs(material, training, training, wanted)
        between = _pairs(material, test, training, wanted)
        device = among.kernel.device
        yield Draw(
            images.to(device), labels.to(device), queries.to(device), query_labels.to(device), among, between
        )


def _compared_classes(names: Sequence[str], tasks: Sequence[Sequence[str]]) -> set[tuple[int, int]]:
    """Return pairs of class numbers that a task compares, in both orders."""
    return {(names.index(a), names.index(b)) for task in tasks for a in task for b in task}


def _pairs(
    material: Material,
    first: tuple[Tensor, Tensor],
    second: tuple[Tensor, Tensor],
    wanted: set[tuple[int, int]] | None,
) -> Any:
    """Return the pairs of two sets of images and labels; the kernel only of classes that are compared."""
    options: dict[str, Any] = {"dtype": torch.float32, "device": material.device, "memory": material.memory}
    symmetric = first is second
    (x, a), (z, b) = first, second
    device = torch.device(material.device) if material.device is not None else x.device
    if wanted is None:
        kernel = lo.kernels.gram(CNTK, x, **options) if symmetric else lo.kernels.cross(CNTK, x, z, **options)
        return PAIRED.pairs_of(kernel, x.to(device), z.to(device), dtype=torch.float32)
    kernel = torch.full((len(x), len(z)), torch.nan, dtype=torch.float64, device=device)
    for i, j in sorted(wanted):
        if symmetric and i > j:
            continue
        rows, columns = (a == i).nonzero().flatten(), (b == j).nonzero().flatten()
        same = symmetric and i == j
        block = (
            lo.kernels.gram(CNTK, x[rows], **options)
            if same
            else lo.kernels.cross(CNTK, x[rows], z[columns], **options)
        )
        rows, columns = rows.to(device), columns.to(device)
        kernel[rows[:, None], columns] = block
        if symmetric:
            kernel[columns[:, None], rows] = block.T
    return PAIRED.pairs_of(kernel, x.to(device), z.to(device), dtype=torch.float32)


def _load_pools(
    material: Material, names: Sequence[str] | None, *, train: int, query: int
) -> tuple[lo.Examples, lo.Examples]:
    classes = 10 if names is None else len(names)
    # All of CIFAR is many gigabytes, and its classes have equal sizes; of other data sets load everything.
    counts = (classes * train, classes * query) if material.name == "cifar10" else (None, None)
    return lo.load(
        material.source,
        classes=names,
        n_train=counts[0],
        n_query=counts[1],
        seed=material.seed,
        normalise=None,
    )


def _images_of_draw(
    material: Material, pool: lo.Examples, number: int, per_class: int
) -> tuple[Tensor, Tensor]:
    """Return the images and labels of one draw, pixels from −1 to 1."""
    assert pool.labels is not None
    assert pool.classes is not None
    by_class = []
    for k, name in enumerate(pool.classes):
        of_class = (pool.labels == k).nonzero().flatten()
        # The same order for all draws: each takes its own slice of it.
        order = torch.randperm(len(of_class), generator=material.independent("draws", name))
        of_class = of_class[order[number * per_class : (number + 1) * per_class]]
        if len(of_class) < per_class:
            raise DataError(
                f"Class {name!r} must have {per_class} images for each draw; draw {number + 1} has "
                f"{len(of_class)}. Take a larger data set, or a smaller size."
            )
        by_class.append(of_class)
    rows = torch.cat(by_class)
    return (pool.inputs[rows] - 0.5) / 0.5, pool.labels[rows]

"""Local elasticity: does a training step on one example mostly change predictions within its class?

    K̄(x, z) = k(x, z) / √(k(x, x) k(z, z)),        RR = mean K̄ within classes / (that + mean K̄ between them)

A step on one example moves predictions at others by their similarity K̄. RR is ½ for a network that does not
distinguish the classes, and larger for a more locally elastic one; label-blind kernels have a smaller ratio.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.query_blocks import queries_like
from leftout.core.blocks import blocks, memory_budget
from leftout.core.checks import check_kind
from leftout.core.device import usable_device
from leftout.core.errors import DataError, OptionError
from leftout.core.progress import with_progress
from leftout.core.version import __version__
from leftout.data.examples import Examples
from leftout.data.pairs import Data, examples_of
from leftout.diagnostics.locality.mean_gradients import can_sum_gradients, pair_sums_by_gradients
from leftout.kernels import assemble
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import LabelDependentKernel
from leftout.kernels.network.empirical import Empirical

ROWS = 1024
"""Rows of the kernel held at a time; full matrices are computed only to fit a kernel to labels."""


def elasticity(
    kernel: Kernel | LabelDependentKernel,
    train: Data,
    query: Data | None = None,
    *,
    memory: int | float | str | None = None,
    device: torch.device | str | None = None,
) -> xr.Dataset:
    """Return how local a kernel is, for every pair of classes.

    Args:
        kernel: any with one value for all outputs; for a network with its present weights,
            `Empirical(module, outputs="trace")`. A label-dependent one is fitted to the labels of the
            training examples first.
        train: examples with classes.
        query: further examples of the same classes, for pairs of a query and a training example.
        memory: budget, in bytes or as "4GB"; None for 60 % of the free memory.
        device: where the kernel is evaluated; None for the device of the inputs.

    Returns:
        A Dataset over (class, other): `similarity`, the mean of K̄ over all pairs of an example of one
        class and one of the other, pairs of an example with itself included; `ratio`, RR of these two
        classes alone, ½ on the diagonal. With `query` the same for pairs of a query and a training example,
        `query_similarity` (class of the query, class of the training example) and `query_ratio`, NaN for a
        class without queries. RR is NaN where the mean K̄ within classes, or its sum with that between them,
        is not positive, as for an indefinite kernel; above 1 where only the mean between classes is negative.

    Raises:
        DataError: no classes, fewer than two of them, or an example with k(x, x) = 0.
        OptionError: a kernel with one value for each pair of outputs.
        MemoryBudgetError: 1024 rows of the kernel would not fit.

    Cost:
        the kernel of every pair, n² and mn evaluations; 1024 rows of it at a time. For `Empirical` without
        projection no pair is evaluated: k(x, x), and a forward and a backward pass of each example for each
        output, as long as gradients of every class fit half the budget.

    Accuracy:
        a few eps for the mean of K̄, plus the rounding of the kernel, in the dtype of a network.

    Source:
        Chen, He & Su 2020, "Label-aware neural tangent kernel", equation 9 and section 3.2. As there, each
        ratio is for one pair of classes.

    Example:
        >>> import leftout as lo
        >>> train, _ = lo.load("digits", n_train=40, n_query=10)
        >>> ratio = lo.elasticity(lo.kernels.ReLU(1), train).ratio
        >>> ratio.dims, round(float(ratio.sel({"class": "0", "other": "1"})), 2)
        (('class', 'other'), 0.61)
    """
    check_kind("kernel", kernel, (Kernel, LabelDependentKernel), what="a kernel, such as kernels.ReLU(1)")
    examples = examples_of(train)
    names = _classes(examples)
    kernel.check("train", examples.inputs)
    if isinstance(kernel, LabelDependentKernel):
        assert examples.labels is not None
        kernel = kernel.fit_labels(
            examples.inputs, examples.labels, examples.targets, memory=memory, device=device
        )
    if kernel.outputs is not None and kernel.outputs > 1:
        raise OptionError(
            f"`kernel` must have one value for all outputs; {kernel!r} tells {kernel.outputs} apart. Pass "
            'Empirical(module, outputs="trace").'
        )
    place = None if device is None else usable_device(device)
    rows_of = _rows_of(kernel, examples, memory_budget(memory, device=place), device)

    def lengths(of: Examples, name: str) -> Float64[Tensor, " n"]:
        return _lengths(kernel, of.inputs, name, device)

    def similarity(rows: Examples, row_lengths: Tensor) -> Float64[np.ndarray, "c c"]:
        if isinstance(kernel, Empirical) and can_sum_gradients(kernel, len(names), memory):
            sums = pair_sums_by_gradients(kernel, rows, row_lengths, examples, train_lengths, len(names))
        else:
            sums = _pair_sums(rows_of, rows, row_lengths, examples, train_lengths)
        with np.errstate(invalid="ignore"):
            return sums / np.outer(_counts(rows, len(names)), counts)

    train_lengths = lengths(examples, "train")
    counts = _counts(examples, len(names))
    similar = similarity(examples, train_lengths)
    variables: dict[str, tuple[Any, ...]] = {
        "similarity": (AXES, similar, {"of": "mean normalised kernel"}),
        "ratio": (AXES, _ratios(similar, counts**2, np.outer(counts, counts)), {"equation": "9"}),
    }
    if query is not None:
        queries = queries_like(examples, query)
        query_counts = _counts(queries, len(names))
        similar = similarity(queries, lengths(queries, "query"))
        ratio = _ratios(similar, query_counts * counts, np.outer(query_counts, counts))
        variables["query_similarity"] = (AXES, similar, {"of": "mean normalised kernel"})
        variables["query_ratio"] = (AXES, ratio, {"equation": "9"})
    attrs = {
        "kernel": repr(kernel),
        "train": examples.fingerprint,
        "leftout": __version__,
        "sign": "above ½: similar within classes, the more local the larger",
    }
    return xr.Dataset(variables, coords={"class": list(names), "other": list(names)}, attrs=attrs)


AXES = ("class", "other")


def _rows_of(
    kernel: Kernel, examples: Examples, budget: int, device: torch.device | str | None
) -> Callable[[Tensor], Tensor]:
    """Return a function that evaluates the kernel between inputs and all examples."""

    def rows_of(rows: Tensor) -> Tensor:
        return assemble.cross(kernel, rows, examples.inputs, memory=budget, device=device).cpu()

    return rows_of


def _classes(examples: Examples) -> tuple[str, ...]:
    if examples.labels is None or examples.encoding.classes is None:
        raise DataError("`train` must have classes: elasticity is of pairs of them; got numbers.")
    names = examples.encoding.classes
    if len(names) < 2:
        raise DataError(f"`train` must have two classes or more; got {len(names)}.")
    return names


def _counts(examples: Examples, classes: int) -> Float64[np.ndarray, " c"]:
    assert examples.labels is not None
    return np.bincount(examples.labels.numpy(), minlength=classes).astype(float)


def _lengths(
    kernel: Kernel, inputs: Tensor, name: str, device: torch.device | str | None
) -> Float64[Tensor, " n"]:
    """Return √k(x, x)."""
    squares = assemble.diagonal(kernel, inputs, device=device).cpu()
    if bool((squares < 0).any()):
        row = int((squares < 0).nonzero()[0])
        why = "" if kernel.definite else " It is indefinite by its labels: take a smaller `strength`."
        raise DataError(
            f"`kernel` must have k(x, x) > 0; it is {float(squares[row]):.3g} for row {row} of `{name}`.{why}"
        )
    if not bool((squares > 0).all()):
        row = int((squares <= 0).nonzero()[0])
        raise DataError(
            f"`{name}` must not hold an example with k(x, x) = 0, which is similar to nothing; row {row} "
            "is one. Drop it."
        )
    return squares.sqrt()


def _pair_sums(
    rows_of: Callable[[Tensor], Tensor],
    examples: Examples,
    lengths: Float64[Tensor, " m"],
    right: Examples,
    right_lengths: Float64[Tensor, " n"],
) -> Float64[np.ndarray, "c c"]:
    """Return the sum of K̄ over all pairs of examples, for each two classes, from the kernel of every pair."""
    assert right.encoding.classes is not None
    assert examples.labels is not None
    assert right.labels is not None
    classes = len(right.encoding.classes)
    total = torch.zeros(classes, classes, dtype=torch.float64, device="cpu")
    columns = torch.nn.functional.one_hot(right.labels, classes).double() / right_lengths[:, None]
    for block in with_progress(list(blocks(len(examples), ROWS)), what="similarity"):
        scaled = torch.nn.functional.one_hot(examples.labels[block], classes).double()
        total += (scaled / lengths[block, None]).T @ (rows_of(examples.inputs[block]) @ columns)
    return total.numpy()


def _ratios(
    similar: Float64[np.ndarray, "c c"],
    within: Float64[np.ndarray, " c"],
    between: Float64[np.ndarray, "c c"],
) -> Float64[np.ndarray, "c c"]:
    """Return RR for each two classes; `within` and `between` are numbers of pairs."""
    diagonal = np.diag(similar)
    inside = (within * diagonal + (within * diagonal)[:, None]) / (within + within[:, None])
    sums = between * similar
    across = (sums + sums.T) / (between + between.T)
    np.fill_diagonal(across, diagonal)
    ratio: Float64[np.ndarray, "c c"] = inside / (inside + across)
    ratio[~((inside > 0) & (inside + across > 0))] = np.nan
    return ratio

"""How does a kernel depend on the labels of its training set? Level by level, by Hoeffding's decomposition.

    K(x, x', y) = Σ_A K_A(y_A),        E[K_A | y_B] = 0 for all B without the whole of A

for labels that are independent given X: K_∅ is blind to labels, K_i listens to one, K_ij to a pair. Parts
are orthogonal, so E K² is the sum of E K_A². With k_i(y, y') = 1{y = y'} / p_i(y) − 1

    K_A(y) = E_Y [K(Y) Π_{i ∈ A} k_i(Y_i, y_i)],
    Σ_{|A| = r} E K_A² = E_{Y, Y'} [K(Y) K(Y') Σ_{|A| = r} Π_{i ∈ A} k_i(Y_i, Y'_i)],

and the sum over A is a polynomial in Σ_i k_i and Σ_i k_i²: no level is ever added up part by part. For two
equally probable classes ±1, K_A is the Walsh coefficient E[K Π y_i] times Π y_i.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.core.blocks import blocks, check_fits, memory_budget
from leftout.core.checks import check_count, check_seed
from leftout.core.errors import OptionError, ShapeError
from leftout.core.version import __version__
from leftout.data.targets import as_array
from leftout.diagnostics.locality.relabellings import (
    LabelFunction,
    LabellingSettings,
    Relabellings,
    labelling_settings,
    value_at,
    values_at_labellings,
)

LEVELS = ("0", "1", "2", "higher")

FEWEST = 8
"""Relabellings from which a standard error can be told."""

ROWS = 256


def hoeffding(
    kernel_of: LabelFunction,
    labels: Sequence[int] | np.ndarray | Tensor,
    *,
    probabilities: Sequence[Any] | np.ndarray | Tensor | None = None,
    draws: int = 4096,
    seed: int = 0,
    memory: int | float | str | None = None,
) -> xr.Dataset:
    """Return the parts of a label-aware kernel that listen to no label, to one, and to two.

    Args:
        kernel_of: takes class numbers (n,) int64, returns the kernel (q, r) that such a training set
            teaches: some rows and columns of any kernel that sees labels. Of few examples all may be of
            one class once in a while, and are all of one class where each labelling is taken.
        labels: class numbers of the training set, 0 and up: parts are told at these.
        probabilities: of the classes, (c,) or (n, c) with a row for each example; of labels that are
            independent. Half and half if None.
        draws: relabellings at which the kernel is evaluated. If there are no more than that in all, as of
            12 examples of two classes, each is taken once and everything is exact.
        seed: of the relabellings.
        memory: budget, in bytes or as "4GB"; 60 % of what is free if not said.

    Returns:
        A Dataset over the kernel's (row, column): `value` at the labels given, its parts `constant`,
        `single` (of each example) and `pair` (of example and other: symmetric, each two of them one
        part, 0 of an example with itself), and `rest`, what is left of the value above level two.
        `mean_square` over (level, row, column): Σ_{|A| = level} E K_A², and "higher" what is left of
        E K²; `share` of them in the sum over all entries, NaN of a kernel that is 0
        throughout. Standard errors `constant_error`, `single_error`, `pair_error`, `mean_square_error`,
        `share_error`: 0 where everything is exact. Attributes `exact`, `relabellings`.

    Raises:
        OptionError: labels or probabilities that cannot be, too few draws.
        ShapeError: what `kernel_of` returns is no matrix, or of changing shape.
        DataError: it is not finite.
        MemoryBudgetError: values at all relabellings and parts of all pairs would not fit; told after one
            evaluation, which says how large the kernel is.

    Cost:
        `draws` evaluations of the kernel, and for each entry draws (n² + draws) operations and some
        8 · (8 draws + 2 n²) bytes.

    Accuracy:
        exact, or estimates without bias, with standard errors. Where two classes are equally probable
        labellings come in opposite pairs; a level that is not there is then 0 to rounding if its order
        is odd and the kernel even, or the other way round. A variance estimate may come out below 0.

    Source:
        Chen, He & Su 2020, "Label-aware neural tangent kernel", lemma 2.2; the form with k_i is derived
        here.
    """
    numbers, law = _labels_and_law(labels, probabilities)
    check_count("draws", draws)
    check_seed(seed)
    if draws < FEWEST:
        raise OptionError(f"`draws` must be {FEWEST} or more; got {draws}.")
    budget = memory_budget(memory)
    settings = labelling_settings(law, draws=int(draws))
    here = value_at(kernel_of, numbers)
    n = len(numbers)
    check_fits(
        f"What {settings.count} relabellings say of {n} × {n} pairs of labels and a {here.shape[0]} × "
        f"{here.shape[1]} kernel",
        _bytes_held(settings, n, law.shape[1], here.numel()),
        budget,
        advice="Ask for fewer entries of the kernel or fewer `draws`, or raise `memory`.",
    )
    relabellings = values_at_labellings(kernel_of, here, law, settings, seed=int(seed))
    estimates = _parts_at_labels(relabellings, relabellings.alike(numbers), here.shape)
    squares = _squares(relabellings)
    return _dataset(here, estimates, squares, relabellings)


def _bytes_held(settings: LabellingSettings, n: int, classes: int, kernel_size: int) -> int:
    """Return what is held at the most, beside what `kernel_of` takes to return its next value."""
    drawn = 2 if settings.opposites else 1
    values = (drawn + 6) * settings.count * kernel_size  # in `_rows` and `_squares`
    labels = settings.count * (n * (4 + 5 * classes) + 6 * min(ROWS, settings.count))
    estimates = (2 * n * n + 8 * n + 16) * kernel_size
    return 8 * (values + labels + estimates)


def _tensor(name: str, numbers: Any) -> Tensor:
    # A copy: arrays that run backwards, such as a[::-1], make no tensors.
    return torch.from_numpy(as_array(name, numbers).copy())


def _labels_and_law(labels: Any, probabilities: Any) -> tuple[Int64[Tensor, " n"], Float64[Tensor, "n c"]]:
    """Return class numbers, and the probability of each class for each example."""
    numbers = _tensor("labels", labels)
    if numbers.ndim != 1 or not len(numbers) or numbers.is_floating_point() or numbers.dtype is torch.bool:
        raise OptionError(
            "`labels` must be class numbers, whole, in one row; got "
            f"{numbers.dtype} of shape {tuple(numbers.shape)}."
        )
    numbers = numbers.long()
    law = _tensor("probabilities", [0.5, 0.5] if probabilities is None else probabilities)
    law = law.double()
    if law.ndim == 1:
        law = law.expand(len(numbers), -1)
    if law.ndim != 2 or len(law) != len(numbers) or law.shape[1] < 2:
        raise ShapeError(
            f"`probabilities` must have shape (c,) or (n, c) with n = {len(numbers)} and two classes or "
            f"more; got {tuple(law.shape)}."
        )
    if not bool((law > 0).all()) or not bool(((law.sum(1) - 1).abs() < 1e-9).all()):
        raise OptionError("`probabilities` must all be above 0 and add up to 1 for each example.")
    if int(numbers.min()) < 0 or int(numbers.max()) >= law.shape[1]:
        advice = " Pass `probabilities` for more than two." if probabilities is None else ""
        raise OptionError(
            f"`labels` must be class numbers from 0 to {law.shape[1] - 1}; got "
            f"{int(numbers.min())} to {int(numbers.max())}.{advice}"
        )
    return numbers, law


def _parts_at_labels(
    relabellings: Relabellings, alike: Float64[Tensor, "draws n"], shape: tuple[int, ...]
) -> dict[str, Tensor]:
    """Return the parts at the labels given, and their standard errors."""
    even = _minus_mean(relabellings.even, relabellings.weights)
    odd = (
        relabellings.odd if relabellings.opposites else even
    )  # of opposites the odd part has mean 0 as it is
    n = alike.shape[1]
    constant, constant_error = _mean(relabellings, torch.ones(len(alike), 1).double(), relabellings.even)
    single, single_error = _mean(relabellings, alike, odd)
    pair = even.new_empty(n, n, even.shape[1])
    pair_error = torch.zeros_like(pair)
    for i in range(n):
        pair[i], pair_error[i] = _mean(relabellings, alike * alike[:, i : i + 1], even)
        pair[i, i] = pair_error[i, i] = 0
    named = {
        "constant": constant[0],
        "constant_error": constant_error[0],
        "single": single,
        "single_error": single_error,
        "pair": pair,
        "pair_error": pair_error,
    }
    return {name: array.reshape(*array.shape[:-1], *shape) for name, array in named.items()}


def _minus_mean(
    values: Float64[Tensor, "draws e"], weights: Float64[Tensor, " draws"] | None
) -> Float64[Tensor, "draws e"]:
    """Return values minus the mean of the other draws, which says nothing of the draw itself.

    Parts above the constant do not see a constant that is taken away, and estimates of them vary less.
    """
    if weights is not None:
        return values
    return (values - values.mean(0)).mul_(len(values) / (len(values) - 1))


def _mean(
    relabellings: Relabellings, by: Float64[Tensor, "draws a"], values: Float64[Tensor, "draws e"]
) -> tuple[Float64[Tensor, "a e"], Float64[Tensor, "a e"]]:
    """Return E[by ⊗ values] and its standard error."""
    if relabellings.weights is not None:
        mean = (by * relabellings.weights[:, None]).T @ values
        return mean, torch.zeros_like(mean)
    count = len(by)
    mean = by.T @ values / count
    square = by.square().T @ values.square() / count
    return mean, ((square - mean.square()).clamp_(min=0) / (count - 1)).sqrt()


def _squares(relabellings: Relabellings) -> dict[str, tuple[Tensor, Tensor]]:
    """Return mean squares of levels and their shares, each with its standard error, (level, e)."""
    rows = _level_products(relabellings)
    total = relabellings.square
    if relabellings.weights is not None:
        mean = torch.stack([relabellings.weights @ values for values in rows])
        mean = torch.cat([mean, (relabellings.weights @ total - mean.sum(0))[None]])
        share = mean.sum(1) / mean.sum()
        return {"mean_square": (mean, torch.zeros_like(mean)), "share": (share, 0 * share)}
    count = len(total)
    # Two draws weigh 1 / (d (d − 1)) together; without draw s, those of the others.
    sums = rows.sum(1)
    mean = _with_rest(sums / (count * (count - 1)), total.mean(0))
    without = rows.mul_(-2).add_(sums[:, None]).div_((count - 1) * (count - 2))  # (3, d, e)
    without_rest = (total.sum(0) - total).div_(count - 1).sub_(without.sum(0))
    without_each = [*without, without_rest]  # level by level: many numbers
    share = mean.sum(1) / mean.sum()
    kept_sums = torch.stack([values.sum(1) for values in without_each])
    return {
        "mean_square": (mean, torch.stack([_jackknife(values) for values in without_each])),
        "share": (share, _jackknife((kept_sums / kept_sums.sum(0)).T)),
    }


def _level_products(relabellings: Relabellings) -> Float64[Tensor, "3 draws e"]:
    """Return K(Y_s) Σ_t K(Y_t) Σ_{|A| = r} Π k_i of every draw s and r = 0, 1, 2.

    Over all draws t at their weights, or over those that are not s.
    """
    count, weights = len(relabellings.labels), relabellings.weights
    even, odd, shrunk = relabellings.even, relabellings.odd, (1.0, 1.0)
    if weights is None:
        even = even - even.mean(0)
        # The mean that is taken away holds the draws themselves, 1/count of it each. Of opposites the odd
        # part has mean 0, and nothing is taken away.
        by = 1 - 2 / count + 2 / count**2
        shrunk = (1.0 if relabellings.opposites else by, by)
        odd = odd if relabellings.opposites else even
    products = relabellings.even.new_empty(3, count, relabellings.even.shape[1])
    products[0] = relabellings.even * (
        weights @ relabellings.even if weights is not None else relabellings.even.sum(0) - relabellings.even
    )
    for block in blocks(count, ROWS):
        for level, values, alike, factor in zip(
            (1, 2), (odd, even), relabellings.levels(block), shrunk, strict=True
        ):
            if weights is None:
                alike[:, block].diagonal().zero_()
            else:
                alike = alike * weights
            products[level, block] = values[block] * (alike @ values) / factor
    return products


def _with_rest(levels: Float64[Tensor, "3 ..."], total: Tensor) -> Tensor:
    return torch.cat([levels, (total - levels.sum(0))[None]])


def _jackknife(estimates: Tensor) -> Tensor:
    """Return the standard error from values without each draw in turn, the first axis."""
    count = len(estimates)
    spread = (estimates - estimates.mean(0)).square_().sum(0)
    return (spread * ((count - 1) / count)).sqrt()


def _dataset(
    here: Float64[Tensor, "q r"],
    estimates: dict[str, Tensor],
    squares: dict[str, tuple[Tensor, Tensor]],
    relabellings: Relabellings,
) -> xr.Dataset:
    axes_of_kernel = ("row", "column")
    axes: dict[str, tuple[str, ...]] = {
        "constant": axes_of_kernel,
        "single": ("example", *axes_of_kernel),
        "pair": ("example", "other", *axes_of_kernel),
    }
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {"value": (axes_of_kernel, here.numpy())}
    for name, array in estimates.items():
        variables[name] = (axes[name.removesuffix("_error")], array.numpy())
    rest = here - estimates["constant"] - estimates["single"].sum(0) - estimates["pair"].sum((0, 1)) / 2
    variables["rest"] = (axes_of_kernel, rest.numpy())
    for name, (mean, error) in squares.items():
        for suffix, array in (("", mean), ("_error", error)):
            shaped = array.reshape(-1, *here.shape) if array.ndim == 2 else array
            variables[name + suffix] = (("level", *axes_of_kernel)[: shaped.ndim], shaped.numpy())
    exact = relabellings.weights is not None
    attrs = {
        "exact": int(exact),
        "relabellings": len(relabellings.labels) * (2 if relabellings.opposites else 1),
        "opposites": int(relabellings.opposites),
        "leftout": __version__,
    }
    return xr.Dataset(variables, coords={"level": list(LEVELS)}, attrs=attrs)

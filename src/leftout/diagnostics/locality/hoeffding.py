"""Hoeffding decomposition of a kernel as a function of its training labels.

    K(x, x', y) = Σ_A K_A(y_A),        E[K_A | y_B] = 0 for all B that do not contain A

for labels that are independent given X: K_∅ depends on no label, K_i on one, K_ij on a pair. Parts are
orthogonal, so E K² is the sum of E K_A². With k_i(y, y') = 1{y = y'} / p_i(y) − 1

    K_A(y) = E_Y [K(Y) Π_{i ∈ A} k_i(Y_i, y_i)],
    Σ_{|A| = r} E K_A² = E_{Y, Y'} [K(Y) K(Y') Σ_{|A| = r} Π_{i ∈ A} k_i(Y_i, Y'_i)],

and the sum over A is a polynomial in Σ_i k_i and Σ_i k_i²: no level is summed part by part. For two equally
probable classes ±1, K_A is the Walsh coefficient E[K Π y_i] times Π y_i.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.core.blocks import blocks, check_fits, memory_budget
from leftout.core.checks import check_count, check_seed, shown
from leftout.core.errors import OptionError, ShapeError
from leftout.core.version import __version__
from leftout.data.conversion import as_array
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
"""Fewest relabellings for a standard error."""

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
    """Return the parts of a label-dependent kernel that depend on no label, on one, and on two.

    Args:
        kernel_of: takes class numbers (n,) int64, returns the kernel (q, r) fitted to such labels: any rows
            and columns of any label-dependent kernel. It is also called with labels of a single class, by
            chance for few examples, and always where every labelling is evaluated.
        labels: class numbers of the training set, 0 and up, at which parts are returned.
        probabilities: of the classes, (c,) or (n, c) with a row for each example; labels are independent.
            None for one half each.
        draws: relabellings at which the kernel is evaluated. If there are at most as many in all, as for
            12 examples of two classes, each is evaluated once and everything is exact.
        seed: of the relabellings.
        memory: budget, in bytes or as "4GB"; None for 60 % of the free memory.

    Returns:
        A Dataset over the kernel's (row, column): `value` at `labels`, its parts `constant`, `single` (for
        each example) and `pair` (for example and other: symmetric, each pair of them one part, 0 for an
        example with itself), and `rest`, the parts above level two. `mean_square` over (level, row, column):
        Σ_{|A| = level} E K_A², and for "higher" the rest of E K²; `share` of each level in the sum over all
        entries, NaN for a kernel that is 0 everywhere. Standard errors `constant_error`, `single_error`,
        `pair_error`, `mean_square_error`, `share_error`: 0 if everything is exact. Attributes `exact`,
        `relabellings`.

    Raises:
        OptionError: labels or probabilities out of range, too few draws.
        ShapeError: `kernel_of` returns no matrix, or one of changing shape.
        DataError: its values are not finite.
        MemoryBudgetError: values at all relabellings and parts of all pairs would not fit; raised after one
            evaluation, which gives the size of the kernel.

    Cost:
        `draws` evaluations of the kernel, and for each entry draws (n² + draws) operations and some
        8 · (8 draws + 2 n²) bytes.

    Accuracy:
        exact, or unbiased estimates with standard errors. If two classes are equally probable, labellings
        come in opposite pairs; an absent level is then 0 to rounding if its order is odd and the kernel even,
        or the other way round. A variance estimate may be below 0.

    Source:
        Chen, He & Su 2020, "Label-aware neural tangent kernel", lemma 2.2; the form with k_i is derived
        here.

    Example:
        >>> import leftout as lo, torch
        >>> def kernel_of(labels):  # one entry, 1 + y_0 + y_0 y_1 with y = ±1
        ...     signs = 2.0 * labels - 1
        ...     return (1 + signs[0] + signs[0] * signs[1]).reshape(1, 1)
        >>> parts = lo.hoeffding(kernel_of, [1, 1, 0])
        >>> parts.single.values.ravel().tolist(), parts.share.values.round(3).tolist()
        ([1.0, 0.0, 0.0], [0.333, 0.333, 0.333, 0.0])
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
        f"The decomposition from {settings.count} relabellings, of {n} × {n} label pairs and a "
        f"{here.shape[0]} × {here.shape[1]} kernel",
        _bytes_held(settings, n, law.shape[1], here.numel()),
        budget,
        advice="Ask for fewer entries of the kernel or fewer `draws`, or raise `memory`.",
    )
    relabellings = values_at_labellings(kernel_of, here, law, settings, seed=int(seed))
    estimates = _parts_at_labels(relabellings, relabellings.alike(numbers), here.shape)
    squares = _squares(relabellings)
    return _dataset(here, estimates, squares, relabellings)


def _bytes_held(settings: LabellingSettings, n: int, classes: int, kernel_size: int) -> int:
    """Return the peak memory in bytes, without that of `kernel_of`."""
    drawn = 2 if settings.opposites else 1
    values = (drawn + 6) * settings.count * kernel_size  # in `_rows` and `_squares`
    labels = settings.count * (n * (4 + 5 * classes) + 6 * min(ROWS, settings.count))
    estimates = (2 * n * n + 8 * n + 16) * kernel_size
    return 8 * (values + labels + estimates)


def _tensor(name: str, numbers: Any) -> Tensor:
    # A copy: arrays that run backwards, such as a[::-1], make no tensors.
    array = as_array(name, numbers)
    if array.dtype.kind not in "biuf":
        raise OptionError(f"`{name}` must be numbers; got {shown(numbers)}.")
    return torch.from_numpy(array.copy())


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
    """Return the parts at the labels of the training set, and their standard errors."""
    even = _minus_mean(relabellings.even, relabellings.weights)
    odd = (
        relabellings.odd if relabellings.opposites else even
    )  # of opposites the odd part has mean 0 as it is
    n = alike.shape[1]
    constant, constant_error = _mean(
        relabellings, torch.ones(len(alike), 1, device="cpu").double(), relabellings.even
    )
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
    """Return values minus the mean over the other draws, which is independent of the draw.

    Parts above the constant do not change when a constant is subtracted, and their estimates vary less.
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


def _level_products(sample: Relabellings) -> Float64[Tensor, "3 draws e"]:
    """Return K(Y_s) Σ_t K(Y_t) Σ_{|A| = r} Π k_i of every draw s and r = 0, 1, 2.

    Over all draws t at their weights, or over those that are not s.
    """
    count, weights = len(sample.labels), sample.weights
    even, odd, shrunk = sample.even, sample.odd, (1.0, 1.0)
    if weights is None:
        even = even - even.mean(0)
        # The subtracted mean contains each draw with weight 1/count. With opposites the odd part has mean 0,
        # and none is subtracted.
        by = 1 - 2 / count + 2 / count**2
        shrunk = (1.0 if sample.opposites else by, by)
        odd = odd if sample.opposites else even
    products = sample.even.new_empty(3, count, sample.even.shape[1])
    products[0] = sample.even * (
        weights @ sample.even if weights is not None else sample.even.sum(0) - sample.even
    )
    for block in blocks(count, ROWS):
        for level, values, alike, factor in zip(
            (1, 2), (odd, even), sample.levels(block), shrunk, strict=True
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

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
    Plan,
    Relabellings,
    planned,
    relabelled,
    value_at,
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
    given, law = _labels_and_law(labels, probabilities)
    check_count("draws", draws)
    check_seed(seed)
    if draws < FEWEST:
        raise OptionError(f"`draws` must be {FEWEST} or more; got {draws}.")
    budget = memory_budget(memory)
    plan = planned(law, draws=int(draws))
    here = value_at(kernel_of, given)
    n = len(given)
    check_fits(
        f"What {plan.count} relabellings say of {n} × {n} pairs of labels and a {here.shape[0]} × "
        f"{here.shape[1]} kernel",
        _bytes_held(plan, n, law.shape[1], here.numel()),
        budget,
        advice="Ask for fewer entries of the kernel or fewer `draws`, or raise `memory`.",
    )
    found = relabelled(kernel_of, here, law, plan, seed=int(seed))
    parts = _parts(found, found.alike(given), here.shape)
    squares = _squares(found)
    return _dataset(here, parts, squares, found)


def _bytes_held(plan: Plan, n: int, classes: int, entries: int) -> int:
    """Return what is held at the most, beside what `kernel_of` takes to return its next value."""
    drawn = 2 if plan.opposites else 1
    values = (drawn + 6) * plan.count * entries  # in `_rows` and `_squares`
    labels = plan.count * (n * (4 + 5 * classes) + 6 * min(ROWS, plan.count))
    parts = (2 * n * n + 8 * n + 16) * entries
    return 8 * (values + labels + parts)


def _tensor(name: str, given: Any) -> Tensor:
    # A copy: arrays that run backwards, such as a[::-1], make no tensors.
    return torch.from_numpy(as_array(name, given).copy())


def _labels_and_law(labels: Any, probabilities: Any) -> tuple[Int64[Tensor, " n"], Float64[Tensor, "n c"]]:
    """Return class numbers, and the probability of each class for each example."""
    given = _tensor("labels", labels)
    if given.ndim != 1 or not len(given) or given.is_floating_point() or given.dtype is torch.bool:
        raise OptionError(
            "`labels` must be class numbers, whole, in one row; got "
            f"{given.dtype} of shape {tuple(given.shape)}."
        )
    given = given.long()
    law = _tensor("probabilities", [0.5, 0.5] if probabilities is None else probabilities)
    law = law.double()
    if law.ndim == 1:
        law = law.expand(len(given), -1)
    if law.ndim != 2 or len(law) != len(given) or law.shape[1] < 2:
        raise ShapeError(
            f"`probabilities` must have shape (c,) or (n, c) with n = {len(given)} and two classes or "
            f"more; got {tuple(law.shape)}."
        )
    if not bool((law > 0).all()) or not bool(((law.sum(1) - 1).abs() < 1e-9).all()):
        raise OptionError("`probabilities` must all be above 0 and add up to 1 for each example.")
    if int(given.min()) < 0 or int(given.max()) >= law.shape[1]:
        said = " Pass `probabilities` for more than two." if probabilities is None else ""
        raise OptionError(
            f"`labels` must be class numbers from 0 to {law.shape[1] - 1}; got "
            f"{int(given.min())} to {int(given.max())}.{said}"
        )
    return given, law


def _parts(
    found: Relabellings, alike: Float64[Tensor, "draws n"], shape: tuple[int, ...]
) -> dict[str, Tensor]:
    """Return the parts at the labels given, and their standard errors."""
    even = _centred(found.even, found.weights)
    odd = found.odd if found.opposites else even  # of opposites the odd part has mean 0 as it is
    n = alike.shape[1]
    constant, constant_error = _mean(found, torch.ones(len(alike), 1).double(), found.even)
    single, single_error = _mean(found, alike, odd)
    pair = even.new_empty(n, n, even.shape[1])
    pair_error = torch.zeros_like(pair)
    for i in range(n):
        pair[i], pair_error[i] = _mean(found, alike * alike[:, i : i + 1], even)
        pair[i, i] = pair_error[i, i] = 0
    named = {
        "constant": constant[0],
        "constant_error": constant_error[0],
        "single": single,
        "single_error": single_error,
        "pair": pair,
        "pair_error": pair_error,
    }
    return {name: one.reshape(*one.shape[:-1], *shape) for name, one in named.items()}


def _centred(
    values: Float64[Tensor, "draws e"], weights: Float64[Tensor, " draws"] | None
) -> Float64[Tensor, "draws e"]:
    """Return values minus the mean of the other draws, which says nothing of the draw itself.

    Parts above the constant do not see a constant that is taken away, and estimates of them vary less.
    """
    if weights is not None:
        return values
    return (values - values.mean(0)).mul_(len(values) / (len(values) - 1))


def _mean(
    found: Relabellings, by: Float64[Tensor, "draws a"], values: Float64[Tensor, "draws e"]
) -> tuple[Float64[Tensor, "a e"], Float64[Tensor, "a e"]]:
    """Return E[by ⊗ values] and its standard error."""
    if found.weights is not None:
        mean = (by * found.weights[:, None]).T @ values
        return mean, torch.zeros_like(mean)
    count = len(by)
    mean = by.T @ values / count
    square = by.square().T @ values.square() / count
    return mean, ((square - mean.square()).clamp_(min=0) / (count - 1)).sqrt()


def _squares(found: Relabellings) -> dict[str, tuple[Tensor, Tensor]]:
    """Return mean squares of levels and their shares, each with its standard error, (level, e)."""
    rows = _rows(found)
    total = found.square
    if found.weights is not None:
        mean = torch.stack([found.weights @ one for one in rows])
        mean = torch.cat([mean, (found.weights @ total - mean.sum(0))[None]])
        share = mean.sum(1) / mean.sum()
        return {"mean_square": (mean, torch.zeros_like(mean)), "share": (share, 0 * share)}
    count = len(total)
    # Two draws weigh 1 / (d (d − 1)) together; without draw s, those of the others.
    sums = rows.sum(1)
    mean = _with_rest(sums / (count * (count - 1)), total.mean(0))
    without = rows.mul_(-2).add_(sums[:, None]).div_((count - 1) * (count - 2))  # (3, d, e)
    rest = (total.sum(0) - total).div_(count - 1).sub_(without.sum(0))
    kept = [*without, rest]  # level by level: many numbers
    share = mean.sum(1) / mean.sum()
    kept_sums = torch.stack([one.sum(1) for one in kept])
    return {
        "mean_square": (mean, torch.stack([_jackknife(one) for one in kept])),
        "share": (share, _jackknife((kept_sums / kept_sums.sum(0)).T)),
    }


def _rows(found: Relabellings) -> Float64[Tensor, "3 draws e"]:
    """Return K(Y_s) Σ_t K(Y_t) Σ_{|A| = r} Π k_i of every draw s and r = 0, 1, 2.

    Over all draws t at their weights, or over those that are not s.
    """
    count, weights = len(found.labels), found.weights
    even, odd, shrunk = found.even, found.odd, (1.0, 1.0)
    if weights is None:
        even = even - even.mean(0)
        # The mean that is taken away holds the draws themselves, 1/count of it each. Of opposites the odd
        # part has mean 0, and nothing is taken away.
        by = 1 - 2 / count + 2 / count**2
        shrunk = (1.0 if found.opposites else by, by)
        odd = odd if found.opposites else even
    result = found.even.new_empty(3, count, found.even.shape[1])
    result[0] = found.even * (weights @ found.even if weights is not None else found.even.sum(0) - found.even)
    for some in blocks(count, ROWS):
        for level, values, alike, factor in zip((1, 2), (odd, even), found.levels(some), shrunk, strict=True):
            if weights is None:
                alike[:, some].diagonal().zero_()
            else:
                alike = alike * weights
            result[level, some] = values[some] * (alike @ values) / factor
    return result


def _with_rest(levels: Float64[Tensor, "3 ..."], total: Tensor) -> Tensor:
    return torch.cat([levels, (total - levels.sum(0))[None]])


def _jackknife(kept: Tensor) -> Tensor:
    """Return the standard error from values without each draw in turn, the first axis."""
    count = len(kept)
    spread = (kept - kept.mean(0)).square_().sum(0)
    return (spread * ((count - 1) / count)).sqrt()


def _dataset(
    here: Float64[Tensor, "q r"],
    parts: dict[str, Tensor],
    squares: dict[str, tuple[Tensor, Tensor]],
    found: Relabellings,
) -> xr.Dataset:
    entry = ("row", "column")
    axes: dict[str, tuple[str, ...]] = {
        "constant": entry,
        "single": ("example", *entry),
        "pair": ("example", "other", *entry),
    }
    known: dict[str, tuple[tuple[str, ...], np.ndarray]] = {"value": (entry, here.numpy())}
    for name, one in parts.items():
        known[name] = (axes[name.removesuffix("_error")], one.numpy())
    rest = here - parts["constant"] - parts["single"].sum(0) - parts["pair"].sum((0, 1)) / 2
    known["rest"] = (entry, rest.numpy())
    for name, (mean, error) in squares.items():
        for suffix, one in (("", mean), ("_error", error)):
            shaped = one.reshape(-1, *here.shape) if one.ndim == 2 else one
            known[name + suffix] = (("level", *entry)[: shaped.ndim], shaped.numpy())
    exact = found.weights is not None
    attrs = {
        "exact": int(exact),
        "relabellings": len(found.labels) * (2 if found.opposites else 1),
        "opposites": int(found.opposites),
        "leftout": __version__,
    }
    return xr.Dataset(known, coords={"level": list(LEVELS)}, attrs=attrs)

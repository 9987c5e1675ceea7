"""How much complexity does a group of examples add to the model? Its share of the model's RKHS norm.

    C(I) = √(Σ_c Y_cᵀ K⁻¹ Y_c) − the same without the rows of I,      Y the targets minus f_0

With K = L Lᵀ the first root is the length of w = L⁻¹ Y, and leaving out I takes from w its projection
on the columns I of L⁻¹: the squared length falls by Σ_c v_Iᵀ (P_II)⁻¹ v_I, P = K⁻¹, v = P Y. So one
factorisation serves every group, and the second root is the length of a residual, not a difference.

That is the norm of the interpolant, whatever ridge the model was trained with. `of="fitted"` takes the norm
of the trained model instead, √(Σ_c u_cᵀ K u_c) with u its dual.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import torch
import xarray as xr
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.attribution.engine.base import EditEngine
from leftout.attribution.engine.group_removal import group_duals
from leftout.attribution.groups import Groups, named_groups
from leftout.core.checks import check_choice, check_kind
from leftout.core.errors import NotPositiveError
from leftout.core.progress import with_progress
from leftout.core.version import __version__
from leftout.data.identical import identical_inputs
from leftout.dynamics.fitted import Fitted, check_fitted
from leftout.dynamics.weights_check import check_starts_here

Norm = Literal["interpolant", "fitted"]

SIGN: dict[str, str] = {
    "interpolant": "norm with everyone minus norm without the group: ≥ 0 for the interpolant",
    "fitted": "norm with everyone minus norm without the group: it can have either sign",
}

EPS = torch.finfo(torch.float64).eps

COLUMNS = 512
"""Columns of L⁻¹ that are solved for at a time, so that small groups share a solve."""


def complexity(fitted: Fitted, groups: Groups, *, of: Norm = "interpolant") -> xr.DataArray:
    """Return how much each group of training examples adds to the RKHS norm, exactly.

    Args:
        groups: row numbers of the training examples that go together, as for `leave_out`.
        of: "interpolant": of the function through all targets, without ridge (eq. 19); "fitted": of
            the function at the end of training by the rule.

    Returns:
        A DataArray (group), in target units over the root of kernel units; `total` among its
        attributes is the norm with everyone.

    Raises:
        OptionError: groups that `leave_out` would refuse; an unknown `of`; a label-dependent kernel that is
            not frozen.
        NotPositiveError: an indefinite label-dependent kernel; "interpolant" of a singular Gram matrix, with
            repeated inputs named.

    Cost:
        "interpolant": n³/3, then n²g + 2ng² for a group of g; never an inverse. "fitted": that of
        `leave_out`, and two products of the Gram matrix with a dual, 4n²k, a group.

    Accuracy:
        relative to `total` 10·cond(K)·eps; with "fitted" 10·cond(K + λI)·eps, or the root of that
        where the norm without the group is next to 0.

    Source:
        Rethinking influence functions, eq. 19.

    Example:
        >>> import leftout as lo, torch
        >>> data = torch.eye(3, dtype=torch.float64), torch.tensor([3.0, 4.0, 0.0])
        >>> fitted = lo.fit(lo.kernels.TwoLayerReLU(), data, rule=lo.Ridge(0.1))
        >>> added = lo.complexity(fitted, {"first": [0], "both": [0, 1], "last": [2]})
        >>> round(added.attrs["total"], 3), added.round(3).values.tolist()
        (7.071, [1.414, 7.071, 0.0])
    """
    check_fitted(fitted)
    check_choice("of", of, tuple(SIGN))
    check_kind("groups", groups, Iterable, what="groups of row numbers")
    names, members = named_groups(groups, len(fitted))
    fitted.check_kernel_fixed()
    check_starts_here(fitted.kernel, "what it has to learn")
    _check_positive(fitted)
    total, added = (_interpolant if of == "interpolant" else _as_trained)(fitted, members)
    return xr.DataArray(
        added.cpu().numpy(),
        dims=("group",),
        coords={"group": names},
        attrs=_attributes(fitted, of, total),
        name="complexity",
    )


def _check_positive(fitted: Fitted) -> None:
    """Raise for an indefinite label-dependent kernel: it has no RKHS, and its functions have no norm."""
    if fitted.kernel.definite:
        return
    low, high = float(fitted.factorisations.eigenvalues[0]), float(fitted.factorisations.eigenvalues[-1])
    if low < -len(fitted.gram) * EPS * high:
        raise NotPositiveError(
            "`fitted` must have a positive semi-definite kernel, or functions have no norm. Labels have made "
            f"it indefinite: its eigenvalues reach from {high:.3g} down to {low:.3g}. Take a smaller "
            "`strength`."
        )


def _interpolant(
    fitted: Fitted, groups: Sequence[Int64[Tensor, " _"]]
) -> tuple[float, Float64[Tensor, " groups"]]:
    """Return ‖w‖, and by how much it falls without each group."""
    lower = _factor(fitted)
    inside = torch.linalg.solve_triangular(lower, fitted.residual, upper=False)  # w, (n, k)
    total = inside.norm()
    added = []
    rows = [fitted.rows.of_examples(group.to(lower.device)) for group in groups]
    for columns in _solve_columns(lower, rows):  # (n, g)
        basis = torch.linalg.qr(columns).Q
        projection = basis.T @ inside
        remainder = inside - basis @ projection
        # √a − √(a − d) as d / (√a + √(a − d)): small groups are not lost in the difference.
        added.append(_over(projection.square().sum(), total + remainder.norm()))
    return float(total), torch.stack(added)


def _solve_columns(
    lower: Float64[Tensor, "n n"], groups: Sequence[Int64[Tensor, " _"]]
) -> Iterator[Float64[Tensor, "n _"]]:
    """Yield the columns of L⁻¹ for each group; small groups share a solve."""
    waiting: list[Int64[Tensor, " _"]] = []
    for position, rows in enumerate(with_progress(groups, what="groups")):
        waiting.append(rows)
        if sum(map(len, waiting)) < COLUMNS and position + 1 < len(groups):
            continue
        every = torch.cat(waiting)
        units = lower.new_zeros(len(lower), len(every))
        units[every, torch.arange(len(every), device=lower.device)] = 1
        columns = torch.linalg.solve_triangular(lower, units, upper=False)
        yield from columns.split([len(rows) for rows in waiting], dim=1)
        waiting = []


def _factor(fitted: Fitted) -> Float64[Tensor, "n n"]:
    """Return L of K = L Lᵀ, no ridge added."""
    try:
        return fitted.cholesky(0.0).lower
    except NotPositiveError:
        same = identical_inputs(fitted.train.inputs)
        ids = fitted.train.ids
        named = (
            f" Examples {ids[same[0][0]]!r} and {ids[same[0][1]]!r} have identical inputs." if same else ""
        )
        raise NotPositiveError(
            "`of`='interpolant' needs a Gram matrix that can be inverted without ridge, and this one "
            f"is singular to rounding: nothing passes through all targets.{named} Pass "
            "of='fitted' for the norm of the model as it was trained, or drop repeated inputs."
        ) from None


def _as_trained(
    fitted: Fitted, groups: Sequence[Int64[Tensor, " _"]]
) -> tuple[float, Float64[Tensor, " groups"]]:
    """Return √(uᵀKu), and by how much it falls without each group."""
    fitted.check_trainable([math.inf], total=len(fitted))
    dual = fitted.dual(math.inf)  # (n, k)
    image = fitted.gram @ dual
    total = _root((dual * image).sum())
    ready: dict[int, list[EditEngine]] = {}
    added = []
    for rows in with_progress(groups, what="groups"):
        without = dual + group_duals(fitted, [math.inf], rows, ready)[0]
        change = dual - without
        norm_without = _root((without * (fitted.gram @ without)).sum())
        fall = (change * (2 * image - fitted.gram @ change)).sum()  # uᵀKu − u'ᵀKu'
        added.append(_over(fall, total + norm_without))
    return float(total), torch.stack(added)


def _root(square: Float64[Tensor, ""]) -> Float64[Tensor, ""]:
    """Return the root of a quadratic form of a positive semi-definite matrix: below 0 it is rounding."""
    return square.clamp_min(0).sqrt()


def _over(fall: Float64[Tensor, ""], roots: Float64[Tensor, ""]) -> Float64[Tensor, ""]:
    """Return their ratio, and 0 for a model of norm 0."""
    return fall / roots if float(roots) > 0 else torch.zeros_like(fall)


def _attributes(fitted: Fitted, of: Norm, total: float) -> dict[str, Any]:
    """Return the attributes of the result: norm, sign, units, and fingerprints of model and data."""
    return {
        "method": "complexity",
        "of": of,
        "total": total,
        "sign": SIGN[of],
        "units": "target units / √(kernel units)",
        "rule": json.dumps(fitted.rule.record),
        "kernel": json.dumps(fitted.kernel.record),
        "dtype": "float64",
        "leftout_version": __version__,
        "train_fingerprint": fitted.train.fingerprint,
        "fitted_fingerprint": fitted.record["weights"],
    }

"""Smooth unique information: how many nats each training example tells the model that no other one does.

    weights     SI   = ½ dwᵀ Σ⁻¹ dw                                 dw = w − w_without
    function    F-SI = ½ mean over queries of Σ (f − f_without)² / σ²

Both are divergences of two normal distributions, one about the model with the example and one about
the model without it: what an observer who sees it smoothed by Σ, or σ, learns from the example. With
Δ the change of the dual, which the engine has for all examples at once, they are quadratic forms,

    |dw|² = Δᵀ K Δ,        Σ over queries of (f − f_without)² = |C Δ|²,   CᵀC = Σ_x K(X, x) K(x, X),

C the kernel rows of the queries, or with more queries than training rows their triangular factor.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import xarray as xr
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.edit_engines import edit_engines
from leftout.attribution.engine.group_removal import group_duals
from leftout.attribution.engine.labelled_result import attributes, labelled_array
from leftout.attribution.engine.nonzero_modes import moving_modes
from leftout.attribution.engine.query_blocks import COLUMNS, is_scalar, queries_of, query_blocks
from leftout.attribution.groups import Groups, named_groups
from leftout.attribution.weight_noise import SMOOTHINGS, Form, Isotropic, Smoothing
from leftout.core.blocks import blocks, check_fits
from leftout.core.checks import check_positive, shown
from leftout.core.errors import OptionError
from leftout.core.progress import with_progress
from leftout.core.structured_matrix import to_numbers
from leftout.data.examples import Examples
from leftout.data.pairs import Data
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import At, Logistic

SIGN = "≥ 0: how far model and model without the example are apart, whichever is the better one"

Changes = Iterator[tuple[int, slice, Float64[Tensor, "rows e c"]]]
"""Which time, which examples or groups, and how the dual changes without each of them."""


def information(
    fitted: Fitted,
    query: Data,
    *,
    at: At | Sequence[At] = None,
    groups: Groups | None = None,
    smoothing: Smoothing | None = None,
    sigma: float = 1.0,
) -> xr.Dataset:
    """Return the smooth unique information of every training example, exactly.

    Under Logistic by one Newton step without each example, as `newton_steps` among the attributes says: that
    may be far off for the most influential. Groups, `groups=[[i], …]` too, are fitted until convergence.

    Args:
        query: where the function is looked at; targets are not used.
        at: training time or a sequence of them (which adds a leading axis `at`); None is the end.
        groups: row numbers of training examples that go together, as for `leave_out`; each example
            alone if not said.
        smoothing: Σ of the weights, a record from `leftout.attribution.weight_noise`; Isotropic() if
            not said. Where one kernel serves k outputs, each has its own copy of the weights.
        sigma: σ of `function`, in target units.

    Returns:
        A Dataset over `train` (or `group`), in nats: `weights`, and `function`, the mean over
        queries.

    Raises:
        OptionError: `sigma`, `smoothing` or `groups` is none.
        NotPositiveError: SteadyState() where nothing is left to learn, or where its covariance is
            singular on what is asked; ridge 0 at the end of training on a singular Gram matrix.
        DivergenceError: a rate at or above the critical one.
        MemoryBudgetError: the kernel rows of the queries, at most as many as training has, would
            not fit.

    Cost:
        the kernel to the queries, 2mn² once for their triangular factor if m > n, then 2n²(min(m, n)
        + n) k a time besides the engine's 160n²k; never (queries × n). SteadyState adds 2n³ for its
        gradients and n³/3 for its factor, (nk)³ each where one kernel serves k outputs.

    Accuracy:
        relative to the largest 2e−12, or 20·cond·eps where that is more, cond as in
        `leave_one_out`; SteadyState multiplies by the condition of its correlation matrix. Modes of
        K that cannot be told from zero do not count at finite times (`modes`).

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=40, n_query=10)
        >>> sorted(lo.information(lo.fit(lo.kernels.ReLU(1), train), query))
        ['function', 'weights']

    Source:
        Smooth unique information, eqs. 5, 13 and 16 (with the square that it lacks there).
    """
    smoothing = Isotropic() if smoothing is None else smoothing
    if not isinstance(smoothing, SMOOTHINGS):
        known = ", ".join(kind.__name__ for kind in SMOOTHINGS)
        raise OptionError(f"`smoothing` must be one of {known}; got {shown(smoothing)}.")
    check_positive("sigma", sigma)
    examples = queries_of(fitted, query)
    times = fitted.times(at)
    axis, names, changes = "train", list(fitted.train.ids), _singles(fitted, times)
    if groups is not None:
        axis = "group"
        names, rows = named_groups(groups, len(fitted))
        changes = _groups(fitted, times, rows)
    measure = Measure(fitted, smoothing.form(fitted), smoothing.in_modes)
    root = query_root(fitted, examples)
    more = {"newton_steps": 1} if isinstance(fitted.rule, Logistic) and groups is None else {}
    nats = fitted.gram.new_zeros(2, len(times), len(names))
    for position, columns, change in changes:
        nats[0, position, columns] = measure(change, end=times[position] == math.inf)
        nats[1, position, columns] = _square_sums(root, change) / (len(examples) * float(sigma) ** 2)
    attrs = attributes(
        fitted,
        examples,
        of="prediction",
        method="information",
        sign=SIGN,
        units="nats",
        orientation=f"an entry for each training time and {axis}",
        sigma=float(sigma),
        smoothing=json.dumps(smoothing.record),
        **more,
    )
    arrays = {
        name: labelled_array(
            (values / 2).cpu().numpy(),
            times=times,
            scalar=is_scalar(at),
            name=name,
            coordinates={axis: names},
            attrs=attrs | {"of": name},
        )
        for name, values in zip(("weights", "function"), nats, strict=True)
    }
    attrs = arrays["weights"].attrs | {"of": "weights, function"}
    return xr.Dataset(arrays, attrs=attrs)


@dataclass(frozen=True, eq=False)
class Measure:
    """dwᵀ Σ⁻¹ dw of changes of the dual: at the end of training by K, before it in its modes."""

    fitted: Fitted
    form: Form
    in_modes: bool

    def __call__(self, change: Float64[Tensor, "rows e c"], *, end: bool) -> Float64[Tensor, " e"]:
        if end and not self.in_modes:
            # The dual is bounded by 1/(s + λ) and needs no spectrum: null modes cannot have grown.
            return self.form(change, _product(self.fitted.gram, change))
        modes = moving_modes(self.fitted.spectrum)
        inside = _product(modes.vectors.T, change)
        return self.form(inside, modes.values[:, None, None] * inside)


def query_root(fitted: Fitted, query: Examples) -> Float64[Tensor, "a rows"]:
    """Return C, CᵀC = Σ_x K(X, x) K(x, X), of no more rows than the Gram matrix has.

    A triangular factor, not the sum itself: what is squared first has lost half its digits.
    """
    side = len(fitted.gram)
    rows = min(len(query) * fitted.outputs_per_example, side)
    check_fits(
        f"What the queries see, {rows} × {side} numbers,",
        2 * 8 * rows * side,
        fitted.memory,
        advice="Ask for fewer queries, or raise `memory`.",
    )
    root = fitted.gram.new_empty(0, side)
    for block in query_blocks(fitted, query):
        root = torch.cat([root, to_numbers(block.cross)])
        if len(root) > side:
            root = torch.linalg.qr(root, mode="r").R
    return root


def _singles(fitted: Fitted, times: Sequence[float]) -> Changes:
    """Return the change of the dual without each example, at every time; times are checked now."""
    n = len(fitted)
    # A sixth of the budget, as queries have: the change, its modes, its predictions, and squares.
    size = fitted.memory // (6 * 8 * fitted.targets.numel())
    every = [
        (engine, position, columns)
        for position, engine in enumerate(edit_engines(fitted, times, total=n - 1))
        for columns in blocks(n, max(1, min(COLUMNS, size)))
    ]
    return (
        (position, columns, engine.single_duals(columns))
        for engine, position, columns in with_progress(every, what="leaving one out")
    )


def _groups(fitted: Fitted, times: Sequence[float], rows: Sequence[Tensor]) -> Changes:
    """Yield the change of the dual without each group, at every time."""
    ready: dict[int, list] = {}
    for number, group in enumerate(with_progress(rows, what="groups")):
        duals = group_duals(fitted, times, group.to(fitted.device), ready)
        for position, change in enumerate(duals):
            yield position, slice(number, number + 1), change[:, None]


def _product(
    matrix: Float64[Tensor, "a rows"], change: Float64[Tensor, "rows e c"]
) -> Float64[Tensor, "a e c"]:
    """Return the matrix times every change, as one product."""
    return (matrix @ change.flatten(1)).view(len(matrix), *change.shape[1:])


def _square_sums(
    root: Float64[Tensor, "a rows"], change: Float64[Tensor, "rows e c"]
) -> Float64[Tensor, " e"]:
    """Return |C Δ|² over rows and columns."""
    return _product(root, change).square().sum((0, 2))

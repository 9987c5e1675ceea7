"""How wrong can the classical influence function be? Proved bounds beside measured errors.

With the terms of `influence_error.decomposition`, s an eigenvalue of K and A_i the leverage,

    theorem 3    |I − Î| ≥ s_min / (s_min + λ) |I| − term 2                    A_i ≥ s_min / (s_min + λ)
    theorem 4    |I − Î| ≤ √(γ / (n n_k)) |I| + term 2                                A_i ≤ √(γ / (n n_k))

for every query and every training example, the second for one of n_k examples that lie close together.
Both hold for several outputs as for one, as K, α and A are common to the outputs.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.labelled_result import attributes
from leftout.attribution.engine.query_blocks import queries_of
from leftout.attribution.first_order import first_order
from leftout.attribution.influence_function import influence_function
from leftout.core.blocks import check_fits
from leftout.core.checks import check_kind
from leftout.core.errors import NotPositiveError, OptionError
from leftout.core.progress import spinner
from leftout.data.examples import Examples
from leftout.data.pairs import Data
from leftout.diagnostics.influence_error.clusters import cluster_numbers, condition, unevenness
from leftout.diagnostics.influence_error.decomposition import InfluenceDecomposition, InfluenceTerms
from leftout.diagnostics.retraining.measures import Resamples, ScoredPairs, pearson, relative_error, slope
from leftout.dynamics.curvature import Kind
from leftout.dynamics.fitted import Fitted, check_fitted
from leftout.dynamics.train import Trained
from leftout.dynamics.two_layer import TwoLayerNetwork
from leftout.dynamics.weights_check import check_starts_here
from leftout.kernels.wide.erf import Erf
from leftout.kernels.wide.relu import ReLU
from leftout.kernels.wide.two_layer_relu import TwoLayerReLU
from leftout.solvers.solution import Solver

__all__ = ["limit", "lower", "terms", "upper"]

SIGN = (
    "influence and first_order: loss without the example minus loss with it, positive = it helped; "
    "actual and bound: sizes of their difference"
)


def lower(fitted: Fitted, query: Data, *, mean: bool = False) -> xr.Dataset:
    """Return the error of the classical influence function and its lower bound, theorem 3.

    Args:
        fitted: from `fit`; the end of its training, sums of losses.
        query: Examples, or a pair (inputs, targets) like the training data.
        mean: keep only the means over queries.

    Returns:
        A Dataset (query, train), with `mean` (train): `actual` |I − Î|, `bound`, `influence` I and
        `first_order` Î. Attributes: `s_min`, `ridge`, `rate` = s_min / (s_min + ridge), and
        `excess`, the largest violation of the bound over all pairs, relative to the largest |I|: at
        most rounding.

    Raises:
        OptionError: a mean of losses under a ridge.
        MemoryBudgetError: the result would not fit; with `mean` it is a few rows.

    Cost:
        4n³/3 for s_min unless the spectrum is known, n³ for factor and inverse, 4mn² for m queries.

    Accuracy:
        10·cond(K + λI)·eps of the largest |term 1| + term 2.

    Source:
        Rethinking influence functions, theorem 3, eq. 16.

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=40, n_query=10)
        >>> fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(0.1))
        >>> error = lo.bounds.lower(fitted, query)
        >>> bool((error.actual >= error.bound - 1e-12).all())
        True
    """
    check_fitted(fitted)
    fitted.check_squared_loss()
    examples, decomposition = queries_of(fitted, query), InfluenceDecomposition(fitted)
    least = smallest_eigenvalue(fitted)
    rate = least / (least + decomposition.ridge)

    def values_of(block: InfluenceTerms) -> dict[str, Tensor]:
        bound = block.influence.abs().mul_(rate).sub_(block.term_2)
        return _error_and_bound(block, bound)

    values, excess = _collect_blocks(decomposition, examples, values_of, mean=mean, passed="below")
    attrs = {"theorem": "3", "s_min": least, "ridge": decomposition.ridge, "rate": rate, "excess": excess}
    return _dataset(fitted, examples, values, method="lower", mean=mean, **attrs)


def upper(
    fitted: Fitted,
    query: Data,
    clusters: Sequence[int] | np.ndarray | Tensor,
    *,
    radius: float | None = None,
    mean: bool = False,
) -> xr.Dataset:
    """Return the error of the classical influence function and its upper bound, theorem 4.

    Examples in a cluster lie within `radius` of its mean. Their kernel features then lie within ε of the mean
    of the cluster's features, ε² = 2 radius² + arccos(1 − 2 radius²), and the n_k examples of a cluster share
    its leverage, if the ridge is above s_max·√2 ε / (1 − √2 ε).

    Args:
        clusters: a number for each training example, equal for examples from one cluster of inputs;
            clusters of different labels are different clusters only if their inputs are.
        radius: largest distance of an input from the mean of its cluster; None to measure it.
        mean: keep only the means over queries.

    Returns:
        A Dataset (query, train), with `mean` (train): `actual`, `bound`, `influence`, `first_order`
        as from `lower`; `leverage` A, `leverage_bound` √(γ / (n n_k)) and `cluster` (train).
        `applies` among its attributes is 1 where the theorem's condition holds and the bound is
        claimed, and 0 where `why` says that it is not; beside it `radius`, `epsilon`,
        `epsilon_measured`, `gamma`, `s_max`, `ridge`, `threshold` and `excess` as from `lower`.

    Raises:
        OptionError: another kernel than TwoLayerReLU, whose geometry this is; clusters that are not
            integers; a radius smaller than the clusters; a mean of losses under a ridge.
        ShapeError: not one cluster number for each training example.
        MemoryBudgetError: the result would not fit; with `mean` it is a few rows.

    Cost:
        n³ for factor and inverse, 4mn² for m queries, n² for γ and the clusters.

    Source:
        Rethinking influence functions, theorem 4, eq. 18. Its proof bounds |Mv| from below by
        |M||v| in eq. 77, where the smallest singular value of M must stand, and stands in what
        follows; eq. 79 drops a factor 1/π of the arccos, which only loosens the bound. γ is
        measured: n max A_i² / |α(x_i)|², α(x_i) row i of K(K + λI)⁻¹.

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=40, n_query=10)
        >>> fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(0.1))
        >>> error = lo.bounds.upper(fitted, query, range(40))  # each example a cluster of its own
        >>> error.attrs["applies"], bool((error.actual <= error.bound + 1e-12).all())
        (1, True)
    """
    check_fitted(fitted)
    fitted.check_squared_loss()
    examples, number = queries_of(fitted, query), cluster_numbers(clusters, len(fitted))
    if not isinstance(fitted.kernel, TwoLayerReLU):
        raise OptionError(
            "`fitted` must have the kernel TwoLayerReLU: theorem 4 measures clusters in its geometry; "
            f"got {fitted.kernel!r}."
        )
    decomposition = InfluenceDecomposition(fitted)
    evidence = condition(fitted, decomposition, number, radius)
    sizes = torch.bincount(number)[number].to(fitted.gram)  # n_k of each example
    gamma = unevenness(fitted, decomposition)
    leverage_bound = (gamma / (len(fitted) * sizes)).sqrt()  # (n,)

    def values_of(block: InfluenceTerms) -> dict[str, Tensor]:
        bound = block.influence.abs().mul_(leverage_bound).add_(block.term_2)
        return _error_and_bound(block, bound)

    values, excess = _collect_blocks(decomposition, examples, values_of, mean=mean, passed="above")
    values |= {"leverage": decomposition.leverage, "leverage_bound": leverage_bound, "cluster": number}
    return _dataset(
        fitted,
        examples,
        values,
        method="upper",
        mean=mean,
        theorem="4",
        gamma=gamma,
        excess=excess,
        **evidence,
    )


def terms(fitted: Fitted, query: Data, *, mean: bool = False) -> xr.Dataset:
    """Return the two terms of the exact influence, proposition 2, beside the influence itself.

    Args:
        mean: keep only the means over queries.

    Returns:
        A Dataset (query, train), with `mean` (train): `term_1` α_i (f(x) − y)·r_i, `term_2`
        ½ α_i² |r_i|², their `sum`, and `influence` as computed by `leave_one_out`, independently of
        the terms. `largest_difference` among its attributes is that of the last two, relative to the
        largest |influence|.

    Raises:
        OptionError: a mean of losses under a ridge.
        MemoryBudgetError: the result would not fit; with `mean` it is a few rows.

    Cost:
        n³ for factor and inverse, 4mn² for m queries.

    Source:
        Rethinking influence functions, proposition 2, eq. 14.

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=40, n_query=10)
        >>> fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(0.1))
        >>> lo.bounds.terms(fitted, query).attrs["largest_difference"] < 1e-12
        True
    """
    check_fitted(fitted)
    fitted.check_squared_loss()
    examples, decomposition = queries_of(fitted, query), InfluenceDecomposition(fitted)
    largest = {"difference": 0.0, "influence": 0.0}

    def values_of(block: InfluenceTerms) -> dict[str, Tensor]:
        total = block.term_1 + block.term_2
        for name, array in (("difference", total - block.influence), ("influence", block.influence)):
            largest[name] = max(largest[name], float(array.abs().max()))
        return {"term_1": block.term_1, "term_2": block.term_2, "sum": total, "influence": block.influence}

    values, _ = _collect_blocks(decomposition, examples, values_of, mean=mean)
    difference = largest["difference"] / (largest["influence"] or 1.0)
    return _dataset(
        fitted,
        examples,
        values,
        method="terms",
        mean=mean,
        proposition="2",
        ridge=decomposition.ridge,
        largest_difference=difference,
    )


def limit(
    trained: Trained,
    fitted: Fitted,
    query: Data,
    *,
    solver: Solver | None = None,
    curvature: Kind = "hessian",
) -> xr.Dataset:
    """Return the classical influence of a finite network beside its infinitely wide limit, proposition 1.

    Args:
        trained: a network, from `train`.
        fitted: its kernel on the same examples, under the same ridge: TwoLayerReLU for a
            TwoLayerNetwork, whose signs are kept. Other kernels are not checked against the network.
        solver, curvature: as for `influence_function`.

    Returns:
        A Dataset (query, train): `finite` from `influence_function`, with the status of its solves, and
        `limit` from `first_order`. Attributes over all pairs: `relative_error`
        √(Σ (finite − limit)² / Σ limit²), `slope` of limit against finite, and `pearson`. One that does not
        exist, as a correlation with a constant, is nan, with the reason in `why`.

    Raises:
        OptionError: other examples, another loss or ridge, or no ridge: the limit is then 0; or the
            kernel of another network.

    Warns:
        NotConvergedWarning: the network, or a solve, stopped short of its tolerance.

    Cost:
        that of `influence_function` and of `first_order`.

    Source:
        Rethinking influence functions, proposition 1, eq. 13.

    Example:
        >>> import leftout as lo, torch
        >>> inputs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
        >>> data = inputs, torch.tensor([1.0, -1.0, 0.5])
        >>> module = torch.nn.Linear(2, 1).double()
        >>> fitted = lo.fit(lo.kernels.Empirical(module, weights="initial"), data, rule=lo.Ridge(0.1))
        >>> both = lo.bounds.limit(lo.train(module, data, rule=lo.Ridge(0.1)), fitted, data)
        >>> both.attrs["relative_error"] < 1e-4  # a linear module is its own limit
        True
    """
    check_kind("trained", trained, Trained, what="a trained network, from `train`")
    check_fitted(fitted)
    fitted.check_squared_loss()
    if solver is not None:
        check_kind("solver", solver, Solver, what="ConjugateGradients(), LiSSA(), Exact() or None")
    check_starts_here(fitted.kernel, "the limit of a network")
    _check_same(trained, fitted)
    finite = influence_function(trained, query, solver=solver, curvature=curvature)
    wide = first_order(fitted, query)
    pairs = ScoredPairs(*(torch.from_numpy(scores.values.reshape(-1)) for scores in (finite, wide)))
    sample = Resamples(pairs, torch.ones(1, len(pairs), dtype=torch.float64, device="cpu"), top=1)
    summary: dict[str, Any] = {
        measure.__name__: float(measure(sample)) for measure in (relative_error, slope, pearson)
    }
    absent = [name for name, agreement in summary.items() if math.isnan(agreement)]
    if absent:
        flat = [name for name, scores in (("finite", finite), ("limit", wide)) if _constant(scores)]
        summary["why"] = f"no {' and '.join(absent)}: {' and '.join(flat)} is the same for all pairs"
    attributes_kept = {key: finite.attrs[key] for key in ("network", "solver", "curvature", "training")}
    return xr.Dataset(
        {"finite": finite, "limit": (finite.dims, wide.values)},
        attrs=dict(wide.attrs) | {"method": "limit", "proposition": "1"} | attributes_kept | summary,
    )


def smallest_eigenvalue(fitted: Fitted) -> float:
    """Return s_min ≥ 0 of the Gram matrix: from the spectrum if it is known, else at 4n³/3 flops.

    Raises:
        NotPositiveError: it is below 0 by more than rounding.
    """
    if fitted.factorisations.has_spectrum:
        return max(fitted.spectrum.smallest, 0.0)
    with spinner(f"eigenvalues of {len(fitted)} × {len(fitted)}"):
        values = torch.linalg.eigvalsh(fitted.gram)
    low, high = float(values[0]), float(values[-1])
    if low < -len(fitted) * torch.finfo(fitted.kernel_dtype).eps * max(high, 0.0):
        raise NotPositiveError(
            f"`gram` must be positive semi-definite; its smallest eigenvalue is {low:.3g} and its "
            f"largest {high:.3g}. Check that the kernel is one; nothing was clipped."
        )
    return max(low, 0.0)  # below 0 it is rounding


def _constant(values: xr.DataArray) -> bool:
    return bool((values == values.values.flat[0]).all())


def _check_same(trained: Trained, fitted: Fitted) -> None:
    """Raise unless the network and the kernel model have the same examples, loss and ridge."""
    if trained.train.fingerprint != fitted.train.fingerprint:
        raise OptionError(
            "`trained` and `fitted` must have the same training examples, in one order; these differ "
            f"({len(trained.train)} and {len(fitted)} of them). Make both from one `Examples`."
        )
    if isinstance(trained.module, TwoLayerNetwork) and isinstance(fitted.kernel, Erf | ReLU):
        raise OptionError(
            "`fitted` must have the kernel of the network: of a TwoLayerNetwork, which trains its "
            f"first layer alone, that is TwoLayerReLU(); got {fitted.kernel!r}."
        )
    network_rule, kernel_rule = trained.rule, fitted.rule
    if (network_rule.ridge, network_rule.loss) != (kernel_rule.ridge, kernel_rule.record["loss"]):
        raise OptionError(
            "`trained` and `fitted` must have the same ridge and loss; got "
            f"{network_rule!r} and {kernel_rule!r}."
        )
    if network_rule.ridge == 0:
        raise OptionError(
            "`fitted` must have a ridge > 0: without one the training residuals are 0, and the "
            "classical influence function with them; got 0."
        )


def _error_and_bound(block: InfluenceTerms, bound: Float64[Tensor, "b n"]) -> dict[str, Tensor]:
    return {
        "actual": block.error,
        "bound": bound,
        "influence": block.influence,
        "first_order": block.first_order,
    }


def _collect_blocks(
    decomposition: InfluenceDecomposition,
    query: Examples,
    values_of: Callable[[InfluenceTerms], dict[str, Tensor]],
    *,
    mean: bool,
    passed: Literal["below", "above"] | None = None,
) -> tuple[dict[str, Tensor], float]:
    """Return the arrays of all blocks, or their means over queries, and the largest violation of `bound`.

    Args:
        values_of: returns the arrays of a block.
        passed: the side of the bound on which the error would violate it.
    """
    m, n = len(query), len(decomposition.fitted)
    if not mean:
        check_fits(
            f"The result (4 × {m} × {n})",
            8 * 4 * m * n,
            decomposition.fitted.memory,
            advice="Keep only the means over queries, `mean=True`, or ask for fewer queries.",
        )
    collected: dict[str, Tensor] = {}
    excess, scale = -math.inf, 0.0
    for block in decomposition.blocks(query, room=12):
        values = values_of(block)
        if passed:
            beyond = values["actual"] - values["bound"]
            excess = max(excess, float((beyond if passed == "above" else -beyond).max()))
            scale = max(scale, float(block.influence.abs().max()))
        for name, array in values.items():
            if name not in collected:
                collected[name] = array.new_zeros(n) if mean else array.new_empty(m, n)
            if mean:
                collected[name] += array.sum(0) / m
            else:
                collected[name][block.rows] = array
    return collected, excess / (scale or 1.0)


def _dataset(
    fitted: Fitted, query: Examples, values: dict[str, Tensor], *, method: str, mean: bool, **more: Any
) -> xr.Dataset:
    attrs = attributes(fitted, query, of="loss", method=method, sign=SIGN, **more)
    if mean:
        attrs["mean_over"] = "query"
    coordinates = {"query": list(query.ids), "train": list(fitted.train.ids)}
    arrays = {
        name: (("query", "train")[-array.ndim :], array.cpu().numpy()) for name, array in values.items()
    }
    if mean:
        del coordinates["query"]
    return xr.Dataset(arrays, coords=coordinates, attrs=attrs)

"""How good are scores? Against training that was really done again, with what its noise lets anybody reach.

    lds               Spearman over random subsets S of −Σ_{i ∈ S} score_i and the real loss, mean over
    queries leave_one_out     Spearman over training examples of scores and the real effect of leaving each
    out, likewise top_overlap       share of the `top` largest real effects among the `top` largest scores,
    likewise wrong_labels_auc  how surely an example with a wrong label has a lower mean score than one with a
    right label removal curve     mean loss without the most helpful examples by the scores, beside without
    random ones

A score is positive where the example helped, so a subset that keeps helpful examples has a lower loss.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float64

from leftout.attribution.leave_one_out import leave_one_out
from leftout.core.checks import as_list, check_count, check_kind, check_whole, row_numbers, shown
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.core.wording import number, number_with_interval, percent
from leftout.data.conversion import doubles
from leftout.data.pairs import Data
from leftout.diagnostics.referee.ceiling import ceilings, seed_agreement
from leftout.diagnostics.referee.intervals import Draws, draw_resamples, measure_queries
from leftout.diagnostics.referee.refit_subsets import refit_subsets
from leftout.diagnostics.retraining.agreement import (
    Scores,
    array_with_names,
    check_about_the_same,
    check_resamples,
    select_names,
)
from leftout.diagnostics.retraining.subsets import random_subsets, removal_subsets
from leftout.dynamics.fitted import Fitted

Truth = xr.Dataset | xr.DataArray | Fitted

FEWEST_SUBSETS = 8
"""With fewer, an interval of a rank correlation reaches from nearly −1 to 1."""

CHANCE = {"lds": 0.0, "leave_one_out": 0.0, "top_overlap": float("nan"), "wrong_labels_auc": 0.5}


def referee(
    scores: Scores | xr.Dataset | Fitted,
    truth: Truth | None = None,
    *,
    query: Data | None = None,
    wrong_labels: Any = None,
    removal: xr.Dataset | None = None,
    top: int = 10,
    subsets: int = 200,
    shares: Sequence[float] = (0.05, 0.1, 0.2, 0.4),
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Return how well scores agree with the truth, with intervals, and the ceiling that noise of training
    sets.

    Args:
        scores: (query, train), positive = the example helped; or a model from `fit`, which is fitted again to
            every subset exactly; or losses on the same subsets, from `refit_subsets`.
        truth: of `retrain_subsets` or `refit_subsets` for the LDS; of `retrain` or `leave_one_out` for
            leave-one-out, also with a first axis `seed`; or a model from `fit`, of which both, and the
            removal curve, are exact. May be left out where `wrong_labels` or `removal` is given.
        query: the queries, as Examples or a pair: where a model from `fit` takes part.
        wrong_labels: row numbers of training examples whose labels are known to be wrong, or truth values.
        removal: of `retrain_subsets` on `removal_subsets(scores)`, for the removal curve.
        top: how many largest effects `top_overlap` compares.
        subsets: random halves on which a model given as truth is fitted.
        shares: of the training examples removed, for a removal curve of such a model.
        resamples: of columns and queries; at least 2 / (1 − level).
        level: probability that an interval should hold what other columns and queries would give.
        seed: of halves and resamples.

    Returns:
        A Dataset over `measure`: `estimate` with `low` and `high`; `ceiling` with `ceiling_low` and
        `ceiling_high`, what exact knowledge of the mean over seeds would reach (1 for exact truth, NaN where
        there is one seed); `share` of the ceiling with `share_low`, `share_high`; and `verdict`, a sentence.
        Over (query, measure_of_query): `per_query`, `per_query_low`, `per_query_high`, `per_query_ceiling`.
        With a removal curve, over (removed, share): `removal_loss`, the mean loss, with `removal_rise` over
        that of random removal and its ends `removal_rise_low`, `removal_rise_high`, from resampling queries.

        Intervals of a query resample columns; those of means columns and queries; those of the AUC examples
        with wrong and with right labels. Each is the percentile bootstrap.

    Raises:
        OptionError: nothing to judge by; names of the truth that the scores lack; scores of other training
            examples or queries than the truth, by their attributes; fewer than 8 subsets.
        ShapeError: axes that are none of the above.
        DataError: NaN, infinity, or numbers of a query that are all equal; names the query.

    Cost:
        for every query resamples × columns numbers, sorted once, for scores and for each pair of seeds; a
        model is fitted to each subset (`refit_subsets`).

    Source:
        Park et al. 2023, TRAK: the linear datamodeling score (LDS). Ceiling: Spearman 1910, Brown 1910; see
        `diagnostics.referee.ceiling`.

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=80, n_query=20)
        >>> fitted = lo.fit(lo.kernels.ReLU(1), train, rule=lo.Ridge(0.1))
        >>> scores = lo.leave_one_out(fitted, query)
        >>> verdict = lo.referee(scores, fitted, query=query, subsets=50, resamples=100)
        >>> verdict.measure.values.tolist(), float(verdict.estimate.sel(measure="leave_one_out").round(6))
        (['lds', 'leave_one_out', 'top_overlap'], 1.0)
        >>> bool(verdict.low.sel(measure="lds") > 0.5)
        True
    """
    check_count("top", top)
    check_count("subsets", subsets)
    check_whole("seed", seed, 0)
    check_resamples(resamples, level)
    if truth is None and wrong_labels is None and removal is None:
        raise OptionError(
            "`truth` must be given, or `wrong_labels` or `removal`; got none of them. Truth comes from "
            "retrain_subsets, retrain or refit_subsets, or is a model from `fit`."
        )
    check_kind("truth", truth, (xr.Dataset, xr.DataArray, Fitted, type(None)), what=_TRUTH)
    if (isinstance(truth, Fitted) or isinstance(scores, Fitted)) and query is None:
        raise OptionError("`query` must be given where a model from `fit` takes part; got none.")
    judge = _Judge(top, resamples, level, seed)
    if isinstance(truth, Fitted):
        halves = random_subsets(len(truth), count=subsets, seed=seed)
        judge.subsets(scores, refit_subsets(truth, query, halves), query)
        if not isinstance(scores, xr.Dataset):
            judge.singles(scores, leave_one_out(truth, query), query, exact=True)
        if not isinstance(scores, xr.Dataset | Fitted):
            curve = removal_subsets(_matrix(scores), shares=shares, seed=seed)
            judge.removal(refit_subsets(truth, query, curve))
    elif isinstance(truth, xr.Dataset):
        judge.subsets(scores, truth, query)
    elif truth is not None:
        judge.singles(scores, truth, query, exact=truth.attrs.get("method") == "leave_one_out")
    if wrong_labels is not None:
        judge.wrong_labels(scores, wrong_labels)
    if removal is not None:
        what = "losses from retrain_subsets(…, removal_subsets(scores))"
        check_kind("removal", removal, xr.Dataset, what=what)
        judge.removal(removal)
    return judge.report(scores, truth)


_TRUTH = "losses of retrain_subsets or refit_subsets, effects of retrain or leave_one_out, or a fitted model"
_NO_MATRIX = "`scores` must be (query, train) for this; got losses of subsets, or a model from `fit`."


class _Judge:
    """What was measured so far; each method adds a measure."""

    def __init__(self, top: int, resamples: int, level: float, seed: int) -> None:
        self.top, self.resamples, self.level, self.seed = top, resamples, level, seed
        self.rows: dict[str, dict[str, Any]] = {}
        self.queries: Sequence[Any] = ()
        self.curve: xr.Dataset | None = None

    def subsets(self, scores: Any, truth: xr.Dataset, query: Data | None) -> None:
        """Add the LDS."""
        if "loss" not in truth or "kept" not in truth or not {"subset", "query"} <= set(truth.loss.dims):
            raise ShapeError(f"`truth` must be {_TRUTH}; got a Dataset with {', '.join(map(str, truth))}.")
        losses = truth.loss.transpose(..., "subset", "query")
        replicates = doubles(losses.values).reshape(-1, *losses.shape[-2:]).transpose(0, 2, 1)  # (r, m, s)
        if replicates.shape[2] < FEWEST_SUBSETS:
            raise OptionError(
                f"`truth` must have at least {FEWEST_SUBSETS} subsets for the LDS; got {replicates.shape[2]}."
            )
        kept = truth.kept.transpose("subset", "train").values.astype(bool)
        predicted = _predicted_losses(scores, truth, kept, query)
        draws = self.draws(replicates)
        exact = truth.attrs.get("method") == "refit_subsets"
        self.add("lds", "spearman", predicted, replicates, draws, truth["query"].values, exact=exact)

    def singles(self, scores: Any, truth: xr.DataArray, query: Data | None, *, exact: bool) -> None:
        """Add leave-one-out and top overlap."""
        if isinstance(scores, Fitted):
            scores = leave_one_out(scores, query)
        elif isinstance(scores, xr.Dataset):
            raise ShapeError(_NO_MATRIX)
        seeds = list(truth.transpose("seed", ...)) if "seed" in truth.dims else [truth]
        singles = [array_with_names("truth", seed) for seed in seeds]
        matched = _matched(array_with_names("scores", scores), singles[0], tuple(singles[0].dims))
        replicates = np.stack([doubles(single.values) for single in singles])
        draws = self.draws(replicates)
        names = _names(singles[0], singles[0].dims[0])
        self.add("leave_one_out", "spearman", matched, replicates, draws, names, exact=exact)
        self.add("top_overlap", "top_overlap", matched, replicates, draws, names, exact=exact)

    def wrong_labels(self, scores: Any, rows: Any) -> None:
        """Add the AUC of the mean score against labels known to be wrong."""
        mean = _matrix(scores).mean(0)
        wrong = _as_mask(rows, len(mean))
        generator = np.random.default_rng(self.seed)
        groups = mean[wrong], mean[~wrong]
        resampled = [
            _auc(*(generator.choice(group, size=len(group)) for group in groups))
            for _ in range(self.resamples)
        ]
        self.rows["wrong_labels_auc"] = {
            "estimate": _auc(*groups),
            "resampled": np.asarray(resampled),
            "ceiling": 1.0,
            "ceiling_resampled": np.ones(self.resamples),
        }

    def removal(self, losses: xr.Dataset) -> None:
        """Add the removal curve."""
        self.curve = _removal_curve(losses, self.resamples, self.level, self.seed)

    def draws(self, replicates: Float64[np.ndarray, "r m c"]) -> Draws:
        """Return the resamples of so many columns and queries."""
        _, queries, columns = replicates.shape
        return draw_resamples(columns, queries, self.resamples, self.seed)

    def add(
        self,
        measure: str,
        name: str,
        predicted: Float64[np.ndarray, "m c"],
        replicates: Float64[np.ndarray, "r m c"],
        draws: Draws,
        queries: Sequence[Any],
        *,
        exact: bool,
    ) -> None:
        """Add a measure of each query and its mean, with the ceiling."""
        truth = replicates.mean(0)
        _check_varies("scores", predicted, queries)
        _check_varies("truth", truth, queries)
        per_query = measure_queries(name, predicted, truth, draws, top=self.top)
        seeds = len(replicates)
        row: dict[str, Any] = {
            "estimate": float(per_query.estimate.mean()),
            "resampled": per_query.mean_resampled(draws),
            "per_query": per_query,
        }
        if exact:
            ceiling, resampled = np.ones(len(truth)), np.ones(self.resamples)
        elif seeds > 1 and name == "spearman":
            ceiling, resampled = ceilings(seed_agreement(name, replicates, draws), draws, seeds=seeds)
        else:
            ceiling, resampled = np.full(len(truth), np.nan), np.full(self.resamples, np.nan)
        self.queries = queries
        self.rows[measure] = row | {
            "ceiling": float(ceiling.mean()),
            "ceiling_resampled": resampled,
            "per_query_ceiling": ceiling,
            "seeds": seeds,
        }

    def report(self, scores: Any, truth: Any) -> xr.Dataset:
        """Return everything that was measured."""
        measures = list(self.rows)
        columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        for measure, row in self.rows.items():
            ends = {
                "": (row["estimate"], row["resampled"]),
                "ceiling_": (row["ceiling"], row["ceiling_resampled"]),
            }
            with np.errstate(divide="ignore", invalid="ignore"):
                ends["share_"] = (
                    np.divide(row["estimate"], row["ceiling"]),
                    row["resampled"] / row["ceiling_resampled"],
                )
            for prefix, (estimate, resampled) in ends.items():
                columns[prefix.rstrip("_") or "estimate"].append(float(estimate))
                for end, quantile in (("low", (1 - self.level) / 2), ("high", (1 + self.level) / 2)):
                    finite = resampled[np.isfinite(resampled)]
                    columns[prefix + end].append(
                        float(np.quantile(finite, quantile)) if len(finite) else np.nan
                    )
            columns["verdict"].append(_verdict(measure, {name: columns[name][-1] for name in _COLUMNS[:-1]}))
        variables: dict[str, Any] = {
            name: (("measure",), np.asarray(cells)) for name, cells in columns.items()
        }
        coordinates: dict[str, Any] = {"measure": np.asarray(measures)}
        by_query = [measure for measure in measures if "per_query" in self.rows[measure]]
        if by_query:
            coordinates |= {"query": np.asarray(self.queries), "measure_of_query": np.asarray(by_query)}
            variables |= self._by_query(by_query)
        attrs = {
            "method": "referee",
            "level": self.level,
            "resamples": self.resamples,
            "top": self.top,
            "resampling": "of means: columns (subsets, or examples left out) and queries; of one query: "
            "columns",
            "seeds": max((row.get("seeds", 1) for row in self.rows.values()), default=1),
        }
        for name, subject in (("scores", scores), ("truth", truth)):
            attrs |= {f"{name}_{key}": text for key, text in _about(subject).items()}
        dataset = xr.Dataset(variables, coords=coordinates, attrs=attrs)
        return dataset if self.curve is None else dataset.merge(self.curve)

    def _by_query(self, measures: Sequence[str]) -> dict[str, Any]:
        ends = {measure: self.rows[measure]["per_query"].ends(self.level) for measure in measures}
        numbers = {
            "per_query": [self.rows[measure]["per_query"].estimate for measure in measures],
            "per_query_low": [ends[measure][0] for measure in measures],
            "per_query_high": [ends[measure][1] for measure in measures],
            "per_query_ceiling": [self.rows[measure]["per_query_ceiling"] for measure in measures],
        }
        return {
            name: (("query", "measure_of_query"), np.stack(rows, axis=1)) for name, rows in numbers.items()
        }


_COLUMNS = (
    *("estimate", "low", "high"),
    *("ceiling", "ceiling_low", "ceiling_high"),
    *("share", "share_low", "share_high"),
    "verdict",
)


def _predicted_losses(
    scores: Any, truth: xr.Dataset, kept: Bool[np.ndarray, "s n"], query: Data | None
) -> Float64[np.ndarray, "m s"]:
    """Return the loss of each query on each subset that the scores predict, up to a constant of the query."""
    if isinstance(scores, Fitted):
        _check_same_train(scores, truth)
        assert query is not None
        scores = refit_subsets(scores, query, kept)
    if isinstance(scores, xr.Dataset):
        if "loss" not in scores or "subset" not in scores.loss.dims:
            raise ShapeError(
                "`scores` must be (query, train), losses over (subset, query), or a model from `fit`."
            )
        if scores.sizes["subset"] != len(kept) or not np.array_equal(scores.kept.values, kept):
            raise OptionError("`scores` and `truth` must be losses on the same subsets, in the same order.")
        losses = scores.loss.mean("seed") if "seed" in scores.loss.dims else scores.loss
        return _matched(losses.transpose("query", "subset"), truth, ("query",))
    array = array_with_names("scores", scores)
    if array.shape[1] < kept.shape[1]:
        raise ShapeError(
            f"`scores` must have a column for each of the {kept.shape[1]} training examples of the truth; "
            "got "
            f"{array.shape[1]}."
        )
    return -_matched(array, truth, ("query", "train")) @ kept.T.astype(float)


def _matched(
    scores: xr.DataArray, truth: xr.Dataset | xr.DataArray, axes: tuple[Any, ...]
) -> Float64[np.ndarray, "m c"]:
    """Return scores in the order of the truth's names on these axes, or by place where they have none."""
    scores = scores.transpose("query", ...) if "query" in scores.dims else scores
    if isinstance(truth, xr.DataArray):
        check_about_the_same(scores, truth)
    else:
        _check_fingerprints(scores.attrs, truth.attrs)
    for axis in axes:
        if axis in scores.coords and axis in scores.dims and axis in truth.coords:
            scores = select_names(scores, truth[axis], axis)
    wanted = tuple(truth.sizes[axis] for axis in axes)
    if scores.shape[: len(axes)] != wanted:
        raise ShapeError(
            f"`scores` must have {' × '.join(map(str, wanted))} numbers ({', '.join(map(str, axes))}) as "
            "the truth, "
            f"or names on both by which to match them; got {scores.shape}."
        )
    values = doubles(scores.values)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).all(1)))
        raise DataError(f"`scores` must be finite; row {row} holds NaN or infinity.")
    return values


def _check_fingerprints(scores: Mapping[Any, Any], truth: Mapping[Any, Any]) -> None:
    for key, subject in (("train_fingerprint", "training examples"), ("query_fingerprint", "queries")):
        if key in scores and key in truth and scores[key] != truth[key]:
            raise OptionError(
                f"`scores` and `truth` must be about the same {subject}; {key} is {scores[key]!r} of "
                "`scores` and "
                f"{truth[key]!r} of `truth`. Make both from the same, or pass the `.values` of the scores "
                "if they "
                "are to be compared all the same."
            )


def _check_same_train(fitted: Fitted, truth: xr.Dataset) -> None:
    if truth.sizes["train"] != len(fitted) or list(truth["train"].values) != list(fitted.train.ids):
        raise OptionError("`scores` must be a model of the training examples of `truth`, in the same order.")


def _check_varies(name: str, values: Float64[np.ndarray, "m c"], queries: Sequence[Any]) -> None:
    """Raise where all numbers of a query are equal: a rank correlation with a constant does not exist."""
    if not np.isfinite(values).all():
        raise DataError(f"`{name}` must be finite; it holds NaN or infinity.")
    flat = np.flatnonzero((values == values[:, :1]).all(1))
    if len(flat):
        raise DataError(
            f"`{name}` of query {str(queries[flat[0]])!r} must not all be equal, {values[flat[0], 0]:g}: no "
            f"correlation exists ({len(flat)} of {len(values)} queries). Leave such queries out."
        )


def _matrix(scores: Any) -> Float64[np.ndarray, "m n"]:
    if isinstance(scores, Fitted | xr.Dataset):
        raise ShapeError(_NO_MATRIX)
    return doubles(array_with_names("scores", scores).values)


def _as_mask(rows: Any, n: int) -> Bool[np.ndarray, " n"]:
    """Return which labels are wrong, from row numbers or truth values."""
    listed = as_list("wrong_labels", rows)
    listed = list(listed) if isinstance(listed, list | tuple) else []
    if len(listed) == n and all(isinstance(flag, bool) for flag in listed):
        mask = np.asarray(listed)
    else:
        numbers = row_numbers("wrong_labels", rows)
        outside = [row for row in numbers if not 0 <= row < n]
        if outside:
            raise OptionError(f"`wrong_labels` must be rows from 0 to {n - 1}; got {outside[0]}.")
        mask = np.isin(np.arange(n), numbers)
    if not mask.any() or mask.all():
        raise OptionError(
            f"`wrong_labels` must name at least one of {n} training examples and not all; got {shown(rows)}."
        )
    return mask


def _auc(wrong: Float64[np.ndarray, " w"], right: Float64[np.ndarray, " r"]) -> float:
    """Return the probability that a wrong label has a lower score than a right one; ties count half."""
    ordered = np.sort(right)
    above = len(right) - np.searchsorted(ordered, wrong, side="right")
    equal = np.searchsorted(ordered, wrong, side="right") - np.searchsorted(ordered, wrong, side="left")
    return float((above + equal / 2).mean() / len(right))


def _removal_curve(losses: xr.Dataset, resamples: int, level: float, seed: int) -> xr.Dataset:
    """Return the mean loss over queries without the examples of each kind, and its rise over random ones."""
    values = losses.loss.mean("seed") if "seed" in losses.loss.dims else losses.loss
    by_name: dict[tuple[str, float], list[np.ndarray]] = {}
    for name in losses["subset"].values.tolist():
        kind, _, share = str(name).partition(" ")
        try:
            place = kind, float(share.partition(" ")[0])
        except ValueError:
            raise OptionError(f"`removal` must hold subsets of `removal_subsets`; got {name!r}.") from None
        by_name.setdefault(place, []).append(values.sel(subset=name).values)
    kinds = list(dict.fromkeys(kind for kind, _ in by_name))
    shares = sorted({share for _, share in by_name})
    # (kind, share, m)
    mean = np.array([[np.mean(by_name[kind, share], axis=0) for share in shares] for kind in kinds])
    drawn = np.random.default_rng(seed).integers(mean.shape[2], size=(resamples, mean.shape[2]))
    variables: dict[str, Any] = {"removal_loss": (("removed", "share_removed"), mean.mean(2))}
    if "random" in kinds:
        rise = mean - mean[kinds.index("random")]
        resampled = rise[:, :, drawn].mean(3)  # (kind, share, b)
        low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=2)
        for name, numbers in (("rise", rise.mean(2)), ("rise_low", low), ("rise_high", high)):
            variables[f"removal_{name}"] = (("removed", "share_removed"), numbers)
    return xr.Dataset(variables, coords={"removed": np.asarray(kinds), "share_removed": np.asarray(shares)})


def _names(array: xr.DataArray, axis: Any) -> Sequence[Any]:
    return array[axis].values.tolist() if axis in array.coords else range(array.sizes[axis])


def _about(subject: Any) -> dict[str, str]:
    """Return what scores or truth say of themselves, as text."""
    if isinstance(subject, Fitted):
        return {"method": "exact refits", "fitted": json.dumps(subject.record["kernel"])}
    attrs = getattr(subject, "attrs", {})
    names = (
        "method",
        "source",
        "training",
        "way",
        "kernel",
        "rule",
        "train_fingerprint",
        "query_fingerprint",
    )
    return {name: str(attrs[name]) for name in names if name in attrs}


def _verdict(measure: str, row: Mapping[str, float]) -> str:
    """Return what an interval says about chance and the ceiling."""
    text = f"{measure.replace('_', ' ')} {number_with_interval(row['estimate'], row['low'], row['high'])}"
    chance = CHANCE[measure]
    if row["low"] <= chance <= row["high"]:
        return f"{text}: not told from chance, {chance:g}."
    if row["high"] < chance:
        return f"{text}: worse than chance, {chance:g}; is the sign turned?"
    if np.isnan(row["ceiling"]):
        return f"{text}; how much noise of training allows is not known from one seed."
    ceiling = number(row["ceiling"])
    if row["share_high"] >= 1:
        return f"{text}: as good as the truth can tell, at most {ceiling}."
    return f"{text}: {percent(row['share'], 0)} of what the truth allows, {ceiling}."

"""How good are scores? Against training that was really done again, with what its noise lets anybody reach.

    lds               Spearman over random subsets S of −Σ_{i ∈ S} score_i and the real loss
    leave_one_out     Spearman over training examples of scores and the real effect of leaving each out
    top_overlap       share of the `top` largest real effects among the `top` largest scores
    wrong_labels_auc  how surely an example with a wrong label has a lower mean score than another
    removal curve     mean loss without the most helpful examples by the scores, beside without random ones

The first three are means over queries.

A score is positive where the example helped, so a subset that keeps helpful examples has a lower loss.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float64

from leftout.attribution.leave_one_out import leave_one_out
from leftout.core.checks import check_count, check_kind, check_whole
from leftout.core.errors import OptionError, ShapeError
from leftout.data.conversion import doubles
from leftout.data.pairs import Data
from leftout.diagnostics.referee.ceiling import ceilings, seed_agreement
from leftout.diagnostics.referee.intervals import Draws, draw_resamples, measure_queries
from leftout.diagnostics.referee.label_auc import label_auc, wrong_label_mask
from leftout.diagnostics.referee.matching import (
    NO_MATRIX,
    check_varies,
    matched_values,
    predicted_losses,
    score_matrix,
)
from leftout.diagnostics.referee.refit_subsets import refit_subsets
from leftout.diagnostics.referee.removal_curve import removal_curve
from leftout.diagnostics.referee.verdict import verdict_sentence
from leftout.diagnostics.retraining.agreement import Scores, array_with_names, check_resamples
from leftout.diagnostics.retraining.subsets import random_subsets, removal_subsets
from leftout.dynamics.fitted import Fitted

Truth = xr.Dataset | xr.DataArray | Fitted

FEWEST_SUBSETS = 8
"""With fewer, an interval of a rank correlation reaches from nearly −1 to 1."""


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
        assert query is not None
        halves = random_subsets(len(truth), count=subsets, seed=seed)
        judge.subsets(scores, refit_subsets(truth, query, halves), query)
        if not isinstance(scores, xr.Dataset):
            judge.singles(scores, leave_one_out(truth, query, newton_steps=None), query, exact=True)
        if not isinstance(scores, xr.Dataset | Fitted):
            curve = removal_subsets(score_matrix(scores), shares=shares, seed=seed)
            judge.removal(refit_subsets(truth, query, curve))
    elif isinstance(truth, xr.Dataset):
        judge.subsets(scores, truth, query)
    elif truth is not None:
        judge.singles(scores, truth, query, exact=_is_exact(truth))
    if wrong_labels is not None:
        judge.wrong_labels(scores, wrong_labels)
    if removal is not None:
        what = "losses from retrain_subsets(…, removal_subsets(scores))"
        check_kind("removal", removal, xr.Dataset, what=what)
        judge.removal(removal)
    return judge.report(scores, truth)


_TRUTH = "losses of retrain_subsets or refit_subsets, effects of retrain or leave_one_out, or a fitted model"


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
        predicted = predicted_losses(scores, truth, kept, query)
        draws = self.draws(replicates)
        exact = truth.attrs.get("method") == "refit_subsets"
        self.add("lds", "spearman", predicted, replicates, draws, truth["query"].values.tolist(), exact=exact)

    def singles(self, scores: Any, truth: xr.DataArray, query: Data | None, *, exact: bool) -> None:
        """Add leave-one-out and top overlap."""
        if isinstance(scores, Fitted):
            assert query is not None
            scores = leave_one_out(scores, query)
        elif isinstance(scores, xr.Dataset):
            raise ShapeError(NO_MATRIX)
        seeds = list(truth.transpose("seed", ...)) if "seed" in truth.dims else [truth]
        singles = [array_with_names("truth", seed) for seed in seeds]
        matched = matched_values(array_with_names("scores", scores), singles[0], tuple(singles[0].dims))
        replicates = np.stack([doubles(single.values) for single in singles])
        draws = self.draws(replicates)
        names = _names(singles[0], singles[0].dims[0])
        self.add("leave_one_out", "spearman", matched, replicates, draws, names, exact=exact)
        self.add("top_overlap", "top_overlap", matched, replicates, draws, names, exact=exact)

    def wrong_labels(self, scores: Any, rows: Any) -> None:
        """Add the AUC of the mean score against labels known to be wrong."""
        mean = score_matrix(scores).mean(0)
        wrong = wrong_label_mask(rows, len(mean))
        generator = np.random.default_rng(self.seed)
        groups = mean[wrong], mean[~wrong]
        resampled = [
            label_auc(*(generator.choice(group, size=len(group)) for group in groups))
            for _ in range(self.resamples)
        ]
        self.rows["wrong_labels_auc"] = {
            "estimate": label_auc(*groups),
            "resampled": np.asarray(resampled),
            "ceiling": 1.0,
            "ceiling_resampled": np.ones(self.resamples),
        }

    def removal(self, losses: xr.Dataset) -> None:
        """Add the removal curve."""
        self.curve = removal_curve(losses, self.resamples, self.level, self.seed)

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
        check_varies("scores", predicted, queries)
        check_varies("truth", truth, queries)
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
            columns["verdict"].append(
                verdict_sentence(measure, {name: columns[name][-1] for name in _COLUMNS[:-1]})
            )
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


def _names(array: xr.DataArray, axis: Any) -> Sequence[Any]:
    return array[axis].values.tolist() if axis in array.coords else range(array.sizes[axis])


def _is_exact(truth: xr.DataArray) -> bool:
    """Return whether each example was left out exactly, and not by so many Newton steps."""
    steps = truth.attrs.get("newton_steps", "to convergence")
    return truth.attrs.get("method") == "leave_one_out" and steps == "to convergence"


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

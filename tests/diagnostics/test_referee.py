"""The referee on truth of known signal and noise: scores, ceiling and intervals are where they belong."""

import re

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

import leftout as lo
from laws import assert_same
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.diagnostics.referee.ceiling import ceilings, highest_rank_correlation, seed_agreement
from leftout.diagnostics.referee.intervals import draw_resamples, measure_queries
from leftout.diagnostics.referee.label_auc import label_auc

N, M = 60, 30
IDS = [f"t{i}" for i in range(N)]
QUERIES = [f"q{i}" for i in range(M)]


def simulated(*, subsets=80, seeds=3, noise=1.0, seed=0, nonlinear=0.0):
    """Scores that add up, and their truth; noise of a seed is in units of the deviation of the signal."""
    draws = np.random.default_rng(seed)
    scores = draws.normal(size=(M, N))
    kept = lo.random_subsets(N, count=subsets, seed=seed + 1)
    signal = -scores @ kept.T  # (m, s)
    signal += nonlinear * draws.normal(size=signal.shape)
    size = noise * np.sqrt(N) / 2
    losses = signal.T[:, None] + size * draws.normal(size=(subsets, seeds, M))
    truth = xr.Dataset(
        {"loss": (("subset", "seed", "query"), losses), "kept": (("subset", "train"), kept)},
        coords={"query": QUERIES, "train": IDS, "seed": range(seeds)},
        attrs={"method": "retrain_subsets"},
    )
    return xr.DataArray(scores, dims=("query", "train"), coords={"query": QUERIES, "train": IDS}), truth


def row(verdict, measure="lds"):
    return verdict.sel(measure=measure)


def test_the_lds_is_the_mean_spearman_correlation_by_its_definition() -> None:
    scores, truth = simulated()
    verdict = lo.referee(scores, truth, resamples=100)
    mean = truth.loss.mean("seed").values
    want = [
        stats.spearmanr(-truth.kept.values.astype(float) @ scores.values[q], mean[:, q]).statistic
        for q in range(M)
    ]
    assert_same(verdict.per_query.sel(measure_of_query="lds"), want, 1e-12)
    assert float(row(verdict).estimate) == pytest.approx(np.mean(want), rel=1e-12)


@pytest.mark.parametrize(
    ("noise", "seeds"),
    [
        (0.3, 2),
        (2.0, 3),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1.0, 2), (1.0, 3), (2.0, 2), (0.3, 5))),
    ],
)
def test_exact_scores_reach_the_ceiling_of_known_noise(noise, seeds) -> None:
    estimates = []
    for seed in range(3):
        scores, truth = simulated(noise=noise, seeds=seeds, seed=10 * seed)
        verdict = row(lo.referee(scores, truth, resamples=100))
        estimates.append((float(verdict.estimate), float(verdict.ceiling)))
        assert float(verdict.ceiling_low) < float(verdict.ceiling) < float(verdict.ceiling_high)
        assert str(verdict.verdict.values).find("as good as the truth can tell") > 0
    lds, ceiling = np.mean(estimates, axis=0)
    # By the definition: normal numbers of which exact knowledge has correlation √(1 / (1 + noise² / seeds)).
    want = 6 / np.pi * np.arcsin((1 + noise**2 / seeds) ** -0.5 / 2)
    # 3 · 30 queries of 80 subsets: deviations of the means are below .015.
    assert ceiling == pytest.approx(want, abs=0.03)
    assert lds == pytest.approx(ceiling, abs=0.03)


def test_queries_of_unlike_noise_have_their_own_ceilings() -> None:
    """Half of the queries are pure noise: the mean ceiling is half of that of the others."""
    draws = np.random.default_rng(0)
    signal = draws.normal(size=(40, 100))
    signal[20:] = 0
    replicates = signal + 0.5 * draws.normal(size=(3, 40, 100))
    sampled = draw_resamples(100, 40, 200, 0)
    of_queries, _ = ceilings(seed_agreement("spearman", replicates, sampled), sampled, seeds=3)
    want = highest_rank_correlation(np.array([6 / np.pi * np.arcsin(0.8 / 2)]), 3)[0]
    assert of_queries[:20].mean() == pytest.approx(want, abs=0.02)
    assert of_queries[20:].mean() < 0.25
    assert of_queries.mean() == pytest.approx(want / 2, abs=0.12)


def test_shuffled_scores_are_not_told_from_chance() -> None:
    outside = 0
    for seed in range(8):
        scores, truth = simulated(seed=seed, subsets=40, seeds=1)
        order = np.random.default_rng(seed).permutation(N)
        verdict = row(lo.referee(scores.values[:, order], truth, resamples=100, seed=seed))
        outside += not float(verdict.low) <= 0 <= float(verdict.high)
    # At 95 % one in 20 lies outside; more than two of eight have a chance of .006.
    assert outside <= 2
    assert "not told from chance" in str(verdict.verdict.values) or outside


def test_turned_scores_are_told_so() -> None:
    scores, truth = simulated()
    assert "worse than chance, 0; is the sign turned?" in str(row(lo.referee(-scores, truth)).verdict.values)


def test_scores_made_from_the_truth_itself_lie_above_the_ceiling() -> None:
    _, truth = simulated(noise=2.0)
    verdict = row(lo.referee(truth, truth, resamples=200))
    assert float(verdict.estimate) == pytest.approx(1.0)
    assert "above" in str(verdict.verdict.values)


def test_names_are_matched_in_any_order() -> None:
    scores, truth = simulated(subsets=20)
    want = lo.referee(scores, truth, resamples=50)
    mixed = scores.isel(train=slice(None, None, -1), query=np.random.default_rng(0).permutation(M))
    more = xr.concat([mixed, mixed.isel(train=[0]).assign_coords(train=["other"])], dim="train")
    for other in (mixed, mixed.T, more):
        assert_same(lo.referee(other, truth, resamples=50).estimate, want.estimate, 1e-12)
    plain = lo.referee(scores.values, truth, resamples=50)
    assert_same(plain.per_query, want.per_query, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_intervals_hold_the_lds_of_many_subsets_and_queries(noise) -> None:
    """Other subsets and queries of the same kind: at .95 the mean interval is a little wide."""
    draws = np.random.default_rng(0)

    def sample(queries, subsets):
        # Half of what scores say is right; queries differ in how much.
        right = draws.uniform(0.2, 1.0, size=(queries, 1))
        scores = draws.normal(size=(queries, subsets))
        truth = right * scores + (1 - right) * draws.normal(size=scores.shape)
        return scores, truth + noise * draws.normal(size=scores.shape) / 2

    many = sample(4000, 400)
    want = np.mean([stats.spearmanr(a, b).statistic for a, b in zip(*many, strict=True)])
    held = 0
    for seed in range(100):
        sampled = draw_resamples(48, 50, 200, seed)
        per_query = measure_queries("spearman", *sample(50, 48), sampled)
        low, high = np.quantile(per_query.mean_resampled(sampled), [0.025, 0.975])
        held += low <= want <= high
    assert held >= 90


# The other measures


def kernel_problem():
    draws = np.random.default_rng(0)
    x = torch.nn.functional.normalize(torch.from_numpy(draws.normal(size=(60, 4))))
    y = torch.from_numpy(np.sign(draws.normal(size=60)) + x[:, 0].numpy())
    return lo.fit(lo.kernels.ReLU(1), (x[:40], y[:40]), rule=lo.Ridge(0.1)), (x[40:], y[40:])


def test_against_a_model_all_is_exact() -> None:
    fitted, query = kernel_problem()
    scores = lo.leave_one_out(fitted, query)
    verdict = lo.referee(scores, fitted, query=query, subsets=60, resamples=100)
    assert verdict.measure.values.tolist() == ["lds", "leave_one_out", "top_overlap"]
    assert verdict.ceiling.values.tolist() == [1, 1, 1]
    assert verdict.estimate.values[1:].tolist() == pytest.approx([1, 1])
    # Single effects of halves do not add up exactly, but nearly.
    assert 0.7 < float(row(verdict).estimate) < 1
    exact = lo.referee(fitted, fitted, query=query, subsets=60, resamples=100)
    assert_same(exact.estimate, [1, 1, 1], 1e-12)
    other = lo.fit(lo.kernels.ReLU(3), fitted.train, rule=lo.Ridge(0.1))
    assert 0 < float(row(lo.referee(other, fitted, query=query, subsets=60, resamples=100)).estimate) < 1


def test_the_removal_curve_rises_where_the_helpful_ones_go() -> None:
    fitted, query = kernel_problem()
    scores = lo.leave_one_out(fitted, query)
    verdict = lo.referee(scores, fitted, query=query, subsets=20, resamples=100, shares=[0.1, 0.3])
    rise = verdict.removal_rise
    assert bool((verdict.removal_rise_low.sel(removed="helpful") > 0).all())
    assert bool((rise.sel(removed="harmful") < 0).all())
    kept = lo.removal_subsets(scores, shares=[0.1, 0.3])
    losses = lo.refit_subsets(fitted, query, kept)
    again = lo.referee(scores, removal=losses, resamples=100)
    assert_same(again.removal_loss, verdict.removal_loss, 1e-12)
    helpful = losses.loss.sel(subset="helpful 0.3").values
    assert float(verdict.removal_loss.sel(removed="helpful", share_removed=0.3)) == pytest.approx(
        helpful.mean()
    )


def test_leave_one_out_truth_of_several_seeds_has_a_ceiling() -> None:
    draws = np.random.default_rng(0)
    effects = draws.normal(size=(M, N))
    truth = xr.DataArray(
        effects + draws.normal(size=(3, M, N)),
        dims=("seed", "query", "train"),
        coords={"query": QUERIES, "train": IDS},
    )
    verdict = lo.referee(effects, truth, resamples=100)
    want = 6 / np.pi * np.arcsin((1 + 1 / 3) ** -0.5 / 2)
    assert float(row(verdict, "leave_one_out").ceiling) == pytest.approx(want, abs=0.03)
    assert float(row(verdict, "leave_one_out").estimate) == pytest.approx(want, abs=0.03)
    one = lo.referee(effects, truth[0], resamples=100)
    assert np.isnan(row(one, "leave_one_out").ceiling)
    assert "is not known from one seed" in str(row(one, "leave_one_out").verdict.values)


def test_wrong_labels_are_found_by_low_scores() -> None:
    scores = np.zeros((2, 10))
    scores[:, :3] = -1
    assert float(lo.referee(scores, wrong_labels=[0, 1, 2]).estimate[0]) == 1
    mask = [row in (0, 1, 9) for row in range(10)]
    verdict = lo.referee(scores, wrong_labels=mask, resamples=400)
    # Two of three lie below six of seven, and tie with one; the third ties with six and lies above one.
    assert float(verdict.estimate[0]) == pytest.approx((2 * 6.5 + 3) / 21)
    assert float(verdict.low[0]) < 0.5 < float(verdict.high[0])
    draws = np.random.default_rng(0)
    a, b = draws.normal(size=30), draws.normal(size=50) + 0.5
    want = stats.mannwhitneyu(b, a).statistic / 1500
    assert label_auc(a, b) == pytest.approx(want, rel=1e-12)


def test_a_shuffled_model_of_a_real_problem_is_chance_and_the_result_can_be_stored(tmp_path) -> None:
    fitted, query = kernel_problem()
    scores = lo.leave_one_out(fitted, query)
    verdict = lo.referee(scores.values[:, ::-1], fitted, query=query, subsets=30, resamples=100)
    assert abs(float(row(verdict).estimate)) < 0.3
    verdict.to_zarr(tmp_path / "verdict.zarr", zarr_format=2, consolidated=False)
    again = xr.open_zarr(tmp_path / "verdict.zarr", consolidated=False).load()
    assert again.verdict.values.tolist() == verdict.verdict.values.tolist()


# What is refused


@pytest.mark.usefixtures("as_users_run_it")
def test_what_cannot_be_compared_is_refused() -> None:
    scores, truth = simulated(subsets=20)
    fitted, query = kernel_problem()

    def refused(error, words, *arguments, **options):
        with pytest.raises(error, match=re.escape(words)):
            lo.referee(*arguments, **options)

    refused(OptionError, "`truth` must be given, or `wrong_labels` or `removal`", scores)
    refused(OptionError, "`truth` must be losses of retrain_subsets or refit_subsets", scores, [[1.0]])
    refused(ShapeError, "got a Dataset with loss", scores, truth[["loss"]])
    refused(OptionError, "at least 8 subsets for the LDS; got 7", scores, truth.isel(subset=range(7)))
    refused(OptionError, "`scores` must have every train of `truth`; 't0' is missing", scores[:, 1:], truth)
    refused(ShapeError, "`scores` must have 30 × 60 numbers (query, train)", scores.values[:, 1:], truth)
    refused(DataError, "`scores` must be finite; row 0", scores * np.nan, truth)
    flat = scores.copy(data=np.where(np.arange(M)[:, None] == 3, 0.1, scores.values))
    refused(DataError, "`scores` of query 'q3' must not all be equal, 0.1", flat, truth)
    other = scores.assign_attrs(train_fingerprint="a"), truth.assign_attrs(train_fingerprint="b")
    refused(OptionError, "must be about the same training examples", *other)
    refused(OptionError, "`query` must be given where a model from `fit` takes part", scores, fitted)
    refused(OptionError, "a model of the training examples of `truth`", fitted, truth, query=query)
    refused(OptionError, "`wrong_labels` must be rows from 0 to 59; got 60", scores, wrong_labels=[60])
    refused(OptionError, "at least one of 60 training examples and not all", scores, wrong_labels=[])
    refused(
        OptionError,
        "`removal` must hold subsets of `removal_subsets`; got '0'",
        scores,
        removal=truth.assign_coords(subset=[str(i) for i in range(20)]),
    )
    refused(OptionError, "`resamples` must be at least 2 / (1 − level) = 40", scores, truth, resamples=39)

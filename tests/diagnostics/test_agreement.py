"""Does the referee judge by the books, match by name, and know how sure it is?"""

import re

import numpy as np
import pytest
import torch
import xarray as xr

import leftout as lo
from laws import assert_same
from leftout.attribution.first_order import first_order
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.diagnostics.retraining.agreement import agreement
from leftout.diagnostics.retraining.measures import MEASURES
from oracles import diagnostics as oracle
from problems.small import problem

NAMES = list(MEASURES)
M, C = 4, 30


def drawn(m=M, c=C, noise=0.7, seed=0):
    draw = np.random.default_rng(seed)
    truth = draw.standard_normal((m, c))
    return truth + noise * draw.standard_normal((m, c)), truth


def named(values, *, rows="query", columns="train", start=0):
    ids = [
        [f"{prefix}{i + start}" for i in range(size)] for prefix, size in zip("qt", values.shape, strict=True)
    ]
    return xr.DataArray(values, dims=(rows, columns), coords={rows: ids[0], columns: ids[1]})


def test_every_measure_is_that_of_the_books_pooled_and_per_query() -> None:
    scores, truth = drawn()
    got = agreement(scores, truth, top=5, resamples=40)
    assert got.coords["measure"].values.tolist() == NAMES
    want = oracle.measures(scores, truth, 5)
    assert_same(got["pooled"].values, list(want.values()), 1e-12)
    for q in range(M):
        want = oracle.measures(scores[q], truth[q], 5)
        assert_same(got["per_query"].values[q], list(want.values()), 1e-12)


def test_ends_are_the_quantiles_of_what_whole_columns_drawn_again_say() -> None:
    scores, truth = drawn(m=3, c=9)
    generator = torch.Generator().manual_seed(11)
    got = agreement(scores, truth, top=2, resamples=60, level=0.9, generator=generator)
    columns = torch.randint(9, (60, 9), generator=torch.Generator().manual_seed(11)).numpy()
    pooled, single = [], []
    for chosen in columns:
        s, t = scores[:, chosen], truth[:, chosen]
        if len(set(chosen)) > 1:
            # Of equals the first in the list comes first, and a copy stands beside its original.
            s, t = scores[:, np.sort(chosen)], truth[:, np.sort(chosen)]
        pooled.append(list(oracle.measures(s, t, 2).values()))
        single.append(list(oracle.measures(s[1], t[1], 2).values()))
    for name, found in (("pooled", np.array(pooled)), ("per_query", np.array(single))):
        low, high = np.quantile(found, [0.05, 0.95], axis=0)
        ours = got[f"{name}_low"].values, got[f"{name}_high"].values
        pick = (lambda value: value[1]) if name == "per_query" else (lambda value: value)
        assert_same(pick(ours[0]), low, 1e-10)
        assert_same(pick(ours[1]), high, 1e-10)


def test_what_agrees_with_itself_is_perfect() -> None:
    truth = drawn()[1]
    got = agreement(truth, truth, resamples=40)
    perfect = [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    for end in ("", "_low", "_high"):
        assert_same(got[f"pooled{end}"].values, perfect, 1e-14)
        assert_same(got[f"per_query{end}"].values, np.tile(perfect, (M, 1)), 1e-14)


def test_correlations_do_not_see_a_factor_but_slope_and_error_do() -> None:
    truth = drawn()[1]
    got = agreement(truth / 1.72 + 0.3, truth, resamples=40)["pooled"]
    assert_same(got.sel(measure=["pearson", "spearman", "kendall"]), [1.0, 1.0, 1.0], 1e-14)
    assert_same(got.sel(measure="slope"), 1.72, 1e-12)
    assert got.sel(measure="relative_error") > 0.3


def test_ranks_do_not_see_a_monotone_map_and_a_sign_turns_correlations_round() -> None:
    scores, truth = drawn()
    want = agreement(scores, truth, resamples=40)
    bent = agreement(np.exp(scores), truth**3, resamples=40)
    turned = agreement(-scores, truth, resamples=40)
    for name in ("spearman", "kendall"):
        for end in ("", "_low", "_high"):
            assert_same(
                bent[f"per_query{end}"].sel(measure=name), want[f"per_query{end}"].sel(measure=name), 1e-13
            )
    for name in ("pearson", "spearman", "kendall", "slope"):
        assert_same(turned["pooled"].sel(measure=name), -want["pooled"].sel(measure=name), 1e-13)
        assert_same(turned["pooled_low"].sel(measure=name), -want["pooled_high"].sel(measure=name), 1e-12)
    overlap = [each["pooled"].sel(measure="top_overlap").item() for each in (turned, want)]
    assert overlap[0] == overlap[1]


def test_the_order_of_queries_and_columns_does_not_matter() -> None:
    scores, truth = drawn()
    rows, columns = [2, 0, 3, 1], np.random.default_rng(0).permutation(C)
    want = agreement(scores, truth, resamples=40)
    got = agreement(scores[rows], truth[rows], resamples=40)
    assert_same(got["pooled_low"], want["pooled_low"], 1e-12)
    assert_same(got["per_query_high"], want["per_query_high"].values[rows], 1e-12)
    moved = agreement(scores[:, columns], truth[:, columns], resamples=40)
    assert_same(moved["pooled"], want["pooled"], 1e-12)


def test_one_query_pooled_is_that_query() -> None:
    scores, truth = drawn(m=1)
    got = agreement(scores, truth, resamples=40)
    for end in ("", "_low", "_high"):
        assert_same(got[f"per_query{end}"].values[0], got[f"pooled{end}"].values, 1e-14)


def test_names_decide_what_is_compared() -> None:
    scores, truth = drawn()
    whole = named(scores)
    part = named(truth)[[3, 1], [7, 2, 29, 11, 0]]
    got = agreement(whole, part, top=2, resamples=40)
    want = agreement(
        scores[[3, 1]][:, [7, 2, 29, 11, 0]], truth[[3, 1]][:, [7, 2, 29, 11, 0]], top=2, resamples=40
    )
    assert got.coords["query"].values.tolist() == ["q3", "q1"]
    for name in want:
        assert_same(got[name], want[name], 1e-14)
    turned = agreement(whole.T, part.T, top=2, resamples=40)
    assert_same(turned["per_query"], want["per_query"], 1e-14)


def test_what_has_no_names_is_compared_by_place() -> None:
    scores, truth = drawn()
    want = agreement(scores, truth, resamples=40)["pooled"]
    assert_same(agreement(named(scores), truth, resamples=40)["pooled"], want, 1e-14)
    bare = named(truth, start=50).drop_vars(["query", "train"])
    assert_same(agreement(named(scores), bare, resamples=40)["pooled"], want, 1e-14)
    mixed = agreement(torch.from_numpy(scores), truth.tolist(), resamples=40)
    assert_same(mixed["pooled"], want, 1e-14)
    assert mixed.coords["query"].values.tolist() == list(range(M))


def test_groups_are_not_taken_for_training_examples() -> None:
    scores, truth = drawn()
    words = (
        "`scores` and `truth` must name their axes alike to be matched; got (4, 30) (query, train) and "
        "(4, 30) (query, group). Give the same columns the same names, as "
        "truth.rename(group='train') does for an axis"
    )
    groups = named(truth, columns="group")
    refused(OptionError, words, named(scores), groups)
    got = agreement(named(scores), groups[:, ::-1].rename(group="train"), resamples=40)
    assert_same(got["pooled"], agreement(scores, truth, resamples=40)["pooled"], 1e-12)


def test_what_both_say_of_themselves_must_be_the_same() -> None:
    scores, truth = (named(values) for values in drawn())
    said = {"of": "loss", "train_fingerprint": "aa", "query_fingerprint": "bb"}
    for key, what in (
        ("of", "effect"),
        ("train_fingerprint", "training examples"),
        ("query_fingerprint", "queries"),
    ):
        words = (
            f"`scores` and `truth` must be about the same {what}; {key} is {said[key]!r} of `scores` "
            "and 'other' of `truth`. Make both from the same, or pass the `.values`"
        )
        one, other = scores.assign_attrs(said), truth.assign_attrs(said | {key: "other"})
        refused(OptionError, words, one, other)
        # Where one of them says nothing, there is nothing to refuse.
        agreement(one, truth, resamples=40)
        agreement(scores, other, resamples=40)


def test_moments_are_compared_where_their_rules_are_the_same() -> None:
    scores, truth = (named(values) for values in drawn())
    early = scores.assign_attrs(rule="flow", at=0.5)
    words = "about the same moment of training; at is 0.5 of `scores` and 'end of training' of `truth`"
    refused(OptionError, words, early, truth.assign_attrs(rule="flow", at="end of training"))
    agreement(early, truth.assign_attrs(rule="descent", at="end of training"), resamples=40)
    agreement(early, truth.assign_attrs(rule="flow", at=0.5), resamples=40)


def test_retraining_is_matched_with_the_engine_by_name() -> None:
    p = problem(12, 4, condition=10, top=3.0)
    fitted = p.fitted(lo.Ridge(0.5))
    exact = lo.leave_one_out(fitted, p.query)
    truth = exact.isel(train=[7, 2, 9, 4]).assign_attrs(method="retrain")
    got = agreement(exact, truth, top=2, resamples=40, per_query=False)
    assert got["pooled"].sel(measure="relative_error") == 0
    rows, targets = torch.arange(12, dtype=torch.float64), torch.from_numpy(p.residual)
    other = lo.fit(p.kernel, (rows, targets + 1), rule=lo.Ridge(0.5))
    refused(OptionError, "the same training examples", lo.leave_one_out(other, p.query), truth)
    asked = lo.leave_one_out(fitted, p.query, of="prediction").isel(output=0)
    refused(OptionError, "of is 'prediction' of `scores` and 'loss' of `truth`", asked, truth)


@pytest.mark.parametrize("scale", [1e-163, 1e-300, 1e300])
@pytest.mark.parametrize("small", ["scores", "truth"])
def test_a_truth_in_other_units_is_told_by_slope_and_error_alone(scale, small) -> None:
    scores, truth = drawn(m=2, c=12)
    want = agreement(scores, truth, top=3, resamples=40)
    s, t = (scale, 1.0) if small == "scores" else (1.0, scale)
    got = agreement(scores * s, truth * t, top=3, resamples=40)
    for name in ("pearson", "spearman", "kendall", "top_overlap"):
        for end in ("", "_low", "_high"):
            assert_same(got[f"pooled{end}"].sel(measure=name), want[f"pooled{end}"].sel(measure=name), 1e-12)
    factor = t / s
    assert_same(got["pooled"].sel(measure="slope") / factor, want["pooled"].sel(measure="slope"), 1e-12)
    # √(Σ (s − t)² / Σ t²) with one of the two 1e163 times the other: 1, or the ratio of the norms.
    norms = np.linalg.norm(scores) / np.linalg.norm(truth)
    error = float(got["pooled"].sel(measure="relative_error"))
    assert error == pytest.approx(max(1.0, norms / factor) if factor > 1 else norms / factor)


def test_sizes_that_have_no_ratio_are_refused() -> None:
    scores, truth = drawn()
    words = "must be of sizes that double precision can compare; the largest are"
    refused(DataError, words, scores * 1e-200, truth * 1e200)
    refused(DataError, words, scores * 1e200, truth * 1e-200)


def test_the_classical_function_is_told_from_the_exact_one() -> None:
    p = problem(30, 5, condition=30, top=8.0)
    fitted = p.fitted(lo.Ridge(0.5))
    exact = lo.leave_one_out(fitted, p.query)
    got = agreement(first_order(fitted, p.query), exact, resamples=40)
    assert got["pooled"].sel(measure="pearson") > 0.9
    assert got["pooled_low"].sel(measure="slope") > 1.2
    assert got.attrs["scores_method"] == "first_order"
    assert got.attrs["truth_method"] == "leave_one_out"
    assert got.attrs["truth_train_fingerprint"] == fitted.train.fingerprint


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["pearson", "kendall", "slope"])
def test_intervals_hold_what_they_should_in_95_of_100_cases(name) -> None:
    # Normal pairs of correlation ρ: Kendall's tau is 2 asin(ρ)/π, and truth on scores has slope ρ.
    rho = 0.6
    want = {"pearson": rho, "kendall": 2 / np.pi * np.arcsin(rho), "slope": rho}[name]
    held, cases = 0, 200
    draw = np.random.default_rng(7)
    generator = torch.Generator().manual_seed(7)
    for _ in range(cases):
        scores = draw.standard_normal((1, 80))
        truth = rho * scores + np.sqrt(1 - rho**2) * draw.standard_normal((1, 80))
        got = agreement(scores, truth, resamples=200, measures=[name], per_query=False, generator=generator)
        held += got["pooled_low"].item() <= want <= got["pooled_high"].item()
    # 95 %, of which a percentile bootstrap of 80 columns misses one or so; 3 σ of 200 cases are 4.6.
    assert 0.89 <= held / cases <= 0.995


def test_columns_are_drawn_with_all_their_queries() -> None:
    # A hundred copies of a query are no more evidence than the query.
    scores, truth = drawn(m=1)
    one = agreement(scores, truth, resamples=200, per_query=False)
    many = agreement(np.tile(scores, (100, 1)), np.tile(truth, (100, 1)), resamples=200, per_query=False)
    for name in ("pearson", "spearman", "slope", "relative_error"):
        for end in ("pooled", "pooled_low", "pooled_high"):
            assert_same(many[end].sel(measure=name), one[end].sel(measure=name), 1e-3)


def test_the_generator_decides_and_the_default_repeats() -> None:
    scores, truth = drawn()
    default = [agreement(scores, truth, resamples=40)["pooled_low"].values.tolist() for _ in range(2)]
    assert default[0] == default[1]
    generator = torch.Generator().manual_seed(5)
    drawn_ = [agreement(scores, truth, resamples=40, generator=generator)["pooled_low"] for _ in range(2)]
    assert drawn_[0].values.tolist() != drawn_[1].values.tolist()


def test_fewer_measures_and_no_queries_are_the_same_numbers() -> None:
    scores, truth = drawn()
    want = agreement(scores, truth, resamples=40)
    got = agreement(scores, truth, resamples=40, measures=("slope", "pearson"), per_query=False)
    assert sorted(got) == ["pooled", "pooled_high", "pooled_low"]
    assert (
        got["pooled_low"].values.tolist()
        == want["pooled_low"].sel(measure=["slope", "pearson"]).values.tolist()
    )


def test_blocks_of_resamples_change_nothing(monkeypatch) -> None:
    from leftout.diagnostics.retraining import agreement as module

    scores, truth = drawn()
    want = agreement(scores, truth, resamples=45)
    for entries in (1, 7 * M * C):
        monkeypatch.setattr(module, "ENTRIES", entries)
        got = agreement(scores, truth, resamples=45)
        for name in want:
            assert_same(got[name], want[name], 1e-13)


def test_resamples_in_which_nothing_varies_are_left_out_and_counted() -> None:
    # Of three columns, all three draws are the same one in a ninth of the resamples.
    scores, truth = np.array([[1.0, 2.0, 4.0]]), np.array([[1.0, 3.0, 2.0]])
    got = agreement(scores, truth, top=1, resamples=900)
    for name in got:
        assert np.isfinite(got[name].values).all()
    assert abs(got.attrs["fewest_resamples"] - 800) < 5 * np.sqrt(900 * 8 / 81)
    assert got.attrs["resamples"] == 900


def refused(kind, words, *given, **options):
    with pytest.raises(kind, match=re.escape(words)):
        agreement(*given, **options)


def test_a_constant_is_refused_and_the_query_named() -> None:
    scores, truth = drawn()
    constant = truth.copy()
    constant[2] = 0.25
    advice = "Leave that query out, or pass per_query=False."
    words = f" must not be constant, or pearson does not exist; all {C} values are 0.25. {advice}"
    told = "`truth` of query 'q2'" + words
    refused(OptionError, told, named(scores), named(constant), resamples=40)
    refused(OptionError, "`scores` of query 2" + words, constant, truth, resamples=40)
    agreement(scores, constant, resamples=40, per_query=False)
    words = (
        f"`scores` must not be constant, or pearson does not exist; all {M * C} values are 0. Nothing "
        "can agree with it."
    )
    refused(OptionError, words, 0 * scores, truth)
    words = f"`truth` must not be constant, or relative_error does not exist; all {M * C} values are 0."
    for given in (scores, 0 * scores):
        refused(OptionError, words, given, 0 * truth, measures=["relative_error"])
    words = "`scores` must not be constant, or slope does not exist"
    refused(OptionError, words, 0 * scores, 0 * truth, measures=["slope"])


def test_a_truth_of_too_few_numbers_that_differ_is_refused() -> None:
    scores = np.random.default_rng(0).standard_normal((1, 4000))
    truth = np.zeros((1, 4000))
    truth[0, 0] = 1.0
    # A resample without column 0, one in e, has a constant truth: here, all three.
    generator = torch.Generator().manual_seed(0)
    while True:
        state = generator.get_state()
        if not bool((torch.randint(4000, (3, 4000), generator=generator) == 0).any()):
            break
    generator.set_state(state)
    words = "`truth` must vary in more columns: a measure exists in none of the 3 resamples."
    refused(OptionError, words, scores, truth, resamples=3, level=0.3, generator=generator)


def test_shapes_are_checked() -> None:
    scores, truth = drawn()
    words = (
        "`scores` and `truth` must have the same shape (query, train or group), or names on both by "
        "which to match them; got (4, 30) and (4, 29)."
    )
    refused(ShapeError, words, scores, truth[:, 1:])
    words = "got (4, 30) (query, train) and (4, 29)."
    refused(ShapeError, words, named(scores), truth[:, 1:])
    words = (
        "`scores` must have two axes, (query, train) or (query, group); got (2, 4, 30) (at, query, "
        "train). Select one training time or output first."
    )
    timed = xr.concat([named(scores)] * 2, dim="at")
    refused(ShapeError, words, timed, named(truth))
    refused(ShapeError, "`truth` must have two axes", scores, truth[0])


def test_names_that_are_missing_or_come_twice_are_told() -> None:
    scores, truth = (named(values) for values in drawn())
    words = "`scores` must have every train of `truth`; 't3' is missing (1 of 30 are)."
    refused(OptionError, words, scores.drop_sel(train="t3"), truth)
    twice = truth.assign_coords(query=["q0", "q1", "q1", "q3"])
    words = "`truth` must name each query once to be matched; 'q1' comes twice."
    refused(OptionError, words, scores, twice)
    words = "`scores` must name each query once to be matched; 'q1' comes twice."
    refused(OptionError, words, twice, truth)
    agreement(twice, twice, resamples=40)  # the same names in the same order need no matching


@pytest.mark.usefixtures("as_users_run_it")
def test_options_are_checked() -> None:
    scores, truth = drawn()
    words = "`truth` must have at least 3 columns, training examples or groups, for agreement to be"
    refused(OptionError, words, scores[:, :2], truth[:, :2])
    for top in (0, C + 1):
        words = (
            f"`top` must be a whole number in 1 … {C}, the columns compared; got {top}. Pass a "
            "smaller one, or leave top_overlap out of `measures`."
        )
        refused(OptionError, words, scores, truth, top=top)
    agreement(scores, truth, top=0, resamples=40, measures=["pearson"])
    for level in (0.0, 1.0, float("nan")):
        refused(OptionError, f"`level` must lie in (0, 1); got {level}", scores, truth, level=level)
    words = "`resamples` must be at least 2 / (1 − level) = 40; got 39."
    refused(OptionError, words, scores, truth, resamples=39)
    words = "`resamples` must be at least 2 / (1 − level) = 200; got 199."
    refused(OptionError, words, scores, truth, resamples=199, level=0.99)
    words = "`measures` must be one of 'pearson', 'spearman', 'kendall', 'top_overlap', 'slope', "
    refused(OptionError, words, scores, truth, measures=["r2"])
    refused(OptionError, "`measures` must name at least one of", scores, truth, measures=[])


@pytest.mark.usefixtures("as_users_run_it")
def test_options_of_another_kind_are_refused() -> None:
    scores, truth = drawn()
    for top in ("a", 2.5, True):
        refused(OptionError, f"`top` must be a whole number in 1 … {C}", scores, truth, top=top)
    words = "`resamples` must be a whole number ≥ 1; got 100.5."
    refused(OptionError, words, scores, truth, resamples=100.5)
    refused(OptionError, "`level` must lie in (0, 1); got '0.9'", scores, truth, level="0.9")
    words = "`generator` must be a torch.Generator, or None; got 0."
    refused(OptionError, words, scores, truth, generator=0)


@pytest.mark.usefixtures("as_users_run_it")
def test_arrays_of_anything_but_numbers_are_refused() -> None:
    scores, truth = drawn()
    refused(ShapeError, "`truth` must be a tensor, an array or a list with", scores, [[1.0], [1, 2]])
    for odd in (truth.astype(str), truth + 1j):
        refused(DataError, "`truth` must hold real numbers; got dtype", scores, odd)
        refused(DataError, "`scores` must hold real numbers; got dtype", odd, truth)
    refused(OptionError, "`truth` must have at least 3 columns", scores[:, :0], truth[:, :0])
    refused(OptionError, "`truth` must have at least one query", scores[:0], truth[:0])
    refused(ShapeError, "`truth` must have two axes", scores, [])


def test_arrays_that_run_backwards_are_read() -> None:
    scores, truth = drawn()
    want = agreement(scores, truth, resamples=40)["pooled"]
    assert_same(agreement(scores[:, ::-1], truth[:, ::-1], resamples=40)["pooled"], want, 1e-12)
    back = agreement(named(scores)[::-1, ::-1], named(truth)[::-1, ::-1], resamples=40)["pooled"]
    assert_same(back, want, 1e-12)


def test_numbers_that_are_not_finite_are_refused() -> None:
    scores, truth = drawn()
    broken = scores.copy()
    broken[1, 3] = np.nan
    refused(DataError, "`scores` must be finite; row 1 holds NaN or infinity", broken, truth)
    refused(DataError, "`truth` must be finite; row 1 holds NaN or infinity", truth, broken)


def test_nothing_given_is_written_to_and_the_result_says_what_it_is() -> None:
    scores, truth = drawn()
    before = scores.copy(), truth.copy()
    got = agreement(scores, truth, top=7, resamples=50, level=0.9)
    assert scores.tolist() == before[0].tolist()
    assert truth.tolist() == before[1].tolist()
    assert got["per_query"].dims == ("query", "measure")
    want = {"method": "agreement", "queries": M, "columns": C, "top": 7, "level": 0.9, "resamples": 50}
    assert {key: got.attrs[key] for key in want} == want
    assert got.attrs["slope"] == "of truth against scores, with intercept"

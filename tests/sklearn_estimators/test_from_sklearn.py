"""What a fitted estimator of scikit-learn would say without an example, against fitting it again."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, Ridge, RidgeClassifier, RidgeClassifierCV, RidgeCV
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

import leftout as lo
from laws import assert_same
from oracles.estimators import half_squares, prediction_without, predictions, refit

N, M, D = 24, 7, 3
RANDOM = np.random.default_rng(0)
X, QUERY = RANDOM.normal(size=(N, D)) + 2, RANDOM.normal(size=(M, D)) + 2
NUMBERS = 30 + X @ [1.0, -2.0, 0.5] + np.sin(3 * X[:, 0]) + RANDOM.normal(size=N)
PAIRS = np.c_[NUMBERS, X[:, 1] ** 2]
TWO = np.where(X[:, 0] + RANDOM.normal(size=N) > 2, "yes", "no")
THREE = RANDOM.permutation(np.arange(N) % 3) * 10
WEIGHTS = RANDOM.uniform(0.2, 3, N)
WITH_ZEROS = np.where(np.arange(N) % 5 == 0, 0.0, WEIGHTS)
WIDE, WIDE_QUERY = RANDOM.normal(size=(N, 60)), RANDOM.normal(size=(M, 60))
NOISE = RANDOM.uniform(0.1, 1, N)


def laplacian(x, z, scale=1.0):
    return np.exp(-scale * np.abs(x - z).sum())


CASES = {
    "kernel ridge, linear": (KernelRidge(0.5), X, NUMBERS, None),
    "kernel ridge, rbf, weights": (KernelRidge(0.3, kernel="rbf"), X, NUMBERS, WEIGHTS),
    "kernel ridge, weights of 0": (KernelRidge(0.3, kernel="rbf", gamma=0.2), X, NUMBERS, WITH_ZEROS),
    "kernel ridge, one weight": (KernelRidge(0.3, kernel="rbf"), X, NUMBERS, 2.5),
    "kernel ridge, polynomial": (KernelRidge(0.3, kernel="poly", degree=2, coef0=2), X, NUMBERS, None),
    "kernel ridge, two alphas": (KernelRidge([0.1, 2.0], kernel="laplacian"), X, PAIRS, WEIGHTS),
    "kernel ridge, a function": (
        KernelRidge(0.2, kernel=laplacian, kernel_params={"scale": 0.5}), X, NUMBERS, None,
    ),
    "kernel ridge, no alpha": (KernelRidge(0.0, kernel="rbf", gamma=2.0), X, NUMBERS, None),
    "gaussian process, default": (GaussianProcessRegressor(), X, NUMBERS, None),
    "gaussian process, noise by example": (
        GaussianProcessRegressor(RBF(2.0), alpha=NOISE, optimizer=None), X, NUMBERS, None,
    ),
    "gaussian process, fitted kernel": (
        GaussianProcessRegressor(ConstantKernel(4.0) * RBF(2.0) + WhiteKernel(0.5)), X, NUMBERS, None,
    ),
    "gaussian process, normalised": (
        GaussianProcessRegressor(RBF(2.0), alpha=0.1, optimizer=None, normalize_y=True), X, NUMBERS, None,
    ),
    "gaussian process, normalised columns": (
        GaussianProcessRegressor(
            DotProduct() + WhiteKernel(1.0), alpha=NOISE, optimizer=None, normalize_y=True
        ),
        X, PAIRS, None,
    ),
    "ridge": (Ridge(0.5), X, NUMBERS, None),
    "ridge, weights": (Ridge(0.5), X, NUMBERS, WEIGHTS),
    "ridge, weights of 0": (Ridge(0.5), X, NUMBERS, WITH_ZEROS),
    "ridge, no intercept": (Ridge(0.5, fit_intercept=False), X, NUMBERS, WEIGHTS),
    "ridge, two alphas": (Ridge([0.1, 5.0], solver="svd"), X, PAIRS, WEIGHTS),
    "ridge, more features than rows": (Ridge(0.5), WIDE, NUMBERS, WEIGHTS),
    "ridge, hardly any alpha": (Ridge(1e-7, solver="svd"), X, NUMBERS, None),
    "ridge, next to interpolation": (Ridge(1e-5, solver="svd"), WIDE, NUMBERS, WEIGHTS),
    "ridge, no alpha": (Ridge(0.0, solver="svd"), X, NUMBERS, None),
    "ridge, columns that depend": (Ridge(0.3), np.c_[X, X[:, :1], np.ones(N)], NUMBERS, None),
    "two classes": (RidgeClassifier(0.5), X, TWO, None),
    "three classes": (RidgeClassifier(0.5), X, THREE, WEIGHTS),
    "weights of classes": (RidgeClassifier(0.5, class_weight={10: 3.0, 20: 0.5}), X, THREE, WEIGHTS),
}  # fmt: skip


def queries(name):
    """Return inputs of queries for a case."""
    x = CASES[name][1]
    if x is WIDE:
        return WIDE_QUERY
    return QUERY if x.shape[1] == D else np.c_[QUERY, QUERY[:, :1], np.ones(M)]


def fitted_pair(estimator, x, y, weights):
    """Return a copy of an estimator that is fitted, and the same as a model to ask."""
    options = {} if weights is None else {"sample_weight": weights}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = clone(estimator).fit(x, y, **options)
    return estimator, lo.from_sklearn(estimator, x, y, weights)


@pytest.fixture(scope="module")
def pairs():
    """Each estimator, and the model to ask, made when first asked for."""
    made = {}

    def pair(name):
        if name not in made:
            made[name] = fitted_pair(*CASES[name])
        return made[name]

    return pair


def by_row(weights):
    return None if weights is None else np.broadcast_to(weights, N)


def coded(estimator, y):
    """Return targets as scikit-learn fits them."""
    if not hasattr(estimator, "classes_"):
        return np.asarray(y, dtype=float).reshape(len(y), -1)
    hits = np.asarray(y)[:, None] == estimator.classes_
    return np.where(hits[:, 1:] if len(estimator.classes_) == 2 else hits, 1.0, -1.0)


EVERY_CASE = pytest.mark.parametrize("name", CASES)


@EVERY_CASE
def test_predictions_are_the_estimators(name, pairs):
    estimator, fitted = pairs(name)
    assert_same(fitted.predict(queries(name)), predictions(estimator, queries(name)), rtol=1e-9)
    assert len(fitted) == N
    assert type(estimator).__name__ in repr(fitted)


@pytest.mark.sample(10)
@EVERY_CASE
def test_leaving_one_out_is_fitting_again(name, pairs):
    estimator, fitted = pairs(name)
    _, x, y, weights = CASES[name]
    query = queries(name)
    without = np.stack(
        [prediction_without(estimator, x, y, by_row(weights), [i], query) for i in range(N)], axis=1
    )
    as_fitted = predictions(estimator, query)[:, None]
    change = lo.leave_one_out(fitted, (query, y[:M]), of="prediction")
    assert change.dims == ("query", "train", "output")
    assert_same(change, as_fitted - without, rtol=1e-8)
    targets = coded(estimator, y)[:M, None]
    scores = lo.leave_one_out(fitted, (query, y[:M]))
    assert scores.dims == ("query", "train")
    assert_same(scores, half_squares(without, targets) - half_squares(as_fitted, targets), rtol=1e-8)
    alone = [prediction_without(estimator, x, y, by_row(weights), [i], x[[i]])[0] for i in range(N)]
    assert_same(lo.out_of_sample(fitted), alone, rtol=1e-8)


@EVERY_CASE
def test_leaving_groups_out_is_fitting_again(name, pairs):
    estimator, fitted = pairs(name)
    _, x, y, weights = CASES[name]
    query, groups = queries(name), {"few": [3, 1], "more": range(8, 17), "one": [5]}
    got = lo.leave_out(fitted, (query, y[:M]), groups, of="prediction")
    without = [prediction_without(estimator, x, y, by_row(weights), list(g), query) for g in groups.values()]
    assert_same(got, predictions(estimator, query)[:, None] - np.stack(without, axis=1), rtol=1e-8)
    loss = lo.leave_out(fitted, (query, y[:M]), groups)
    assert list(loss.group.values) == list(groups)
    targets = coded(estimator, y)[:M]
    want = [half_squares(f, targets) - half_squares(predictions(estimator, query), targets) for f in without]
    assert_same(loss, np.stack(want, axis=1), rtol=1e-8)
    assert_same(loss.sel(group="one"), lo.leave_one_out(fitted, (query, y[:M]))[:, 5], rtol=1e-9)


@EVERY_CASE
def test_another_label_is_fitting_again(name, pairs):
    estimator, fitted = pairs(name)
    _, x, y, weights = CASES[name]
    query, rows, target = queries(name), [2, 9, 5], y[[4, 0, 7]]
    got = lo.relabel(fitted, (query, y[:M]), rows, target, of="prediction")
    for place, row in enumerate(rows):
        other = y.copy()
        other[row] = target[place]
        edited = predictions(refit(estimator, x, other, by_row(weights)), query)
        want = predictions(estimator, query) - edited
        size = np.abs(predictions(estimator, query)).max()
        assert np.abs(got[:, place].values - want).max() <= 1e-8 * size


WEIGHED = [name for name in CASES if "gaussian" not in name]


@pytest.mark.parametrize("name", WEIGHED)
@pytest.mark.parametrize("weight", [0, 0.3, 2])
def test_another_weight_is_fitting_again(name, weight, pairs):
    estimator, fitted = pairs(name)
    _, x, y, weights = CASES[name]
    query, rows = queries(name), [2, 5, 9]
    got = lo.reweight(fitted, (query, y[:M]), rows, weight, of="prediction")
    for place, row in enumerate(rows):
        other = np.ones(N) if weights is None else by_row(weights).copy()
        other[row] *= weight
        edited = predictions(refit(estimator, x, y, other), query)
        want = predictions(estimator, query) - edited
        size = np.abs(predictions(estimator, query)).max()
        assert np.abs(got[:, place].values - want).max() <= 1e-8 * size


def test_frames_are_taken_by_their_columns():
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    fitted = lo.from_sklearn(Ridge().fit(frame, NUMBERS), frame, pd.Series(NUMBERS))
    same = lo.from_sklearn(Ridge().fit(X, NUMBERS), X, NUMBERS)
    query = pd.DataFrame(QUERY, columns=["a", "b", "c"]), pd.Series(NUMBERS[:M])
    assert_same(lo.leave_one_out(fitted, query), lo.leave_one_out(same, (QUERY, NUMBERS[:M])))


def test_a_new_target_may_be_one_number_or_one_for_each_output(pairs):
    _, fitted = pairs("ridge, two alphas")
    query = QUERY, PAIRS[:M]
    assert_same(lo.relabel(fitted, query, 3, [1.0, 2.0]), lo.relabel(fitted, query, [3], [[1.0, 2.0]]))
    _, single = pairs("ridge")
    query = QUERY, NUMBERS[:M]
    assert_same(
        lo.relabel(single, query, [3, 4], torch.tensor(7.0)), lo.relabel(single, query, [3, 4], [7.0, 7.0])
    )


@pytest.mark.parametrize("classes", [None, TWO])
def test_an_alpha_that_cross_validation_chose_stays(classes):
    y = NUMBERS if classes is None else classes
    kind = RidgeCV if classes is None else RidgeClassifierCV
    chosen = kind(alphas=[0.01, 0.7, 30.0]).fit(X, y)
    fixed = (Ridge if classes is None else RidgeClassifier)(alpha=chosen.alpha_).fit(X, y)
    scores = lo.leave_one_out(lo.from_sklearn(chosen, X, y), (QUERY, y[:M]))
    assert_same(scores, lo.leave_one_out(lo.from_sklearn(fixed, X, y), (QUERY, y[:M])))
    assert '"alpha_chosen": true' in scores.attrs["estimator"]


def test_a_precomputed_kernel_takes_rows_of_kernels():
    gram, cross = rbf_kernel(X), rbf_kernel(QUERY, X)
    given, named = KernelRidge(0.3, kernel="precomputed"), KernelRidge(0.3, kernel="rbf")
    estimator, fitted = fitted_pair(given, gram, NUMBERS, WEIGHTS)
    same = fitted_pair(named, X, NUMBERS, WEIGHTS)[1]
    scores = lo.leave_one_out(fitted, (cross, NUMBERS[:M]))
    assert_same(scores, lo.leave_one_out(same, (QUERY, NUMBERS[:M])))
    assert_same(lo.out_of_sample(fitted), lo.out_of_sample(same))
    without = prediction_without(estimator, gram, NUMBERS, WEIGHTS, [4], cross)
    f, y = predictions(estimator, cross), NUMBERS[:M, None]
    assert_same(scores[:, 4], half_squares(without, y) - half_squares(f, y), rtol=1e-8)


def test_two_classes_are_ridge_regression_on_signs():
    signs = np.where(TWO == "yes", 1.0, -1.0)
    of_classes = fitted_pair(RidgeClassifier(0.5), X, TWO, WEIGHTS)[1]
    of_numbers = fitted_pair(Ridge(0.5), X, signs, WEIGHTS)[1]
    assert_same(
        lo.leave_one_out(of_classes, (QUERY, TWO[:M])), lo.leave_one_out(of_numbers, (QUERY, signs[:M]))
    )
    assert of_classes.output_names == ["yes"]
    assert_same(
        lo.relabel(of_classes, (QUERY, TWO[:M]), 3, "no"),
        lo.relabel(of_numbers, (QUERY, signs[:M]), 3, -1.0),
        rtol=1e-8,
    )


def test_it_is_what_a_kernel_of_leftout_says():
    _, fitted = fitted_pair(KernelRidge(0.3, kernel="rbf"), X, NUMBERS, None)
    ours = lo.fit(lo.kernels.From(rbf_kernel, numpy=True), (X, NUMBERS), rule=lo.Ridge(0.3))
    query = QUERY, NUMBERS[:M]
    assert_same(lo.leave_one_out(fitted, query), lo.leave_one_out(ours, query))
    assert_same(lo.reweight(fitted, query, [1, 2], 0.4), lo.reweight(ours, query, [1, 2], 0.4))
    assert_same(lo.leave_out(fitted, query, [[1, 2, 3]]), lo.leave_out(ours, query, [[1, 2, 3]]))
    assert_same(lo.relabel(fitted, query, 1, 9.0), lo.relabel(ours, query, 1, 9.0))
    assert_same(lo.out_of_sample(fitted), lo.out_of_sample(ours))


LAWFUL = pytest.mark.parametrize(
    "name", ["kernel ridge, rbf, weights", "ridge, weights", "gaussian process, normalised", "three classes"]
)


@LAWFUL
def test_rows_in_another_order_are_columns_in_that_order(name, pairs):
    estimator, x, y, weights = CASES[name]
    order = np.random.default_rng(1).permutation(N)
    _, moved = fitted_pair(estimator, x[order], y[order], None if weights is None else weights[order])
    query = queries(name), y[:M]
    assert_same(lo.leave_one_out(moved, query), lo.leave_one_out(pairs(name)[1], query).values[:, order])


@pytest.mark.parametrize("name", ["kernel ridge, linear", "ridge", "two classes", "ridge, no intercept"])
def test_a_weight_of_two_is_the_row_twice(name):
    estimator, x, y, _ = CASES[name]
    twice, rows = np.ones(N), [*range(N), 6]
    twice[6] = 2
    _, heavy = fitted_pair(estimator, x, y, twice)
    _, double = fitted_pair(estimator, x[rows], y[rows], None)
    query = queries(name), y[:M]
    assert_same(heavy.predict(query[0]), double.predict(query[0]))
    once = lo.leave_one_out(heavy, query)
    assert_same(once[:, 6], lo.leave_out(double, query, [[6, N]])[:, 0])
    assert_same(lo.reweight(heavy, query, 6, 0.5)[:, 0], lo.leave_one_out(double, query)[:, N])
    assert_same(once[:, :6], lo.leave_one_out(double, query)[:, :6])


@pytest.mark.parametrize("name", ["kernel ridge, weights of 0", "ridge, weights of 0"])
def test_an_example_of_weight_0_says_nothing(name, pairs):
    estimator, fitted = pairs(name)
    scores = lo.leave_one_out(fitted, (queries(name), NUMBERS[:M]))
    silent = WITH_ZEROS == 0
    assert np.abs(scores.values[:, silent]).max() <= 1e-15 * np.abs(scores.values).max()
    assert_same(lo.out_of_sample(fitted)[silent], predictions(estimator, X[silent]))


@LAWFUL
def test_what_is_said_without_an_example_does_not_depend_on_its_label(name, pairs):
    estimator, x, y, weights = CASES[name]
    other = y.copy()
    other[4] = y[y != y[4]][0]
    _, relabelled = fitted_pair(estimator, x, other, weights)
    before, after = lo.out_of_sample(pairs(name)[1]), lo.out_of_sample(relabelled)
    assert_same(after[4], before[4])
    assert not torch.allclose(after, before)


@pytest.mark.parametrize("name", ["ridge, weights", "gaussian process, normalised"])
def test_a_shift_of_all_targets_changes_no_influence(name, pairs):
    estimator, x, y, weights = CASES[name]
    _, shifted = fitted_pair(estimator, x, y + 1e4, weights)
    query = queries(name)
    assert_same(
        lo.leave_one_out(shifted, (query, y[:M] + 1e4)),
        lo.leave_one_out(pairs(name)[1], (query, y[:M])),
        rtol=1e-8,  # targets lose 1e4 · eps in the shift itself
    )


@LAWFUL
def test_best_and_worst_and_mean_are_those_of_all(name, pairs):
    fitted, query = pairs(name)[1], (queries(name), CASES[name][2][:M])
    scores = lo.leave_one_out(fitted, query)
    top = lo.leave_one_out(fitted, query, top=3)
    assert_same(top.helpful, np.sort(scores.values, axis=1)[:, ::-1][:, :3])
    assert_same(top.harmful, np.sort(scores.values, axis=1)[:, :3])
    assert (scores.values.argmax(1) == top.helpful_train.values[:, 0]).all()
    assert_same(lo.leave_one_out(fitted, query, mean=True), scores.mean("query"))


@LAWFUL
def test_blocks_of_queries_change_nothing(name, pairs):
    estimator, fitted = pairs(name)
    _, x, y, weights = CASES[name]
    query = queries(name), y[:M]
    small = lo.from_sklearn(estimator, x, y, weights, memory=60_000)
    small.memory = 8 * 6 * N * 2
    assert len(list(small.query_blocks(small.queries(query)))) == 4
    small_scores = torch.cat([b.predictions for b in small.query_blocks(small.queries(query))])
    assert_same(small_scores, fitted.predict(query[0]) - fitted.offset)
    groups = [[1, 2]]
    assert_same(lo.leave_out(small, query, groups), lo.leave_out(fitted, query, groups))


def test_several_times_are_the_end_of_training(pairs):
    fitted, query = pairs("ridge")[1], (QUERY, NUMBERS[:M])
    scores = lo.leave_one_out(fitted, query, at=[None, float("inf")])
    assert scores.dims == ("at", "query", "train")
    assert lo.out_of_sample(fitted, at=[None]).shape == (1, N, 1)
    assert lo.leave_one_out(fitted, query).attrs["at"] == "end of training"
    with pytest.raises(
        lo.LeftoutError, match=r"`at` must be None: Ridge is a minimum and has no training time"
    ):
        lo.leave_one_out(fitted, query, at=3)


def test_results_say_what_they_are(pairs):
    _, fitted = pairs("gaussian process, noise by example")
    attrs = lo.leave_one_out(fitted, (QUERY, NUMBERS[:M])).attrs
    assert attrs["sign"].endswith("positive = the example helped")
    assert '"estimator": "GaussianProcessRegressor"' in attrs["estimator"]
    assert attrs["condition"] == fitted.condition > 1
    assert fitted.record["weights"] == attrs["fitted_fingerprint"]


@pytest.mark.usefixtures("as_users_run_it")
class TestRefusals:
    """What cannot be exact is refused in a sentence that says what to do."""

    @pytest.mark.parametrize(
        ("estimator", "words"),
        [
            (
                LinearRegression(),
                "must be a fitted KernelRidge, .* or RidgeClassifierCV; got LinearRegression",
            ),
            (make_pipeline(StandardScaler(), Ridge()), "Pass its last step, pipeline"),
            (GridSearchCV(Ridge(), {"alpha": [1, 2]}), "got GridSearchCV. Pass its best_estimator_"),
            (Ridge(positive=True), "positive=True. is not linear in its targets"),
            (Ridge(solver="sag", max_iter=5000), "solver='sag', which stops at a tolerance .* solver='svd'"),
            (Ridge(solver="lsqr"), "solver='lsqr', which stops at a tolerance"),
        ],
        ids=str,
    )
    def test_estimators(self, estimator, words):
        with pytest.raises(lo.LeftoutError, match=words):
            lo.from_sklearn(estimator.fit(X, NUMBERS), X, NUMBERS)

    @pytest.mark.parametrize(
        "estimator", [Ridge(), KernelRidge(), GaussianProcessRegressor(), RidgeClassifier()]
    )
    def test_estimators_that_are_not_fitted(self, estimator):
        with pytest.raises(lo.LeftoutError, match=r"must be fitted; call .*fit"):
            lo.from_sklearn(estimator, X, NUMBERS)

    def test_no_estimators(self):
        for wrong in (Ridge, None, "ridge", (X, NUMBERS)):
            with pytest.raises(lo.LeftoutError, match=r"`estimator` must be a fitted KernelRidge"):
                lo.from_sklearn(wrong, X, NUMBERS)

    def test_balanced_classes_and_what_to_do_instead(self):
        balanced = RidgeClassifier(class_weight="balanced").fit(X, THREE)
        with pytest.raises(lo.LeftoutError, match=r"compute_sample_weight"):
            lo.from_sklearn(balanced, X, THREE)
        weights = compute_sample_weight("balanced", THREE)
        fixed = lo.from_sklearn(RidgeClassifier().fit(X, THREE, weights), X, THREE, weights)
        assert_same(fixed.predict(QUERY), balanced.decision_function(QUERY))

    @pytest.mark.parametrize("name", ["kernel ridge, rbf, weights", "ridge, weights", "three classes"])
    def test_other_data_than_the_estimator_was_fitted_to(self, name, pairs):
        estimator, _ = pairs(name)
        _, x, y, weights = CASES[name]
        moved = x.copy()
        moved[3] += 0.1
        for data in ((moved, y, weights), (x, y[::-1].copy(), weights), (x, y, None), (x, y, weights[::-1])):
            with pytest.raises(lo.LeftoutError, match=r"must be those that .* was fitted to"):
                lo.from_sklearn(estimator, *data)

    def test_options_set_after_the_fit(self):
        estimator = Ridge(0.5).fit(X, NUMBERS).set_params(alpha=50.0)
        with pytest.raises(lo.LeftoutError, match=r"its options as they were then"):
            lo.from_sklearn(estimator, X, NUMBERS)

    def test_single_precision(self):
        single = X.astype(np.float32)
        for estimator in (Ridge(), KernelRidge()):
            fitted = estimator.fit(single, NUMBERS.astype(np.float32))
            with pytest.raises(lo.LeftoutError, match=r"fitted in float32"):
                lo.from_sklearn(fitted, single, NUMBERS)

    def test_sparse_inputs(self):
        sparse = csr_matrix(X)
        with pytest.raises(lo.LeftoutError, match=r"`X` must be an array; fit the estimator to X.toarray"):
            lo.from_sklearn(Ridge(solver="sparse_cg").fit(sparse, NUMBERS), sparse, NUMBERS)

    @pytest.mark.parametrize(
        ("weights", "words"),
        [
            (np.ones(3), "must have shape"),
            (-np.ones(N), "must be finite and ≥ 0; row 0 is -1"),
            (np.full(N, np.nan), "must be finite"),
            (np.zeros(N), "all are 0"),
            (["a"] * N, "must hold numbers"),
        ],
    )
    def test_weights(self, weights, words):
        with pytest.raises(lo.LeftoutError, match=words):
            lo.from_sklearn(Ridge().fit(X, NUMBERS), X, NUMBERS, weights)

    def test_weights_of_classes_that_leave_nothing(self):
        silent = RidgeClassifier().fit(X, TWO).set_params(class_weight={"no": 0.0, "yes": 0.0})
        with pytest.raises(lo.LeftoutError, match=r"`class_weight` times `sample_weight` must be above 0"):
            lo.from_sklearn(silent, X, TWO)

    def test_weights_where_there_are_none(self, pairs):
        estimator, fitted = pairs("gaussian process, default")
        with pytest.raises(lo.LeftoutError, match=r"takes no sample_weight"):
            lo.from_sklearn(estimator, X, NUMBERS, WEIGHTS)
        with pytest.raises(lo.LeftoutError, match=r"GaussianProcessRegressor weighs no examples"):
            lo.reweight(fitted, (QUERY, NUMBERS[:M]), 0, 2)

    def test_shapes(self):
        estimator = Ridge().fit(X, NUMBERS)
        with pytest.raises(lo.LeftoutError, match=r"must have the 3 columns"):
            lo.from_sklearn(estimator, X[:, :2], NUMBERS)
        with pytest.raises(lo.LeftoutError, match=r"a target for each of 24 rows"):
            lo.from_sklearn(estimator, X, NUMBERS[:3])
        with pytest.raises(lo.LeftoutError, match=r"`y` must have as many columns as Ridge was fitted to"):
            lo.from_sklearn(estimator, X, PAIRS)
        with pytest.raises(lo.LeftoutError, match=r"finite"):
            lo.from_sklearn(estimator, X * np.nan, NUMBERS)

    def test_a_fit_that_is_not_unique(self):
        twice = np.c_[X, X]
        with pytest.raises(lo.LeftoutError, match=r"singular system to rounding; fit with a larger `alpha`"):
            lo.from_sklearn(Ridge(0.0, solver="svd").fit(twice, NUMBERS), twice, NUMBERS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            singular = KernelRidge(0.0).fit(X, NUMBERS)
        with pytest.raises(lo.LeftoutError, match=r"singular system to rounding"):
            lo.from_sklearn(singular, X, NUMBERS)

    def test_what_remains_does_not_determine_a_model(self):
        alone = np.zeros((N, 2))
        alone[:, 0], alone[5, 1] = X[:, 0], 1.0
        _, fitted = fitted_pair(Ridge(0.0, solver="svd"), alone, NUMBERS, None)
        with pytest.raises(lo.LeftoutError, match=r"Without example 5 what remains does not determine"):
            lo.leave_one_out(fitted, (alone, NUMBERS))
        with pytest.raises(lo.LeftoutError, match=r"of a group, the first of them 5"):
            lo.leave_out(fitted, (alone, NUMBERS), [[5, 6]])
        lo.leave_out(fitted, (alone, NUMBERS), [[6, 7]])

    def test_a_label_that_would_weigh_infinitely_more(self):
        silent = RidgeClassifier(class_weight={10: 0.0})
        _, fitted = fitted_pair(silent, X, THREE, None)
        row = int(np.flatnonzero(THREE == 10)[0])
        with pytest.raises(lo.LeftoutError, match=rf"Example {row} is of a class of weight 0"):
            lo.relabel(fitted, (QUERY, THREE[:M]), row, 20)

    def test_queries(self, pairs):
        _, fitted = pairs("three classes")
        with pytest.raises(lo.LeftoutError, match=r"query inputs` must have 3 columns"):
            lo.leave_one_out(fitted, (QUERY[:, :2], THREE[:M]))
        with pytest.raises(lo.LeftoutError, match=r"must hold classes of the estimator, 0, 10, 20; row 1 is"):
            lo.leave_one_out(fitted, (QUERY[:2], [10, 11]))
        with pytest.raises(lo.LeftoutError, match=r"must be a pair"):
            lo.leave_one_out(fitted, QUERY)
        with pytest.raises(lo.LeftoutError, match=r"as many targets as inputs"):
            lo.leave_one_out(fitted, (QUERY, THREE[:2]))

    def test_edits(self, pairs):
        _, fitted = pairs("ridge")
        query = QUERY, NUMBERS[:M]
        with pytest.raises(lo.LeftoutError, match=r"holds all examples"):
            lo.leave_out(fitted, query, [range(N)])
        with pytest.raises(lo.LeftoutError, match=r"Fit Ridge with the new example in it"):
            lo.add(fitted, query, X[:1], NUMBERS[:1])
        with pytest.raises(lo.LeftoutError, match=r"an estimator has none"):
            lo.leave_one_out(fitted, query, spread=True)
        with pytest.raises(lo.LeftoutError, match=r"must be a row number from 0 to 23"):
            lo.relabel(fitted, query, N, 1.0)
        with pytest.raises(lo.LeftoutError, match=r"`target` must hold numbers"):
            lo.relabel(fitted, query, 0, 10**400)
        with pytest.raises(lo.LeftoutError, match=r"`spread` must be one of"):
            lo.leave_one_out(fitted, query, spread=np.ones(2))
        with pytest.raises(lo.LeftoutError, match=r"one entry for all or one for each of 1 examples"):
            lo.relabel(fitted, query, 0, [1.0, 2.0])
        with pytest.raises(lo.LeftoutError, match=r"`fitted` must be a model, from `fit`"):
            lo.information(fitted, query)

    def test_memory(self):
        with pytest.raises(lo.LeftoutError, match=r"kernel matrix of 24 examples.* needs"):
            lo.from_sklearn(KernelRidge().fit(X, NUMBERS), X, NUMBERS, memory=1000)
        with pytest.raises(lo.LeftoutError, match=r"decomposition of 24 examples of 3 features needs"):
            lo.from_sklearn(Ridge().fit(X, NUMBERS), X, NUMBERS, memory=1000)
        _, fitted = fitted_pair(Ridge(), X, NUMBERS, None)
        fitted.memory = 1000
        with pytest.raises(lo.LeftoutError, match=r"The result .* needs"):
            lo.leave_one_out(fitted, (QUERY, NUMBERS[:M]))

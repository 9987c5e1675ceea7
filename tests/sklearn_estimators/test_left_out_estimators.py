"""LeftOutRegressor and LeftOutClassifier keep the conventions of scikit-learn, and say what refits say."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import leftout as lo
from laws import assert_same

ESTIMATORS = [
    lo.LeftOutRegressor(),
    lo.LeftOutClassifier(),
    lo.LeftOutRegressor(kernel=lo.kernels.Erf(1, bias_variance=0.1), ridge=0.1, standardise=False),
    lo.LeftOutClassifier(kernel=lo.kernels.ReLU(1, bias_variance=0.1), ridge=0.1),
]
RANDOM = np.random.default_rng(0)
X, QUERY = RANDOM.normal(size=(30, 4)) * [1, 10, 0.1, 3] + 5, RANDOM.normal(size=(6, 4)) * [1, 10, 0.1, 3] + 5
NUMBERS = 100 + X[:, 0] + np.sin(X[:, 3]) + RANDOM.normal(size=30) / 10
TWO = np.where(X[:, 0] > 5, "yes", "no")
THREE = RANDOM.permutation(np.arange(30) % 3) * 10


@pytest.mark.sample(60)
@pytest.mark.usefixtures("as_users_run_it")
@parametrize_with_checks(ESTIMATORS)
def test_conventions_of_scikit_learn(estimator, check):
    check(estimator)


def relu_kernel(x, z):
    """Return the default kernel of standardised columns, by its own class but outside the estimator."""
    return lo.kernels.ReLU(2, bias_variance=0.3).block(torch.from_numpy(x), torch.from_numpy(z)).numpy()


def standardised(x):
    return (x - X.mean(0)) / X.std(0)


def kernel_ridge(ridge, targets, rows):
    """Return scikit-learn's kernel ridge regression on some rows, and the kernel of all to them."""
    z = standardised(X)
    model = KernelRidge(alpha=ridge, kernel="precomputed").fit(relu_kernel(z[rows], z[rows]), targets[rows])
    return lambda x: model.predict(relu_kernel(standardised(x), z[rows]))


def coded(y):
    """Return centred targets, as documented."""
    if y is NUMBERS:
        return (y - y.mean())[:, None]
    hits = y[:, None] == np.unique(y)
    return np.where(hits[:, 1:], 1.0, -1.0) if hits.shape[1] == 2 else hits - 1 / hits.shape[1]


def model_of(y, ridge="auto"):
    return (lo.LeftOutRegressor if y is NUMBERS else lo.LeftOutClassifier)(ridge=ridge).fit(X, y)


TARGETS = pytest.mark.parametrize("y", [NUMBERS, TWO, THREE], ids=["numbers", "two", "three"])


@TARGETS
def test_it_is_kernel_ridge_regression_fitted_again(y):
    model, targets = model_of(y), coded(y)
    everyone = np.arange(30)
    as_fitted = kernel_ridge(model.ridge_, targets, everyone)
    without = [kernel_ridge(model.ridge_, targets, np.delete(everyone, i)) for i in everyone]
    decisions = model.predict(QUERY) - NUMBERS.mean() if y is NUMBERS else model.decision_function(QUERY)
    shift = 1 / 3 if y is THREE else 0.0
    assert_same(np.reshape(decisions, (6, -1)) - shift, as_fitted(QUERY), rtol=1e-8)
    left_out = np.concatenate([f(X[[i]]) for i, f in enumerate(without)])
    given = (
        model.left_out_predictions_ - NUMBERS.mean() if y is NUMBERS else model.left_out_decisions_ - shift
    )
    assert_same(np.reshape(given, (30, -1)), left_out, rtol=1e-8)
    truth = targets[:6]
    loss = ((as_fitted(QUERY) - truth) ** 2).sum(1) / 2
    want = np.stack([((f(QUERY) - truth) ** 2).sum(1) / 2 - loss for f in without], axis=1)
    assert_same(model.influence(QUERY, y[:6]), want, rtol=1e-8)


@pytest.mark.sample(1)
@TARGETS
def test_auto_is_the_ridge_of_least_left_out_loss(y):
    model, targets = model_of(y), coded(y)
    scale = np.diagonal(relu_kernel(standardised(X), standardised(X))).mean()
    ridges = scale * 10 ** (np.arange(-10, 3) / 2)
    everyone = np.arange(30)
    losses = [
        sum(
            ((kernel_ridge(ridge, targets, np.delete(everyone, i))(X[[i]]) - targets[i]) ** 2).sum()
            for i in everyone
        )
        for ridge in ridges
    ]
    best = ridges[int(np.argmin(losses))]
    assert model.ridge_ == pytest.approx(best, rel=5e-4)  # ridges that are tried have four digits


def test_labels_left_out_are_those_of_the_decisions():
    model = model_of(THREE)
    assert (model.left_out_predictions_ == model.classes_[model.left_out_decisions_.argmax(1)]).all()
    two = model_of(TWO)
    assert (two.left_out_predictions_ == np.where(two.left_out_decisions_ > 0, "yes", "no")).all()


def test_real_data_are_predicted_without_themselves():
    """A control beside it: with shuffled targets nothing is."""
    x, y = load_diabetes(return_X_y=True)
    x, y = x[:120], y[:120]
    model = lo.LeftOutRegressor().fit(x, y)
    shuffled = RANDOM.permutation(y)
    control = lo.LeftOutRegressor().fit(x, shuffled)

    def explained(truth, left_out):
        return 1 - ((truth - left_out) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()

    assert explained(y, model.left_out_predictions_) > 0.35
    assert explained(shuffled, control.left_out_predictions_) < 0.1
    flowers, kinds = load_iris(return_X_y=True)
    classifier = lo.LeftOutClassifier().fit(flowers, kinds)
    assert (classifier.left_out_predictions_ == kinds).mean() > 0.9
    wrong = RANDOM.permutation(kinds)
    assert (lo.LeftOutClassifier().fit(flowers, wrong).left_out_predictions_ == wrong).mean() < 0.5


def test_it_lives_in_the_tools_of_scikit_learn():
    search = GridSearchCV(lo.LeftOutClassifier(), {"ridge": [0.1, "auto"]}, cv=2).fit(X, TWO)
    assert search.best_estimator_.score(X, TWO) > 0.8
    assert len(cross_val_score(lo.LeftOutRegressor(), X, NUMBERS, cv=3)) == 3
    same = pickle.loads(pickle.dumps(search.best_estimator_))
    assert_same(same.decision_function(QUERY), search.best_estimator_.decision_function(QUERY))
    assert clone(same).get_params() == same.get_params()


def test_several_targets_keep_their_columns():
    both = np.c_[NUMBERS, -NUMBERS]
    model = lo.LeftOutRegressor(ridge=0.2).fit(X, both)
    one = lo.LeftOutRegressor(ridge=0.2).fit(X, NUMBERS)
    assert model.predict(QUERY).shape == (6, 2)
    assert_same(model.left_out_predictions_[:, 0], one.left_out_predictions_)
    assert_same(model.influence(QUERY, both[:6]), 2 * one.influence(QUERY, NUMBERS[:6]))


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ridge": -1.0}, "`ridge` must be a finite number ≥ 0"),
        ({"ridge": "best"}, "`ridge` must be one of 'auto'"),
        ({"kernel": "rbf"}, "`kernel` must be a kernel, such as .*; got 'rbf'"),
        ({"standardise": 3}, "`standardise` must be one of True, False"),
        ({"memory": 100}, "needs .* more than the budget"),
        (
            {"kernel": lo.kernels.LabelAware(lo.kernels.ReLU(1), "kr-v1", 0.1)},
            "for a kernel that sees labels",
        ),
    ],
    ids=str,
)
def test_options_that_are_refused(options, words):
    with pytest.raises(lo.LeftoutError, match=words):
        lo.LeftOutClassifier(**options).fit(X, THREE)


def test_a_class_that_training_does_not_have_is_refused():
    with pytest.raises(lo.LeftoutError, match="classes of training, no, yes; row 1 is"):
        model_of(TWO).influence(QUERY[:2], ["yes", "perhaps"])

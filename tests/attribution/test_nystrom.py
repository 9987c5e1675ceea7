"""A kernel seen from some of the examples: near where it is asked to be, and refused where it is not."""

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.core.errors import ApproximationError, OptionError
from leftout.core.product_matrix import ProductMatrix
from leftout.kernels import Empirical, From, LinearFeatures, ReLU

N, RIDGE = 300, 0.05
TRAIN, QUERY = lo.load("digits", n_train=N, n_query=40, seed=0)
KERNEL = ReLU(1)


def fitted(rank, *, rule=None, agreement=-0.99, kernel=KERNEL, train=TRAIN):
    solver = lo.Nystrom(rank=rank, agreement=agreement)
    return lo.fit(kernel, train, rule=rule or lo.Ridge(RIDGE), solver=solver)


def dense(rule=None, train=TRAIN):
    return lo.fit(KERNEL, train, rule=rule or lo.Ridge(RIDGE), solver="dense")


def correlation(one, other):
    return np.corrcoef(np.asarray(one).ravel(), np.asarray(other).ravel())[0, 1]


def test_predictions_are_of_the_projected_kernel() -> None:
    model = fitted(50)
    assert isinstance(model.gram, ProductMatrix)
    landmarks = model.kernel.landmarks
    x, z = TRAIN.inputs, QUERY.inputs
    kernel = [lo.kernels.cross(KERNEL, a, b).numpy() for a in (x, z) for b in (landmarks,)]
    middle = np.linalg.inv(lo.kernels.gram(KERNEL, landmarks).numpy())
    gram, cross = kernel[0] @ middle @ kernel[0].T, kernel[1] @ middle @ kernel[0].T
    dual = np.linalg.solve(gram + RIDGE * np.eye(N), TRAIN.targets.numpy())
    assert_same(model.predict(QUERY), cross @ dual, 1e-8)
    assert_same(model.gram.numbers, gram, 1e-9)


@pytest.mark.parametrize(
    ("rule", "at"), [(lo.Ridge(RIDGE), None), (lo.GradientFlow(1.0), 3.0)], ids=["end", "time"]
)
def test_more_columns_come_nearer_and_all_are_exact(rule, at) -> None:
    want = dense(rule).predict(QUERY, at=at)
    off = [float((fitted(rank, rule=rule).predict(QUERY, at=at) - want).norm()) for rank in (20, 100, N)]
    assert off[0] > 2 * off[1] > 4 * off[2]
    assert off[2] < 1e-7 * float(want.norm())


def test_single_effects_come_with_their_agreement() -> None:
    want = lo.leave_one_out(dense(), QUERY)
    for rank in (40, 150):
        found = lo.leave_one_out(fitted(rank), QUERY)
        said = found.attrs["nystrom_agreement"]
        true = correlation(found, want)
        # It is measured on eight columns, and true of 300: of the same size in 1 − R.
        assert (1 - true) / 4 < 1 - said < 4 * (1 - true)
    assert "nystrom_agreement" not in want.attrs


def test_effects_that_do_not_agree_are_refused() -> None:
    model = fitted(10, agreement=0.99)
    assert model.predict(QUERY).shape == (40, 10)
    for ask in (
        lambda: lo.leave_one_out(model, QUERY),
        lambda: lo.leave_out(model, QUERY, [[0, 1]]),
        lambda: lo.first_order(model, QUERY),
        lambda: lo.relabel(model, QUERY, [0], [1]),
    ):
        with pytest.raises(
            ApproximationError, match=r"from 10 columns .* correlate by 0\.\d+ with exact ones at n = 300"
        ):
            ask()
    with pytest.raises(OptionError, match="need a ridge > 0"):
        lo.leave_one_out(fitted(50, rule=lo.GradientFlow(1.0)), QUERY, at=3.0)


@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_left_out_predictions_have_exact_duals_and_near_leverages(loss, monkeypatch) -> None:
    monkeypatch.setattr("leftout.dynamics.nystrom.BLOCK", 80)
    rule = lo.Ridge(RIDGE if loss == "sum" else RIDGE / N, loss)
    want, model = lo.out_of_sample(dense(rule)), fitted(100, rule=rule)
    found = lo.out_of_sample(model)
    assert correlation(found, want) > 0.9995
    # Leverages and duals of the approximation alone are further off.
    ridge = rule.effective_ridge(N - 1)
    near = model.factor(ridge).solve(model.residual) / model.inverse(ridge).diagonal()[:, None]
    assert 1 - correlation(TRAIN.targets - near, want) > 10 * (1 - correlation(found, want))
    monkeypatch.setattr("leftout.dynamics.nystrom.BLOCK", N)
    assert_same(lo.out_of_sample(fitted(100, rule=rule)), want, 1e-7)


def test_shuffled_labels_are_no_harder() -> None:
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    shuffled = TRAIN.with_labels(TRAIN.labels[order])
    want, found = lo.out_of_sample(dense(train=shuffled)), lo.out_of_sample(fitted(100, train=shuffled))
    assert correlation(found, want) > 0.999


def test_the_record_says_what_it_is_and_how_far() -> None:
    model = fitted(100)
    assert model.kernel.record["rank"] == 100
    assert 0 < model.kernel.record["missed_trace"] < 0.2
    certificate = lo.certify(model, QUERY)
    assert 0 < certificate.approximation["spectral"] < 0.2
    assert lo.fit(KERNEL, TRAIN, solver="nystrom").kernel.record["rank"] == N, "no more than there are"
    again = fitted(100)
    assert torch.equal(model.kernel.landmarks, again.kernel.landmarks)


def test_what_it_does_not_take_is_refused() -> None:
    network = torch.nn.Linear(64, 10).double()
    train, _ = lo.load("digits", n_train=40, n_query=10, normalise=None, centre="none")
    with pytest.raises(OptionError, match=r"`solver` cannot be .nystrom. for Empirical"):
        lo.fit(
            Empirical(torch.nn.Sequential(torch.nn.Flatten(), network), weights="initial"),
            train,
            solver="nystrom",
        )
    for options, message in (
        ({"rank": 0}, "`rank` must be"),
        ({"agreement": 1.0}, r"`agreement` must lie in \(-1, 1\)"),
        ({"seed": -1}, "`seed`"),
    ):
        with pytest.raises(lo.LeftoutError, match=message):
            lo.Nystrom(**options)
    with pytest.raises(OptionError, match="`solver` must be"):
        lo.fit(KERNEL, TRAIN, solver="sparse")
    with pytest.raises(OptionError, match=r"`solver` cannot be .features. for From"):
        lo.fit(From(lambda x, z: x @ z.T), TRAIN, solver="features")


def test_features_can_be_asked_for() -> None:
    few = TRAIN.select(range(70))
    assert isinstance(lo.fit(LinearFeatures(), few, solver="features").gram, ProductMatrix)
    assert not isinstance(lo.fit(LinearFeatures(), few).gram, ProductMatrix)
    assert not isinstance(lo.fit(LinearFeatures(), TRAIN, solver="dense").gram, ProductMatrix)

"""A model that is kept as features answers as the definition says, and holds no matrix of examples."""

import numpy as np
import pytest
import torch
from torch import nn

import leftout as lo
from allocated import peak_memory
from laws import assert_same
from leftout.attribution.engine.at_times import engine_at
from leftout.core.errors import MemoryBudgetError, NotPositiveError, OptionError
from leftout.core.product_matrix import ProductMatrix
from leftout.core.structured_matrix import StructuredMatrix
from leftout.kernels import Empirical, Gaussian, LinearFeatures, ReLU
from oracles import definitions as oracles
from problems.small import training

N, D, M, K = 40, 5, 4, 2
SCALE, BIAS = 0.7, 0.3
GROUPS = [[0, 1, 2], list(range(4, 16)), list(range(30))]
RULES = {
    "ridge": (lo.Ridge(0.05), [None]),
    "mean ridge": (lo.Ridge(0.005, "mean"), [None]),
    "flow": (lo.GradientFlow(1.0), [0.0, 0.01, 0.3, 9.0]),
    "mean flow with decay": (lo.GradientFlow(9.0, 0.01, "mean"), [0.3, None]),
    "descent": (lo.GradientDescent(0.01), [3, 333]),
}
EVERY_RULE = pytest.mark.parametrize("name", RULES)


def draw(n=N, d=D, m=M, k=K, seed=0):
    """Return training examples and queries, whose targets the features explain in part."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n + m, d, generator=generator, dtype=torch.float64)
    weights = torch.randn(d, k, generator=generator, dtype=torch.float64)
    y = x @ weights + 0.5 * torch.randn(n + m, k, generator=generator, dtype=torch.float64)
    return (x[:n], y[:n]), (x[n:], y[n:])


TRAIN, QUERY = draw()


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Let six features be few for forty examples: what decides is tested by itself."""
    monkeypatch.setattr("leftout.dynamics.fit_features.FEWER", 2)


def parts():
    """Return Gram matrix, cross kernel, residual and targets of the queries, from the definition."""
    (x, y), (z, wanted) = [[side.numpy() for side in pair] for pair in (TRAIN, QUERY)]
    return SCALE * x @ x.T + BIAS, SCALE * z @ x.T + BIAS, y, wanted


def model(name):
    fitted = lo.fit(LinearFeatures(SCALE, BIAS), TRAIN, rule=RULES[name][0])
    assert isinstance(fitted.gram, ProductMatrix)
    return fitted, RULES[name][1], [training(RULES[name][0], time) for time in RULES[name][1]]


@EVERY_RULE
@pytest.mark.parametrize("of", ["loss", "prediction"])
def test_leaving_out_is_fitting_without(name, of) -> None:
    fitted, times, trainings = model(name)
    singles = lo.leave_one_out(fitted, QUERY, at=times, of=of).values
    groups = lo.leave_out(fitted, QUERY, GROUPS, at=times, of=of).values
    for j, one in enumerate(trainings):
        assert_same(singles[j], oracles.leave_one_out(*parts(), one, of))
        assert_same(groups[j], oracles.leave_out(*parts(), one, GROUPS, of))


@EVERY_RULE
def test_predictions_and_edits_are_those_of_the_edited_data(name) -> None:
    fitted, times, trainings = model(name)
    gram, cross, residual, _ = parts()
    rows, new = [4, 0], np.array([[1.0, -2.0], [0.0, 0.5]])
    relabelled = lo.relabel(fitted, QUERY, rows, new, at=times).values
    lighter = lo.reweight(fitted, QUERY, rows, 0.4, at=times).values
    outside = lo.out_of_sample(fitted, at=times)
    for j, (time, one) in enumerate(zip(times, trainings, strict=True)):
        assert_same(fitted.predict(QUERY[0], at=time), oracles.predictions(gram, cross, residual, one))
        assert_same(outside[j], oracles.out_of_sample(gram, residual, one))
        assert_same(relabelled[j], oracles.relabelled(*parts(), one, rows, new))
        assert_same(lighter[j], oracles.reweighted(*parts(), one, rows, 0.4))


def questions(query):
    """Return what else is asked of a model, by name."""
    new = (query[0][:2] + 1, query[1][:2])
    return {
        "best": lambda fitted: lo.leave_one_out(fitted, query, top=3),
        "mean": lambda fitted: lo.leave_one_out(fitted, query, mean=True),
        "mean of predictions": lambda fitted: lo.leave_one_out(fitted, query, mean=True, of="prediction"),
        "added": lambda fitted: lo.add(fitted, query, *new),
        "information": lambda fitted: lo.information(fitted, query),
        "first order": lambda fitted: lo.first_order(fitted, query),
        "complexity": lambda fitted: lo.complexity(fitted, GROUPS, of="fitted"),
        "outliers": lambda fitted: [one.row for one in lo.outliers(fitted)],
        "spread": lambda fitted: lo.leave_one_out(fitted, query, spread=True, prior=ReLU(1, kind="nngp")),
    }


def numbers(answer):
    """Return an answer as one vector."""
    if hasattr(answer, "data_vars"):
        return np.concatenate(
            [np.asarray(one.values, dtype=float).ravel() for one in answer.data_vars.values()]
        )
    return np.asarray(answer, dtype=float).ravel()


@pytest.mark.parametrize("name", ["ridge", "flow"])
def test_all_questions_have_the_answers_of_the_matrix(name, monkeypatch) -> None:
    fitted, _, _ = model(name)
    monkeypatch.setattr("leftout.dynamics.fit.is_kept_as_features", lambda kernel, inputs: False)
    dense = lo.fit(LinearFeatures(SCALE, BIAS), TRAIN, rule=RULES[name][0])
    assert not isinstance(dense.gram, StructuredMatrix)
    asked = questions(QUERY)
    if name == "flow":  # without a ridge the end of training is refused, by both
        for one in (fitted, dense):
            with pytest.raises(NotPositiveError, match="not positive definite"):
                lo.leave_one_out(one, QUERY)
        asked = {
            "information": lambda fitted: lo.information(fitted, QUERY, at=0.3),
            "contributions": lambda fitted: engine_at(fitted, 0.3).contributions(3, torch.ones(K).double()),
            "dual": lambda fitted: fitted.dual(0.3),
            "trajectory": lambda fitted: lo.trajectory(fitted, [0.3, 2.0]),
            "subset": lambda fitted: fitted.subset(torch.arange(20)).predict(QUERY[0], at=0.3),
            "small subset": lambda fitted: fitted.subset(torch.arange(4)).predict(QUERY[0], at=0.3),
        }
    for ask in asked.values():
        assert_same(numbers(ask(fitted)), numbers(ask(dense)), 1e-9)


def test_a_learning_curve_has_the_eigenvalues_that_are_zero_as_well(monkeypatch) -> None:
    train, _ = draw(n=160, k=1)
    features = lo.fit(LinearFeatures(), train, rule=lo.Ridge(0.5))
    monkeypatch.setattr("leftout.dynamics.fit.is_kept_as_features", lambda kernel, inputs: False)
    dense = lo.fit(LinearFeatures(), train, rule=lo.Ridge(0.5))
    for name in ("error", "error_low", "error_high"):
        found, want = (getattr(lo.learning_curve(fitted, [50, 300]), name) for fitted in (features, dense))
        assert_same(found, want, 1e-9)


def test_a_spread_in_time_is_refused() -> None:
    fitted, _, _ = model("flow")
    with pytest.raises(OptionError, match="needs all eigenpairs of the kernel matrix"):
        lo.leave_one_out(fitted, QUERY, at=0.3, spread=True, prior=ReLU(1, kind="nngp"))


@pytest.mark.parametrize("name", ["ridge", "flow"])
def test_the_certificate_refits_from_the_features(name) -> None:
    fitted, times, _ = model(name)
    certificate = lo.certify(fitted, QUERY, at=times[-1])
    # Targets are of order one, the condition 10³; a refit adds up duals of order 1/ridge or of the time.
    assert max(abs(one.engine - one.refit) for one in certificate.refits) < 1e-11
    assert certificate.residual < 1e-12


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(D, 4), nn.Tanh(), nn.Linear(4, K)).double()


@pytest.mark.parametrize(
    "kernel",
    [
        lambda: Empirical(network(), weights="initial", parameters="last:1"),
        lambda: Empirical(network(), weights="initial", projection=Gaussian(size=9)),
    ],
    ids=["last layer", "projected"],
)
@pytest.mark.parametrize(
    ("rule", "at"), [(lo.Ridge(0.1), None), (lo.GradientFlow(0.5), 2.0)], ids=["end", "time"]
)
def test_rows_of_several_outputs_leave_together(kernel, rule, at, monkeypatch) -> None:
    rows = lo.fit(kernel(), TRAIN, rule=rule)
    assert isinstance(rows.gram, ProductMatrix)
    monkeypatch.setattr("leftout.dynamics.fit.is_kept_as_features", lambda kernel, inputs: False)
    dense = lo.fit(kernel(), TRAIN, rule=rule)
    for ask in (
        lambda fitted: lo.leave_one_out(fitted, QUERY, at=at),
        lambda fitted: lo.leave_one_out(fitted, QUERY, at=at, top=3),
        lambda fitted: lo.leave_out(fitted, QUERY, GROUPS, at=at),
        lambda fitted: lo.out_of_sample(fitted, at=at),
        lambda fitted: lo.information(fitted, QUERY, at=at),
    ):
        assert_same(numbers(ask(rows)), numbers(ask(dense)), 1e-9)


def test_a_ridge_is_chosen_from_the_features(monkeypatch) -> None:
    chosen = lo.fit(LinearFeatures(), TRAIN, rule=lo.Ridge("auto"))
    monkeypatch.setattr("leftout.dynamics.fit.is_kept_as_features", lambda kernel, inputs: False)
    dense = lo.fit(LinearFeatures(), TRAIN, rule=lo.Ridge("auto"))
    assert isinstance(chosen.gram, ProductMatrix)
    assert chosen.rule == dense.rule
    assert_same(chosen.ridge_choice.losses, dense.ridge_choice.losses)


def test_no_matrix_of_examples_is_held() -> None:
    n = 3000
    train, query = draw(n, 6, 50)
    matrix = 8 * n**2

    def ask(rule, at):
        fitted = lo.fit(LinearFeatures(), train, rule=rule, memory=matrix / 2)
        lo.leave_one_out(fitted, query, at=at, top=5)
        lo.leave_one_out(fitted, query, at=at, mean=True)
        lo.leave_out(fitted, query, [range(30)], at=at)
        lo.out_of_sample(fitted, at=at)
        lo.certify(fitted, query, at=at, refit_examples=1)

    assert peak_memory(ask, lo.Ridge(1.0), None) < matrix / 4
    assert peak_memory(ask, lo.GradientFlow(1e-3), 2.0) < matrix / 2


def test_what_decides_is_stated(monkeypatch) -> None:
    monkeypatch.setattr("leftout.dynamics.fit_features.FEWER", 4)
    few, many = (lo.fit(LinearFeatures(), (TRAIN[0][:n], TRAIN[1][:n])) for n in (20, 19))
    assert isinstance(few.gram, ProductMatrix)
    assert not isinstance(many.gram, ProductMatrix)
    assert few.kept_as == "20 rows of 5 features, in n d² instead of n³"
    assert few.kept_as in few._repr_html_()
    assert not many.kept_as
    assert few.gram.left.data_ptr() == few.train.inputs.data_ptr(), "inputs are not copied"
    with pytest.raises(MemoryBudgetError, match=r"40 rows of 6 features needs 1.92 kB"):
        lo.fit(LinearFeatures(bias=1.0), TRAIN, memory=1000)


def test_an_audit_of_features_is_that_of_the_matrix() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(130, 6, generator=generator, dtype=torch.float64)
    y = (x[:, 0] + 0.5 * torch.randn(130, generator=generator, dtype=torch.float64) > 0).long()
    train, query = (x[:120], y[:120]), (x[120:], y[120:])
    options = {"rule": lo.Ridge(1.0), "refit_examples": 1, "memory": "2GB"}
    features, dense = (
        lo.audit(LinearFeatures(), train, query, solver=solver, **options) for solver in ("auto", "dense")
    )
    assert isinstance(features.fitted.gram, ProductMatrix)
    assert not isinstance(dense.fitted.gram, StructuredMatrix)
    assert_same(features.findings.scores.values, dense.findings.scores.values)
    assert features.findings.redundant.order == dense.findings.redundant.order
    assert [one.row for one in features.findings.outliers] == [one.row for one in dense.findings.outliers]
    assert [one.row for one in features.findings.suspects] == [one.row for one in dense.findings.suspects]

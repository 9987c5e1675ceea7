"""Where the kernel matrix of a network does not fit: are the answers of its rows those of the definition?"""

import numpy as np
import pytest
import torch
from torch import nn

import leftout as lo
from allocated import peak_memory
from attribution.test_cross_entropy import Case, data, network
from laws import assert_same
from leftout.core.errors import MemoryBudgetError
from leftout.core.product_matrix import ProductMatrix
from leftout.kernels import Empirical, Gaussian
from leftout.planning.plan import plan


@pytest.fixture
def keep_rows(monkeypatch):
    """Return what decides whether networks under cross-entropy keep rows, as if their matrix did not fit."""

    def decide(kept):
        def decision(kernel, inputs, rule, budget):
            del inputs, budget
            return kept and isinstance(rule, lo.Logistic) and isinstance(kernel, Empirical)

        monkeypatch.setattr("leftout.dynamics.fit.is_kept_as_rows", decision)
        monkeypatch.setattr("leftout.planning.planned_audit.is_kept_as_rows", decision)

    return decide


KERNELS = {
    "trained, three outputs": lambda: (Empirical(network(3)), 3),
    "trained, last layer": lambda: (Empirical(network(3), parameters="last:1"), 3),
    "trained, two outputs": lambda: (Empirical(network(2)), 2),
    "initial": lambda: (Empirical(network(3), weights="initial"), 3),
    "few weights": lambda: (Empirical(network(3, width=1), weights="initial"), 3),
}


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", KERNELS)
def test_answers_are_fits_in_the_weights(name, keep_rows) -> None:
    kernel, k = KERNELS[name]()
    pair = data(k)
    keep_rows(False)
    case = Case(kernel, pair, lo.Logistic(0.05))
    keep_rows(True)
    fitted = lo.fit(kernel, pair, rule=lo.Logistic(0.05))
    assert type(case.fitted.gram) is torch.Tensor
    assert isinstance(fitted.gram, ProductMatrix)
    query, with_all = case.query, case.oracle.predict()
    assert abs(fitted.predict(query).numpy() - with_all).max() <= 1e-9 * abs(with_all).max()
    groups = [[0, 1, 2], list(range(4, 16))]
    singles = [
        lo.leave_one_out(fitted, query, newton_steps=None, of=of).values for of in ("prediction", "loss")
    ]
    together = [lo.leave_out(fitted, query, groups, of=of).values for of in ("prediction", "loss")]
    for i in (0, 9, 23):
        after = case.oracle.predict(case.without([i]))
        case.check(singles[0][:, i], singles[1][:, i], (with_all, after))
    for j, group in enumerate(groups):
        after = case.oracle.predict(case.without(group))
        case.check(together[0][:, j], together[1][:, j], (with_all, after))


def questions(query):
    """Return what is asked of a model, by name."""
    rows = [3, 7]
    return {
        "one step": lambda fitted: lo.leave_one_out(fitted, query).values,
        "first order": lambda fitted: lo.first_order(fitted, query).values,
        "reweight": lambda fitted: lo.reweight(fitted, query, rows, 0.5).values,
        "relabel": lambda fitted: lo.relabel(fitted, query, rows, [0, 1]).values,
        "probabilities": lambda fitted: fitted.probabilities(query),
        "refits": lambda fitted: [refit.refit for refit in lo.certify(fitted, query).refits],
        "outliers": lambda fitted: [one.row for one in lo.outliers(fitted)],
    }


@pytest.mark.parametrize("weights", ["trained", "initial"])
def test_all_questions_have_the_answers_of_the_matrix(weights, keep_rows) -> None:
    pair, kernel = data(3), Empirical(network(3), weights=weights)
    dense = lo.fit(kernel, pair, rule=lo.Logistic(0.05))
    keep_rows(True)
    fitted = lo.fit(kernel, pair, rule=lo.Logistic(0.05))
    query = fitted.train.select(range(6))
    asked = questions(query)
    if weights == "initial":
        asked["out of sample"] = lo.out_of_sample
    for name, ask in asked.items():
        found, want = (torch.as_tensor(np.asarray(ask(model))) for model in (fitted, dense))
        # One step is solved exactly on rows, and by conjugate gradients on the matrix.
        assert_same(found.double(), want.double(), 1e-3 if name in ("one step", "out of sample") else 1e-7)


def test_projected_rows_are_kept_as_well(keep_rows) -> None:
    keep_rows(True)
    kernel = Empirical(network(3), projection=Gaussian(size=20))
    fitted = lo.fit(kernel, data(3), rule=lo.Logistic(0.05))
    assert isinstance(fitted.gram, ProductMatrix)
    assert_same(fitted.gram.numbers, lo.kernels.gram(kernel, fitted.train.inputs), 1e-12)


def classifier(n=240):
    """Return digits and a network that has learned them a little; its last layer has 110 weights."""
    train, query = lo.load("digits", n_train=n, n_query=10, normalise=None, centre="none")
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Tanh(), nn.Linear(10, 10)).double()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.3, momentum=0.9)
    for _ in range(100):
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(train.inputs), train.labels).backward()
        optimiser.step()
    return module, train, query


def test_the_budget_decides_and_is_kept(monkeypatch) -> None:
    module, train, query = classifier(400)
    matrix, budget = 8 * (400 * 10) ** 2, 58e6  # 128 MB
    assert budget < matrix / 2

    def answers(memory, features=False):
        monkeypatch.setattr("leftout.dynamics.fit.is_kept_as_features", lambda kernel, inputs: features)
        kernel = Empirical(module, parameters="last:1")
        fitted = lo.fit(kernel, train, rule=lo.Logistic(0.5), memory=memory)
        return fitted, lo.leave_one_out(fitted, query), lo.leave_out(fitted, query, [range(30)])

    dense, *want = answers("1GB")
    assert type(dense.gram) is torch.Tensor
    for rows, *found in (answers(budget), answers("1GB", features=True)):
        assert isinstance(rows.gram, ProductMatrix)
        for one, other, rtol in zip(found, want, (5e-3, 1e-9), strict=True):
            assert_same(torch.tensor(one.values), torch.tensor(other.values), rtol)
    assert peak_memory(answers, budget) <= budget
    drawn = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()
    # Squared loss factors the matrix: it is refused where there are about as many weights as rows.
    with pytest.raises(MemoryBudgetError, match="A model of 400 examples, 10 rows each"):
        lo.fit(Empirical(drawn, weights="initial"), train, rule=lo.Ridge(1.0), memory=budget)
    # And so it is where rows are no shorter than the budget allows.
    with pytest.raises(MemoryBudgetError, match="A model of 400 examples, 10 rows each"):
        lo.fit(Empirical(module), train, rule=lo.Logistic(0.5), memory=budget)


@pytest.mark.usefixtures("machine_measured_once")
def test_an_audit_and_its_plan_keep_rows_where_the_matrix_does_not_fit(keep_rows) -> None:
    keep_rows(True)
    module, train, query = classifier()
    rule, kernel = lo.Logistic(0.5), Empirical(module, parameters="last:1")
    found = lo.audit(kernel, train, query, rule=rule, refit_examples=1, memory="1GB")
    planned = {step.name: step for step in plan(kernel, train, query, rule=rule, memory="1GB").steps}
    keep_rows(False)
    want = lo.audit(kernel, train, query, rule=rule, refit_examples=1, memory="1GB")
    assert isinstance(found.fitted.gram, ProductMatrix)
    assert_same(torch.tensor(found.findings.scores.values), torch.tensor(want.findings.scores.values), 1e-3)
    assert found.findings.redundant.order[:50] == want.findings.redundant.order[:50]
    assert [one.row for one in found.findings.outliers] == [one.row for one in want.findings.outliers]
    assert planned["kernel"].method == "2400 rows of 110 features, kept in place of their products"
    assert "15 products of (2400 × 110)(110 × 240)" in planned["scores"].method
    dense = plan(kernel, train, query, rule=rule, memory="1GB")
    assert planned["factorisation"].memory < dense.steps[2].memory - 8 * 2400**2 / 2

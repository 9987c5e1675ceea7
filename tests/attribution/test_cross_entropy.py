"""Every answer under cross-entropy against fits in the weights, dense and from the definition."""

from copy import copy

import numpy as np
import pytest
import torch
from torch import nn

import leftout as lo
from leftout.core.errors import DataError, NotPositiveError, OptionError, ShapeError
from leftout.core.structured_matrix import to_numbers
from leftout.data.pairs import examples_of
from leftout.solvers.cross_entropy import cross_entropy_change
from oracles.cross_entropy import DenseLogistic, cross_entropy, probabilities

OF = ("prediction", "loss")
EXACT = 1e-8
"""Of the largest effect: fits end at 1e-11 of the predictions, and effects are a hundredth of them or "
"more."""


def data(k, *, n=24, d=5, seed=0, noise=0.2):
    """Return inputs and labels of k classes, some of them wrong, every class there."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.nn.functional.normalize(torch.randn(n, d, generator=generator, dtype=torch.float64))
    labels = (inputs @ torch.randn(d, k, generator=generator, dtype=torch.float64)).argmax(1)
    wrong = torch.rand(n, generator=generator) < noise
    labels[wrong] = torch.randint(k, (int(wrong.sum()),), generator=generator)
    labels[:k] = torch.arange(k)
    return inputs, labels


class Case:
    """A fitted model, queries, and the oracle of both."""

    def __init__(self, kernel, pair, rule, *, queries=8, seed=1):
        inputs, labels = pair
        self.fitted = lo.fit(kernel, pair, rule=rule)
        generator = torch.Generator().manual_seed(seed)
        points = torch.nn.functional.normalize(
            torch.randn(queries, inputs.shape[1], generator=generator, dtype=torch.float64)
        )
        self.query = examples_of(
            (points, labels[torch.randint(len(labels), (queries,), generator=generator)]),
            encoding=self.fitted.train.encoding,
        )
        total = len(inputs) if rule.loss == "mean" else 1
        self.oracle = DenseLogistic(
            to_numbers(self.fitted.gram).numpy(),
            to_numbers(self.fitted.cross(points)).numpy(),
            self.fitted.initial(inputs).numpy(),
            self.fitted.initial(points).numpy(),
            self.fitted.train.targets.numpy(),
            ridge=rule.ridge * total,
            tilted=kernel.is_trained,
        )

    def without(self, group):
        weights = np.ones(len(self.fitted))
        weights[group] = 0
        return weights

    def check(self, prediction, loss, predicted):
        """Compare both effects, first minus second of two dense predictions."""
        first, second = predicted
        targets = self.query.targets.numpy()
        size = max(abs(first - second).max(), 1e-12)
        assert abs(prediction - (first - second)).max() <= EXACT * size
        change = cross_entropy(second, targets) - cross_entropy(first, targets)
        assert abs(loss - change).max() <= EXACT * max(abs(change).max(), size)


def network(k, *, seed=0, width=6):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, width), nn.Tanh(), nn.Linear(width, k)).double()


CASES = {
    "one output": lambda ridge: Case(lo.kernels.ReLU(1), data(2), lo.Logistic(ridge)),
    "three classes": lambda ridge: Case(lo.kernels.ReLU(1), data(3), lo.Logistic(ridge)),
    "mean loss": lambda ridge: Case(lo.kernels.ReLU(1), data(3), lo.Logistic(ridge, "mean")),
    "seven classes": lambda ridge: Case(lo.kernels.ReLU(2), data(7), lo.Logistic(ridge)),
    # More rows than the preconditioner has directions: conjugate gradients have to work.
    "more than its leading directions": lambda ridge: Case(
        lo.kernels.ReLU(2), data(3, n=90), lo.Logistic(ridge)
    ),
    "network of two outputs": lambda ridge: Case(
        lo.kernels.Empirical(network(2)), data(2), lo.Logistic(ridge)
    ),
    "network of three outputs": lambda ridge: Case(
        lo.kernels.Empirical(network(3)), data(3), lo.Logistic(ridge)
    ),
}


@pytest.mark.sample(9)
@pytest.mark.parametrize("ridge", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("name", CASES)
def test_leaving_out_is_a_fit_without(name, ridge):
    case = CASES[name](ridge)
    fitted, query = case.fitted, case.query
    with_all = case.oracle.predict()
    assert abs(fitted.predict(query).numpy() - with_all).max() <= 1e-9 * abs(with_all).max()
    p = fitted.probabilities(query).numpy()
    assert p.sum(1) == pytest.approx(1, abs=1e-14)
    assert p[:, -1] == pytest.approx(probabilities(with_all)[:, -1], abs=1e-9)
    singles = [
        lo.leave_one_out(fitted, query, newton_steps=None, of=of).values for of in ("prediction", "loss")
    ]
    groups = [[0, 1, 2], [5], list(range(4, 16))]
    together = [lo.leave_out(fitted, query, groups, of=of).values for of in ("prediction", "loss")]
    mean = fitted.rule.loss == "mean"
    n = len(fitted)
    for i in range(0, n, max(5, n // 4)):
        total = {"ridge": fitted.rule.ridge * (n - 1)} if mean else {}
        after = case.oracle.predict(case.without([i]), **total)
        case.check(singles[0][:, i], singles[1][:, i], (with_all, after))
    for j, group in enumerate(groups):
        total = {"ridge": fitted.rule.ridge * (n - len(group))} if mean else {}
        after = case.oracle.predict(case.without(group), **total)
        case.check(together[0][:, j], together[1][:, j], (with_all, after))


@pytest.mark.parametrize("name", ["one output", "three classes", "network of three outputs"])
def test_other_labels_weights_and_examples_are_fits_with_them(name):
    case = CASES[name](0.05)
    fitted, query, oracle = case.fitted, case.query, case.oracle
    with_all = oracle.predict()
    for row in (4, 7):
        wanted = (int(fitted.train.labels[row]) + 1) % len(fitted.train.classes)
        targets = oracle.targets.copy()
        targets[row] = fitted.train.encoding.encode(torch.tensor([wanted])).numpy()
        both = [lo.relabel(fitted, query, [row], wanted, of=of).values[:, 0] for of in OF]
        case.check(*both, (with_all, oracle.predict(targets=targets)))
    for weight in (0.0, 0.3, 2.0):
        weights = np.ones(len(fitted))
        weights[3] = weight
        both = [lo.reweight(fitted, query, [3], weight, of=of).values[:, 0] for of in OF]
        case.check(*both, (with_all, oracle.predict(weights)))
    inputs, labels = query.inputs[:2], query.labels[:2]
    both = [lo.add(fitted, query, inputs, labels.tolist(), of=of).values for of in OF]
    for column in range(2):
        if fitted.tilt is None:
            pair = (
                torch.cat([fitted.train.inputs, inputs[column : column + 1]]),
                torch.cat([fitted.train.labels, labels[column : column + 1]]),
            )
            after = lo.fit(fitted.kernel, pair, rule=fitted.rule).predict(query).numpy()
        else:
            after = with_example(case, column).predict()
        case.check(both[0][:, column], both[1][:, column], (after, with_all))


def with_example(case, column):
    """Return the oracle with a query as one more example, in the weights of its network."""
    module, oracle, query = case.fitted.kernel.module, case.oracle, case.query

    def rows(inputs):
        weights = dict(module.named_parameters())
        jacobians = torch.func.vmap(
            torch.func.jacrev(lambda w, x: torch.func.functional_call(module, w, (x[None],))[0]), (None, 0)
        )({name: weight.detach() for name, weight in weights.items()}, inputs)
        return torch.cat([j.flatten(2) for j in jacobians.values()], 2).flatten(0, 1).detach().numpy()

    oracle.features, oracle.query_features = rows(case.fitted.train.inputs), rows(query.inputs)
    oracle.tilt = oracle.features.T @ (probabilities(oracle.initial) - oracle.targets).ravel()
    k = oracle.targets.shape[1]
    larger = copy(oracle)
    larger.features = np.vstack([oracle.features, oracle.query_features[column * k : (column + 1) * k]])
    larger.initial = np.vstack([oracle.initial, oracle.query_initial[column : column + 1]])
    larger.targets = np.vstack([oracle.targets, query.targets.numpy()[column : column + 1]])
    return larger


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "name", ["one output", "seven classes", "network of three outputs", "more than its leading directions"]
)
def test_steps_converge_and_one_of_them_is_solved_for(name):
    case = CASES[name](0.05)
    fitted, query = case.fitted, case.query
    exact = lo.leave_one_out(fitted, query, newton_steps=None, of="prediction").values
    errors = [
        abs(lo.leave_one_out(fitted, query, newton_steps=steps, of="prediction").values - exact).max()
        for steps in (1, 2, 4)
    ]
    # Newton's error is squared with each step.
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[2] <= 1e-4 * abs(exact).max()
    oracle, n, k = case.oracle, *case.oracle.targets.shape
    theta = oracle.weights()
    p = probabilities(oracle.initial + (oracle.features @ theta).reshape(n, k))
    rows = oracle.features.reshape(n, k, -1)
    bent = np.stack([np.diag(row) - np.outer(row, row) if k > 1 else [[row[0] * (1 - row[0])]] for row in p])
    one = lo.leave_one_out(fitted, query, of="prediction").values
    for i in (0, 9):
        others = case.without([i])
        curvature = np.einsum("n,nad,nab,nbe->de", others, rows, bent, rows) + oracle.ridge * np.eye(
            rows.shape[2]
        )
        step = np.linalg.solve(curvature, rows[i].T @ (p[i] - oracle.targets[i]))
        change = -(oracle.query_features @ step).reshape(-1, k)
        assert abs(one[:, i] - change).max() <= 1e-3 * abs(one).max()  # where conjugate gradients stop


@pytest.mark.parametrize("name", ["one output", "network of two outputs", "more than its leading directions"])
def test_the_first_order_is_the_derivative_by_an_example_s_weight(name):
    case = CASES[name](0.05)
    fitted, query = case.fitted, case.query
    first = lo.first_order(fitted, query)
    assert np.allclose(lo.first_order(fitted, query, mean=True), first.mean("query"), atol=1e-12)
    step = 1e-4
    for i in (0, 7):
        less, more = np.ones(len(fitted)), np.ones(len(fitted))
        less[i], more[i] = 1 - step, 1 + step
        targets = query.targets.numpy()
        slope = (case.oracle.losses(targets, less) - case.oracle.losses(targets, more)) / (2 * step)
        # Conjugate gradients stop at 1e-6; the difference leaves (1e-4)² and rounding, 1e-11 / 1e-4.
        assert abs(first.values[:, i] - slope).max() <= 1e-5 * abs(first.values).max()


@pytest.mark.parametrize("name", ["one output", "three classes", "network of two outputs"])
def test_left_out_predictions_and_information_are_those_of_the_fits(name):
    case = CASES[name](0.1)
    fitted, oracle = case.fitted, case.oracle
    ours = lo.out_of_sample(fitted, newton_steps=None).numpy()
    oracle.query_initial, oracle.query_features = oracle.initial, oracle.features
    n, k = oracle.targets.shape
    theta = oracle.weights()
    weights, function = [], []
    for i in range(n):
        without = oracle.weights(case.without([i]))
        left_out = oracle.initial + (oracle.features @ without).reshape(n, k)
        assert abs(ours[i] - left_out[i]).max() <= EXACT * abs(ours).max()
        weights.append(((theta - without) ** 2).sum() / 2)
        function.append(((oracle.features @ (theta - without)) ** 2).sum() / n / 2)
    nats = lo.information(fitted, fitted.train)
    # The default is one Newton step without each.
    assert np.corrcoef(nats.weights, weights)[0, 1] > 0.99
    assert np.corrcoef(nats.function, function)[0, 1] > 0.99


def test_nothing_changes_without_data_that_a_class_needs_or_that_repeats():
    inputs, labels = data(3, n=20)
    labels = labels.clone()
    labels[labels == 2] = 0
    labels[5] = 2  # the only one of its class
    inputs = torch.cat([inputs, inputs[:4]])
    labels = torch.cat([labels, (labels[:4] + 1) % 2])  # the same inputs with other labels
    case = Case(lo.kernels.ReLU(1), (inputs, labels), lo.Logistic(0.01))
    with_all = case.oracle.predict()
    both = [lo.leave_one_out(case.fitted, case.query, newton_steps=None, of=of).values for of in OF]
    for i in (0, 5, 20):
        case.check(both[0][:, i], both[1][:, i], (with_all, case.oracle.predict(case.without([i]))))


def test_soft_labels_of_a_class_each_are_the_classes():
    inputs, labels = data(3)
    hard = lo.fit(lo.kernels.ReLU(1), (inputs, labels), rule=lo.Logistic(0.1))
    soft = lo.fit(lo.kernels.ReLU(1), (inputs, hard.train.targets), rule=lo.Logistic(0.1))
    assert torch.equal(hard.predict(inputs), soft.predict(inputs))


def test_what_cross_entropy_cannot_take_is_refused_in_a_sentence():
    inputs, labels = data(3)
    numbers = torch.randn(len(inputs), 2, dtype=torch.float64)
    with pytest.raises(DataError, match="probabilities that sum to 1; example '0' has"):
        lo.fit(lo.kernels.ReLU(1), (inputs, numbers), rule=lo.Logistic(0.1))
    with pytest.raises(DataError, match=r"probabilities that sum to 1; example '0' has 0\.5, 0\.4"):
        lo.fit(lo.kernels.ReLU(1), (inputs, torch.tensor([[0.5, 0.4]]).expand(24, 2)), rule=lo.Logistic(0.1))
    with pytest.raises(ShapeError, match="the network has 4, the data have 3 classes"):
        lo.fit(lo.kernels.Empirical(network(4)), (inputs, labels), rule=lo.Logistic(0.1))
    with pytest.raises(OptionError, match="`ridge` must be"):
        lo.Logistic(0.0)
    fitted = lo.fit(lo.kernels.ReLU(1), (inputs, labels), rule=lo.Logistic(0.1))
    with pytest.raises(OptionError, match="has no training time"):
        fitted.predict(inputs, at=3.0)
    for ask in (lambda model, _: lo.complexity(model, [[0]]), lambda model, _: lo.trajectory(model)):
        with pytest.raises(OptionError, match=r"theorem about squared loss|training time"):
            ask(fitted, fitted.train)
    with pytest.raises(OptionError, match="`newton_steps` must be"):
        lo.leave_one_out(fitted, fitted.train, newton_steps=0)
    squared = lo.fit(lo.kernels.ReLU(1), (inputs, labels))
    with pytest.raises(OptionError, match="`probabilities` are those of Logistic"):
        squared.probabilities(inputs)
    indefinite = lo.kernels.Precomputed(torch.diag(torch.tensor([-1.0] + [1.0] * 23, dtype=torch.float64)))
    with pytest.raises((NotPositiveError, DataError)):
        lo.fit(indefinite, (torch.arange(24)[:, None], labels), rule=lo.Logistic(0.1)).predict(
            torch.arange(24)[:, None]
        )


@pytest.mark.parametrize(("k", "n"), [(2, 60), (5, 60), (5, 90)])
def test_a_network_of_few_weights_has_groups_and_orders_of_removal(k, n):
    """Its kernel maps most duals to zero; steps that do not see those must not let them grow."""
    inputs, labels = data(k, n=n, d=4, seed=3, noise=0.5)
    torch.manual_seed(0)
    module = nn.Linear(4, k).double()
    case = Case(lo.kernels.Empirical(module, weights="initial"), (inputs, labels), lo.Logistic(0.005))
    groups = [[0], list(range(55))]
    effects = [lo.leave_out(case.fitted, case.query, groups, of=of).values for of in OF]
    for column, group in enumerate(groups):
        after = case.oracle.predict(case.without(group))
        case.check(effects[0][:, column], effects[1][:, column], (case.oracle.predict(), after))
    assert len(lo.prune(case.fitted, case.query).order) == n


def test_changes_of_confident_queries_keep_their_sign():
    # All digits, where a difference of losses, here of exp(−40), has none.
    wide = torch.tensor([[40.0, 0.0, 0.0], [60.0, 0.0, 0.0]], dtype=torch.float64)
    moved = torch.tensor([[0.0, 2.5, -1.0], [0.0, 2.0, 0.0]], dtype=torch.float64)
    first = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    exact = [np.exp(-40) * (np.exp(2.5) + np.exp(-1) - 2), np.exp(-60) * (np.exp(2) - 1)]
    assert cross_entropy_change(wide, moved, first).numpy() == pytest.approx(exact, rel=1e-12)
    one = cross_entropy_change(*(torch.tensor([[x]], dtype=torch.float64) for x in (40.0, -3.0, 1.0)))
    assert float(one) == pytest.approx(np.exp(-40) * (np.exp(3) - 1), rel=1e-12)
    far = cross_entropy_change(wide[:1], torch.tensor([[-90.0, 700.0, 0.0]], dtype=torch.float64), first)
    assert float(far) == pytest.approx(700 + 90 - 40, rel=1e-12)


def test_a_model_s_truth_is_fits_and_not_steps():
    case = CASES["three classes"](0.01)
    exact = lo.leave_one_out(case.fitted, case.query, newton_steps=None)
    one = lo.leave_one_out(case.fitted, case.query)
    verdicts = [
        lo.referee(scores, case.fitted, query=case.query, subsets=20, resamples=50, top=5)
        for scores in (exact, one)
    ]
    best, step = (float(verdict.estimate.sel(measure="leave_one_out")) for verdict in verdicts)
    assert best == pytest.approx(1, abs=1e-9)
    assert step < 1


def test_what_is_proved_of_squares_is_refused():
    fitted = CASES["three classes"](0.1).fitted
    pair = (fitted.train.inputs, fitted.train.labels)
    for ask in (
        lambda: lo.error_rates(fitted, pair),
        lambda: lo.bounds.lower(fitted, pair),
        lambda: lo.bounds.terms(fitted, pair),
        lambda: lo.leave_one_out(fitted, pair, spread=True),
    ):
        with pytest.raises(OptionError, match="theorem about squared loss"):
            ask()
    soft = lo.fit(lo.kernels.ReLU(1), (fitted.train.inputs, fitted.targets), rule=lo.Logistic(0.1))
    with pytest.raises(DataError, match="must be probabilities that sum to 1"):
        lo.relabel(soft, soft.train, 0, [3.0, -2.0, 7.0])

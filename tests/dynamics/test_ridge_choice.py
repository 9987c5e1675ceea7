"""Is the chosen ridge the one of least loss when every example is really left out, and what is refused?"""

import json

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.core.errors import OptionError
from oracles import definitions as oracles
from oracles import learning_curve as refits
from problems.small import problem

SHARES = np.logspace(-5, 1, 13)


def train_of(made):
    return torch.arange(made.n, dtype=torch.float64), torch.from_numpy(made.residual)


def losses_by_refits(gram, targets, ridges, mean=False):
    """½ Σ (f − y)², averaged, of fits without each example; under a mean n − 1 examples share the ridge."""
    n = len(targets)
    return [
        (refits.refitted_without_each(gram, targets, ridge * (n - 1 if mean else 1)) ** 2).sum() / (2 * n)
        for ridge in ridges
    ]


@pytest.mark.parametrize("loss", ["sum", "mean"])
@pytest.mark.parametrize("k", [1, 3])
def test_losses_are_those_of_refits_and_the_least_is_chosen(k, loss) -> None:
    made = problem(n=30, k=k)
    choice = lo.choose_ridge(made.kernel, train_of(made), loss=loss)
    unit = 30 if loss == "mean" else 1
    assert_same(np.array(choice.ridges) * unit, SHARES * np.diag(made.gram).mean(), rtol=1e-3)
    want = losses_by_refits(made.gram, made.residual, choice.ridges, loss == "mean")
    # cond(K + λ) ≤ 1 + s_max / λ, which a refit and the formula each may lose.
    worst = 20 * (1 + np.linalg.eigvalsh(made.gram)[-1] / (choice.ridges[0] * unit)) * np.finfo(float).eps
    assert_same(choice.losses, want, rtol=worst)
    assert choice.ridge == choice.ridges[int(np.argmin(want))]
    assert choice.loss == loss


def test_the_model_has_the_chosen_ridge_and_says_from_what() -> None:
    made = problem(n=30, k=2)
    fitted = lo.fit(made.kernel, train_of(made), rule=lo.Ridge("auto"))
    choice = lo.choose_ridge(made.kernel, train_of(made))
    assert fitted.rule == choice.rule == lo.Ridge(choice.ridge)
    assert fitted.ridge_choice == choice
    assert json.loads(json.dumps(choice.record))["losses"] == list(choice.losses)
    given = lo.fit(made.kernel, train_of(made), rule=choice.rule)
    assert given.ridge_choice is None
    rows, _ = train_of(made)
    assert_same(fitted.predict(rows), given.predict(rows))


def test_a_kernel_multiplied_by_a_number_chooses_the_same_model() -> None:
    made = problem(n=30, k=1)
    rows = torch.arange(30, dtype=torch.float64)
    choices = []
    for factor in (1.0, 2.0**20):
        kernel = lo.kernels.Precomputed(factor * torch.from_numpy(made.gram))
        choices.append(lo.choose_ridge(kernel, (rows, made.residual)))
    assert choices[1].ridge == pytest.approx(2.0**20 * choices[0].ridge, rel=1e-3)  # four digits
    assert_same(choices[1].losses, choices[0].losses, rtol=2e-3)


def test_a_network_with_outputs_told_apart_leaves_all_rows_of_an_example_out() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()
    x, y = torch.randn(12, 4).double(), torch.randn(12, 2).double()
    kernel = lo.kernels.Empirical(module, weights="initial")
    choice = lo.choose_ridge(kernel, (x, y))
    fitted = lo.fit(kernel, (x, y), rule=choice.rule)
    gram, residual = fitted.gram.numpy(), fitted.residual.numpy()
    total = 0.0
    for row in range(12):
        keep = np.setdiff1d(np.arange(24), [2 * row, 2 * row + 1])
        dual = oracles.dual(
            gram[np.ix_(keep, keep)], residual[keep], oracles.Training("ridge", ridge=choice.ridge)
        )
        total += ((residual[2 * row : 2 * row + 2] - gram[2 * row : 2 * row + 2][:, keep] @ dual) ** 2).sum()
    assert_same(min(choice.losses), total / 24, rtol=1e-6)


def test_targets_that_no_input_tells_of_end_at_the_largest_ridge_and_this_is_said() -> None:
    draw = np.random.default_rng(0)
    inputs = draw.standard_normal((60, 5))
    noise = lo.choose_ridge(lo.kernels.ReLU(2, bias_variance=0.3), (inputs, draw.standard_normal((60, 1))))
    assert noise.ridge == noise.ridges[-1]
    assert noise.edge.startswith("It is the largest ridge that was tried")
    assert noise.edge in noise.text
    exact = lo.choose_ridge(lo.kernels.From(lambda x, z: x @ z.T), (inputs, inputs[:, :1]))
    assert exact.ridge == exact.ridges[0]
    assert "a smaller one may predict still better" in exact.text


def test_what_cannot_be_chosen_is_refused_with_what_to_do() -> None:
    module = torch.nn.Linear(3, 1).double()
    x, y = torch.randn(8, 3).double(), torch.randn(8, 1).double()
    trained = lo.kernels.Empirical(module)
    with pytest.raises(OptionError, match=r"trained weights: they have seen every label.*training_ridge"):
        lo.choose_ridge(trained, (x, y))
    with pytest.raises(OptionError, match="trained weights: they have seen every label"):
        lo.fit(trained, (x, y), rule=lo.Ridge("auto"))
    labels = torch.arange(8) % 2
    aware = lo.kernels.LabelAware(lo.kernels.ReLU(1), "kr-v1", 0.1)
    with pytest.raises(OptionError, match=r"a kernel that sees labels.*choose_ridge\(base, train\)"):
        lo.fit(aware, (x, labels), rule=lo.Ridge("auto"))
    with pytest.raises(OptionError, match=r"under cross-entropy.*training_ridge.*out_of_sample"):
        lo.Logistic("auto")
    with pytest.raises(OptionError, match=r"`ridge` must be a number ≥ 0 for GradientFlow.*stopped early"):
        lo.GradientFlow(1.0, "auto")
    with pytest.raises(OptionError, match="`ridge` must be a number ≥ 0, or \"auto\"; got 'best'"):
        lo.Ridge("best")
    with pytest.raises(OptionError, match=r"choose_ridge\(kernel, train\)\.rule"):
        lo.train(module, (x, y), rule=lo.Ridge("auto"), tolerance=0.1)
    with pytest.raises(OptionError, match=r"choose_ridge\(kernel, train\)\.rule"):
        lo.linearity_test(module, (x, y), (x, y), rule=lo.Ridge("auto"))
    with pytest.raises(OptionError, match="its mean diagonal is 0"):
        lo.choose_ridge(lo.kernels.From(lambda x, z: 0 * (x @ z.T)), (x, y))

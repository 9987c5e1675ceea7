"""Does the ridge stand for the training run? Against torch's own optimisers, and laws of units."""

import math

import pytest
import torch

import leftout as lo
from leftout.core.errors import DataError, OptionError

N = 50


def trained_filter(curvatures, *, rates, momentum, decay):
    """Return how much torch's SGD learns of each mode, 1 of all, for modes of mean curvature s / n."""
    weights = torch.zeros(len(curvatures), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([weights], lr=1.0, momentum=momentum, weight_decay=decay)
    for rate in rates:
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        # The mean over N examples of a squared loss whose sum has these curvatures and the minimum 1.
        ((curvatures * (weights - 1).square()).sum() / 2 / N).backward()
        optimiser.step()
    return weights.detach()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.003])
def test_a_run_of_sgd_learns_of_every_mode_what_its_ridge_does(momentum, decay) -> None:
    curvatures = N * torch.logspace(-5, 0.5, 12, dtype=torch.float64)
    rates = [0.05 * (1 - momentum) * (1 + math.cos(math.pi * t / 1500)) for t in range(1500)]
    learned = trained_filter(curvatures, rates=rates, momentum=momentum, decay=decay)
    ridge = lo.training_ridge(n=N, learning_rates=rates, weight_decay=decay, momentum=momentum)
    ratio = learned / (curvatures / (curvatures + ridge))
    # Of x = τ (s/n + d), flow over ridge is (1 − e^{−x}) (1 + 1/x), in (1, 1.2985]; steps of at most
    # 0.1 · 3.2 and the m / (1 − m) first steps of momentum, 9 of 1500, change less than two in a hundred.
    x = sum(rates) / (1 - momentum) * (curvatures / N + decay)
    torch.testing.assert_close(ratio, -torch.expm1(-x) * (1 + 1 / x), rtol=2e-2, atol=0)
    assert float(ratio.min()) > 0.98
    assert float(ratio.max()) < 1.3
    if not decay:
        torch.testing.assert_close(ratio[[0, -1]], torch.ones(2).double(), rtol=2e-2, atol=0)


def test_units_of_time_and_examples_are_kept() -> None:
    options = {"n": 1000, "learning_rates": 0.1, "steps": 500, "weight_decay": 1e-4}
    ridge = lo.training_ridge(**options)
    assert ridge == pytest.approx(1000 * 1e-4 + 1000 / 50, rel=1e-15)
    assert lo.training_ridge(**options | {"learning_rates": 0.05, "steps": 1000}) == pytest.approx(ridge)
    assert lo.training_ridge(**options | {"n": 2000}) == pytest.approx(2 * ridge)
    momentum = {"learning_rates": 0.01, "momentum": 0.9}
    assert lo.training_ridge(**options | momentum) == pytest.approx(ridge)
    for rates in ([0.1] * 500, torch.full((500,), 0.1), (0.2, 0.0) * 250):
        assert lo.training_ridge(**options | {"learning_rates": rates}) == pytest.approx(ridge)
    assert lo.training_ridge(n=1000, learning_rates=1e9, steps=10**6, weight_decay=1e-4) == pytest.approx(0.1)


def test_adam_whose_second_moments_are_all_alike_is_sgd_in_other_units() -> None:
    square = 1e-4
    moments = {"weight": torch.full((3, 4), square), "bias": torch.full((4,), square)}
    run = {"n": N, "steps": 200, "weight_decay": 0.01}
    divided = run | {"learning_rates": 0.001 / square**0.5}
    adam = lo.training_ridge(**run, learning_rates=0.001, optimizer="adam", second_moments=moments)
    assert adam == pytest.approx(lo.training_ridge(**divided), rel=1e-6)
    beside = lo.training_ridge(**run, learning_rates=0.001, optimizer="adamw", second_moments=moments)
    scaled = divided | {"weight_decay": 0.01 * square**0.5}
    assert beside == pytest.approx(lo.training_ridge(**scaled), rel=1e-6)


@pytest.mark.parametrize(("name", "amsgrad"), [("adam", False), ("adamw", False), ("adam", True)])
def test_the_state_of_an_optimiser_is_read_as_it_divides_gradients(name, amsgrad) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)).double()
    unused = torch.nn.Linear(2, 2)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    optimiser = kind([*module.parameters(), *unused.parameters()], lr=1e-3, amsgrad=amsgrad, eps=0.0)
    inputs = torch.randn(20, 3, dtype=torch.float64)
    for step in range(7):
        before = [weight.detach().clone() for weight in module.parameters()]
        optimiser.zero_grad()
        (module(inputs).square().mean() / (1 + step)).backward()
        optimiser.step()
    state = optimiser.state_dict()
    # What a weight moved is rate · average gradient / root: the root by which torch divided.
    decay = 0.01 if name == "adamw" else 0.0
    roots = []
    for number, (then, weight) in enumerate(zip(before, module.parameters(), strict=True)):
        moved = then * (1 - 1e-3 * decay) - weight.detach()
        average = state["state"][number]["exp_avg"] / (1 - 0.9**7)
        roots.append((1e-3 * average / moved).flatten())
    expected = float(torch.cat(roots).mean()) * N / (7 * 1e-3)
    ridge = lo.training_ridge(n=N, learning_rates=1e-3, steps=7, optimizer=name, second_moments=state)
    assert ridge == pytest.approx(expected, rel=1e-6)


RUN = {"n": N, "learning_rates": 0.1, "steps": 10}
ADAM = RUN | {"optimizer": "adam", "second_moments": [torch.ones(3)]}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (RUN | {"n": 0}, "`n` must be a whole number ≥ 1"),
        (RUN | {"steps": None}, "`steps` must say how many steps were taken"),
        (RUN | {"steps": 2.5}, "`steps` must be a whole number"),
        (RUN | {"learning_rates": [0.1] * 9}, "be the number of `learning_rates`, 9, one for each update"),
        (RUN | {"learning_rates": [0.0] * 10}, "must add up to a number > 0"),
        (RUN | {"learning_rates": []}, "`steps` must be left out, or be the number of `learning_rates`, 0"),
        (RUN | {"learning_rates": "0.1"}, "must be a number, or numbers, one a step"),
        (
            RUN | {"learning_rates": [0.1, -0.1], "steps": None},
            "`learning_rates` must be a finite number ≥ 0",
        ),
        (RUN | {"learning_rates": 1e-200}, "`ridge` must be 0 or lie between"),
        (RUN | {"momentum": 1.0}, r"`momentum` must lie in \[0, 1\)"),
        (RUN | {"momentum": -0.1}, "`momentum` must be a finite number ≥ 0"),
        (RUN | {"weight_decay": -1}, "`weight_decay` must be a finite number ≥ 0"),
        (RUN | {"optimizer": "lion"}, "`optimizer` must be one of 'sgd', 'adam', 'adamw'"),
        (RUN | {"second_moments": [torch.ones(3)]}, 'left out with optimizer="sgd", which has none'),
        (RUN | {"optimizer": "adamw"}, r"divides gradients by their roots: pass optimizer.state_dict\(\)"),
        (ADAM | {"momentum": 0.9}, "whose averages of gradients do not lengthen its steps"),
        (ADAM | {"second_moments": [0.5]}, "must hold tensors of numbers; got 0.5"),
        (ADAM | {"second_moments": 3}, r"must be optimizer.state_dict\(\), or tensors"),
        (ADAM | {"second_moments": [torch.zeros(3)]}, "must hold numbers above 0; got none"),
        (ADAM | {"second_moments": {"param_groups": [{"params": [0]}], "state": {0: {}}}}, "KeyError"),
    ],
)
@pytest.mark.usefixtures("as_users_run_it")
def test_what_says_no_training_is_refused(options, words) -> None:
    with pytest.raises(OptionError, match=words):
        lo.training_ridge(**options)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_second_moments_that_are_none_are_refused(bad) -> None:
    with pytest.raises(DataError, match="must be averages of squares, finite and ≥ 0"):
        lo.training_ridge(**ADAM | {"second_moments": [torch.tensor([1.0, bad])]})

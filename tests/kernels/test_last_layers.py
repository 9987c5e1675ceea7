"""Which layers are the last ones, how many of them can be afforded, and is their kernel the one asked for?"""

import pytest
import torch
from torch import nn

from laws import assert_same
from leftout.core.errors import OptionError
from leftout.kernels import Empirical
from leftout.kernels.assemble import gram
from leftout.kernels.network.last_layers import affordable_layers, products_by_layer
from oracles.empirical import full, jacobian
from problems.tangent_networks import drawn, settled


def perceptron():
    return settled(
        nn.Sequential(nn.Linear(30, 20), nn.Tanh(), nn.Linear(20, 10), nn.Tanh(), nn.Linear(10, 3))
    )


def convolutional():
    layers = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 2)
    return settled(nn.Sequential(*layers)).eval()


def seen(module, x, **options):
    """Return a kernel that knows how many outputs its network has."""
    kernel = Empirical(module, **options)
    kernel.check("inputs", x)
    return kernel


def test_the_last_layers_are_the_kernel_of_their_parameters() -> None:
    module, x = perceptron(), drawn(5, 30)
    for parameter in module[0].parameters():
        parameter.requires_grad_(False)
    want = full(jacobian(module, x))
    assert_same(gram(Empirical(module, parameters="last:2"), x), want, 1e-12)
    assert_same(gram(Empirical(module, parameters="all"), x), want, 1e-12)


def test_all_and_numbers_of_layers_are_patterns_among_others() -> None:
    module = perceptron()
    assert list(Empirical(module, parameters="all").weights) == [
        name for name, _ in module.named_parameters()
    ]
    mixed = Empirical(module, parameters=["last:1", "0.bias"])
    assert list(mixed.weights) == ["0.bias", "4.weight", "4.bias"]
    # A frozen layer is none that could be taken.
    module[4].requires_grad_(False)
    assert list(Empirical(module, parameters="last:1").weights) == ["2.weight", "2.bias"]


@pytest.mark.parametrize("number", ["0", "4", "x", "-1", ""])
def test_layers_that_there_are_not_are_refused(number) -> None:
    with pytest.raises(OptionError, match=r"`parameters` must be last:N with N from 1 to 3, the layers with"):
        Empirical(perceptron(), parameters=f"last:{number}")


def test_a_kernel_says_which_weights_it_moves() -> None:
    module, x = perceptron(), drawn(4, 30)
    assert Empirical(module).part == ""
    kernel = seen(module, x).with_parameters("last:2")
    assert kernel.part == "the last 2 of 3 layers, '2', '4': 243 of 863 weights (28.2\u202f%)"
    assert kernel.record["parameters"] == 243
    assert kernel.record["of_parameters"] == 863
    assert Empirical(module, parameters="0.*").part.startswith("1 of 3 layers, '0': 620 of 863")
    assert_same(gram(kernel, x), gram(Empirical(module, parameters=["2.*", "4.*"]), x), 1e-14)


def test_fewer_parameters_need_no_second_check_of_the_inputs(monkeypatch) -> None:
    x = drawn(6, 30)
    kernel = seen(perceptron(), x).with_parameters("last:1")
    monkeypatch.setattr(Empirical, "_check_rows", lambda *_: pytest.fail("checked again"))
    kernel.check("inputs", x)
    assert kernel.outputs == 3


def test_products_are_those_of_rows_or_of_activations_and_signals() -> None:
    # (positions)² (inside + outputs² (outside + 16)), or outputs² times the numbers of a row.
    assert products_by_layer(seen(perceptron(), drawn(4, 30)), drawn(4, 30)) == {
        "0": 30 + 9 * (20 + 16),
        "2": 20 + 9 * (10 + 16),
        "4": 10 + 9 * (3 + 16),
    }
    x = drawn(3, 2, 6, 6)
    assert products_by_layer(seen(convolutional(), x), x) == {
        "0": 4 * (2 * 9 * 6 + 6),
        "1": 4 * 12,
        "4": 216 + 4 * (2 + 16),
    }


@pytest.mark.parametrize("make", [perceptron, convolutional])
def test_as_many_last_layers_are_taken_as_can_be_afforded(make) -> None:
    x = drawn(7, 30) if make is perceptron else drawn(7, 2, 6, 6)
    kernel = seen(make(), x)
    by_layer = list(products_by_layer(kernel, x).values())
    pairs = 7 * 8 / 2 + 3 * 7
    assert affordable_layers(kernel, x, queries=3, most=pairs * sum(by_layer)) is None
    assert affordable_layers(kernel, x, queries=3, most=pairs * sum(by_layer) - 1) == 2
    assert affordable_layers(kernel, x, queries=3, most=pairs * sum(by_layer[1:])) == 2
    assert affordable_layers(kernel, x, queries=3, most=pairs * sum(by_layer[1:]) - 1) == 1
    assert affordable_layers(kernel, x, queries=3, most=1) == 1  # one in any case
    # More examples or queries never have more layers.
    assert affordable_layers(kernel, x, queries=300, most=pairs * sum(by_layer)) < 3


def test_inputs_without_an_answer_of_the_same_kind_are_taken_by_rows() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)
            self.last = nn.Linear(8, 2)

        def forward(self, x):
            return self.last(torch.tanh(self.layer(self.layer(x))))

    x = drawn(4, 8)
    found = products_by_layer(seen(settled(Twice()), x), x)
    assert found["layer"] == 4 * (64 + 8)
    assert found["last"] == min(4 * 18, 8 + 4 * (2 + 16))

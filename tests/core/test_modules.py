"""Is a module the function of its weights that the library takes it for?"""

import gc
import re

import pytest
import torch
from torch import nn

from leftout.core.errors import OptionError, ShapeError
from leftout.core.module_call import call
from leftout.core.module_checks import check_function, check_takes
from leftout.core.modules import (
    bytes_per_row,
    flatten_parameters,
    outputs_of,
    parameters_of,
    unflatten_parameters,
)


def layers(*more):
    return nn.Sequential(nn.Linear(3, 4), *more, nn.Linear(4, 2)).double()


def rows(n=3, d=3):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_parameters_are_those_that_are_trained() -> None:
    module = layers(nn.Tanh())
    module[0].bias.requires_grad_(False)
    found = parameters_of(module)
    assert list(found) == ["0.weight", "2.weight", "2.bias"]
    assert not any(one.requires_grad for one in found.values())
    assert found["0.weight"].data_ptr() == module[0].weight.data_ptr()


def test_a_call_with_other_weights_is_the_module_with_those_weights(frozen) -> None:
    module, other = layers(nn.Tanh()), layers(nn.Tanh())
    frozen(*module.state_dict().values())
    with torch.no_grad():
        assert torch.equal(call(module, parameters_of(other), rows()), other(rows()))
        # Parameters that are not named stay those of the module.
        half = {"0.weight": other[0].weight, "0.bias": other[0].bias}
        want = module[2](torch.tanh(other[0](rows())))
        assert torch.equal(call(module, half, rows()), want)


def test_tied_weights_are_one_parameter() -> None:
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)).double()
    module[1].weight = module[0].weight
    weights = {name: 2 * one for name, one in parameters_of(module).items()}
    assert list(weights) == ["0.weight"]
    with torch.no_grad():
        torch.testing.assert_close(call(module, weights, rows()), 4 * module(rows()))


def test_flat_and_unflat_undo_each_other() -> None:
    module = layers()
    parameters = parameters_of(module)
    vector = flatten_parameters(parameters)
    assert vector.shape == (3 * 4 + 4 + 4 * 2 + 2,)
    back = unflatten_parameters(vector, parameters)
    assert list(back) == list(parameters)
    assert all(torch.equal(back[name], one) for name, one in parameters.items())
    vector += 1
    assert not torch.equal(vector, flatten_parameters(parameters)), "flat is a copy"
    assert torch.equal(flatten_parameters(unflatten_parameters(vector, parameters)), vector), (
        "unflat is a view"
    )


def test_what_a_row_keeps_does_not_count_the_weights() -> None:
    wide = nn.Sequential(nn.Linear(3, 1000), nn.Tanh(), nn.Linear(1000, 1)).double()
    kept = bytes_per_row(wide, rows(2))
    # At least the 1000 activations of a row, and far from the 32 kB of weights.
    assert 8 * 1000 <= kept <= 5 * 8 * 1000
    assert bytes_per_row(wide, rows(1)) >= kept


def test_asking_what_a_row_keeps_keeps_nothing() -> None:
    module = nn.Sequential(nn.Linear(3, 1237), nn.ReLU(), nn.Linear(1237, 1)).double()

    def alive() -> int:
        gc.collect()
        return sum(type(one) is torch.Tensor and 1237 in one.shape for one in gc.get_objects())

    before = alive()
    bytes_per_row(module, rows(2))
    assert alive() == before


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Tanh(), "`module` must have parameters that are trained; got none with requires_grad"),
        (layers().half(), "float32 or float64 parameters; '0.weight' is float16. Call module.float()"),
        (
            nn.Sequential(nn.Linear(3, 4, dtype=torch.complex64)),
            "float32 or float64 parameters; '0.weight' is complex64.",
        ),
        (
            nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3).double()),
            "must have parameters of one precision; got float32 and float64. Call module.double()",
        ),
        (
            nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, device="meta")),
            "`module` must lie on one device; its parameters are on cpu and meta.",
        ),
    ],
)
def test_parameters_that_cannot_be_trained_are_refused(module, words) -> None:
    with pytest.raises(OptionError, match=re.escape(words)):
        parameters_of(module)


class Returning(nn.Module):
    """A module that returns what a function makes of a linear layer's outputs."""

    def __init__(self, function):
        super().__init__()
        self.inside = nn.Linear(3, 2, dtype=torch.float64)
        self.function = function

    def forward(self, x):
        return self.function(self.inside(x))


@pytest.mark.parametrize(
    ("function", "kind", "words"),
    [
        (lambda f: f[:, 0], ShapeError, "one column for each target: (3, 2); got (3,)."),
        (lambda f: f.sum(0), ShapeError, "(3, 2); got (2,)."),
        (lambda f: (f, f), ShapeError, "`module` must return a tensor (n, k); got tuple."),
        (lambda f: f.half(), OptionError, "must return float32 or float64; got float16."),
        (lambda f: f.to(torch.complex64), OptionError, "float32 or float64; got complex64."),
    ],
)
def test_outputs_that_are_no_numbers_a_target_are_refused(function, kind, words) -> None:
    module = Returning(function)
    with pytest.raises(kind, match=re.escape(words)):
        outputs_of(module, parameters_of(module), rows(), outputs=2)


@pytest.mark.parametrize(
    "module",
    [
        layers(nn.Tanh()),
        layers(nn.Dropout(0.5)).eval(),
        layers(nn.BatchNorm1d(4)).eval(),
        layers(nn.LayerNorm(4)),
        layers(nn.Dropout(0.0)),
        Returning(lambda f: 1e-9 * f),
    ],
)
def test_a_function_of_each_row_passes_and_nothing_changes(module, frozen) -> None:
    frozen(*module.state_dict().values())
    before, mode = torch.random.get_rng_state(), module.training
    check_function(module, rows())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert module.training == mode


@pytest.mark.parametrize(
    ("module", "advice"),
    [
        (layers(nn.Dropout(0.5)), "Call module.eval() first."),
        (layers(nn.BatchNorm1d(4)), "Call module.eval() first."),
        (layers(nn.BatchNorm1d(4, track_running_stats=False)), "Call module.eval() first."),
        (Returning(lambda f: f - f.mean(0)).eval(), "Take such layers out."),
        (Returning(lambda f: f + torch.rand_like(f)).eval(), "Take such layers out."),
    ],
)
def test_what_is_no_function_of_each_row_is_refused_and_nothing_changes(module, advice, frozen) -> None:
    frozen(*module.state_dict().values())
    before = torch.random.get_rng_state()
    words = "`module` must be a function of each input alone; it gives other outputs when it is"
    with pytest.raises(OptionError, match=re.escape(words)) as error:
        check_function(module, rows())
    assert str(error.value).endswith(advice)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_buffer_that_counts_calls_is_noticed() -> None:
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = nn.Linear(3, 2, dtype=torch.float64)
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls += 1
            return self.inside(x)

    module = Counting()
    with pytest.raises(OptionError, match="must be a function of each input alone"):
        check_function(module, rows())
    assert module.calls == 0


def test_inputs_that_do_not_fit_are_refused_in_a_sentence() -> None:
    words = "`query` must hold inputs that `module` takes; on inputs of shape (8, 5) it raised Runtime"
    with pytest.raises(ShapeError, match=re.escape(words)) as error:
        check_takes(layers(), rows(8, 5), name="query")
    assert isinstance(error.value.__cause__, RuntimeError)
    check_takes(layers(), rows(), name="query")


def test_a_network_that_looks_tokens_up_is_told_that_inputs_come_as_floats() -> None:
    module = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(8, 1))
    with pytest.raises(ShapeError, match=r"Inputs come as floats; write x.long\(\) in its forward"):
        check_takes(module, torch.ones(5, 2), name="train")

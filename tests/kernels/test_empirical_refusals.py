"""Is a module or input that has no tangent kernel refused in a sentence that says what to do?"""

import math
import re

import pytest
import torch
from torch import nn

from leftout.core.errors import DataError, MemoryBudgetError, OptionError, ShapeError
from leftout.kernels import Empirical
from leftout.kernels.assemble import gram
from problems.tangent_networks import drawn, settled


def mlp(k=3, d=5):
    return settled(nn.Sequential(nn.Linear(d, 8), nn.Tanh(), nn.Linear(8, k)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"outputs": "mean"}, "`outputs` must be one of 'full', 'sum', 'trace'; got 'mean'."),
        ({"weights": "pretrained"}, "`weights` must be one of 'trained', 'initial'; got 'pretrained'."),
        ({"method": "fast"}, "`method` must be one of 'auto', 'jacobian', 'layers'; got 'fast'."),
        ({"projection": 100}, "`projection` must be one of RandomCoordinates, Gaussian, Rademacher"),
        ({"parameters": "layer4.*"}, "'layer4.*' matches none. There are '0.weight', '0.bias', "),
        ({"parameters": ["0.*", "9"]}, "patterns of names of trained parameters; '9' matches none."),
    ],
)
@pytest.mark.usefixtures("as_users_run_it")
def test_options_that_there_are_not_are_refused(options, words) -> None:
    with pytest.raises(OptionError, match=re.escape(words)):
        Empirical(mlp(), **options)


def test_a_pattern_of_frozen_parameters_is_refused_with_the_reason() -> None:
    module = mlp()
    module[0].requires_grad_(False)
    words = "'0.weight' matches only '0.weight', which has requires_grad=False or no "
    words += "numbers. There are '2.weight', "
    with pytest.raises(OptionError, match=re.escape(words)):
        Empirical(module, parameters="0.weight")
    words = "'0.*' matches only parameters with requires_grad=False, such as '0.weight'."
    with pytest.raises(OptionError, match=re.escape(words)):
        Empirical(module, parameters="0.*")


class Returning(nn.Module):
    """A module that returns what a function makes of a linear layer's outputs."""

    def __init__(self, function):
        super().__init__()
        self.inside = nn.Linear(5, 3, dtype=torch.float64)
        self.function = function

    def forward(self, x):
        return self.function(self.inside(x))


NOT_ROWS = "`module` must return a tensor (n, k), one row for each input and k outputs in columns"
NO_FUNCTION = "`module` must be a function of each input alone; it gives other outputs when it is"


@pytest.mark.parametrize(
    ("module", "inputs", "kind", "words"),
    [
        (Returning(lambda f: f[:, 0]), drawn(4, 5), ShapeError, f"{NOT_ROWS}: (3, k); got (3,)."),
        (Returning(lambda f: f[:2]), drawn(4, 5), ShapeError, f"{NOT_ROWS}: (3, k); got (2, 3)."),
        (Returning(lambda f: (f, f)), drawn(4, 5), ShapeError, f"{NOT_ROWS}: (3, k); got tuple."),
        (Returning(lambda f: f.half()), drawn(4, 5), OptionError, "float32 or float64; got float16."),
        (Returning(lambda f: f - f.mean(0)), drawn(4, 5), OptionError, NO_FUNCTION),
        (mlp(), drawn(4, 6), ShapeError, "`queries` must hold inputs that `module` takes; on inputs of"),
        (mlp(), drawn(4), ShapeError, "`queries` must have shape (rows, features…); got (4,)."),
        (mlp(), drawn(4, 5) / 0, DataError, "`queries` must be finite; row 0 holds NaN or infinity"),
        (mlp().bfloat16(), drawn(4, 5), OptionError, "float32 or float64 parameters; '0.weight' is bf"),
        (mlp().requires_grad_(False), drawn(4, 5), OptionError, "must have parameters that are trained"),
    ],
)
def test_modules_and_inputs_that_do_not_fit_are_refused(module, inputs, kind, words) -> None:
    with pytest.raises(kind, match=re.escape(words.replace("is bf", "is bfloat16"))):
        Empirical(module).check("queries", inputs)


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.BatchNorm1d(8)])
def test_dropout_and_batch_statistics_at_work_are_refused(layer) -> None:
    module = nn.Sequential(nn.Linear(5, 8), layer, nn.Linear(8, 2)).double()
    with pytest.raises(OptionError, match=re.escape(NO_FUNCTION)) as error:
        gram(Empirical(module), drawn(4, 5))
    assert str(error.value).endswith("Call module.eval() first.")
    gram(Empirical(module.eval()), drawn(4, 5))


def test_outputs_and_kernels_that_are_no_numbers_name_the_row() -> None:
    kernel, x = (Empirical(Returning(lambda f: torch.sqrt(f.square().sum(1, keepdim=True)))), drawn(9, 5))
    kernel.weights["inside.bias"].zero_()
    x[6] = 0.0  # the root has no derivative there
    with pytest.raises(DataError, match=r"`kernel` must be finite; its row [0-6] holds nan"):
        gram(kernel, x)
    kernel = Empirical(Returning(torch.log))
    with pytest.raises(DataError, match=r"`module outputs` must be finite; row \d holds NaN"):
        kernel.initial(drawn(9, 5))


def test_the_number_of_outputs_is_unknown_before_inputs_were_seen() -> None:
    kernel = Empirical(mlp())
    with pytest.raises(OptionError, match="`kernel` knows its number of outputs once it has seen inp"):
        kernel.outputs  # noqa: B018
    assert Empirical(mlp(), "sum").outputs is None
    kernel.check("inputs", drawn(2, 5))
    assert kernel.outputs == 3


def test_another_number_of_outputs_is_refused() -> None:
    kernel = Empirical(settled(nn.Sequential(nn.Conv2d(1, 1, 2), nn.Flatten())))
    kernel.check("inputs", drawn(3, 1, 3, 3))
    words = "as many outputs for all inputs; it has 4 for others and 9 for `queries`."
    with pytest.raises(ShapeError, match=re.escape(words)):
        kernel.check("queries", drawn(3, 1, 4, 4))


def test_duals_and_tangents_of_other_shapes_are_refused() -> None:
    kernel, x = Empirical(mlp()), drawn(4, 5)
    words = "`dual` must have shape (n, k) = (4, 3) or (n k, 1) = (12, 1); got (12,)."
    with pytest.raises(ShapeError, match=re.escape(words)):
        kernel.pull_back(x, torch.zeros(12, dtype=torch.float64))
    words = "`tangents` must have the names and shapes of the kernel's parameters, such as ('0.weight',"
    with pytest.raises(ShapeError, match=re.escape(words)):
        kernel.push_forward(x, {"0.weight": torch.zeros(8, 5, dtype=torch.float64)})


def test_layers_are_refused_where_there_are_none() -> None:
    kernel = Empirical(settled(nn.Sequential(nn.BatchNorm1d(5))), method="layers")
    words = 'method="layers" needs a Linear or Conv2d layer that is called once and whose parameters'
    with pytest.raises(OptionError, match=re.escape(words)):
        gram(kernel, drawn(4, 5))


def test_a_kernel_that_does_not_fit_is_refused_before_it_is_allocated() -> None:
    with pytest.raises(MemoryBudgetError, match="A kernel matrix of 1500 × 1500 needs 18"):
        gram(Empirical(mlp()), drawn(500, 5), memory="18MB")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named(bad) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    with torch.no_grad():
        module[2].bias[1] = bad
    with pytest.raises(DataError, match=r"finite weights; '2.bias' holds NaN or infinity"):
        Empirical(module)


class Cut(nn.Module):
    """Its outputs have no gradient."""

    def __init__(self, how):
        super().__init__()
        self.inside, self.how = nn.Linear(3, 2), how

    def forward(self, x):
        if self.how == "detach":
            return self.inside(x).detach()
        with torch.no_grad():
            return self.inside(x)


@pytest.mark.parametrize("how", ["detach", "no_grad"])
def test_outputs_without_a_gradient_are_no_kernel_of_zeros(how) -> None:
    kernel = Empirical(Cut(how))
    with pytest.raises(OptionError, match=r"outputs with a gradient .* no_grad, detach"):
        kernel.block(torch.randn(4, 3), torch.randn(4, 3))


def test_inference_mode_is_no_kernel_of_zeros() -> None:
    kernel, inputs = Empirical(nn.Linear(3, 2)), torch.randn(4, 3)
    for _ in range(2):  # the second time too, when these inputs have been looked at
        with torch.inference_mode():
            assert torch.equal(kernel.block(inputs, inputs), kernel.block(inputs, inputs.clone()))
            values = kernel.block(inputs, inputs)
        assert torch.equal(kernel.block(inputs, inputs), values)
        assert values.abs().max() > 0


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (nn.LazyLinear(2), {}, "'weight' is lazy. Call the module once"),
        (None, {}, "`module` must be an nn.Module; got None"),
        (nn.Linear(3, 2), {"parameters": []}, "one or more patterns"),
        (nn.Linear(3, 2), {"parameters": [3]}, "one or more patterns"),
        (nn.Linear(3, 2), {"parameters": 3}, "must be names or a list of them; got 3"),
    ],
)
def test_what_is_no_network_or_names_none_of_it_is_refused(module, options, message, as_users_run_it) -> None:
    with pytest.raises(OptionError, match=message):
        Empirical(module, **options)


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = nn.Linear(3, 2)

    def forward(self, x):
        x -= 0.5
        return self.inside(x)


def test_a_module_that_writes_to_its_inputs_is_refused_and_they_stay() -> None:
    inputs = torch.randn(4, 3)
    before = inputs.clone()
    with pytest.raises(OptionError, match=r"must not write to its inputs"):
        Empirical(InPlace()).check("inputs", inputs)
    assert torch.equal(inputs, before)

"""Is it the tangent kernel of any module, at the weights it had, and are bad modules told so?"""

import copy
import json
import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from laws import assert_same
from leftout.core.errors import DataError, MemoryBudgetError, OptionError, ShapeError
from leftout.kernels import Empirical, Gaussian, ReLU, TwoLayerReLU
from leftout.kernels.assemble import cross, gram
from networks import network
from oracles_empirical import full, jacobian, jacobian_by_differences, summed, traced
from tangent_networks import NETWORKS, ByRow, drawn, settled

# What torch says of parametrised weights: one of its own operations is not vectorised.
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop because")

METHODS = ("auto", "jacobian", "layers")
# Sums of at most 400 products, of derivatives that are products along five layers of such sums.
ROUNDING = 400 * 5 * 2.0**-52

every_network = pytest.mark.parametrize(("module", "inputs"), NETWORKS.values(), ids=NETWORKS)
every_method = pytest.mark.parametrize("method", METHODS)


def mlp(k=3, d=5):
    return settled(nn.Sequential(nn.Linear(d, 8), nn.Tanh(), nn.Linear(8, k)))


@every_network
@every_method
def test_the_kernel_is_that_of_derivatives_taken_one_by_one(module, inputs, method) -> None:
    if method == "layers" and not any(type(one) is nn.Linear for one in module.modules()):
        pytest.skip("no such layer")
    rows = jacobian(module, inputs)
    kernel = Empirical(module, method=method)
    assert_same(gram(kernel, inputs), full(rows), ROUNDING)
    k = kernel.outputs
    assert rows.shape[0] == len(inputs) * k
    assert_same(cross(kernel, inputs[2:5], inputs), full(rows)[2 * k : 5 * k], ROUNDING)
    assert_same(kernel.diagonal(inputs), (rows**2).sum(1), ROUNDING)
    assert_same(kernel.block(inputs[:2], inputs), full(rows)[: 2 * k], ROUNDING)


@every_network
def test_autograd_has_the_derivatives_of_differences(module, inputs) -> None:
    # Central differences of third derivatives of order 10, and of roundings: h² + eps / h.
    assert_same(jacobian(module, inputs[:3]), jacobian_by_differences(module, inputs[:3]), 1e-7)


@every_network
@every_method
@pytest.mark.parametrize(("reading", "oracle"), [("sum", summed), ("trace", traced)])
def test_one_value_for_all_outputs_is_what_its_name_says(
    module, inputs, method, reading, oracle
) -> None:
    kernel = Empirical(module, reading, method=method)
    found = gram(kernel, inputs)
    assert kernel.outputs is None
    k = kernel.width
    assert_same(found, oracle(jacobian(module, inputs), k), ROUNDING)
    assert_same(kernel.diagonal(inputs), found.diagonal(), ROUNDING)
    assert_same(cross(kernel, inputs[1:3], inputs), found[1:3], ROUNDING)


@every_network
def test_the_outputs_are_where_training_starts(module, inputs) -> None:
    kernel = Empirical(module, memory=20_000)
    with torch.no_grad():
        assert_same(kernel.initial(inputs), module(inputs), 1e-14)
    assert kernel.initial(inputs[:0]).shape == (0, kernel.width)


@every_network
def test_pushing_forward_and_pulling_back_are_adjoint_and_make_the_kernel(module, inputs) -> None:
    kernel = Empirical(module, memory=30_000)
    kernel.check("inputs", inputs)
    dual = drawn(len(inputs), kernel.width, seed=4)
    pulled = kernel.pull_back(inputs, dual)
    want = jacobian(module, inputs).T @ dual.flatten().numpy()
    assert_same(torch.cat([one.flatten() for one in pulled.values()]), want, ROUNDING)
    again = kernel.pull_back(inputs, dual.reshape(-1, 1))
    assert all(torch.equal(one, again[name]) for name, one in pulled.items())
    # J Jᵀ u is the kernel times u.
    pushed = kernel.push_forward(inputs, pulled)
    assert_same(pushed.flatten(), gram(kernel, inputs) @ dual.flatten(), ROUNDING)
    along = {name: drawn(*one.shape, seed=5) for name, one in pulled.items()}
    inner = sum(float((along[name] * one).sum()) for name, one in pulled.items())
    assert float((kernel.push_forward(inputs, along) * dual).sum()) == pytest.approx(
        inner, rel=1e-11
    )


@every_network
def test_nothing_of_the_caller_changes_and_later_changes_change_nothing(
    module, inputs, frozen
) -> None:
    frozen(inputs)
    module = copy.deepcopy(module)
    before = {name: one.clone() for name, one in module.state_dict().items()}
    asked = {name: one.requires_grad for name, one in module.named_parameters()}
    kernel = Empirical(module)
    first = gram(kernel, inputs)
    kernel.pull_back(inputs, kernel.initial(inputs))
    assert all(torch.equal(one, before[name]) for name, one in module.state_dict().items())
    assert asked == {name: one.requires_grad for name, one in module.named_parameters()}
    assert all(one.grad is None for one in module.parameters())
    assert not any(one._forward_hooks for one in kernel.module.modules()), "hooks stayed behind"
    with torch.no_grad():
        for one in [*module.parameters(), *module.buffers()]:
            one.zero_()
    module.train()
    kernel._shelf.features = None
    assert torch.equal(gram(kernel, inputs), first)


@every_method
class TestLaws:
    def test_it_is_symmetric_to_the_last_bit_and_positive(self, method) -> None:
        found = gram(Empirical(mlp(), method=method), drawn(40, 5), block=16)
        assert torch.equal(found, found.T)
        assert float(torch.linalg.eigvalsh(found)[0]) > -120 * ROUNDING * float(found.max())

    def test_scaling_the_outputs_scales_it_by_the_square(self, method) -> None:
        module = mlp()
        larger = copy.deepcopy(module)

        class Scaled(nn.Module):
            def __init__(self):
                super().__init__()
                self.inside = larger

            def forward(self, x):
                return -3 * self.inside(x)

        scaled = gram(Empirical(Scaled(), method=method), drawn(9, 5))
        assert_same(scaled, 9 * gram(Empirical(module, method=method), drawn(9, 5)), ROUNDING)

    def test_kernels_of_disjoint_parameters_add_up(self, method) -> None:
        patterns = ("0.*", "2.weight", "*.bias")
        whole = gram(Empirical(mlp(), method=method), drawn(9, 5))
        parts = [
            Empirical(mlp(), parameters=one, method=method) for one in (["0.weight"], patterns[1])
        ]
        # A bias alone is a layer as well: its rows are sums of signals.
        parts += [Empirical(mlp(), parameters=(patterns[2],), method=method)]
        assert_same(sum(gram(one, drawn(9, 5)) for one in parts), whole, ROUNDING)

    def test_the_order_of_inputs_is_the_order_of_rows(self, method) -> None:
        kernel, x = Empirical(mlp(), method=method), drawn(12, 5)
        order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
        rows = (3 * order[:, None] + torch.arange(3)).flatten()
        assert_same(gram(kernel, x[order]), gram(kernel, x)[rows][:, rows], ROUNDING)

    def test_repeated_inputs_have_the_very_same_rows(self, method) -> None:
        kernel, x = Empirical(mlp(), method=method), drawn(40, 5)
        x[33], x[7] = x[2], x[6]
        for found in (gram(kernel, x, block=16), cross(kernel, x, x, block=16)):
            for later, first in ((33, 2), (7, 6)):
                mine, other = slice(3 * later, 3 * later + 3), slice(3 * first, 3 * first + 3)
                assert torch.equal(found[mine], found[other])
                assert torch.equal(found[:, mine], found[:, other])

    def test_a_linear_model_has_the_linear_kernel(self, method) -> None:
        x = drawn(9, 5)
        module = nn.Linear(5, 1, bias=False).double()
        assert_same(gram(Empirical(module, method=method), x), x @ x.T, ROUNDING)
        several = nn.Linear(5, 2).double()
        want = torch.kron(x @ x.T + 1, torch.eye(2, dtype=torch.float64))
        assert_same(gram(Empirical(several, method=method), x), want, ROUNDING)

    def test_single_precision_is_off_by_its_own_rounding_and_products_by_that_of_double(
        self, method
    ) -> None:
        module, x = mlp(), drawn(9, 5)
        kernel = Empirical(copy.deepcopy(module).float(), method=method)
        single = gram(kernel, x)
        assert kernel.dtype == torch.float32
        assert single.dtype == torch.float64
        assert_same(single, gram(Empirical(module), x), ROUNDING * 2**29)
        assert not torch.equal(single, single.float().double()), "accumulated in float32"

    def test_no_inputs_give_an_empty_matrix(self, method) -> None:
        kernel, x = Empirical(mlp(), method=method), drawn(4, 5)
        kernel.check("inputs", x)
        assert gram(kernel, x[:0]).shape == (0, 0)
        assert cross(kernel, x[:0], x).shape == (0, 12)
        assert kernel.diagonal(x[:0]).shape == (0,)


def test_two_wide_layers_tend_to_the_analytic_kernel_as_one_over_the_root_of_width() -> None:
    x = drawn(6, 4)
    x /= x.norm(dim=1, keepdim=True)
    exact = gram(TwoLayerReLU(), x).numpy()
    widths, errors = [64, 256, 1024, 4096], []
    for width in widths:
        off = [
            gram(Empirical(network(width, 4, seed=seed)), x).numpy() - exact for seed in range(8)
        ]
        errors.append(np.sqrt(np.mean(np.square(off))))
    slope = np.polyfit(np.log(widths), np.log(errors), 1)[0]
    # 8 draws of the error, each of some ten independent numbers: its logarithm is known to
    # 1 / sqrt(160) = 0.08, the slope of four widths, each four times the last, to 0.03. Three of it.
    assert slope == pytest.approx(-0.5, abs=0.09)


def test_three_wide_layers_tend_to_the_analytic_kernel() -> None:
    x = drawn(4, 6, seed=2)

    class Scaled(nn.Module):
        """Weights N(0, 1), each layer times √(2 / fan-in)."""

        def __init__(self, width, seed):
            super().__init__()
            sizes = [(width, 6), (width, width), (1, width)]
            self.weights = nn.ParameterList(
                [drawn(*size, seed=100 * seed + i) for i, size in enumerate(sizes)]
            )

        def forward(self, x):
            for i, weight in enumerate(self.weights):
                x = (torch.relu(x) if i else x) @ weight.T * (2 / weight.shape[1]) ** 0.5
            return x

    exact = gram(ReLU(2), x)
    off = [
        float((gram(Empirical(Scaled(width, 1)), x) - exact).norm() / exact.norm())
        for width in (32, 1024)
    ]
    assert off[1] < 3 / 1024**0.5
    assert off[1] < off[0]


def test_frozen_parameters_are_constants() -> None:
    module, _ = NETWORKS["frozen"]
    assert list(Empirical(module).weights) == ["0.bias", "2.weight"]


def test_patterns_choose_parameters_by_name() -> None:
    module, x = mlp(), drawn(6, 5)
    kernel = Empirical(module, parameters="2.*")
    assert list(kernel.weights) == ["2.weight", "2.bias"]
    rows = jacobian(module, x, names=("2.weight", "2.bias"))
    assert_same(gram(kernel, x), full(rows), ROUNDING)


def test_whole_numbers_are_inputs_as_well() -> None:
    module = settled(nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 2)))
    tokens = torch.randint(0, 7, (6, 3), generator=torch.Generator().manual_seed(0))
    for method in METHODS:
        found = gram(Empirical(module, method=method), tokens)
        assert_same(found, full(jacobian(module, tokens)), ROUNDING)


def test_inputs_of_several_shapes_are_told_apart() -> None:
    pooled = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    module = settled(nn.Sequential(pooled, nn.Linear(12, 2)))
    kernel = Empirical(module)
    for size in (5, 8):
        x = drawn(4, 2, size, size)
        assert_same(gram(kernel, x), full(jacobian(module, x)), ROUNDING)


def test_the_record_says_which_network_at_which_weights() -> None:
    module = mlp()
    record = Empirical(module, "trace", parameters="2.*", projection=Gaussian(size=7)).record
    assert json.loads(json.dumps(record)) == record
    assert record["name"] == "empirical"
    assert record["module"] == "Sequential"
    assert record["outputs"] == "trace"
    assert record["parameters"] == 27
    assert record["patterns"] == ["2.*"]
    assert record["dtype"] == "float64"
    assert record["method"] == "auto"
    assert record["projection"] == {"name": "gaussian", "size": 7, "seed": 0}
    whole = Empirical(module).record
    assert whole == Empirical(copy.deepcopy(module)).record
    assert whole["fingerprint"] != record["fingerprint"], "other parameters"
    with torch.no_grad():
        module[0].weight[0, 0] += 1e-9
    assert whole["fingerprint"] != Empirical(module).record["fingerprint"]
    assert repr(Empirical(module)) == "Empirical(Sequential, 'full', 75 parameters)"


def test_it_asks_for_no_scaling_of_inputs() -> None:
    assert Empirical(mlp()).normalise is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"outputs": "mean"}, "`outputs` must be one of 'full', 'sum', 'trace'; got 'mean'."),
        ({"method": "fast"}, "`method` must be one of 'auto', 'jacobian', 'layers'; got 'fast'."),
        (
            {"projection": 100},
            "`projection` must be one of RandomCoordinates, Gaussian, Rademacher",
        ),
        ({"parameters": "layer4.*"}, "'layer4.*' matches none. There are '0.weight', '0.bias', "),
        (
            {"parameters": ["0.*", "9"]},
            "patterns of names of trained parameters; '9' matches none.",
        ),
    ],
)
@pytest.mark.usefixtures("as_users_run_it")
def test_options_that_there_are_not_are_refused(options, words) -> None:
    with pytest.raises(OptionError, match=re.escape(words)):
        Empirical(mlp(), **options)


def test_a_pattern_of_frozen_parameters_is_refused_with_the_reason() -> None:
    module = mlp()
    module[0].requires_grad_(False)
    words = (
        "'0.weight' matches only '0.weight', which has requires_grad=False. There are '2.weight', "
    )
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
        (
            Returning(lambda f: f.half()),
            drawn(4, 5),
            OptionError,
            "float32 or float64; got float16.",
        ),
        (Returning(lambda f: f - f.mean(0)), drawn(4, 5), OptionError, NO_FUNCTION),
        (
            mlp(),
            drawn(4, 6),
            ShapeError,
            "`queries` must hold inputs that `module` takes; on inputs of",
        ),
        (mlp(), drawn(4), ShapeError, "`queries` must have shape (rows, features…); got (4,)."),
        (
            mlp(),
            drawn(4, 5) / 0,
            DataError,
            "`queries` must be finite; row 0 holds NaN or infinity",
        ),
        (
            mlp().bfloat16(),
            drawn(4, 5),
            OptionError,
            "float32 or float64 parameters; '0.weight' is bf",
        ),
        (
            mlp().requires_grad_(False),
            drawn(4, 5),
            OptionError,
            "must have parameters that are trained",
        ),
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
    kernel, x = (
        Empirical(Returning(lambda f: torch.sqrt(f.square().sum(1, keepdim=True)))),
        drawn(9, 5),
    )
    kernel.weights["inside.bias"].zero_()
    x[6] = 0.0  # the root has no derivative there
    with pytest.raises(DataError, match=r"`kernel` must be finite; its row [0-6] holds nan"):
        gram(kernel, x)
    kernel = Empirical(Returning(torch.log))
    with pytest.raises(DataError, match=r"`module outputs` must be finite; row \d holds NaN"):
        kernel.initial(drawn(9, 5))


def test_the_number_of_outputs_is_unknown_before_inputs_were_seen() -> None:
    kernel = Empirical(mlp())
    with pytest.raises(
        OptionError, match="`kernel` knows its number of outputs once it has seen inp"
    ):
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
    words = (
        "`tangents` must have the names and shapes of the kernel's parameters, such as ('0.weight',"
    )
    with pytest.raises(ShapeError, match=re.escape(words)):
        kernel.push_forward(x, {"0.weight": torch.zeros(8, 5, dtype=torch.float64)})


def test_layers_are_refused_where_there_are_none() -> None:
    kernel = Empirical(settled(nn.Sequential(nn.BatchNorm1d(5))), method="layers")
    words = (
        'method="layers" needs a Linear or Conv2d layer that is called once and whose parameters'
    )
    with pytest.raises(OptionError, match=re.escape(words)):
        gram(kernel, drawn(4, 5))


def test_a_kernel_that_does_not_fit_is_refused_before_it_is_allocated() -> None:
    with pytest.raises(MemoryBudgetError, match="A kernel matrix of 1500 × 1500 needs 18"):
        gram(Empirical(mlp()), drawn(500, 5), memory="18MB")


def test_a_module_that_vmap_refuses_gives_the_same_numbers_and_says_that_it_is_slow() -> None:
    module, x = settled(ByRow()), drawn(6, 5)
    with pytest.warns(
        UserWarning, match="ByRow is differentiated one input at a time, which is many"
    ):
        found = gram(Empirical(module), x)
    assert_same(found, full(jacobian(module, x)), ROUNDING)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named(bad) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    with torch.no_grad():
        module[2].bias[1] = bad
    with pytest.raises(DataError, match=r"finite weights; '2.bias' holds NaN or infinity"):
        Empirical(module)


class Masked(nn.Module):
    """Attention-like: a mask of −∞ among its buffers."""

    def __init__(self):
        super().__init__()
        self.inside = nn.Linear(3, 3)
        self.register_buffer("mask", torch.full((3, 3), -math.inf).triu(1))

    def forward(self, x):
        return torch.softmax(self.inside(x)[:, None] + self.mask, 2).sum(1)


def test_masks_of_minus_infinity_are_buffers_like_others() -> None:
    torch.manual_seed(0)
    module, inputs = Masked().double(), torch.randn(4, 3, dtype=torch.float64)
    assert_same(Empirical(module).block(inputs, inputs), full(jacobian(module, inputs)))


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
        with torch.inference_mode(), pytest.raises(OptionError, match="inference_mode"):
            kernel.block(inputs, inputs)
        assert kernel.block(inputs, inputs).abs().max() > 0


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
def test_what_is_no_network_or_names_none_of_it_is_refused(
    module, options, message, as_users_run_it
) -> None:
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

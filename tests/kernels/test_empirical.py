"""Is it the tangent kernel of any module, at the weights it had?"""

import copy
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from laws import assert_same
from leftout.kernels import Empirical, Gaussian, ReLU, TwoLayerReLU
from leftout.kernels.assemble import cross, gram
from oracles.empirical import full, jacobian, jacobian_by_differences, summed, traced
from problems.networks import network
from problems.tangent_networks import NETWORKS, ByRow, drawn, settled

# What torch says of parametrised weights: one of its own operations is not vectorised.
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop because")

METHODS = ("auto", "jacobian", "layers")
# Sums of at most 400 products, of derivatives that are products along five layers of such sums.
ROUNDING = 400 * 5 * 2.0**-52

every_network = pytest.mark.parametrize(("module", "inputs"), NETWORKS.values(), ids=NETWORKS)
every_method = pytest.mark.parametrize("method", METHODS)


def mlp(k=3, d=5):
    return settled(nn.Sequential(nn.Linear(d, 8), nn.Tanh(), nn.Linear(8, k)))


@pytest.mark.sample(18)
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


@pytest.mark.sample(30)
@every_network
@every_method
@pytest.mark.parametrize(("reading", "oracle"), [("sum", summed), ("trace", traced)])
def test_one_value_for_all_outputs_is_what_its_name_says(module, inputs, method, reading, oracle) -> None:
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
    assert float((kernel.push_forward(inputs, along) * dual).sum()) == pytest.approx(inner, rel=1e-11)


@every_network
def test_nothing_of_the_caller_changes_and_later_changes_change_nothing(module, inputs, frozen) -> None:
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
        parts = [Empirical(mlp(), parameters=one, method=method) for one in (["0.weight"], patterns[1])]
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

    def test_single_precision_is_off_by_its_own_rounding_and_products_by_that_of_double(self, method) -> None:
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
        off = [gram(Empirical(network(width, 4, seed=seed)), x).numpy() - exact for seed in range(8)]
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
        float((gram(Empirical(Scaled(width, 1)), x) - exact).norm() / exact.norm()) for width in (32, 1024)
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
    assert record["weights"] == "trained"
    assert record["patterns"] == ["2.*"]
    assert record["dtype"] == "float64"
    assert record["method"] == "auto"
    assert record["projection"] == {"name": "gaussian", "size": 7, "seed": 0}
    assert Empirical(module, weights="initial").record["weights"] == "initial"
    whole = Empirical(module).record
    assert whole == Empirical(copy.deepcopy(module)).record
    assert whole["fingerprint"] != record["fingerprint"], "other parameters"
    with torch.no_grad():
        module[0].weight[0, 0] += 1e-9
    assert whole["fingerprint"] != Empirical(module).record["fingerprint"]
    assert repr(Empirical(module)) == "Empirical(Sequential, 'full', trained weights, 75 parameters)"


def test_it_asks_for_no_scaling_of_inputs() -> None:
    assert Empirical(mlp()).normalise is None


def test_a_module_that_vmap_refuses_gives_the_same_numbers_and_says_that_it_is_slow() -> None:
    module, x = settled(ByRow()), drawn(6, 5)
    with pytest.warns(UserWarning, match="ByRow is differentiated one input at a time, which is many"):
        found = gram(Empirical(module), x)
    assert_same(found, full(jacobian(module, x)), ROUNDING)


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


class Attending(nn.Module):
    """Attention as torch fuses it, of two heads."""

    def __init__(self):
        super().__init__()
        self.inside, self.readout = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x):
        heads = self.inside(x).unflatten(2, (2, 4)).transpose(1, 2)  # (n, heads, positions, 4)
        mixed = nn.functional.scaled_dot_product_attention(heads, heads, heads)
        return self.readout(mixed.transpose(1, 2).flatten(2).mean(1))


def test_fused_attention_pushes_forward_what_it_pulled_back() -> None:
    """It has no second derivative, which pushing forward takes."""
    torch.manual_seed(0)
    module, inputs = Attending().double(), drawn(6, 5, 3)
    kernel = Empirical(module)
    kernel.check("inputs", inputs)
    dual = drawn(6, 2, seed=1)
    pushed = kernel.push_forward(inputs, kernel.pull_back(inputs, dual))
    assert_same(pushed.flatten(), gram(kernel, inputs) @ dual.flatten(), ROUNDING)


def test_networks_of_the_same_weights_and_another_activation_have_another_record() -> None:
    linear = nn.Linear(3, 2)
    records = [Empirical(nn.Sequential(linear, act())).record for act in (nn.ReLU, nn.Tanh)]
    assert records[0]["fingerprint"] != records[1]["fingerprint"]

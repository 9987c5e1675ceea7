"""Are features made as seldom as the memory allows, and does the memory hold?"""

import pytest
import torch
from torch import nn

from allocated import peak_memory
from laws import assert_same
from leftout.core.errors import MemoryBudgetError
from leftout.kernels import Empirical, Gaussian
from leftout.kernels.assemble import cross, gram
from leftout.kernels.network.extract import Extract
from leftout.kernels.network.features import NetworkFeatures
from oracles.empirical import full, jacobian
from problems.tangent_networks import drawn, settled


def wide(k=2):
    """Return a network of 4000 parameters whose activations are small beside its Jacobian."""
    return settled(nn.Sequential(nn.Linear(30, 120), nn.Tanh(), nn.Linear(120, k)))


def convolutional():
    return settled(nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(216, 2)))


@pytest.fixture
def passes(monkeypatch):
    """Return a list that grows by the number of inputs of every pass."""
    seen = []
    make = Extract.__call__

    def counted(self, inputs):
        seen.append(len(inputs))
        return make(self, inputs)

    monkeypatch.setattr(Extract, "__call__", counted)
    return seen


def prepared(kernel, x, passes):
    """Return the kernel once it has looked at its network, and forget that it did."""
    gram(kernel, x[:2])
    passes.clear()
    return kernel


@pytest.mark.parametrize("method", ["jacobian", "layers"])
def test_every_input_passes_once_where_memory_is_ample(method, passes) -> None:
    x, z = drawn(50, 30), drawn(7, 30, seed=1)
    kernel = prepared(Empirical(wide(), method=method), x, passes)
    gram(kernel, x, block=16)
    assert sum(passes) == 50
    # The training inputs are known already, whoever asks.
    cross(kernel, z, x.clone(), block=16)
    cross(kernel, z[:3], x)
    assert sum(passes) == 50 + 7 + 3
    # Others take their place.
    cross(kernel, z, x[:20])
    assert sum(passes) == 60 + 27


def test_other_inputs_are_not_mistaken_for_those_that_are_known() -> None:
    x, kernel = drawn(20, 30), Empirical(wide())
    first = gram(kernel, x)
    x[4] += 1
    changed = gram(kernel, x)
    assert_same(changed, gram(Empirical(wide()), x), 1e-14)
    assert not torch.equal(first, changed)


@pytest.mark.sample(2)
@pytest.mark.parametrize("method", ["jacobian", "auto", "layers"])
@pytest.mark.parametrize(
    ("module", "shape"), [(wide(), (30,)), (convolutional(), (2, 6, 6))], ids=["mlp", "cnn"]
)
def test_small_budgets_give_the_same_numbers_and_are_kept(module, shape, method) -> None:
    x, z = drawn(30, *shape), drawn(11, *shape, seed=1)
    want = full(jacobian(module, torch.cat([x, z])))
    kernel = Empirical(module, method=method)
    gram(kernel, x[:3])  # which looks at the network, once
    smallest = None
    for budget in (20e6, 3e6, 1.2e6):
        kernel._shelf.features = None
        try:
            found = gram(kernel, x, memory=budget)
        except MemoryBudgetError:
            break
        smallest = budget
        assert_same(found, want[:60, :60], 1e-12)
        kernel._shelf.features = None
        assert peak_memory(gram, kernel, x, memory=budget) <= budget
        kernel._shelf.features = None
        assert_same(cross(kernel, z, x, memory=budget), want[60:, :60], 1e-12)
        kernel._shelf.features = None
        assert peak_memory(cross, kernel, x, z, memory=budget) <= budget
    assert smallest is not None
    assert smallest <= 3e6


def test_a_panel_at_a_time_passes_by_half_of_the_others(passes) -> None:
    x = drawn(60, 30)
    kernel = prepared(Empirical(wide(), method="jacobian"), x, passes)
    gram(kernel, x, memory=3e6)  # some 20 of the 60 Jacobians, 64 kB each, beside temporaries
    assert 60 < sum(passes) < 60 * 60 / 4


def test_the_side_that_fits_is_held(passes) -> None:
    x, z = drawn(60, 30), drawn(5, 30, seed=1)
    kernel = prepared(Empirical(wide(), method="jacobian"), x, passes)
    cross(kernel, z, x, memory=3e6)
    assert sum(passes) == 65


def test_projected_rows_take_the_memory_of_their_size_not_of_the_parameters() -> None:
    x, module = drawn(400, 30), wide()
    kernel = Empirical(module, projection=Gaussian(size=20), method="jacobian")
    whole = 400 * 2 * 8 * 3962
    budget = 8 * 800**2 + 6e6
    assert whole > 2 * budget
    gram(kernel, x[:3])
    assert peak_memory(gram, kernel, x, memory=budget) <= budget


def test_products_are_made_of_many_inputs_where_a_pass_takes_few(passes, monkeypatch) -> None:
    """A pass that needs much memory takes one input; the features of all others are converted for many."""
    monkeypatch.setattr("leftout.kernels.network.panels.CHUNK", 1)
    made = []
    products = NetworkFeatures.products

    def counted(self, rows, right, columns, **options):
        made.append((rows.stop - rows.start, columns.stop - columns.start))
        return products(self, rows, right, columns, **options)

    monkeypatch.setattr(NetworkFeatures, "products", counted)
    x, z, module = drawn(20, 30), drawn(9, 30, seed=1), wide()
    kernel = prepared(Empirical(module), x, passes)
    made.clear()
    found = cross(kernel, z, x)
    assert made == [(9, 20)]
    assert set(passes) == {1}
    assert_same(found, full(jacobian(module, torch.cat([z, x])))[:18, 18:], 1e-12)

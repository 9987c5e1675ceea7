"""Weights that a module reaches or changes by other ways than as its parameters; gradients in other forms."""

import pytest
import torch
from torch import nn

import leftout as lo
from leftout.core.errors import OptionError

INPUTS = torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TARGETS = torch.randn(7, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

ENTRIES = {
    "fit": lambda module: lo.fit(lo.kernels.Empirical(module, weights="initial"), (INPUTS, TARGETS)),
    "train": lambda module: lo.train(
        module, (INPUTS, TARGETS), rule=lo.GradientDescent(1e-3), steps=2, tolerance=None
    ),
}


@pytest.fixture(params=ENTRIES.values(), ids=ENTRIES.keys())
def entry(request):
    return request.param


class Keeping(nn.Module):
    """Keeps what it computes from its weights: in `__init__`, or at the first call."""

    def __init__(self, *, early, used=True):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))
        self.last = nn.Linear(2, 2)
        self.early, self.used = early, used
        self.kept = {"matrix": self.weight.view(4, 2)} if early else {}
        self.double()

    def forward(self, x):
        if not self.used:
            return self.last(x @ self.weight.view(4, 2))
        if not self.kept:
            self.kept["matrix"] = self.weight.view(4, 2) * 1.0
        return self.last(x @ self.kept["matrix"].double())


def test_what_a_module_computed_from_its_weights_before_is_refused_where_it_is_used(entry) -> None:
    called = Keeping(early=False)
    called(INPUTS)
    for module in (Keeping(early=True), called):
        with pytest.raises(OptionError, match=r"shape \(4, 2\) that it computed before and keeps"):
            entry(module)
    entry(Keeping(early=True, used=False))


def sharing(second, name="1.weight"):
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)).double()
    tensor = second(module[0].weight.detach())
    if name == "1.weight":
        module[1].weight = nn.Parameter(tensor)
    else:
        module[1].register_buffer("mask", tensor)
    return module


@pytest.mark.parametrize("second", [lambda w: w, lambda w: w.T, lambda w: w.view(4, 4)])
@pytest.mark.parametrize("name", ["1.weight", "1.mask"])
def test_two_tensors_in_one_memory_are_refused(second, name, entry) -> None:
    with pytest.raises(OptionError, match=f"'0.weight' and '{name}' are two tensors in one"):
        entry(sharing(second, name))


@pytest.mark.parametrize("cut", [lambda both: both.split(4), lambda both: both.view(4, 8).split(4, dim=1)])
def test_parts_of_one_vector_or_matrix_are_parameters_of_their_own(cut, entry) -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)).double()
    for layer, weight in zip(module, cut(torch.randn(8, 4).double()), strict=False):
        layer.weight = nn.Parameter(weight)
    entry(module)


def test_hooks_that_may_change_gradients_are_refused(entry) -> None:
    module = nn.Linear(4, 2).double()
    handle = module.weight.register_hook(lambda gradient: 3 * gradient)
    with pytest.raises(OptionError, match=r"register_hook may change that of 'weight'.*handle.remove"):
        entry(module)
    handle.remove()
    entry(module)


class Words(nn.Module):
    def __init__(self, *, by_function=False, sparse=True):
        super().__init__()
        self.table = nn.Embedding(5, 3, sparse=sparse)
        self.last = nn.Linear(3, 2)
        self.by_function = by_function
        self.double()

    def forward(self, x):
        words = x.long().abs() % 5
        if self.by_function:
            return self.last(nn.functional.embedding(words, self.table.weight, sparse=True).mean(1))
        return self.last(self.table(words).mean(1))


@pytest.mark.filterwarnings("ignore::leftout.core.errors.LoopWarning")
def test_sparse_gradients_are_gradients() -> None:
    dense = Words(sparse=False)
    x = 3 * INPUTS
    gram = lo.kernels.Empirical(dense, weights="initial").block(x, x)
    trained = lo.train(dense, (x, TARGETS), rule=lo.GradientDescent(1e-2), steps=3, tolerance=None).module(x)
    for module in (Words(), Words(by_function=True)):
        module.load_state_dict(dense.state_dict())
        kernel = lo.kernels.Empirical(module, weights="initial")
        assert torch.allclose(kernel.block(x, x), gram, rtol=1e-12, atol=1e-12)
    module = Words()
    module.load_state_dict(dense.state_dict())
    again = lo.train(module, (x, TARGETS), rule=lo.GradientDescent(1e-2), steps=3, tolerance=None)
    assert torch.allclose(again.module(x), trained, rtol=1e-12, atol=1e-12)

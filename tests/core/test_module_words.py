"""Modules that fail, differentiate, keep things or are compiled: do they work, or say one sentence?"""

import threading

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import leftout as lo
from laws import assert_same
from leftout.core.errors import LeftoutError, OptionError, ShapeError
from problems.tangent_networks import drawn, settled

X, Y = drawn(8, 5, seed=1), drawn(8, 1, seed=2)

pytestmark = pytest.mark.filterwarnings("ignore:.*is differentiated one input at a time:UserWarning")


class Doing(nn.Module):
    """A linear layer, and a function of module and inputs for its forward."""

    def __init__(self, function):
        super().__init__()
        self.inside = nn.Linear(5, 1)
        self.function = function

    def forward(self, x):
        return self.function(self, x)


ENTRIES = {
    "fit": lambda module: lo.fit(lo.kernels.Empirical(module, weights="initial"), (X, Y), rule=lo.Ridge(0.3)),
    "train": lambda module: lo.train(module, (X, Y), rule=lo.GradientDescent(0.02), steps=3, tolerance=None),
    "linearity_test": lambda module: lo.linearity_test(
        module, (X, Y), (X, Y), rule=lo.GradientDescent(0.02), steps=3
    ),
}

OFTEN = ["fit", "train", pytest.param("linearity_test", marks=pytest.mark.slow)]


def raising(error):
    def forward(module, x):
        raise error

    return forward


def asserting(module, x):
    assert x.shape[1] == 3, "expects RGB"


class OwnError(Exception):
    pass


FAILING = {
    "AssertionError: expects RGB": asserting,
    "KeyError: 'cpu'": lambda module, x: {}["cpu"],
    "AttributeError: 'Tensor' object has no attribute 'input_ids'": lambda module, x: x.input_ids,
    "NotImplementedError: this input": raising(NotImplementedError("this input")),
    "ValueError: expects RGB": raising(ValueError("expects RGB")),
    "RuntimeError: mat1 and mat2": lambda module, x: module.inside(x[:, :3]),
    "ZeroDivisionError: ": lambda module, x: 1 / 0,
    "StopIteration": raising(StopIteration()),
    "OwnError: of the user": raising(OwnError("of the user")),
    "OSError: no such file": raising(OSError("no such file")),
}


@pytest.mark.parametrize("entry", OFTEN)
@pytest.mark.parametrize("words", FAILING)
def test_any_exception_of_a_forward_is_a_sentence_that_shows_it(words, entry) -> None:
    with pytest.raises(ShapeError, match="must hold inputs that `module` takes") as error:
        ENTRIES[entry](Doing(FAILING[words]).double())
    assert words in str(error.value)
    assert type(error.value.__cause__).__name__ in words


@pytest.mark.parametrize("entry", OFTEN)
def test_an_exception_on_later_inputs_is_a_sentence_too(entry) -> None:
    def forward(module, x):
        assert len(x) <= 3, "too many"
        return module.inside(x)

    with pytest.raises(ShapeError, match=r"on inputs of shape \(\d, 5\) it raised AssertionError: too many"):
        ENTRIES[entry](Doing(forward).double())


@pytest.mark.parametrize("entry", OFTEN)
def test_outputs_of_another_shape_on_later_inputs_are_a_sentence_too(entry) -> None:
    for shape in (lambda f: f[:, 0], lambda f: f[1:], lambda f: (f, f)):

        def forward(module, x, shape=shape):
            return module.inside(x) if len(x) <= 3 else shape(module.inside(x))

        with pytest.raises(ShapeError, match=r"`module` must return"):
            ENTRIES[entry](Doing(forward).double())


def test_an_exception_of_a_kernel_function_is_a_sentence_that_shows_it() -> None:
    for numpy in (False, True):
        for error in (KeyError("gpu"), OwnError("no kernel"), AttributeError("no x")):

            def function(a, b, error=error):
                raise error

            with pytest.raises(LeftoutError, match=r"`function` must return an array; on inputs") as caught:
                lo.fit(lo.kernels.From(function, numpy=numpy), (X, Y))
            assert caught.value.__cause__ is error
            assert f"it raised {type(error).__name__}: {error}" in str(caught.value)


def force(module, x):
    """Return a derivative by the input, as a force field does; gradients may be off where it is called."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        energy = torch.tanh(module.inside(x)).square().sum()
        return torch.autograd.grad(energy, x, create_graph=True)[0][:, :1]


def residual(module, x):
    """The same, written where gradients are on."""
    x = x.requires_grad_()
    return torch.autograd.grad(torch.tanh(module.inside(x)).sum(), x, create_graph=True)[0][:, 1:2]


@pytest.mark.parametrize("forward", [force, residual])
def test_a_forward_that_differentiates_is_differentiated(forward) -> None:
    module = settled(Doing(forward))
    weights = list(module.parameters())
    rows = torch.stack(
        [
            torch.cat(
                [
                    gradient.flatten()
                    for gradient in torch.autograd.grad(
                        module(x[None])[0, 0], weights, materialize_grads=True
                    )
                ]
            )
            for x in X.clone()
        ]
    )
    assert_same(lo.kernels.Empirical(module, weights="initial").block(X, X), rows @ rows.T, 1e-12)
    own = settled(Doing(forward))
    optimiser = torch.optim.SGD(own.parameters(), lr=0.02)
    for _ in range(3):
        optimiser.zero_grad()
        ((own(X.clone()) - Y).square().sum() / 2).backward()
        optimiser.step()
    trained = ENTRIES["train"](module)
    assert_same(trained.predict(X), own(X.clone()).detach(), 1e-12)
    assert not X.requires_grad
    with pytest.warns(lo.NotConvergedWarning):
        assert lo.influence_function(trained, (X, Y), curvature="ggn", damping=0.1).shape == (8, 8)


def test_a_forward_that_recomputes_its_activations_is_trained_like_one_that_keeps_them() -> None:
    body = settled(nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 1)))

    class Recomputing(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = body

        def forward(self, x):
            return checkpoint(self.body, x, use_reentrant=False)

    assert_same(ENTRIES["train"](Recomputing()).predict(X), ENTRIES["train"](body).predict(X), 1e-12)
    assert_same(ENTRIES["fit"](Recomputing()).predict(X), ENTRIES["fit"](body).predict(X), 1e-12)


class Once(torch.autograd.Function):
    """An operation without a second derivative, or without a first."""

    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, gradient):
        return gradient.clone()


class Never(Once):
    @staticmethod
    def backward(context, gradient):
        raise NotImplementedError("no backward")


def test_operations_without_a_derivative_are_named() -> None:
    with pytest.raises(
        OptionError, match=r"must have derivatives .* raised NotImplementedError: no backward"
    ):
        ENTRIES["fit"](Doing(lambda module, x: Never.apply(module.inside(x))).double())
    with pytest.raises(OptionError, match=r"second ones; differentiating Doing raised RuntimeError"):
        ENTRIES["train"](Doing(lambda module, x: Once.apply(module.inside(x))).double())


def test_fused_attention_is_trained() -> None:
    layer = nn.TransformerEncoderLayer(5, 1, 8, dropout=0.0, batch_first=True)
    module = settled(nn.Sequential(nn.Unflatten(1, (1, 5)), layer, nn.Flatten(), nn.Linear(5, 1)))
    own = settled(nn.Sequential(nn.Unflatten(1, (1, 5)), layer, nn.Flatten(), nn.Linear(5, 1)))
    trained = ENTRIES["train"](module)
    optimiser = torch.optim.SGD(own.parameters(), lr=0.02)
    for _ in range(3):
        optimiser.zero_grad()
        ((own(X) - Y).square().sum() / 2).backward()
        optimiser.step()
    assert_same(trained.predict(X), own(X).detach(), 1e-12)


@pytest.mark.parametrize("entry", OFTEN)
def test_what_cannot_be_copied_is_named(entry) -> None:
    module = Doing(lambda module, x: module.inside(x)).double()
    module.inside.lock = threading.Lock()
    with pytest.raises(OptionError, match=r"its attribute 'inside.lock', copying it raised TypeError"):
        ENTRIES[entry](module)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.filterwarnings("ignore:There is a performance drop because")
def test_weight_norm_of_either_kind_is_the_same_module() -> None:
    torch.manual_seed(0)
    old = nn.utils.weight_norm(nn.Linear(5, 1)).double()
    torch.manual_seed(0)
    new = nn.utils.parametrizations.weight_norm(nn.Linear(5, 1)).double()
    old(X)
    for entry in ("fit", "train"):
        assert_same(ENTRIES[entry](old).predict(X), ENTRIES[entry](new).predict(X), 1e-12)


LINEAR = nn.Linear(5, 1).double()


def scripted():
    return torch.jit.trace(LINEAR, X)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("entry", OFTEN)
@pytest.mark.parametrize(
    ("module", "words"),
    [
        (scripted, "got a torch.jit.ScriptModule. Pass the module that it was compiled from."),
        (lambda: nn.Sequential(scripted(), nn.Linear(1, 1)), "its submodule '0' is a torch.jit.ScriptModule"),
        (lambda: nn.DataParallel(LINEAR), "got a DataParallel, which runs it on several devices. Pass its"),
        (lambda: nn.Linear(5, 1, device="meta"), "must hold numbers; its parameters are on the meta device"),
        (lambda: nn.Linear(0, 0), "that hold numbers; those with requires_grad=True, such as 'weight', are"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_what_is_no_plain_module_is_refused_without_blaming_the_data(module, words, entry) -> None:
    with pytest.raises(OptionError, match=words.replace(".", r"\.")) as error:
        ENTRIES[entry](module())
    assert "inputs" not in str(error.value)


def test_parameters_that_a_kernel_cannot_exchange_are_refused() -> None:
    class ByList(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 5), nn.Linear(5, 1)
            self.weights = [self.a.weight]

        def forward(self, x):
            return self.b(torch.tanh(self.a(x)) @ self.weights[0])

    with pytest.raises(OptionError, match=r"its forward also uses 'a.weight' by a list"):
        ENTRIES["fit"](ByList().double())
    outside = nn.Linear(5, 1).double()
    module = Doing(lambda module, x: outside(x)).double()
    module.inside = outside
    for entry in ("fit", "train"):
        with pytest.raises(OptionError, match=r"its forward also uses .*by a list, a closure or a hook"):
            ENTRIES[entry](module)

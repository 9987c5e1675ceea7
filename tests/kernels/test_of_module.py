"""The kernel of a module's architecture: the right one, however its forward is written, or a refusal."""

import math
import re

import pytest
import torch
from torch import nn
from torch.nn import functional

import leftout as lo
from leftout.kernels.layers import BatchNorm, Conv, Dense, Flatten, LeakyRelu

relu = nn.ReLU


class Plain(nn.Module):
    """Two hidden layers, with a shape asked for in the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(12, 256), nn.Linear(256, 256), nn.Linear(256, 4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        x = x.view(x.size(0), -1)
        x = self.dropout(functional.relu(self.a(x)))
        return self.c(torch.relu(self.b(x)))


class Pictures(nn.Module):
    """Two convolutions and a mean over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 128, 3, padding=1), nn.Conv2d(128, 128, 3, padding="same")
        self.pool, self.c = nn.AvgPool2d(2), nn.Linear(128, 4)

    def forward(self, x):
        x = self.pool(self.a(x).relu())
        return self.c(functional.relu(self.b(x)).mean((2, 3)))


def sequential(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


WIDE = {
    "plain": (Plain(), lo.kernels.ReLU(2), (12,)),
    "sequential": (
        sequential(nn.Flatten(), nn.Linear(12, 512), relu(), nn.Identity(), nn.Linear(512, 4)),
        lo.kernels.ReLU(1),
        (3, 2, 2),
    ),
    "pictures": (
        Pictures(),
        lo.kernels.ConvReLU(2, padding="same", pooling="mean", average=(2, 1)),
        (3, 4, 4),
    ),
    "strides": (
        sequential(
            nn.Conv2d(3, 128, 3, stride=2),
            relu(),
            nn.Conv2d(128, 128, 2),
            relu(),
            nn.Flatten(),
            nn.Linear(512, 4),
        ),
        lo.kernels.ConvReLU(2, kernel_size=(3, 2), stride=(2, 1), padding="valid"),
        (3, 7, 7),
    ),
    "circle": (
        sequential(
            nn.Conv2d(3, 128, 3, padding=1, padding_mode="circular"),
            relu(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(128, 4),
        ),
        lo.kernels.ConvReLU(1, padding="circular", pooling="mean"),
        (3, 4, 4),
    ),
    "pixels": (
        sequential(nn.Conv2d(3, 256, 1), relu(), nn.Flatten(), nn.Linear(1024, 4)),
        lo.kernels.ConvReLU(1, kernel_size=1, padding="valid"),
        (3, 2, 2),
    ),
}


class PreActivation(nn.Module):
    """A residual network with normalisation and activation inside its branches."""

    def __init__(self, width=96) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.GroupNorm(1, width)
        self.a, self.b = nn.Conv2d(width, width, 3, 2, 1), nn.Conv2d(width, width, (1, 3), padding="same")
        self.shortcut = nn.Conv2d(width, width, 1, 2, bias=False)
        self.c, self.d, self.out = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 4)

    def forward(self, x):
        x = self.first(x)
        branch = self.b(functional.gelu(self.a(functional.leaky_relu(self.norm1(x), 0.1))))
        x = 0.5 * (branch + self.shortcut(x))
        x = functional.avg_pool2d(torch.relu(self.norm2(x)), 3, stride=1, padding=1)
        x = self.c(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))
        x = x - self.d(torch.tanh(x))
        return self.out(functional.silu(x))


ORDINARY = {
    "pre-activation": (PreActivation(), None, (3, 4, 4)),
    "normalised": (
        sequential(
            nn.Linear(6, 256),
            nn.LayerNorm(256),
            nn.Sigmoid(),
            nn.Linear(256, 256),
            nn.BatchNorm1d(256, 0.5),
            nn.PReLU(),
            nn.Linear(256, 4),
        ),
        None,
        (6,),
    ),
}
NORM = re.compile("norm|^1[.]|^4[.]|^5[.]")
"""Weights of normalisations and of PReLU, which stay as they are."""


@pytest.mark.parametrize("name", WIDE)
def test_the_kernel_is_that_of_the_architecture(name):
    module, kernel, shape = WIDE[name]
    found, images = lo.kernels.of(module), torch.randn((3, *shape), dtype=torch.float64)
    expected = [type(layer) for layer in kernel.architecture.layers if not isinstance(layer, Flatten)]
    assert [type(layer) for layer in found.layers if not isinstance(layer, Flatten)] == expected
    torch.testing.assert_close(found.block(images, images), kernel.block(images, images), rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", [*WIDE, *ORDINARY])
def test_outputs_of_the_very_module_with_he_weights_have_the_covariance_of_its_prior(name):
    module, _, shape = (WIDE | ORDINARY)[name]
    module = module.eval()
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn((3, *shape), generator=generator)
    draws = []
    for _ in range(200):
        for parameter in (
            one for weight, one in module.named_parameters() if name in WIDE or not NORM.search(weight)
        ):
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            scale = math.sqrt(2 / fan_in) if parameter.ndim > 1 else 0.0
            parameter.data = scale * torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            draws.append(module(inputs).double())
    outputs = torch.stack(draws).transpose(1, 2).reshape(-1, 3)  # of independent outputs
    products = outputs[:, :, None] * outputs[:, None, :]
    expected = lo.kernels.of(module).prior().block(inputs.double(), inputs.double())
    error = products.std(0) / math.sqrt(len(products))
    # Outputs of a network share its hidden layers: of widths of 128 and more that adds a few percent.
    assert bool(((products.mean(0) - expected).abs() < 5 * error + 0.05 * expected.abs()).all())


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)


class Chooses(Two):
    def forward(self, x):
        return self.c(self.a(x)) if x.sum() > 0 else self.c(-x)


class Multiplies(Two):
    def forward(self, x):
        return self.c(torch.sigmoid(self.a(x)) * self.b(x))


class AddsActivations(Two):
    def forward(self, x):
        x = self.a(x)
        return self.c(x + torch.relu(x))


class AddsBeforeReLU(Two):
    def forward(self, x):
        x = torch.relu(self.a(x))
        return self.c(torch.relu(x + self.b(x)))


class Crosses(Two):
    def forward(self, x):
        a = self.a(x)
        b = self.b(a)
        return self.c((x + a) + (a + b) + b)


class CallsTwice(Two):
    def forward(self, x):
        return self.c(torch.relu(self.a(torch.relu(self.a(x)))))


class ReturnsTwo(Two):
    def forward(self, x):
        return self.a(x), self.b(x)


class Rounds(Two):
    def forward(self, x):
        return self.c(torch.relu(self.a(x)).to(torch.int64).to(x.dtype))


class OwnWeight(Two):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return self.c(torch.relu(self.a(x)) * self.gain)


def tied():
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    module[2].weight = module[0].weight
    return module


REFUSED = {
    "chooses": (Chooses(), "torch.fx can trace"),
    "multiplies": (Multiplies(), "product"),
    "adds activations": (AddsActivations(), "sums over weights of its own"),
    "adds before a ReLU": (AddsBeforeReLU(), "pre-activation"),
    "crosses": (Crosses(), "Empirical"),
    "calls a layer twice": (CallsTwice(), "a is called twice"),
    "returns two": (ReturnsTwo(), "one tensor"),
    "a weight of its own": (OwnWeight(), "gain"),
    "rounds": (Rounds(), "rounds units"),
    "tied": (tied(), "0.weight and 2.weight are one parameter"),
    "a largest number": (
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3, 2)),
        r"2 \(MaxPool2d\).*AvgPool2d",
    ),
    "softmax": (nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2), nn.Softmax(1)), "logits"),
    "no readout": (nn.Sequential(nn.Linear(3, 3), nn.ReLU()), "ends with Relu"),
    "two activations": (nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Tanh(), nn.Linear(3, 2)), "activation"),
    "an activation of data": (nn.Sequential(nn.ReLU(), nn.Linear(3, 2)), "data themselves"),
    "normalised activations": (
        nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.LayerNorm(3), nn.Linear(3, 2)),
        "LayerNorm",
    ),
    "in groups": (
        nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(3, 2)),
        "groups",
    ),
    "rounded up": (
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.AvgPool2d(3, ceil_mode=True), nn.Flatten(), nn.Linear(8, 2)),
        "ceil_mode",
    ),
    "no flattening": (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Linear(8, 2)), "Flatten"),
    "one dimension": (nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)), r"0 \(Conv1d\)"),
    "empty": (nn.Sequential(), "weights"),
    "no module": ("relu", "nn.Module"),
}


class Drops(Two):
    def forward(self, x):
        return self.c(functional.dropout(torch.relu(self.a(x)), 0.5))


class OwnMean(Two):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones(4))

    def forward(self, x):
        return self.c(torch.relu(self.a(x - self.mean)))


class RoundsDown(Two):
    def forward(self, x):
        return self.c(torch.div(torch.relu(self.a(x)), 2, rounding_mode="floor"))


class TurnsImages(nn.Sequential):
    def forward(self, x):
        return super().forward(x.unsqueeze(-1))


class MixesExamples(nn.Sequential):
    def forward(self, x):
        return self[0](x.reshape(x.shape[0] * x.shape[1], -1))


class AsksLength(Two):
    def forward(self, x):
        return self.c(torch.relu(self.a(x.reshape(len(x), -1))))


def plain(change=lambda module: None):
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    change(module)
    return module


def flattened(*behind):
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), *behind, nn.ReLU(), nn.Linear(8, 2))


REFUSED |= {
    "an activation of flattened positions": (flattened(), "Put Flatten behind it"),
    "an activation of normalised positions": (flattened(nn.LayerNorm(8)), "Put Flatten behind it"),
    "flattened positions of other scale": (flattened(nn.BatchNorm1d(8)), "Put Flatten behind it"),
    "dropout in evaluation": (Drops(), "self.training"),
    "a buffer": (OwnMean(), "mean, a weight or a buffer"),
    "rounding": (RoundsDown(), "a call of div"),
    "columns as channels": (
        TurnsImages(nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)),
        r"unsqueeze\(1\)",
    ),
    "mixed examples": (MixesExamples(nn.Linear(4, 2)), "reshape.*flatten"),
    "the length of a tensor": (AsksLength(), r"x\.shape\[0\]"),
    "units as positions": (
        nn.Sequential(
            nn.Flatten(), nn.Linear(4, 8), nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 1, 2), nn.Flatten()
        ),
        "Unflatten",
    ),
    "spectral normalisation": (
        plain(lambda module: nn.utils.parametrizations.spectral_norm(module[0])),
        r"0 \(ParametrizedLinear\)",
    ),
    "a hook": (plain(lambda module: module[0].register_forward_hook(lambda *given: given[2] * 3)), "hook"),
    "a frozen layer": (plain(lambda module: module[0].requires_grad_(False)), "requires_grad=False"),
    "many slopes": (nn.Sequential(nn.Linear(3, 3), nn.PReLU(3), nn.Linear(3, 2)), "one slope"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_kernel_is_refused_by_name(name):
    module, words = REFUSED[name]
    with pytest.raises(lo.LeftoutError, match=words):
        lo.kernels.of(module)


@pytest.mark.parametrize(
    ("initialisation", "expected"),
    [
        ("he", (2.0, 0.0)),
        ("xavier", (2 * 18 / (18 + 36), 0.0)),
        ("pytorch", (1 / 3, 1 / 54)),
        ("measured", (18 * 4.0, 9.0)),
    ],
)
def test_variances_are_those_of_the_initialisation(initialisation, expected):
    convolution = nn.Conv2d(2, 4, 3)
    nn.init.constant_(convolution.weight, 2.0)
    nn.init.constant_(convolution.bias, 3.0)
    module = nn.Sequential(convolution, nn.Flatten(), nn.Linear(4, 1, bias=False))
    first, _, last = lo.kernels.of(module, initialisation=initialisation).layers
    assert (first.weight_variance, first.bias_variance) == pytest.approx(expected, rel=1e-12)
    assert last.bias_variance == 0
    given = lo.kernels.of(
        module, initialisation=initialisation, weight_variance=1.5, bias_variance=0.2
    ).layers
    assert [(layer.weight_variance, layer.bias_variance) for layer in given[::2]] == [(1.5, 0.2), (1.5, 0.0)]


@pytest.mark.parametrize("initialise", [nn.init.kaiming_normal_, nn.init.xavier_normal_, None])
def test_stated_variances_are_those_that_pytorch_draws(initialise):
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 96, 3)
    if initialise is not None:
        initialise(layer.weight)
        nn.init.zeros_(layer.bias)
    module = nn.Sequential(layer, nn.Flatten(), nn.Linear(96, 10))
    name = {nn.init.kaiming_normal_: "he", nn.init.xavier_normal_: "xavier", None: "pytorch"}[initialise]
    stated, measured = (lo.kernels.of(module, initialisation=one).layers[0] for one in (name, "measured"))
    # 55,296 weights: their mean square has a relative error of at most √(2 / 55,296) = 0.6 %.
    assert measured.weight_variance == pytest.approx(stated.weight_variance, rel=0.03)
    assert measured.bias_variance == pytest.approx(stated.bias_variance, rel=0.5)


def test_what_a_module_says_of_its_layers_is_kept():
    module = nn.Sequential(
        nn.Conv2d(2, 4, (3, 1), (2, 1), (1, 0), padding_mode="circular"),
        nn.BatchNorm2d(4, 0.1),
        nn.LeakyReLU(0.3),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(8, 1),
    )
    assert lo.kernels.of(module).layers == (
        Conv((3, 1), (2, 1), (1, 0), circular=True),
        BatchNorm(0.1),
        LeakyRelu(0.3),
        Flatten(),
        Dense(),
    )
    assert lo.kernels.of(module, kind="nngp") == lo.kernels.of(module).prior()


@pytest.mark.parametrize(
    "option", [{"initialisation": "kaiming"}, {"weight_variance": 0.0}, {"bias_variance": -1.0}]
)
def test_options_that_are_none_are_refused(option):
    with pytest.raises(lo.LeftoutError, match=next(iter(option))):
        lo.kernels.of(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)), **option)


def test_weights_that_are_all_zero_have_no_measured_variance():
    module = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    nn.init.zeros_(module[2].weight)
    with pytest.raises(lo.LeftoutError, match="those of 2 are"):
        lo.kernels.of(module, initialisation="measured")


def test_trained_normalisations_have_no_measured_kernel():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 1))
    assert lo.kernels.of(module, initialisation="measured")
    nn.init.constant_(module[1].running_var, 4.0)
    assert lo.kernels.of(module)
    with pytest.raises(lo.LeftoutError, match="running_var of 1 is not 1"):
        lo.kernels.of(module, initialisation="measured")


class Adds(Two):
    """Sums of several branches, and a shortcut past all of them."""

    def forward(self, x):
        x = self.a(x)
        if self.training:
            x = x + torch.randn_like(x)
        return self.c(torch.relu(sum([self.a1(x), self.b(torch.relu(x))]) + x))

    def __init__(self) -> None:
        super().__init__()
        self.a1 = nn.Linear(4, 4)


def test_sums_of_several_branches_and_a_shortcut_are_read_in_eval_mode():
    module = Adds().train()
    both = lo.kernels.residual(Dense(), shortcut=(lo.kernels.layers.Relu(), Dense()))
    expected = lo.kernels.serial(Dense(), lo.kernels.residual(both), lo.kernels.layers.Relu(), Dense())
    assert lo.kernels.of(module) == expected
    assert all(layer.training for layer in module.modules())


def test_a_network_whose_activations_work_in_place_has_the_kernel_of_one_whose_do_not():
    inputs = torch.eye(3, dtype=torch.float64)
    kernels = [
        lo.kernels.of(
            nn.Sequential(nn.Linear(3, 3), nn.ELU(inplace=inplace), nn.Linear(3, 1)), tolerance=0.01
        ).block(inputs, inputs)
        for inplace in (False, True)
    ]
    assert torch.equal(*kernels)


def test_a_convolution_behind_the_mean_over_positions_is_a_readout():
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 3, 1), nn.Flatten()
    )
    assert lo.kernels.of(module).layers[-2:] == (Dense(), Flatten())


def test_outputs_at_several_positions_are_refused():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 3, 2), nn.Flatten())
    kernel = lo.kernels.of(module)
    assert lo.kernels.gram(kernel, torch.ones(1, 1, 4, 4)).shape == (1, 1)
    with pytest.raises(lo.LeftoutError, match="leave 2 x 3"):
        lo.kernels.gram(kernel, torch.ones(1, 1, 5, 6))


def test_options_of_an_activation_are_in_its_name():
    def words(activation):
        return lo.kernels.of(nn.Sequential(nn.Linear(3, 3), activation, nn.Linear(3, 1))).layers[1].words

    assert words(nn.ELU(inplace=True)) == "ELU"
    assert words(nn.ELU(alpha=2.0, inplace=True)) == "ELU(alpha=2.0)"
    assert words(nn.Softplus(beta=2.0)).startswith("Softplus(beta=2.0")
    assert words(Calls(functional.elu, alpha=2.0)) == "elu(alpha=2.0)"
    assert words(Calls(functional.elu)) in ("elu", "elu(alpha=1.0)")


class Calls(nn.Module):
    def __init__(self, function, **options) -> None:
        super().__init__()
        self.function, self.options = function, options

    def forward(self, x):
        return self.function(x, **self.options)

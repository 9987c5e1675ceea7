"""The kernel of the neural tangent hierarchy: equation 5, limits, what a kernel that sees labels owes."""

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

import leftout as lo
from laws import assert_same
from leftout.core.errors import (
    DataError,
    ExpansionWarning,
    MemoryBudgetError,
    NotPositiveError,
    OptionError,
    ShapeError,
)
from leftout.kernels.assemble import cross, gram
from leftout.kernels.hierarchy.hierarchy import FittedHierarchy, NeuralTangentHierarchy
from leftout.kernels.hierarchy.sampled import Draw
from leftout.kernels.wide.options import Activation
from leftout.kernels.wide.two_layer import TwoLayer
from oracles.hierarchy import equation_five, fourth_of_neurons, two_layer_ntk
from problems.networks import seeded, sphere

ACTIVATIONS = get_args(Activation)
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def problem(n: int = 6, d: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Unit inputs, classes and targets of ±1."""
    inputs, _ = sphere(n, d, seed=4)
    labels = torch.arange(n) % 2
    return inputs, labels, (2 * labels - 1).double()[:, None]


def fitted_hierarchy(
    activation: Activation = "relu", *, n: int = 6, targets: Tensor | None = None, **options
):
    """The kernel fitted to the problem."""
    inputs, labels, y = problem(n)
    settings = {"width": 100, "neurons": 640} | options
    asked = NeuralTangentHierarchy(activation=activation, **settings)
    return asked.fit_labels(inputs, labels, y if targets is None else targets)


def label_part(kernel: FittedHierarchy) -> Tensor:
    return kernel.gram - TwoLayer(kernel.options.activation).block(kernel.inputs, kernel.inputs)


@pytest.mark.sample(2)
@every_activation
def test_at_the_end_of_training_it_is_equation_five(activation: Activation) -> None:
    kernel = fitted_hierarchy(activation, neurons=160)
    x = kernel.inputs.numpy()
    draw = Draw(activation=activation, neurons=160, seed=0)
    weights = torch.cat([one for group in range(16) for one in draw.weights(group, 4)])
    fourth = fourth_of_neurons(activation, weights.numpy(), x).mean(0)
    start = two_layer_ntk(activation, x)
    part = equation_five(start, fourth, kernel.targets[:, 0].numpy()) / 100
    # cond(H) is 10 or so, squared, and 6⁴ terms of either sign.
    assert_same(kernel.gram, start + part, rtol=1e-11)
    assert_same(label_part(kernel), part, rtol=1e-10)


@every_activation
def test_before_training_it_is_the_kernel_at_the_start(activation: Activation) -> None:
    start = TwoLayer(activation).block(*[problem()[0]] * 2)
    assert_same(fitted_hierarchy(activation, time=0.0).gram, start, rtol=1e-15)
    assert_same(fitted_hierarchy(activation, width=10**12).gram, start, rtol=1e-9)
    # What changes first is of the second order in time: a tenth of the time, a hundredth of the change.
    early, earlier = (label_part(fitted_hierarchy(activation, time=t)) for t in (1e-3, 1e-4))
    assert_same(100 * earlier, early, rtol=0.02)


@every_activation
def test_late_in_training_it_is_the_kernel_at_the_end(activation: Activation) -> None:
    least = float(torch.linalg.eigvalsh(fitted_hierarchy(activation).start)[0])
    assert_same(
        fitted_hierarchy(activation, time=60 / least).gram, fitted_hierarchy(activation).gram, rtol=1e-11
    )


@every_activation
def test_the_part_of_the_labels_is_their_square(activation: Activation) -> None:
    y = problem()[2]
    part = label_part(fitted_hierarchy(activation))
    assert_same(label_part(fitted_hierarchy(activation, targets=-y)), part, rtol=1e-11)
    assert_same(label_part(fitted_hierarchy(activation, targets=2 * y)), 4 * part, rtol=1e-11)
    assert_same(label_part(fitted_hierarchy(activation, width=1000)), part / 10, rtol=1e-10)
    assert float(label_part(fitted_hierarchy(activation, targets=0 * y)).abs().max()) < 1e-15


def test_scaling_the_inputs_of_relu_leaves_the_part_of_the_labels() -> None:
    """K₂ scales like c², K₄ like c⁴, H⁻¹ twice like c⁻⁴."""
    inputs, labels, y = problem()
    asked = NeuralTangentHierarchy(width=100, neurons=640)
    longer = asked.fit_labels(3 * inputs, labels, y)
    assert_same(longer.change(3 * inputs).value, fitted_hierarchy().change(inputs).value, rtol=1e-11)


def test_the_paper_has_its_time_over_n() -> None:
    """h_t = (I − e^{−tH/n}) y of the paper: half of a mode d is learned at t = n ln 2 / d."""
    kernel = fitted_hierarchy("tanh", time=math.log(2) / 3)
    values, vectors = np.linalg.eigh(kernel.start.numpy())
    paper_time = 6 * math.log(2) / 3
    learned = 1 - np.exp(-paper_time * values / 6)
    single = vectors @ (learned / values * (vectors.T @ kernel.targets[:, 0].numpy()))
    assert_same(kernel._changes.examples.pull.single, single, rtol=1e-12)


@pytest.mark.parametrize("options", [{}, {"expectation": "orthants"}])
def test_the_order_of_the_examples_does_not_matter(options) -> None:
    inputs, labels, y = problem()
    order = torch.randperm(6, generator=seeded(3))
    asked = NeuralTangentHierarchy(width=10, neurons=640, **options)
    whole, turned = (
        asked.fit_labels(inputs, labels, y),
        asked.fit_labels(inputs[order], labels[order], y[order]),
    )
    assert_same(turned.gram, whole.gram[order][:, order], rtol=1e-11)


@pytest.mark.parametrize("options", [{}, {"activation": "gelu"}, {"expectation": "orthants"}])
def test_gram_cross_blocks_and_diagonal_agree(options) -> None:
    kernel = fitted_hierarchy(width=5, **options)
    inputs = kernel.inputs
    queries = torch.cat([inputs[1:3], sphere(3, 4, seed=8)[0]])
    assert torch.equal(kernel.gram, kernel.gram.T)
    between = cross(kernel, queries, inputs)
    assert_same(between[:2], kernel.gram[1:3], rtol=1e-11)
    assert_same(kernel.block(queries, inputs), between, rtol=1e-11)
    assert_same(torch.cat([kernel.block(one[None], inputs) for one in queries]), between, rtol=1e-11)
    assert_same(kernel.diagonal(inputs), kernel.gram.diagonal(), rtol=1e-11)
    assert_same(kernel.diagonal(queries), gram(kernel, queries).diagonal(), rtol=1e-11)
    assert kernel.block(queries.float(), inputs.float()).dtype is torch.float32
    assert torch.equal(gram(kernel, inputs, dtype=torch.float32), kernel.gram)
    assert kernel.dtype is torch.float64
    assert kernel.compare(queries).cross.shape == (5, 6)
    assert gram(kernel, queries[:0]).shape == (0, 0)


def test_standard_errors_say_how_far_seeds_differ() -> None:
    inputs = problem()[0]
    found = [fitted_hierarchy("tanh", seed=seed).change(inputs) for seed in range(30)]
    spread = torch.stack([one.value for one in found]).std(0)
    said = torch.stack([one.standard_error for one in found]).square().mean(0).sqrt()
    # Spread and mean square error are each known to 1 / √60 or so, 13 %.
    assert float((spread / said - 1).abs().max()) < 0.5
    assert float((spread / said).mean()) == pytest.approx(1, abs=0.15)


def test_more_neurons_are_the_first_ones_and_more() -> None:
    """The same seed gives the same kernel, and another seed another one."""
    assert torch.equal(fitted_hierarchy(seed=1).gram, fitted_hierarchy(seed=1).gram)
    assert not torch.equal(fitted_hierarchy(seed=1).gram, fitted_hierarchy(seed=2).gram)
    few, many = (next(Draw(activation="relu", neurons=n, seed=0).weights(2, 4)) for n in (64, 640))
    assert torch.equal(few, many[:4])


@pytest.mark.parametrize("options", [{}, {"expectation": "orthants"}, {"activation": "erf"}])
def test_refitted_it_is_the_kernel_fitted_so(options) -> None:
    inputs, labels, y = problem()
    kernel = fitted_hierarchy(time=2.0, **options)
    queries, _ = sphere(3, 4, seed=8)
    keep = torch.tensor([0, 2, 3, 5])
    asked = kernel.options
    some, again = asked.fit_labels(inputs[keep], labels[keep], y[keep]), kernel.refit_labels(keep)
    assert_same(again.gram, some.gram, rtol=1e-11)
    own = cross(some, queries, inputs[keep])
    assert_same(again.cross(kernel.compare(queries)), own, rtol=1e-11)
    assert_same(again.without_gram().cross(kernel.compare(queries)), own, rtol=1e-11)
    row = again.cross(kernel.compare_training(slice(1, 2)))
    assert_same(row, cross(some, inputs[1:2], inputs[keep]), rtol=1e-11)
    other = torch.tensor([0, 0, 0, 1, 1, 1])
    others = (2 * other - 1).double()[:, None]
    relabelled = kernel.refit_labels(torch.arange(len(kernel.inputs)), other, others)
    assert_same(relabelled.gram, asked.fit_labels(inputs, other, others).gram, rtol=1e-12)


def test_frozen_it_is_the_same_and_says_so() -> None:
    kernel = fitted_hierarchy()
    frozen = kernel.freeze_labels()
    assert frozen.options.frozen
    assert not kernel.options.frozen
    assert torch.equal(frozen.gram, kernel.gram)
    queries, _ = sphere(3, 4, seed=8)
    assert torch.equal(frozen.block(queries, kernel.inputs), kernel.block(queries, kernel.inputs))


def test_two_classes_are_minus_one_and_one_where_no_targets_are_given() -> None:
    inputs, labels, _ = problem()
    asked = NeuralTangentHierarchy(width=100, neurons=640)
    assert torch.equal(asked.fit_labels(inputs, 3 + 4 * labels).gram, fitted_hierarchy().gram)
    with pytest.raises(OptionError, match=r"`labels` must be of two classes .* got 6"):
        asked.fit_labels(inputs, torch.arange(6))


def test_fitted_leaving_one_out_is_fitting_without_it() -> None:
    """Through the public door: the kernel fitted again, exactly."""
    inputs, labels, y = problem(8)
    kernel = NeuralTangentHierarchy(width=100, neurons=160, activation="gelu")
    fitted = lo.fit(kernel, (inputs, labels), rule=lo.Ridge(0.1))
    queries, _ = sphere(3, 4, seed=8)
    scores = lo.leave_one_out(fitted, (queries, torch.tensor([0, 1, 1])), of="prediction")
    keep = torch.tensor([0, 1, 2, 4, 5, 6, 7])
    some = kernel.fit_labels(inputs[keep], labels[keep], y[keep])
    dual = torch.linalg.solve(some.gram + 0.1 * torch.eye(7).double(), y[keep])
    without = cross(some, queries, inputs[keep]) @ dual
    assert_same(scores.values[:, 3, 0], (fitted.predict(queries) - without)[:, 0], rtol=1e-9)


def test_an_expansion_whose_next_terms_are_large_is_doubted() -> None:
    """The change goes as 1/width, and so does the doubt; at the width that is named it is a tenth."""
    inputs, labels, y = problem(8)
    narrow, wide = (
        NeuralTangentHierarchy(width=width, neurons=160, activation="gelu") for width in (20, 100)
    )
    moved = (
        label_part(narrow.fit_labels(inputs, labels, y)).norm()
        / TwoLayer("gelu").block(inputs, inputs).norm()
    )
    assert float(moved) > 0.5
    named = math.ceil(20 * float(moved) / 0.1)
    with pytest.warns(ExpansionWarning, match=rf"at width 20 .* At width {named:,} that is a\s+tenth"):
        lo.fit(narrow, (inputs, labels))
    lo.fit(wide, (inputs, labels))  # a warning is an error here
    late = NeuralTangentHierarchy(width=20, neurons=160, activation="gelu", time=1e-3)
    assert late.fit_labels(inputs, labels, y).doubt == ""


@pytest.mark.slow
def test_the_certificate_says_how_far_a_mean_over_neurons_is_from_the_expectation() -> None:
    """As the standard errors do: the mean square of a difference over √2 is theirs."""
    inputs, labels, y = problem(8)
    found = []
    for seed in range(20):
        asked = NeuralTangentHierarchy(width=100, neurons=640, activation="gelu", seed=2 * seed)
        kernel = asked.fit_labels(inputs, labels, y)
        errors = kernel.change(inputs).standard_error
        measured = kernel.distortion(inputs)
        assert measured is not None
        found.append(measured.frobenius * float(kernel.gram.norm() / errors.norm()))
        assert measured.spectral > 0
    # Entries move together, as one or two numbers do: of 20 ratios with a spread of about 0.5 the root
    # mean square is known to 0.15 or so.
    assert np.sqrt(np.square(found).mean()) == pytest.approx(1, abs=0.5)
    assert fitted_hierarchy("relu", expectation="orthants").distortion(inputs) is None
    fitted = lo.fit(asked, (inputs, labels))
    certificate = lo.certify(fitted, (inputs[:2], labels[:2]), refit_examples=0)
    assert certificate.approximation == measured.record


def test_repeated_inputs_are_named_and_a_finite_time_takes_them() -> None:
    inputs, labels, _ = problem()
    inputs, labels = torch.cat([inputs, inputs[2:3]]), torch.cat([labels, labels[2:3]])
    asked = NeuralTangentHierarchy(width=100, neurons=160, activation="gelu")
    with pytest.raises(NotPositiveError, match=r"finite `time`\. Examples '2' and '6' have identical"):
        lo.fit(asked, (inputs, labels))
    lo.fit(replace(asked, time=2.0), (inputs, labels))
    with pytest.raises(OptionError, match=r"`time` must be at most 1e\+100"):
        replace(asked, time=1e300)
    longest = replace(asked, time=1e100).fit_labels(inputs[:6], labels[:6]).gram
    assert_same(longest, asked.fit_labels(inputs[:6], labels[:6]).gram, rtol=1e-9)


def test_a_doubt_is_said_once_however_often_it_is_refitted() -> None:
    inputs, labels, _ = problem(8)
    narrow = NeuralTangentHierarchy(width=20, neurons=160, activation="gelu")
    with pytest.warns(ExpansionWarning):
        fitted = lo.fit(narrow, (inputs, labels))
    lo.certify(fitted, (inputs[:2], labels[:2]), refit_examples=2)  # a warning is an error here


def test_inputs_beyond_what_numbers_reach_are_doubted_in_words() -> None:
    inputs, labels, y = problem(6)
    asked = NeuralTangentHierarchy(width=100, neurons=160, activation="gelu", time=1.0)
    fitted = asked.fit_labels(inputs * 1e-82, labels, y)
    assert fitted.doubt == "" or "Scale the inputs" in fitted.doubt


def test_float32_is_not_followed_and_nobody_says_so() -> None:
    inputs, labels, _ = problem()
    asked = NeuralTangentHierarchy(width=100, neurons=160, activation="gelu")
    fitted = lo.fit(asked, (inputs, labels), dtype=torch.float32)
    assert fitted.kernel_dtype == torch.float64
    assert torch.equal(fitted.gram, lo.fit(asked, (inputs, labels)).gram)


def test_nothing_is_written_to(frozen) -> None:
    inputs, labels, y = problem()
    frozen(inputs, labels, y)
    kernel = NeuralTangentHierarchy(width=1, activation="gelu", neurons=64).fit_labels(inputs, labels, y)
    kernel.gram, kernel.diagonal(inputs), cross(kernel, inputs[:2], inputs)


def test_the_record_says_which_kernel_it_was() -> None:
    asked = NeuralTangentHierarchy(width=100, neurons=640, time=2.0)
    assert asked.record == {
        "name": "neural-tangent-hierarchy",
        "activation": "relu",
        "width": 100,
        "time": 2.0,
        "expectation": "neurons",
        "neurons": 640,
        "seed": 0,
        "frozen": False,
    }
    assert "neurons" not in NeuralTangentHierarchy(width=1, expectation="orthants").record
    inputs, labels, y = problem()
    one, other = asked.fit_labels(inputs, labels, y).record, asked.fit_labels(inputs, labels, -y).record
    assert one["inputs"] == other["inputs"]
    assert one["targets"] != other["targets"]
    assert asked.normalise == fitted_hierarchy().normalise == "unit"
    assert not fitted_hierarchy().definite


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "`width` must be a whole number ≥ 1; got 0"),
        ({"width": 8, "activation": "swish"}, "`activation` must be one of 'relu', 'tanh'"),
        ({"width": 8, "time": -1.0}, "`time` must be a finite number ≥ 0; got -1.0"),
        ({"width": 8, "time": math.inf}, "`time` must be a finite number ≥ 0; got inf"),
        ({"width": 8, "neurons": 0}, "`neurons` must be a whole number ≥ 1; got 0"),
        ({"width": 8, "seed": -1}, "`seed` must be a whole number ≥ 0; got -1"),
        ({"width": 8, "expectation": "guess"}, "`expectation` must be one of 'neurons', 'orthants'"),
        (
            {"width": 8, "expectation": "orthants", "activation": "tanh"},
            "`expectation` must be \"neurons\" for smooth activations.*activation='tanh'",
        ),
    ],
)
def test_options_that_are_none_are_refused(options, message) -> None:
    with pytest.raises(OptionError, match=message):
        NeuralTangentHierarchy(**options)


@pytest.mark.usefixtures("as_users_run_it")
def test_examples_that_it_cannot_be_fitted_to_are_refused() -> None:
    inputs, labels, y = problem()
    asked = NeuralTangentHierarchy(width=100, neurons=640)
    with pytest.raises(OptionError, match=r"`targets` must have one column .* got 3"):
        asked.fit_labels(inputs, labels, torch.cat([y, y, y], dim=1))
    with pytest.raises(ShapeError, match="`targets` must have 6 rows"):
        asked.fit_labels(inputs, labels, y[:4])
    with pytest.raises(DataError, match="`targets` must be finite; row 2"):
        asked.fit_labels(inputs, labels, torch.where(torch.arange(6)[:, None] == 2, math.nan, y))
    with pytest.raises(DataError, match="`inputs` must not hold a zero vector; row 0"):
        asked.fit_labels(torch.zeros_like(inputs), labels, y)
    twice = torch.cat([inputs[:5], inputs[:1]])
    with pytest.raises(NotPositiveError, match="finite `time`"):
        _ = asked.fit_labels(twice, labels, y).gram
    assert NeuralTangentHierarchy(width=9, time=3.0).fit_labels(twice, labels, y).gram.shape == (6, 6)
    with pytest.raises(MemoryBudgetError, match=r"A kernel matrix of 6 × 6 needs .* budget of 1 MB"):
        _ = asked.fit_labels(inputs, labels, y, memory="1MB").gram

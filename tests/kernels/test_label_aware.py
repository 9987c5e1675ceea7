"""Does a kernel that learns from labels learn from all pairs of them, and from no others?"""

import numpy as np
import pytest
import torch
from torch import nn

import leftout as lo
from laws import assert_same
from leftout.core.errors import DataError, MemoryBudgetError, OptionError, ShapeError
from leftout.kernels import ConvReLU, Empirical, From, ReLU
from leftout.kernels.assemble import cross, gram
from leftout.kernels.pairwise.label_aware import ESTIMATORS, LabelAware
from leftout.kernels.pairwise.sketch import Sketch
from oracles.label_aware import label_aware, polynomial

N, M, D = 22, 6, 7

every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)
two_and_three = pytest.mark.parametrize("classes", [2, 3])

# Fitted values of least squares are off by eps times the condition of the features, which is at most 1e6
# where all are told apart (1/√RANK): 2e-10, and λ has as much again.
LEARNED = 1e-9


def examples(classes=2, n=N, d=D, seed=0):
    draw = np.random.default_rng(seed)
    labels = np.r_[np.arange(classes), draw.integers(0, classes, n - classes)]
    inputs = draw.standard_normal((n, d)) / np.sqrt(d) + 0.4 * np.eye(classes, d)[labels]
    return torch.from_numpy(inputs), torch.from_numpy(labels)


def queries(n=M, d=D):
    return torch.from_numpy(np.random.default_rng(9).standard_normal((n, d)) / np.sqrt(d))


def squared(x, z):
    return (1 + x @ z.T) ** 2


@pytest.mark.sample(3)
@every_estimator
@two_and_three
def test_it_is_a_regression_over_all_pairs(estimator, classes) -> None:
    inputs, labels = examples(classes)
    fitted = LabelAware(From(squared), estimator, strength=0.3).fit_labels(inputs, labels)
    given = estimator, inputs.numpy(), labels.numpy(), polynomial, 0.3
    assert_same(fitted.gram, label_aware(given[0], inputs.numpy(), *given[1:]), LEARNED)
    found = fitted.compare(queries()).cross
    assert_same(found, label_aware(given[0], queries().numpy(), *given[1:]), LEARNED)


@every_estimator
@two_and_three
def test_it_is_one_function_of_two_inputs(estimator, classes) -> None:
    inputs, labels = examples(classes)
    fitted = LabelAware(ReLU(1), estimator).fit_labels(inputs, labels)
    assert torch.equal(fitted.gram, fitted.gram.T)
    assert_same(gram(fitted, inputs), fitted.gram, 1e-12)
    pairs = fitted.compare(queries())
    assert_same(cross(fitted, queries(), inputs, block=5), pairs.cross, 1e-12)
    others = gram(fitted, queries())
    assert_same(fitted.diagonal(queries()), others.diagonal(), 1e-12)
    assert_same(fitted.diagonal(inputs), fitted.gram.diagonal(), 1e-12)


@every_estimator
@pytest.mark.parametrize("gone", [[0], [4, 11, 19], "largest", "smallest"])
@two_and_three
def test_without_some_it_is_the_kernel_fitted_to_the_others(estimator, gone, classes) -> None:
    inputs, labels = examples(classes)
    asked = LabelAware(ReLU(1), estimator)
    fitted = asked.fit_labels(inputs, labels)
    if gone == "largest":  # of these the bandwidth is made: it is another without them
        gone = [int(fitted.pairs.kernel.diagonal().argmax())]
    elif gone == "smallest":
        gone = [int(fitted.pairs.kernel.min(1).values.argmin())]
    keep = torch.tensor([i for i in range(N) if i not in gone])
    fresh = asked.fit_labels(inputs[keep], labels[keep])
    part = fitted.refit_labels(keep)
    assert part.strength_used == pytest.approx(fresh.strength_used, rel=1e-10)
    assert torch.equal(part.gram, part.gram.T)
    assert_same(part.gram, fresh.gram, 1e-10)
    pairs = fitted.compare(queries())
    expected = cross(fresh, queries(), inputs[keep])
    assert_same(part.cross(pairs), expected, 1e-10)
    assert_same(part.without_gram().cross(pairs), expected, 1e-10)


@every_estimator
def test_a_class_that_leaves_with_its_only_example_leaves_two(estimator) -> None:
    inputs, labels = examples(2)
    labels[7] = 2
    asked = LabelAware(ReLU(1), estimator)
    keep = torch.tensor([i for i in range(N) if i != 7])
    part = asked.fit_labels(inputs, labels).refit_labels(keep)
    assert_same(part.gram, asked.fit_labels(inputs[keep], labels[keep]).gram, 1e-10)


def test_a_part_in_another_order_has_its_matrices_in_that_order() -> None:
    inputs, labels = examples()
    fitted = LabelAware(ReLU(1)).fit_labels(inputs, labels)
    keep = torch.tensor([9, 2, 15, 3, 0, 1, 7, 21, 13])
    back = keep.flip(0)
    assert_same(fitted.refit_labels(back).gram.flip(0, 1), fitted.refit_labels(keep).gram, 1e-12)


@every_estimator
def test_other_labels_make_the_kernel_fitted_to_them(estimator) -> None:
    inputs, labels = examples(3)
    other = labels.roll(5)
    asked = LabelAware(ReLU(1), estimator)
    found = asked.fit_labels(inputs, labels).refit_labels(torch.arange(len(inputs)), other)
    fresh = asked.fit_labels(inputs, other)
    assert_same(found.gram, fresh.gram, 1e-12)
    pairs = fresh.compare(queries())
    assert_same(found.cross(pairs), pairs.cross, 1e-12)


@every_estimator
def test_another_strength_needs_nothing_to_be_learned(estimator) -> None:
    inputs, labels = examples()
    fitted = LabelAware(ReLU(1), estimator, strength=0.1).fit_labels(inputs, labels)
    other = LabelAware(ReLU(1), estimator, strength=0.7).fit_labels(inputs, labels)
    assert torch.equal(fitted.at_strength(0.7).gram, other.gram)
    assert fitted.at_strength(0.7).estimate is fitted.estimate
    keep = torch.arange(1, N)
    assert torch.equal(fitted.refit_labels(keep).at_strength(0.7).gram, other.refit_labels(keep).gram)
    assert fitted.at_strength(0.7).strength_used == pytest.approx(7 * fitted.strength_used)


@every_estimator
def test_without_strength_it_is_the_base(estimator) -> None:
    inputs, labels = examples()
    fitted = LabelAware(ReLU(1), estimator, strength=0.0).fit_labels(inputs, labels)
    assert torch.equal(fitted.gram, gram(ReLU(1), inputs))
    little = fitted.at_strength(1e-9).gram - fitted.gram
    # mean |λ Z| is the strength times mean |H|, whatever Z is.
    assert_same(little.abs().mean(), 1e-9 * fitted.gram.abs().mean(), 1e-5)


@every_estimator
def test_names_of_classes_say_nothing(estimator) -> None:
    inputs, labels = examples(2)
    asked = LabelAware(ReLU(1), estimator)
    found = asked.fit_labels(inputs, labels).gram
    assert_same(asked.fit_labels(inputs, 1 - labels).gram, found, 1e-13)
    assert_same(asked.fit_labels(inputs, 3 + 4 * labels).gram, found, 1e-13)


@every_estimator
def test_permuting_the_examples_permutes_the_kernel(estimator) -> None:
    inputs, labels = examples(3)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    asked = LabelAware(ReLU(1), estimator)
    found = asked.fit_labels(inputs[order], labels[order]).gram
    assert_same(found, asked.fit_labels(inputs, labels).gram[order][:, order], 1e-11)


@every_estimator
def test_a_kernel_of_another_size_makes_one_of_that_size(estimator) -> None:
    inputs, labels = examples()
    found = [
        LabelAware(From(lambda x, z, c=c: c * (1 + x @ z.T) ** 2), estimator).fit_labels(inputs, labels)
        for c in (1.0, 1000.0)
    ]
    assert_same(found[1].gram, 1000 * found[0].gram, 1e-11)


@every_estimator
def test_images_are_flattened(estimator) -> None:
    draw = np.random.default_rng(2)
    images = torch.from_numpy(draw.standard_normal((14, 3, 4, 4)))
    labels = torch.arange(14) % 2
    fitted = LabelAware(ConvReLU(2), estimator).fit_labels(images, labels)
    keep = torch.arange(13)
    fresh = LabelAware(ConvReLU(2), estimator).fit_labels(images[:13], labels[:13])
    assert_same(fitted.refit_labels(keep).gram, fresh.gram, 1e-10)
    assert_same(gram(fitted, images), fitted.gram, 1e-10)


def test_equal_inputs_have_equal_rows() -> None:
    inputs, labels = examples()
    inputs[8] = inputs[3]
    fitted = LabelAware(ReLU(1), "fjlt-v2").fit_labels(inputs, labels)
    assert_same(fitted.gram[8], fitted.gram[3], 1e-13)
    # A product's rounding makes no angle of 1e-8 between a query and itself among the examples.
    assert_same(fitted.compare(inputs[3:4]).cross[0], fitted.gram[3], 1e-13)


@every_estimator
def test_float32_is_right_to_its_rounding(estimator) -> None:
    inputs, labels = examples()
    single = LabelAware(ReLU(1), estimator).fit_labels(inputs, labels, dtype=torch.float32)
    double = LabelAware(ReLU(1), estimator).fit_labels(inputs, labels)
    assert single.gram.dtype == torch.float64
    # 2^-24 in kernel and distances, times the condition of features or, for "kr-v2", of the kernel: 1e4, 1e5.
    assert_same(single.gram, double.gram, 1e-2 if estimator == "kr-v2" else 1e-3)
    assert not torch.equal(single.gram, double.gram)


def test_what_it_is_made_of_is_recorded(frozen) -> None:
    inputs, labels = examples()
    frozen(inputs, labels)
    asked = LabelAware(ReLU(1), "fjlt-v1", 0.2, sketch=Sketch(seed=3))
    fitted = asked.fit_labels(inputs, labels)
    record = fitted.record
    assert record["base"] == ReLU(1).record
    assert record["strength"] == 0.2
    assert record["strength_used"] == fitted.strength_used
    assert record["sketch"]["seed"] == 3
    assert list(record["estimate"]["coefficients"])[:2] == ["kernel", "product"]
    assert record["labels"] != asked.fit_labels(inputs, 1 - labels).record["labels"]
    assert "fitted to 22 examples" in repr(fitted)
    assert LabelAware(ReLU(1), "kr-v1").fit_labels(inputs, labels).record["estimate"]["bandwidth"] > 0


def test_it_says_what_it_is() -> None:
    inputs, labels = examples()
    asked = LabelAware(ReLU(1), "kr-v1")
    fitted = asked.fit_labels(inputs, labels)
    assert (asked.normalise, asked.dtype) == ("sphere", None)
    assert (fitted.normalise, fitted.outputs, fitted.dtype) == ("sphere", None, None)
    assert not fitted.definite
    assert not fitted.options.frozen
    stays = fitted.freeze_labels()
    assert stays.options.frozen
    assert torch.equal(stays.gram, fitted.gram)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": 3}, "`base` must be a label-blind kernel"),
        ({"estimator": "kr-v3"}, "`estimator` must be one of 'kr-v1', 'kr-v2', 'fjlt-v1'"),
        ({"strength": -0.1}, "`strength` must be a finite number ≥ 0; got -0.1"),
        ({"strength": float("nan")}, "`strength` must be a finite number ≥ 0; got nan"),
        ({"strength": True}, "`strength` must be a finite number ≥ 0; got True"),
        ({"frozen": 2}, "`frozen` must be one of True, False; got 2"),
        ({"sketch": 5}, "`sketch` must be None or a Sketch"),
        ({"estimator": "kr-v1", "sketch": Sketch()}, '`sketch` must be None but for .* "kr-v1" solves no'),
    ],
)
def test_options_that_are_none_are_refused(options, message, as_users_run_it) -> None:
    with pytest.raises(OptionError, match=message):
        LabelAware(**{"base": ReLU(1)} | options)


def test_a_base_must_be_label_blind_and_serve_all_outputs() -> None:
    apart = Empirical(nn.Linear(D, 2).double(), outputs="full", weights="initial")
    with pytest.raises(OptionError, match=r"must have one value for all outputs; .* tells 2 apart"):
        LabelAware(apart, "kr-v1").fit_labels(*examples())
    inputs, labels = examples()
    with pytest.raises(OptionError, match="`base` must not have seen labels, and trained weights have"):
        LabelAware(Empirical(nn.Linear(D, 2).double(), outputs="trace"), "kr-v1")
    with pytest.raises(OptionError, match="`base` must not have seen labels"):
        LabelAware(LabelAware(ReLU(1)).fit_labels(inputs, labels))


def test_a_strength_that_is_to_be_chosen_teaches_nothing() -> None:
    with pytest.raises(OptionError, match="`strength` must be a number when the kernel is fitted"):
        LabelAware(ReLU(1), strength=None).fit_labels(*examples())
    with pytest.raises(OptionError, match="`strength` must be a finite number"):
        LabelAware(ReLU(1)).fit_labels(*examples()).at_strength(-1.0)


def test_labels_must_be_one_an_input_of_two_classes_or_more(as_users_run_it) -> None:
    inputs, labels = examples()
    asked = LabelAware(ReLU(1), "kr-v1")
    with pytest.raises(DataError, match=r"two classes or more .*; all 22 examples are of class 1"):
        asked.fit_labels(inputs, torch.ones_like(labels))
    with pytest.raises(ShapeError, match="`labels` must have 22 rows, the side of `inputs`"):
        asked.fit_labels(inputs, labels[:-1])
    with pytest.raises(ShapeError, match=r"class numbers of shape \(22,\) in torch.int64; got"):
        asked.fit_labels(inputs, labels.double())
    with pytest.raises(ShapeError, match=r"class numbers of shape \(22,\) in torch.int64; got"):
        asked.fit_labels(inputs, labels[:, None])
    with pytest.raises(DataError, match="two classes or more"):
        asked.fit_labels(inputs, labels).refit_labels((labels == 0).nonzero().flatten())
    with pytest.raises(DataError, match="`labels` must not be empty"):
        asked.fit_labels(inputs[:0], labels[:0])


def test_queries_must_have_the_features_of_the_training_inputs() -> None:
    fitted = LabelAware(ReLU(1), "fjlt-v1").fit_labels(*examples())
    with pytest.raises(ShapeError, match=r"`queries` must have the features .*\(7,\); got \(6,\)"):
        fitted.compare(queries(d=6))


def test_what_the_base_refuses_is_refused() -> None:
    inputs, labels = examples()
    inputs[3, 0] = torch.nan
    with pytest.raises(DataError, match="`inputs` must be finite; row 3"):
        LabelAware(ReLU(1)).fit_labels(inputs, labels)


def test_pixels_that_are_none_are_refused() -> None:
    inputs, labels = examples()
    message = r"`inputs` must hold at least two features each .*; got \(22, 1\)"
    with pytest.raises(ShapeError, match=message):
        LabelAware(From(squared), "fjlt-v1").fit_labels(inputs[:, :1], labels)


def test_matrices_that_do_not_fit_are_refused_before_they_are_made() -> None:
    with pytest.raises(MemoryBudgetError, match=r"A label-aware kernel of 22 examples needs 23\.2 kB"):
        LabelAware(ReLU(1)).fit_labels(*examples(), memory=10_000)


@pytest.mark.slow
def test_frogs_and_ships_are_as_local_as_published(shared_data) -> None:
    """Table 3 of the paper, 10,000 images: 63.83 % for the tangent kernel, 66.62 % label-aware."""
    train, _ = lo.load(f"cifar10:{shared_data / 'cifar10.zip'}", classes=(6, 8), n_query=1, normalise=None)
    pixels = (train.inputs.flatten(1).double() - 0.5) / 0.5
    assert float(pixels.max()) <= 1
    inputs = torch.cat([pixels, torch.ones(len(pixels), 1, dtype=torch.float64)], dim=1)
    labels = train.labels
    assert labels.bincount().tolist() == [5000, 5000]
    fitted = LabelAware(ReLU(1), "kr-v1", 0.1).fit_labels(inputs, labels, dtype=torch.float32)

    def ratio(of):
        roots = of.diagonal().sqrt()
        ones = torch.nn.functional.one_hot(labels).double() / roots[:, None]
        sums = ones.T @ (of @ ones)  # classes are of one size: sums stand for means
        same, between = sums.trace() / 2, (sums.sum() - sums.trace()) / 2
        return 100 * float(same / (same + between))

    # Our pixels went through JPEG, which moves both numbers by some hundredths.
    assert ratio(fitted.pairs.kernel) == pytest.approx(63.83, abs=0.05)
    assert ratio(fitted.gram) == pytest.approx(66.62, abs=0.05)

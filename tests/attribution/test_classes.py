"""From real inputs and class numbers to influences: is anything lost on the way?"""

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from oracles import definitions as oracles
from problems.small import training

N, M, D = 22, 6, 5
RULES = {
    "ridge": (lo.Ridge(0.3), None),
    "mean ridge": (lo.Ridge(0.01, "mean"), None),
    "flow": (lo.GradientFlow(0.5), 25.0),
    "descent": (lo.GradientDescent(0.2, 0.01), 33),
    "few steps": (lo.GradientDescent(0.2, 0.01), 4),
}
EVERY_RULE = pytest.mark.parametrize("name", RULES)


def points(count=N + M, seed=0):
    x = np.random.default_rng(seed).standard_normal((count, D))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def gram(x, z):
    """u (π − θ) / 2π, from the paper; half the angle by its tangent, as arccos fails at u = 1."""
    apart = np.linalg.norm(x[:, None] - z[None], axis=-1)
    along = np.linalg.norm(x[:, None] + z[None], axis=-1)
    return (x @ z.T) * (np.pi - 2 * np.arctan2(apart, along)) / (2 * np.pi)


def columns(labels, classes):
    """Two classes: −1 and +1; more: one column each, minus 1 / classes."""
    if classes == 2:
        return 2.0 * labels[:, None] - 1
    return np.eye(classes)[labels] - 1 / classes


def setting(classes, seed=0):
    x = points(seed=seed)
    labels = np.random.default_rng(seed + 1).integers(0, classes, N + M)
    labels[:classes] = np.arange(classes)
    y = columns(labels, classes)
    parts = (gram(x[:N], x[:N]), gram(x[N:], x[:N]), y[:N], y[N:])
    return (x[:N], labels[:N]), (x[N:], labels[N:]), parts


@EVERY_RULE
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_class_numbers_of_any_kind_are_left_out_exactly(name, classes) -> None:
    rule, time = RULES[name]
    train, query, parts = setting(classes)
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=rule)
    for of in ("loss", "prediction"):
        got = lo.leave_one_out(fitted, query, at=time, of=of)
        assert_same(got, oracles.leave_one_out(*parts, training(rule, time), of))
    names = ["1"] if classes == 2 else [str(c) for c in range(classes)]
    assert got.coords["output"].values.tolist() == names


@EVERY_RULE
@pytest.mark.parametrize("classes", [2, 4])
def test_a_class_may_be_given_by_number_or_name(name, classes) -> None:
    rule, time = RULES[name]
    train, query, parts = setting(classes)
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=rule)
    new = [1, 0, 1]
    want = oracles.relabelled(*parts, training(rule, time), [3, 4, 5], columns(np.array(new), classes))
    for target in (new, np.array(new), ["1", "0", "1"], torch.tensor(new)):
        assert_same(lo.relabel(fitted, query, [3, 4, 5], target, at=time), want)
    for target in (1, "1", np.int64(1)):
        got = lo.relabel(fitted, query, 3, target, at=time)
        assert_same(got, want[:, :1])


@EVERY_RULE
def test_an_example_of_a_class_is_added_exactly(name) -> None:
    rule, time = RULES[name]
    train, query, parts = setting(3)
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=rule)
    new = points(2, seed=9)
    x = np.vstack([train[0], query[0], new])
    whole = gram(x, x)
    for classes, given in [([2, 0], [2, 0]), ([1, 1], 1)]:
        got = lo.add(fitted, query, new, given, at=time)
        data = np.vstack([parts[2], columns(np.array(classes), 3)])
        want = oracles.added(
            whole, N, [N + M, N + M + 1], data, parts[3], training(rule, time), np.arange(N, N + M)
        )
        assert_same(got, want)
    single = lo.add(fitted, query, new[0], 1, at=time)
    assert single.shape == (M, 1)
    assert_same(single[:, 0], got[:, 0], 1e-11)


def test_names_of_classes_win_over_their_numbers() -> None:
    # Classes 3 and 7: "7" is a name, and so is 7; as numbers of a class there are 0 and 1.
    train, query, _ = setting(2)
    shown = (train[0], np.array([3, 7])[train[1]])
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), shown, rule=lo.Ridge(0.3))
    asked = (query[0], np.array([3, 7])[query[1]])
    seven = lo.relabel(fitted, asked, 0, 7)
    assert seven.values.tolist() == lo.relabel(fitted, asked, 0, "7").values.tolist()
    assert seven.values.tolist() == lo.relabel(fitted, asked, 0, 1).values.tolist()


def test_regression_targets_of_any_shape_are_the_same_targets() -> None:
    train, query, _ = setting(2)
    y = np.random.default_rng(3).standard_normal(N + M)
    want = None
    for shape in [(-1,), (-1, 1)]:
        for kind in (np.array, torch.tensor, list):
            fitted = lo.fit(
                lo.kernels.TwoLayerReLU(), (train[0], kind(y[:N].reshape(shape))), rule=lo.Ridge(0.3)
            )
            got = lo.leave_one_out(fitted, (query[0], kind(y[N:].reshape(shape))))
            want = got if want is None else want
            assert got.values.tolist() == want.values.tolist()


def test_examples_are_taken_as_they_are_and_their_ids_kept() -> None:
    train, query, parts = setting(3)
    made = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(0.3))
    named = lo.Examples(
        made.train.inputs,
        made.train.targets,
        made.train.encoding,
        labels=made.train.labels,
        ids=tuple(f"photo {i}" for i in range(N)),
    )
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), named, rule=lo.Ridge(0.3))
    got = lo.leave_one_out(fitted, query)
    assert got.coords["train"].values.tolist()[:2] == ["photo 0", "photo 1"]
    assert_same(got, oracles.leave_one_out(*parts, training(lo.Ridge(0.3))))
    edited = lo.relabel(fitted, query, [1, 2], 0)
    assert edited.coords["edit"].values.tolist() == ["photo 1", "photo 2"]


def test_a_regression_centre_is_a_constant_of_the_preparation() -> None:
    # Targets are centred before, once: a new target is in the given units, and moves by as much.
    x = points()
    y = 100 + np.random.default_rng(0).standard_normal((N + M, 1))
    mean = y[:N].mean()
    encoding = lo.data.encoding.encoding_of_numbers(torch.from_numpy(y[:N]), centre="mean")
    train, query = (
        lo.Examples(torch.from_numpy(x[rows]), torch.from_numpy(y[rows] - mean), encoding)
        for rows in (slice(N), slice(N, None))
    )
    rule = lo.Ridge(0.3)
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=rule)
    parts = (gram(x[:N], x[:N]), gram(x[N:], x[:N]), y[:N] - mean, y[N:] - mean)
    assert_same(lo.leave_one_out(fitted, query), oracles.leave_one_out(*parts, training(rule)))
    got = lo.relabel(fitted, query, 2, 101.5)
    want = oracles.relabelled(*parts, training(rule), [2], np.array([[101.5 - mean]]))
    assert_same(got, want)

"""Which kind within a class is there too little of? Planted kinds are found, and one cloud has none."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import leftout as lo
from laws import assert_same
from leftout.attribution.information import information
from leftout.core.errors import OptionError, ShapeError
from leftout.curation.subclasses import GAP, SMALL, USUAL, subclasses, subclasses_by
from oracles import curation as oracle
from problems.small import training

KERNEL = lo.kernels.TwoLayerReLU()
RULE = lo.Ridge(0.3)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def digits(many, few, against, counts, seed=0):
    """A class of many examples of one digit and few of another, against a class of a third."""
    data, draw = load_digits(), np.random.default_rng(seed)
    rows = [draw.permutation(np.flatnonzero(data.target == d)) for d in (many, few, against)]
    own = np.concatenate([part[:count] for part, count in zip(rows, counts, strict=True)])
    asked = np.concatenate([part[count : count + 20] for part, count in zip(rows, counts, strict=True)])
    labels = np.repeat([0, 0, 1], counts), np.repeat([0, 0, 1], 20)
    x = unit(data.data)
    return (x[own], labels[0]), (x[asked], labels[1])


@pytest.mark.parametrize("by", ["function", "weights"])
@pytest.mark.parametrize(("many", "few", "against"), [(1, 7, 4), (3, 6, 8), (2, 0, 5)])
def test_a_planted_kind_is_found_and_nothing_else(many, few, against, by) -> None:
    train, query = digits(many, few, against, (120, 10, 130))
    (found,) = subclasses(lo.fit(KERNEL, train, rule=RULE), query, by=by)
    assert sorted(found.rows) == list(range(120, 130))
    assert found.name == "0"
    assert found.share == 10 / 130
    assert found.information > found.fence > found.others
    assert found.gap >= GAP
    assert "These 10 are 7.7% of class 0, and the nearest other is" in found.reason


@pytest.mark.parametrize(("many", "against"), [(1, 4), (0, 3), (2, 5)])
def test_without_it_nothing_is_claimed(many, against) -> None:
    train, query = digits(many, 9, against, (120, 0, 130))
    assert subclasses(lo.fit(KERNEL, train, rule=RULE), query) == ()


def clouds(counts, centres, *, d=6, seed=0):
    """Normal clouds of width 1 around centres on the first axes; queries of each."""
    draw = np.random.default_rng(seed)
    where = np.eye(d)[list(centres)] * 8
    parts = [c + draw.standard_normal((n, d)) for c, n in zip(where, counts, strict=True)]
    asked = [c + draw.standard_normal((10, d)) for c in where]
    return np.concatenate(parts), np.concatenate(asked)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("d", [4, 12])
def test_one_cloud_a_class_has_no_kinds(d, seed) -> None:
    x, asked = clouds((100, 100), (0, 1), d=d, seed=seed)
    train = unit(x), np.repeat([0, 1], 100)
    query = unit(asked), np.repeat([0, 1], 10)
    assert subclasses(lo.fit(KERNEL, train, rule=RULE), query) == ()


def planted(seed=0):
    """A model of classes of two clouds, 80 and 8, and of one; its queries."""
    x, asked = clouds((80, 8, 80), (0, 2, 1), seed=seed)
    train = unit(x), np.repeat([0, 0, 1], (80, 8, 80))
    return train, (unit(asked), np.repeat([0, 0, 1], 10))


def linear(x, z):
    return x @ z.T


def test_the_numbers_are_those_of_refits_and_of_distances() -> None:
    train, query = planted()
    rule = lo.Ridge(0.5)
    # Unit inputs of six dimensions and their products: all components are kept, and distances
    # between them are those of the inputs.
    (found,) = subclasses(lo.fit(lo.kernels.From(linear), train, rule=rule), query)
    assert sorted(found.rows) == list(range(80, 88))
    x, labels = train
    told = oracle.information(x @ x.T, query[0] @ x.T, 2.0 * labels[:, None] - 1, training(rule), 30)[
        "function"
    ]
    rest = told[:80]
    assert_same(found.information, np.median(told[80:88]))
    assert_same(found.others, np.median(rest))
    low, high = np.quantile(rest, [0.25, 0.75])
    assert_same(found.fence, high + 1.5 * (high - low))
    assert list(found.rows) == (80 + np.argsort(-told[80:88])).tolist()
    steps = np.linalg.norm(x[:80, None] - x[:80], axis=2)
    np.fill_diagonal(steps, np.inf)
    across = np.linalg.norm(x[80:88, None] - x[:80], axis=2).min()
    # Distances are roots: of unit vectors they keep half the digits where they are near zero.
    assert_same(found.gap, across / np.quantile(steps.min(1), USUAL), rtol=1e-7)


def test_examples_in_another_order_or_targets_of_other_sign_give_the_same() -> None:
    (x, labels), query = planted()
    straight = subclasses(lo.fit(KERNEL, (x, labels), rule=RULE), query)
    turned = np.random.default_rng(0).permutation(len(x))
    other = subclasses(lo.fit(KERNEL, (x[turned], labels[turned]), rule=RULE), query)
    assert [turned[list(one.rows)].tolist() for one in other] == [list(straight[0].rows)]
    assert_same(other[0].gap, straight[0].gap, rtol=1e-7)
    swapped = subclasses(lo.fit(KERNEL, (x, 1 - labels), rule=RULE), (query[0], 1 - query[1]))
    assert [(one.name, one.rows) for one in swapped] == [("1", straight[0].rows)]


def test_enough_of_a_kind_is_not_too_little() -> None:
    x, asked = clouds((80, 8, 80), (0, 2, 1))
    train = unit(x), np.repeat([0, 0, 1], (80, 8, 80))
    fitted = lo.fit(KERNEL, train, rule=RULE)
    assert subclasses(fitted, (unit(asked), np.repeat([0, 0, 1], 10)))
    # The same numbers, if each of the kind told as much as the others do.
    assert subclasses_by(fitted, torch.ones(168, dtype=torch.float64)) == ()
    even = clouds((50, 45, 80), (0, 2, 1))[0]
    many = lo.fit(KERNEL, (unit(even), np.repeat([0, 0, 1], (50, 45, 80))), rule=RULE)
    found = subclasses(many, (unit(asked), np.repeat([0, 0, 1], 10)))
    assert all(one.share <= SMALL for one in found)
    assert not any(len(one.rows) > 40 for one in found)


def test_without_classes_all_examples_are_one() -> None:
    (x, labels), query = planted()
    numbers = 2.0 * labels - 1
    found = subclasses(lo.fit(KERNEL, (x, numbers), rule=RULE), (query[0], 2.0 * query[1] - 1))
    assert [sorted(one.rows) for one in found] == [list(range(80, 88))]
    assert found[0].name is None
    assert "These 8 are 4.8% of the training examples" in found[0].reason


def test_few_or_identical_examples_have_no_kinds() -> None:
    draw = np.random.default_rng(0)
    for x in (unit(draw.standard_normal((20, 4))), np.tile(unit(np.ones((1, 4))), (60, 1))):
        labels = np.arange(len(x)) % 2
        fitted = lo.fit(KERNEL, (x, labels), rule=RULE)
        assert subclasses(fitted, (x[:4], labels[:4])) == ()


def test_before_training_nobody_tells_anything() -> None:
    train, query = planted()
    fitted = lo.fit(KERNEL, train, rule=lo.GradientFlow(1.0, 0.1))
    assert subclasses(fitted, query, at=0) == ()
    assert len(subclasses(fitted, query, at=100.0)) == 1


def test_information_that_is_known_need_not_be_asked_again() -> None:
    train, query = planted()
    fitted = lo.fit(KERNEL, train, rule=RULE)
    told = information(fitted, query)["function"].values
    known = subclasses_by(fitted, torch.from_numpy(told))
    assert [one.rows for one in known] == [one.rows for one in subclasses(fitted, query)]
    with pytest.raises(ShapeError, match="`information` must have 168 entries, one for each"):
        subclasses_by(fitted, torch.from_numpy(told[1:]))


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"by": "loss"}, "`by` must be one of 'function', 'weights'; got 'loss'"),
        ({"at": (1.0, 2.0)}, "`at` must be one training time; got 2"),
    ],
)
def test_an_option_that_is_none_is_refused(option, message) -> None:
    train, query = planted()
    fitted = lo.fit(KERNEL, train, rule=lo.GradientFlow(1.0, 0.1))
    with pytest.raises(OptionError, match=message):
        subclasses(fitted, query, **option)

import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from leftout.core.errors import DataError, OptionError
from leftout.data.load import load
from leftout.data.pairs import examples_of


def refused(source, match, error=DataError, **options) -> None:
    with pytest.raises(error, match=match):
        load(source, **options)


def test_digits_are_the_default_and_split_as_promised() -> None:
    train, query = load()
    assert (len(train), len(query)) == (1297, 500)
    assert train.inputs.shape == (1297, 8, 8)
    assert train.images.dtype == np.uint8
    assert not set(train.ids) & set(query.ids)
    assert train.classes == tuple("0123456789")
    shares = np.bincount(query.labels) / np.bincount(torch.cat([query.labels, train.labels]))
    assert np.abs(shares - 500 / 1797).max() < 1 / 170  # less than one example of any class


def test_digits_have_the_row_they_are_named_by() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    for part in load(normalise=None):
        rows = [int(name.removeprefix("digits/")) for name in part.ids]
        assert np.array_equal(part.inputs.numpy() * 16, bunch.images[rows])
        assert part.labels.tolist() == bunch.target[rows].tolist()
        # 8 bits: at most half a step away from the sixteenths.
        assert np.abs(part.images / 255 - part.inputs.numpy()).max() <= 0.5 / 255 + 1e-15


def test_the_same_call_gives_the_same_examples_and_another_seed_others() -> None:
    one, two = (load("digits", n_train=50, n_query=20, seed=4) for _ in range(2))
    assert [part.fingerprint for part in one] == [part.fingerprint for part in two]
    assert load("digits", n_train=50, seed=5)[0].ids != one[0].ids


def test_global_random_states_are_neither_read_nor_moved() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    load("digits", n_train=50)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_two_classes_are_one_column_of_minus_and_plus_one() -> None:
    train, query = load("digits", classes=["9", "7"])
    assert train.classes == ("9", "7")
    assert train.targets.shape[1] == 1
    assert_close(train.targets[:, 0], 2.0 * train.labels.double() - 1)
    assert set(query.targets.flatten().tolist()) == {-1.0, 1.0}


def test_the_centre_is_of_the_training_targets() -> None:
    train, query = load("digits", centre="mean", n_train=100)
    assert_close(train.targets.mean(0), torch.zeros(10).double(), atol=1e-15, rtol=0)
    assert query.encoding == train.encoding
    assert_close(query.encoding.in_target_units(query.targets).sum(1), torch.ones(500).double())
    assert train.preparation["centre"] == "mean"


@pytest.mark.parametrize("normalise", ["unit", "sphere", "standard", None])
def test_the_preparation_says_all_and_is_json(normalise) -> None:
    for part in load("digits", n_train=50, n_query=20, seed=3, normalise=normalise):
        record = json.loads(json.dumps(part.preparation))
        assert record["data"] == "digits"
        assert record["normalise"] == normalise
        assert record["centre"] == "uniform"
        assert (record["seed"], record["n_train"], record["n_query"]) == (3, 50, 20)
        assert record["classes"] == list("0123456789")
        assert ("mean" in record) == (normalise == "standard")


def test_a_pair_of_examples_comes_back_unchanged() -> None:
    train = examples_of((np.ones((4, 2)), [0, 1, 0, 1]))
    query = train.select([0])
    assert load((train, query)) == (train, query)
    refused((train, query), "`classes` must be left out", OptionError, classes=["0", "1"])
    refused((train, query), "`centre` must be left out", OptionError, centre="none")


def test_a_pair_of_pairs_is_loaded_like_a_file() -> None:
    x, y = np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 3
    train, query = load(((x, y), (x[:3], y[:3])), normalise="unit", n_train=6)
    assert_close(train.inputs.norm(dim=1), torch.ones(6).double())
    assert query.labels.tolist() == [0, 1, 2]


def test_a_zero_picture_is_refused_by_its_id(tmp_path) -> None:
    x = np.ones((8, 2))
    x[5] = 0
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(8) % 2, x_test=x, y_test=[0, 1] * 4)
    refused(tmp_path / "a.npz", r"must not be zero to be scaled to a norm; x_train\[5\] is \(1 of 8")


def test_options_out_of_range_are_refused() -> None:
    refused("digits", "`seed` must be a whole number ≥ 0; got -1", OptionError, seed=-1)
    refused("digits", "`target` must be left out unless .*'x' for `digits`", OptionError, target="x")
    refused("digits", "`columns` must be left out unless", OptionError, columns=["x"])
    refused("digits", "`n_train` must be at most 1297", OptionError, n_train=1298)
    refused("digits", "`classes` must be among 0, 1, 2, .* no 'x'", OptionError, classes=["x", "1"])


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("digit", "`data` must be one of digits, mnist:DIR, .* got 'digit'"),
        ("no/such/file.npz", "must be a file; there is none of this name"),
        ("no/such/file.csv", "must be a file; there is none of this name"),
        ("no/such/file.txt", "must be a file; there is none of this name"),
        ("mnist:no/such", "must be a folder; there is none of this name"),
        ("cifar10:no/such", "must be a folder; there is none of this name"),
        ("", r"`data` must be one of|must hold pictures"),
    ],
)
def test_sources_that_are_none_are_refused(source, match, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(source, match)


def test_a_file_of_an_unknown_kind_is_refused(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("x")
    refused(tmp_path / "a.txt", "`data` must be one of .*, FILE.py:function; got")


def test_two_classes_take_two_columns_where_a_network_has_two_outputs() -> None:
    train, query = load("digits", classes=[3, 8], n_train=20, n_query=6, outputs=2)
    one, _ = load("digits", classes=[3, 8], n_train=20, n_query=6)
    # One-hot minus 1/2: the second column is half of ∓1, the first its negative.
    assert train.targets.equal(torch.cat([-one.targets, one.targets], 1) / 2)
    assert train.encoding.decode(train.targets).equal(train.labels)
    assert query.encoding == train.encoding


@pytest.mark.parametrize("outputs", [0, 1, 3])
def test_columns_that_ten_classes_have_not_are_refused(outputs) -> None:
    with pytest.raises(OptionError, match=f"`outputs` must be 10 for 10 classes; got {outputs}"):
        load("digits", n_train=50, n_query=10, outputs=outputs)
    with pytest.raises(OptionError, match="`outputs` must be 1 or 2 for 2 classes; got 4"):
        load("digits", classes=[0, 1], outputs=4)


def test_loss_and_accuracy_are_those_of_the_definition() -> None:
    train, _ = load("digits", classes=["9", "7", "4"], n_train=30)
    wrong = train.targets.roll(1, dims=1)  # the next class, for everybody
    assert train.accuracy(train.targets) == 1
    assert train.accuracy(wrong) == 0
    assert train.mean_loss(train.targets) == 0
    each = [((a - b) ** 2).sum() / 2 for a, b in zip(wrong, train.targets, strict=True)]
    assert train.mean_loss(wrong) == pytest.approx(float(sum(each)) / 30, rel=1e-14)


def test_regression_has_no_accuracy() -> None:
    rows = examples_of((torch.randn(6, 2), torch.randn(6, 1)))
    assert rows.accuracy(rows.targets) is None

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from leftout.core.errors import DataError, ShapeError
from leftout.data.arrays import pair_arrays
from leftout.data.load import load
from leftout.data.pairs import examples_of, inputs_of

X = torch.arange(12.0).reshape(6, 2) + 1
Y = torch.tensor([3, 5, 9, 3, 5, 9])


def refused(data, match, error=DataError, **options) -> None:
    with pytest.raises(error, match=match):
        examples_of(data, **options)


@pytest.mark.parametrize(
    "data",
    [
        (X, Y),
        [X, Y],
        (X.numpy(), Y.numpy()),
        (X.tolist(), Y.tolist()),
        (X.int(), Y.to(torch.uint8)),
        (X.to(torch.bfloat16), Y[:, None]),
        (X.clone().requires_grad_(True), Y),
        TensorDataset(X, Y),
        DataLoader(TensorDataset(X, Y), batch_size=4),
        DataLoader(TensorDataset(X, Y), batch_size=None),
    ],
)
def test_every_form_of_the_same_data_gives_the_same_examples(data) -> None:
    examples = examples_of(data)
    assert_close(examples.inputs, X.double(), rtol=0, atol=0)
    assert examples.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert examples.classes == ("3", "5", "9")
    assert_close(examples.targets, torch.eye(3).double().repeat(2, 1) - 1 / 3)
    assert examples.ids == tuple("012345")
    assert examples.preparation["normalise"] is None
    assert examples.preparation["centre"] == "uniform"


def test_examples_come_back_as_they_are() -> None:
    examples = examples_of((X, Y))
    assert examples_of(examples) is examples
    assert examples_of(examples, encoding=examples.encoding) is examples
    other = examples_of((X, Y > 3)).encoding
    refused(examples, "`query` must be coded as the training", encoding=other, name="query")


def test_floats_are_targets_as_they_are() -> None:
    examples = examples_of((X, Y.float()))
    assert examples.targets.tolist() == [[3], [5], [9]] * 2
    assert examples.labels is None
    assert examples.preparation["centre"] == "none"
    many = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    assert_close(examples_of((X, many)).targets, many.double(), rtol=0, atol=0)


def test_row_numbers_stay_a_vector() -> None:
    examples = examples_of((torch.arange(6), Y))
    assert examples.inputs.tolist() == [0, 1, 2, 3, 4, 5]
    assert examples_of(TensorDataset(torch.arange(6), Y)).inputs.shape == (6,)


def test_the_caller_s_arrays_are_neither_written_to_nor_shared() -> None:
    x, y = X.numpy().astype(np.float64), Y.numpy().copy()
    x.flags.writeable = y.flags.writeable = False
    examples = examples_of((x, y))
    examples.inputs[0] = 99
    assert x[0, 0] == 1


def test_queries_are_coded_as_the_training_examples() -> None:
    train = examples_of((X, Y))
    query = examples_of((X[:2], [9, 3]), encoding=train.encoding, name="query")
    assert query.labels.tolist() == [2, 0]
    assert query.encoding == train.encoding
    named = examples_of((X[:2], ["9", "3"]), encoding=train.encoding, name="query")
    assert named.labels.tolist() == [2, 0]
    loaded, _ = load("digits", classes=["9", "7"], n_train=10)
    assert examples_of((X[:2], [7, 9]), encoding=loaded.encoding).targets.tolist() == [[1], [-1]]
    refused(
        (X[:2], [9, 4]),
        "`query targets` must be among the training classes 3, 5, 9; got '4'",
        encoding=train.encoding,
        name="query",
    )
    refused(
        (X[:2], [9.0, 3.0]),
        "`query targets` must be classes, .* among 3, 5, 9; got floats",
        encoding=train.encoding,
        name="query",
    )


def test_queries_of_numbers_lose_the_training_centre_only() -> None:
    x = np.random.default_rng(0).normal(size=(8, 2))
    train, query = load(((x, x[:, 0]), (x, x[:, 0])), normalise=None)
    pair = examples_of((x, x[:, 0]), encoding=train.encoding)
    assert_close(pair.targets, query.targets, rtol=0, atol=0)
    whole = examples_of((x, np.arange(8)), encoding=train.encoding)  # whole numbers are numbers
    assert_close(whole.targets[:, 0] + train.encoding.offset[0], torch.arange(8.0).double())
    refused(
        (x, ["a"] * 8), "must be numbers, as the training targets are; got texts", encoding=train.encoding
    )
    refused((x, x), r"must have 1 columns, .* got \(8, 2\)", ShapeError, encoding=train.encoding)


@pytest.mark.parametrize(
    ("data", "match", "error"),
    [
        ((X, Y[:5]), r"as many inputs as targets; got \(6, 2\) and \(5,\)", ShapeError),
        ((X * 1j, Y), "`train inputs` must hold real numbers; got dtype complex", DataError),
        ((np.array([{}] * 6), Y), "real numbers; got dtype object", DataError),
        ((["a"] * 6, Y), "real numbers; got dtype object of texts", DataError),
        (([[1], [1, 2]], Y), "rows of one length; got list", ShapeError),
        ((3.0, Y), "a list of rows; got float", ShapeError),
        ((X[:0], Y[:0]), r"at least one example and feature; got \(0, 2\)", ShapeError),
        ((X, np.array([None] * 6)), "a value everywhere; row 0 .* missing", DataError),
        ((X, torch.zeros(6, 2, 2)), r"shape \(n,\) or \(n, k\), .* got \(6, 2, 2\)", ShapeError),
        ((X, torch.eye(6).long()), r"Turn one-hot columns into class numbers", ShapeError),
        ((X, torch.zeros(6).long()), "at least two classes; got 1", DataError),
        ((X.clone().fill_(torch.nan), Y), "`train inputs` must be finite; row 0", DataError),
    ],
)
def test_pairs_that_are_none_are_refused(data, match, error) -> None:
    refused(data, match, error)


@pytest.mark.parametrize("data", [3, (X, Y, Y), {"x": X}, None])
def test_what_is_no_pair_at_all_is_refused(data) -> None:
    # Asked of the function behind the door: at the door the type checker of the tests is first.
    kind = type(data).__name__
    with pytest.raises(DataError, match=rf"a pair \(inputs, targets\), a Dataset .* got {kind}"):
        pair_arrays(data, "train")


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(TensorDataset(X, Y), shuffle=True),
        DataLoader(TensorDataset(X, Y), sampler=RandomSampler(X)),
        DataLoader(TensorDataset(X, Y), sampler=SubsetRandomSampler(range(3))),
        DataLoader(TensorDataset(X, Y), sampler=WeightedRandomSampler([1.0] * 6, 6)),
        DataLoader(TensorDataset(X, Y), sampler=[5, 4, 3]),
        DataLoader(TensorDataset(X, Y), batch_sampler=[[5, 4], [3, 2]]),
        DataLoader(TensorDataset(X, Y), batch_size=None, shuffle=True),
    ],
)
def test_shuffled_loaders_are_refused(loader) -> None:
    refused(loader, "as shuffled loaders number their examples anew .* `shuffle=False`")


def test_a_loader_that_drops_its_last_batch_is_refused() -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=4, drop_last=True)
    refused(loader, "this one has `drop_last=True`")


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(X[0], 1)])


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


class Augmented(Items):
    def __getitem__(self, row):
        x, y = self.items[row]
        return x + torch.randn(2), y


def test_streams_are_refused() -> None:
    refused(Stream(), "must be a map-style data set")
    refused(DataLoader(Stream()), "must be a map-style data set")


@pytest.mark.parametrize(
    ("items", "match", "error"),
    [
        ([], "at least one example; it is empty", DataError),
        ([X[0]], r"must yield pairs \(input, target\); item 0 is a Tensor", DataError),
        ([{"x": 1}], "item 0 is a dict of 1", DataError),
        ([(X[0], 1), (X, 2)], r"item 0 has \(2,\), item 1 \(6, 2\)", ShapeError),
        ([({1}, 1)], "must be tensors, arrays or numbers; got set", DataError),
    ],
)
def test_data_sets_of_something_else_are_refused(items, match, error) -> None:
    refused(Items(items), match, error)


def test_batches_of_different_shape_are_refused() -> None:
    loader = DataLoader(Items([(X[0], 1), (X, 2)]), batch_size=1)
    refused(loader, "must yield batches of one shape", ShapeError)


def test_random_inputs_are_refused_and_the_generator_stays_where_it_was() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    data = Augmented([(X[0], 0), (X[1], 1)])
    refused(data, "must return the same input every time")
    refused(DataLoader(data), "must return the same input every time")
    examples_of(DataLoader(TensorDataset(X, Y)))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_subset_is_a_data_set() -> None:
    examples = examples_of(Subset(TensorDataset(X, Y), [4, 0, 1]))
    assert examples.inputs.tolist() == X[[4, 0, 1]].tolist()


def test_inputs_alone_are_read_in_double() -> None:
    assert inputs_of(X).dtype == torch.float64
    assert inputs_of([[1, 2]]).tolist() == [[1, 2]]
    examples = examples_of((X, Y))
    assert inputs_of(examples) is examples.inputs
    with pytest.raises(DataError, match="`inputs` must be finite; row 1 holds NaN"):
        inputs_of([[1.0], [float("nan")]])
    with pytest.raises(DataError, match="`points` must hold real numbers"):
        inputs_of(["a"], "points")


def test_rows_that_pandas_names_in_two_orders_are_refused() -> None:
    frame = pytest.importorskip("pandas").DataFrame({"a": [1.5, 2.5, 3.5, 4.5], "c": [0, 1, 0, 1]})
    with pytest.raises(
        DataError, match=r"their indices name the same rows in two.*targets.loc\[inputs.index\]"
    ):
        examples_of((frame[["a"]], frame["c"].iloc[::-1]))
    turned = frame["c"].iloc[::-1].reset_index(drop=True)
    assert examples_of((frame[["a"]], turned)).labels.tolist() == [1, 0, 1, 0]
    assert examples_of((frame[["a"]], frame["c"])).labels.tolist() == [0, 1, 0, 1]

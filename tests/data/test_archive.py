import zipfile
from io import BytesIO

import numpy as np
import pytest

from leftout.core.errors import DataError, LeftoutError, MemoryBudgetError
from leftout.data.load import load

RANDOM = np.random.default_rng(0)
LABELS = np.arange(12) % 3


def parts(x, y=LABELS) -> dict[str, np.ndarray]:
    return {"x_train": x, "y_train": y, "x_test": x[:6], "y_test": y[:6]}


def saved(tmp_path, arrays, save=np.savez):
    save(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"


def refused(source, match, error=DataError, **options) -> None:
    with pytest.raises(error, match=match):
        load(source, **options)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_features_come_back_with_ids_and_a_table(tmp_path, save) -> None:
    x = RANDOM.normal(size=(12, 5))
    train, query = load(saved(tmp_path, parts(x), save), normalise=None)
    assert np.array_equal(train.inputs.numpy(), x)
    assert np.array_equal(train.table, x)
    assert train.columns == ("x0", "x1", "x2", "x3", "x4")
    assert train.images is None
    assert train.labels.tolist() == LABELS.tolist()
    assert train.ids[3] == "x_train[3]"
    assert query.ids[5] == "x_test[5]"
    assert np.array_equal(query.inputs.numpy(), x[:6])


def test_one_pair_is_split_by_seed(tmp_path) -> None:
    x = RANDOM.normal(size=(12, 5))
    train, query = load(saved(tmp_path, {"x": x, "y": LABELS}), normalise=None, seed=2)
    assert len(train) == 9
    assert len(query) == 3
    for part in (train, query):
        rows = [int(name[2:-1]) for name in part.ids]
        assert np.array_equal(part.inputs.numpy(), x[rows])
        assert part.labels.tolist() == LABELS[rows].tolist()


@pytest.mark.parametrize(
    ("x", "inputs", "images"),
    [
        (RANDOM.integers(0, 256, (12, 4, 5), dtype=np.uint8), (12, 4, 5), (12, 4, 5)),
        (RANDOM.integers(0, 256, (12, 4, 5, 3)), (12, 3, 4, 5), (12, 4, 5, 3)),
        (RANDOM.integers(0, 256, (12, 3, 4, 5)).astype(float), (12, 3, 4, 5), (12, 4, 5, 3)),
        (RANDOM.integers(0, 256, (12, 1, 4, 5), dtype=np.uint8), (12, 4, 5), (12, 4, 5)),
        (RANDOM.integers(0, 256, (12, 4, 5, 1), dtype=np.uint8), (12, 4, 5), (12, 4, 5)),
    ],
)
def test_arrays_of_pictures_are_pictures(tmp_path, x, inputs, images) -> None:
    train, _ = load(saved(tmp_path, parts(x)), normalise=None)
    assert train.inputs.shape == inputs
    assert train.images.shape == images
    flat = train.inputs.flatten(1).sum(1).numpy() * 255
    assert flat == pytest.approx(x.reshape(12, -1).sum(1))
    shown = train.images if train.images.ndim == 3 else train.images.transpose(0, 3, 1, 2)
    assert np.array_equal(np.rint(train.inputs.numpy() * 255), shown)
    assert train.preparation["white"] == 255


def test_pictures_within_one_are_not_divided(tmp_path) -> None:
    x = RANDOM.random((12, 4, 5)).astype(np.float32)
    train, _ = load(saved(tmp_path, parts(x)), normalise=None)
    assert np.array_equal(train.inputs.numpy(), x.astype(float))
    assert np.array_equal(train.images, np.rint(255 * x.astype(float)))
    assert train.preparation["white"] == 1


@pytest.mark.parametrize("shape", [(12, 4, 5), (12, 2, 4, 5)])
def test_arrays_that_are_no_pictures_are_flat_features(tmp_path, shape) -> None:
    x = RANDOM.normal(size=shape)
    train, _ = load(saved(tmp_path, parts(x)), normalise=None)
    assert np.array_equal(train.inputs.numpy(), x.reshape(12, -1))
    assert train.images is None


def test_floats_are_numbers_to_predict(tmp_path) -> None:
    y = np.arange(12.0)
    train, query = load(saved(tmp_path, parts(RANDOM.normal(size=(12, 5)), y)))
    assert train.classes is None
    assert train.labels is None
    # The mean, 5.5, is of the training targets, for the queries too.
    assert train.targets[:, 0].tolist() == (y - 5.5).tolist()
    assert query.targets[:, 0].tolist() == (y[:6] - 5.5).tolist()
    assert train.preparation["centre"] == "mean"
    many = np.stack([y, -y], axis=1)
    train, _ = load(saved(tmp_path, parts(RANDOM.normal(size=(12, 5)), many)), centre="none")
    assert np.array_equal(train.targets.numpy(), many)


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (LABELS[:, None], ("0", "1", "2")),
        (LABELS == 1, ("False", "True")),
        (np.array(["b", "a", "<c>"])[LABELS], ("<c>", "a", "b")),
        (np.array([b"b", b"a", b"c"])[LABELS], ("a", "b", "c")),
        (LABELS.astype(np.uint64) + 2**63, tuple(str(2**63 + i) for i in range(3))),
        (LABELS - 1, ("-1", "0", "1")),
    ],
)
def test_integers_truths_and_texts_are_classes(tmp_path, y, classes) -> None:
    train, _ = load(saved(tmp_path, parts(RANDOM.normal(size=(12, 5)), y)))
    assert train.classes == classes
    text = y.ravel().astype(str) if y.dtype.kind != "S" else np.char.decode(y)
    assert [train.classes[label] for label in train.labels] == text.tolist()


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"x": np.ones((4, 2))}, r"must hold the arrays x_train, .*, or x and y; it holds x\."),
        ({"x": np.ones((4, 2)), "y": np.ones(3)}, r"`y` must have one row per row of `x`; got \(3,"),
        ({"x": np.ones((4, 2)), "y": np.array(3)}, r"`y` must have one row per row of `x`; got \(\)"),
        ({"x": np.ones(4), "y": np.ones(4)}, r"`x` must have shape \(n, d…\), none of them 0"),
        ({"x": np.ones((0, 2)), "y": np.ones(0)}, "none of them 0"),
        ({"x": np.ones((4, 2)) * 1j, "y": np.ones(4)}, "must hold real numbers; got dtype complex"),
        (
            {"x": np.ones((4, 2)), "y": np.ones(4, dtype="M8[D]")},
            "`y` must hold classes .* got dtype datetime64",
        ),
        ({"x": np.ones((4, 2)), "y": np.eye(4, dtype=int)}, r"with `argmax\(1\)`"),
        (parts(np.ones((12, 2))) | {"y_test": np.ones(6)}, "one kind for .* integers and floats"),
        (parts(np.ones((12, 2))) | {"x_test": np.ones((6, 3))}, r"one shape; got .*\(6, 3\)"),
        (
            parts(np.ones((12, 2)), np.ones((12, 2))) | {"y_test": np.ones((6, 3))},
            "the same columns for training and query",
        ),
        (parts(np.ones((12, 2))) | {"y_test": np.full(6, 9)}, r"query x_test\[0\] is of class '9'"),
    ],
)
def test_odd_arrays_are_refused(tmp_path, arrays, match) -> None:
    refused(saved(tmp_path, arrays), match, LeftoutError)


def test_nan_is_refused_by_its_id(tmp_path) -> None:
    x = np.ones((12, 2))
    x[7, 1] = np.nan
    refused(saved(tmp_path, parts(x)), r"`inputs` must be finite; x_train\[7\] holds NaN .*\(1 of 12")
    y = np.arange(12.0)
    y[4] = np.inf
    refused(saved(tmp_path, parts(np.ones((12, 2)), y)), r"`targets` must be finite; x_train\[4\]")


def test_pickled_objects_are_refused(tmp_path) -> None:
    arrays = {"x": np.ones((4, 2)), "y": np.array([{}] * 4, dtype=object)}
    refused(saved(tmp_path, arrays), "`y` in .* it holds pickled objects, which could run code")


def raw(tmp_path, content: bytes):
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x.npy", content)
        archive.writestr("y.npy", content)
    return tmp_path / "data.npz"


def test_a_header_that_disagrees_with_the_bytes_is_refused(tmp_path) -> None:
    stream = BytesIO()
    np.save(stream, np.ones((4, 2)))
    content = stream.getvalue()
    refused(raw(tmp_path, content[:-1]), r"must hold 64 bytes for shape \(4, 2\) of float64; got 63")
    absurd = content.replace(b"(4, 2), }" + b" " * 14, b"(4000000000000, 2000), }")[: len(content)]
    refused(raw(tmp_path, absurd), "must hold 64000000000000000 bytes for shape")
    refused(raw(tmp_path, b"nonsense"), "`x` in .* is no whole array: .* Save it again")


def test_an_array_larger_than_memory_is_refused(tmp_path, monkeypatch) -> None:
    path = saved(tmp_path, parts(np.zeros((12, 1000))), np.savez_compressed)
    monkeypatch.setattr("leftout.data.files.memory_budget", lambda _: 100_000)
    refused(path, "`x_train` in .* needs 192 kB, more than", MemoryBudgetError)


def test_files_that_are_no_archives_are_refused(tmp_path) -> None:
    refused(tmp_path / "no.npz", "must be a file; there is none of this name")
    np.save(tmp_path / "x.npy", np.ones(3))
    (tmp_path / "x.npy").rename(tmp_path / "data.npz")
    refused(tmp_path / "data.npz", "must be a whole zip archive")

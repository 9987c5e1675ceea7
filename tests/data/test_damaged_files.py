"""Whatever is in a file: an error of ours or a right result; no crash, no hang, no wrong answer.

Formats with checksums must give the original examples or refuse. The others cannot notice every
change (a .csv with another digit is a .csv), but must still end in examples or in our error.
"""

import contextlib
import gzip
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leftout.core.errors import LeftoutError
from leftout.data.images import decode_picture
from leftout.data.load import load
from leftout.data.pickled import plain_pickle
from problems.data_files import (
    CIFAR_NAMES,
    cifar_arrays,
    picture,
    pictures,
    python2_batch,
    write_cifar_binary,
    write_folder,
    write_mnist,
    write_zip,
)

FRAME = pd.DataFrame({"length": np.linspace(1, 3, 16), "count": np.arange(16), "kind": ["a", "b"] * 8})
PICTURES = {path: picture(array) for path, array in pictures(each=2).items()}


def mnist(folder: Path) -> tuple[str, Path]:
    write_mnist(folder, n=6, m=6)
    return f"mnist:{folder}", folder / "train-images-idx3-ubyte"


def mnist_labels(folder: Path) -> tuple[str, Path]:
    write_mnist(folder, n=6, m=6)
    return f"mnist:{folder}", folder / "t10k-labels-idx1-ubyte"


def mnist_gz(folder: Path) -> tuple[str, Path]:
    write_mnist(folder, n=6, m=6, gz=".gz")
    return f"mnist:{folder}", folder / "train-images-idx3-ubyte.gz"


def cifar_binary(folder: Path) -> tuple[str, Path]:
    write_cifar_binary(folder)
    return f"cifar10:{folder}", folder / "data_batch_1.bin"


def cifar_python(folder: Path) -> tuple[str, Path]:
    folder.mkdir(exist_ok=True)
    for batch, name in enumerate(CIFAR_NAMES):
        (folder / name).write_bytes(python2_batch(*cifar_arrays(batch)))
    return f"cifar10:{folder}", folder / "data_batch_1"


def image_folder(folder: Path) -> tuple[str, Path]:
    write_folder(folder, PICTURES)
    return str(folder), folder / "train" / "cat" / "0.png"


def image_zip(folder: Path) -> tuple[str, Path]:
    folder.mkdir(exist_ok=True)
    write_zip(folder / "data.zip", PICTURES)
    return str(folder / "data.zip"), folder / "data.zip"


def npz(folder: Path) -> tuple[str, Path]:
    folder.mkdir(exist_ok=True)
    x, y = np.random.default_rng(0).normal(size=(8, 3)), np.arange(8) % 2
    np.savez_compressed(folder / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    return str(folder / "data.npz"), folder / "data.npz"


def npz_stored(folder: Path) -> tuple[str, Path]:
    folder.mkdir(exist_ok=True)
    np.savez(folder / "data.npz", x=np.random.default_rng(0).normal(size=(8, 3)), y=[0, 1] * 4)
    return str(folder / "data.npz"), folder / "data.npz"


def csv(folder: Path) -> tuple[str, Path]:
    folder.mkdir(exist_ok=True)
    FRAME.to_csv(folder / "data.csv", index=False)
    return str(folder / "data.csv"), folder / "data.csv"


def parquet(folder: Path) -> tuple[str, Path]:
    folder.mkdir(exist_ok=True)
    FRAME.to_parquet(folder / "data.parquet", write_page_checksum=True)
    return str(folder / "data.parquet"), folder / "data.parquet"


MAKERS = {
    maker.__name__: maker
    for maker in (
        *(mnist, mnist_labels, mnist_gz, cifar_binary, cifar_python, image_folder),
        *(image_zip, npz, npz_stored, csv, parquet),
    )
}
CHECKED = {"mnist_gz", "image_folder", "image_zip", "npz", "npz_stored"}
"""Formats in which every byte that matters lies under a checksum."""

COMPLETE = CHECKED | {"mnist", "mnist_labels", "cifar_binary", "cifar_python", "parquet"}
"""Formats that say how long they are: a truncated file is never taken for a whole one."""

STRANGERS = {
    "nothing": b"",
    "zeros": bytes(1000),
    "text": b"a,b\n1,2\n",
    "gzip": gzip.compress(b"hello"),
    "pickle": pickle.dumps({"data": [1, 2]}),
    "png": PICTURES["train/cat/0.png"],
    "noise": np.random.default_rng(0).bytes(5000),
}


def outcome(source: str):
    """Return the fingerprints of what is loaded, or None where our error was raised."""
    try:
        train, query = load(source, normalise=None)
    except LeftoutError as error:
        text = str(error)
        assert text.endswith(".") or "raised" in text, f"not a sentence: {text}"
        return None
    assert len(train) > 0
    assert len(query) > 0
    return train.fingerprint, query.fingerprint, train.classes


@st.composite
def damage(draw, content: bytes) -> bytes:
    """Flip bits, overwrite, insert, remove."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(len(changed) - 1, 0)))
        match draw(st.sampled_from(["flip", "write", "insert", "remove"])):
            case "flip" if changed:
                changed[place] ^= 1 << draw(st.integers(0, 7))
            case "write":
                changed[place : place + 4] = draw(st.binary(min_size=1, max_size=4))
            case "insert":
                changed[place:place] = draw(st.binary(min_size=1, max_size=9))
            case "remove":
                del changed[place : place + draw(st.integers(1, 40))]
    return bytes(changed)


@pytest.mark.parametrize("name", MAKERS)
def test_altered_files_are_refused_or_read_right(name, tmp_path) -> None:
    source, path = MAKERS[name](tmp_path / "data")
    whole = path.read_bytes()
    expected = outcome(source)
    assert expected is not None

    @given(damage(whole))
    @settings(max_examples=60, deadline=2000, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    def check(content: bytes) -> None:
        path.write_bytes(content)
        found = outcome(source)
        if name in CHECKED:
            assert found in (None, expected)

    check()


@pytest.mark.parametrize("name", MAKERS)
def test_truncated_files_are_refused(name, tmp_path) -> None:
    source, path = MAKERS[name](tmp_path / "data")
    whole = path.read_bytes()
    expected = outcome(source)
    lengths = np.unique(np.linspace(0, len(whole) - 1, 40).astype(int))
    for length in lengths:
        path.write_bytes(whole[:length])
        found = outcome(source)
        if name in COMPLETE:
            # A picture whose last mark is cut off is still whole: right is as good as refused.
            right = (None, expected) if name == "image_folder" else (None,)
            assert found in right, f"{length} of {len(whole)} bytes"


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("name", MAKERS)
def test_files_of_another_kind_are_refused(name, stranger, tmp_path) -> None:
    source, path = MAKERS[name](tmp_path / "data")
    if (name, stranger) == ("image_folder", "png"):
        return
    path.write_bytes(STRANGERS[stranger])
    assert outcome(source) is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM"])
def test_altered_pictures_are_refused_or_decoded(kind) -> None:
    array = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    whole = picture(array, kind)
    expected = decode_picture(whole, "a")

    @given(damage(whole))
    @settings(max_examples=60, deadline=2000, derandomize=True)
    def check(content: bytes) -> None:
        try:
            found = decode_picture(content, "a")
        except LeftoutError:
            return
        assert found.dtype == np.uint8
        if kind == "PNG":  # the only one of these with a checksum
            assert np.array_equal(found, expected)

    check()


@given(st.binary(max_size=200).map(lambda tail: b"\x80\x02" + tail))
@settings(max_examples=300, deadline=2000, derandomize=True)
def test_random_programs_are_no_pickles(content) -> None:
    with contextlib.suppress(LeftoutError):
        assert isinstance(plain_pickle(content, "a"), dict)

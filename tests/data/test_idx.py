import gzip

import numpy as np
import pytest

from leftout.core.errors import DataError, MemoryBudgetError
from leftout.data import idx
from leftout.data.load import load
from problems.data_files import write_idx, write_mnist


@pytest.mark.parametrize("gz", ["", ".gz"])
def test_pictures_labels_and_the_official_split_come_back(tmp_path, gz) -> None:
    arrays = write_mnist(tmp_path, gz=gz)
    train, query = load(f"mnist:{tmp_path}", normalise=None)
    assert np.array_equal(train.images, arrays["train-images-idx3-ubyte"])
    assert np.array_equal(query.images, arrays["t10k-images-idx3-ubyte"])
    assert np.array_equal(train.inputs.numpy() * 255, arrays["train-images-idx3-ubyte"])
    assert train.labels.tolist() == arrays["train-labels-idx1-ubyte"].tolist()
    assert train.ids[12] == "train/00012"
    assert query.ids[3] == "t10k/00003"
    assert train.classes == ("0", "1", "2")
    assert train.preparation["format"] == "idx"


def test_a_subset_is_stratified_and_repeats(tmp_path) -> None:
    write_mnist(tmp_path)
    first, second = (load(f"mnist:{tmp_path}", n_train=12, n_query=6, seed=1) for _ in range(2))
    assert np.bincount(first[0].labels.numpy()).tolist() == [4, 4, 4]
    assert first[0].fingerprint == second[0].fingerprint
    assert first[1].fingerprint == second[1].fingerprint


def test_the_other_spelling_of_file_names_is_known(tmp_path) -> None:
    for name in write_mnist(tmp_path):
        (tmp_path / name).rename(tmp_path / name.replace("-idx", ".idx"))
    assert len(load(f"mnist:{tmp_path}")[0]) == 30


def refused(folder, match, error=DataError) -> None:
    with pytest.raises(error, match=match):
        load(f"mnist:{folder}")


def test_a_missing_file_or_folder_is_named(tmp_path) -> None:
    refused(tmp_path / "no", r"`.*no` must be a folder; there is none of this name")
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    refused(tmp_path, r"must hold t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz")


def test_a_wrong_magic_number_is_named(tmp_path) -> None:
    arrays = write_mnist(tmp_path)
    name = "train-images-idx3-ubyte"
    write_idx(tmp_path / name, arrays[name], magic=2049)
    refused(tmp_path, r"magic number 2051 of IDX pictures; got 00 00 08 01 = 2049\.")
    (tmp_path / name).write_bytes(b"\x00\x00")
    refused(tmp_path, r"magic number 2051 of IDX pictures; got 00 00\.")
    (tmp_path / name).write_bytes(b"")
    refused(tmp_path, r"got nothing\.")


@pytest.mark.parametrize("gz", ["", ".gz"])
def test_too_few_and_too_many_bytes_are_told(tmp_path, gz) -> None:
    write_mnist(tmp_path, gz=gz)
    path = tmp_path / f"train-images-idx3-ubyte{gz}"
    content = gzip.decompress(path.read_bytes()) if gz else path.read_bytes()
    pack = gzip.compress if gz else bytes
    path.write_bytes(pack(content[:-1]))
    refused(tmp_path, r"must hold 360 bytes after its header, 30 × 4 × 3; got 359\.")
    path.write_bytes(pack(content + b"x"))
    refused(tmp_path, r"must hold 360 bytes after its header, 30 × 4 × 3; got more\.")
    path.write_bytes(pack(content[:9]))
    refused(tmp_path, r"ends within its header of 16 bytes")


def test_a_truncated_or_altered_gzip_file_is_refused(tmp_path) -> None:
    write_mnist(tmp_path, gz=".gz")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    refused(tmp_path, "cannot be read to its end: .* damaged or truncated")
    path.write_bytes(content[:-6] + bytes([content[-6] ^ 1]) + content[-5:])
    refused(tmp_path, "cannot be read to its end: CRC check failed")


def test_labels_out_of_range_and_of_another_number_are_refused(tmp_path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / "train-labels-idx1-ubyte"
    write_idx(path, np.array([1] * 7 + [10] + [2] * 22))
    refused(tmp_path, r"must hold labels 0 … 9; label 7 is 10\.")
    write_idx(path, np.zeros(29))
    refused(tmp_path, r"one label per picture; got 29 labels and 30 pictures")


def test_no_examples_are_refused(tmp_path) -> None:
    write_mnist(tmp_path)
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((0, 4, 3)))
    refused(tmp_path, r"must hold at least one example; its sizes are \(0, 4, 3\)")


def test_two_sizes_of_pictures_are_refused(tmp_path) -> None:
    write_mnist(tmp_path)
    write_idx(tmp_path / "t10k-images-idx3-ubyte", np.ones((20, 3, 4)))
    refused(tmp_path, r"pictures of one size; training has \(4, 3\), test \(3, 4\)")


def test_an_absurd_size_is_refused_before_anything_is_read(tmp_path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 12 + content[16:])
    refused(tmp_path, r"of shape \(4294967295, .* needs .* TB, more than", MemoryBudgetError)


def test_a_header_that_promises_too_much_costs_only_what_is_there(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(idx, "check_allocation", lambda *_: None)
    write_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 12 + content[16:])
    refused(tmp_path, r"bytes after its header, .*; got 360\.")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.unlink()
    path.mkdir()
    refused(tmp_path, "must be an ordinary file; it is a folder, a device or a pipe")

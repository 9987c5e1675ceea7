import pickle
import struct

import numpy as np
import pytest

from leftout.core.errors import DataError
from leftout.data.load import load
from leftout.data.pickled import plain_pickle
from problems.data_files import (
    CIFAR_NAMES,
    cifar_arrays,
    picture,
    pictures,
    python2_batch,
    write_cifar_binary,
    write_zip,
)


def write_python(folder, protocol=None) -> None:
    for batch, name in enumerate(CIFAR_NAMES):
        images, labels = cifar_arrays(batch)
        if protocol is None:
            content = python2_batch(images, labels)
        else:
            record = {b"data": images, b"labels": labels.tolist(), b"batch_label": b"training"}
            content = pickle.dumps(record, protocol=protocol)
        (folder / name).write_bytes(content)


def refused(folder, match) -> None:
    with pytest.raises(DataError, match=match):
        load(f"cifar10:{folder}")


def check_whole(folder) -> None:
    train, query = load(f"cifar10:{folder}", normalise=None)
    images = np.concatenate([cifar_arrays(batch)[0] for batch in range(5)])
    assert train.inputs.shape == (30, 3, 32, 32)
    assert np.array_equal(train.inputs.flatten(1).numpy() * 255, images)
    assert np.array_equal(train.images[7].transpose(2, 0, 1).ravel(), images[7])
    assert train.labels.tolist() == [0, 1, 2] * 10
    assert train.ids[8] == "data_batch_2/0002"
    assert query.ids[5] == "test_batch/0005"
    assert np.array_equal(query.inputs.flatten(1).numpy() * 255, cifar_arrays(5)[0])
    assert train.classes == ("airplane", "automobile", "bird")


def test_binary_batches_come_back(tmp_path) -> None:
    write_cifar_binary(tmp_path)
    check_whole(tmp_path)


@pytest.mark.parametrize("protocol", [None, 2, 3, 4, 5])
def test_python_batches_of_every_protocol_come_back(tmp_path, protocol) -> None:
    write_python(tmp_path, protocol)
    check_whole(tmp_path)


def test_the_batch_written_as_python_2_did_is_what_numpy_would_load() -> None:
    images, labels = cifar_arrays(0)
    record = pickle.loads(python2_batch(images, labels), encoding="bytes")
    assert np.array_equal(record[b"data"], images)
    assert record[b"labels"] == labels.tolist()


def test_the_unpacked_folder_inside_is_found(tmp_path) -> None:
    write_cifar_binary(tmp_path / "cifar-10-batches-bin")
    check_whole(tmp_path)


@pytest.mark.parametrize("name", ["batches.meta", "batches.meta.txt"])
def test_class_names_are_read_when_there(tmp_path, name) -> None:
    write_cifar_binary(tmp_path)
    names = [f"kind {number}" for number in range(10)]
    text = "\n".join(names) + "\n\n"
    content = text.encode() if name.endswith("txt") else pickle.dumps({"label_names": names})
    (tmp_path / name).write_bytes(content)
    assert load(f"cifar10:{tmp_path}")[0].classes == ("kind 0", "kind 1", "kind 2")
    (tmp_path / name).write_bytes(b"one\ntwo\n" if name.endswith("txt") else pickle.dumps({}))
    refused(tmp_path, "must name 10 classes, each once; got")


def test_missing_batches_are_named(tmp_path) -> None:
    refused(tmp_path, "must hold the batches of CIFAR-10, data_batch_1 … test_batch")
    write_cifar_binary(tmp_path)
    (tmp_path / "data_batch_3.bin").unlink()
    refused(tmp_path, r"must hold all of .*; there is no data_batch_3\.bin\.")


def test_a_truncated_binary_batch_is_refused(tmp_path) -> None:
    write_cifar_binary(tmp_path)
    path = tmp_path / "data_batch_2.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    refused(tmp_path, "must hold records of 3073 bytes; got 18437 bytes")
    path.write_bytes(content[:-3073])
    refused(tmp_path, r"five training batches of one length; got \[6, 5, 6, 6, 6\]")


def test_a_label_out_of_range_is_refused(tmp_path) -> None:
    write_cifar_binary(tmp_path)
    path = tmp_path / "test_batch.bin"
    content = bytearray(path.read_bytes())
    content[3073] = 11
    path.write_bytes(bytes(content))
    refused(tmp_path, r"test_batch\.bin` must hold labels 0 … 9; label 1 is 11\.")


@pytest.mark.parametrize(
    ("record", "match"),
    [
        ({}, r"must hold `data` of shape \(n, 3072\); got NoneType"),
        ({"data": np.ones((6, 5), np.uint8)}, r"`data` of shape \(n, 3072\); got \(6, 5\)"),
        ({"data": np.ones((6, 3072), np.uint8)}, "must hold `labels`, a list of whole numbers"),
        (
            {"data": np.ones((6, 3072), np.uint8), "labels": [1, 2]},
            "one label per picture; got 2 labels and 6 pictures",
        ),
        (
            {"data": np.ones((2, 3072), np.uint8), "labels": [1, 2**70]},
            "must hold labels 0 … 9; label 1 is 1180591620717411303424",
        ),
        ({"data": np.ones((2, 3072))}, "an array of type 'f8', not of bytes in C order"),
        ({"data": np.array([{}], dtype=object)}, "an array of type 'O8', not of bytes"),
        ([1, 2], "list where dict belongs"),
    ],
)
def test_a_pickle_of_something_else_is_refused(tmp_path, record, match) -> None:
    write_python(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(record, protocol=2))
    refused(tmp_path, match)


DEEP = b"\x80\x02})" + b"\x85" * 50_000
"""A tuple in a tuple in a tuple …: to hash it would overflow the stack of the process."""


class Trap:
    """What an attacker puts into a pickle."""

    sprung = False

    def __reduce__(self):
        return (exec, ("import test_cifar; test_cifar.Trap.sprung = True",))


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_in_a_pickle_is_ever_executed(tmp_path, protocol) -> None:
    write_python(tmp_path)
    trap = pickle.dumps({"data": Trap()}, protocol=protocol)
    pickle.loads(trap)
    assert Trap.sprung, "the trap does not work, so this test says nothing"
    Trap.sprung = False
    (tmp_path / "data_batch_1").write_bytes(trap)
    refused(tmp_path, r"pickle of plain data .* it asks for .*exec`, which could run code")
    assert not Trap.sprung


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "whole pickle of plain data; it is damaged, truncated or none"),
        (b"\x80\x02}", "damaged, truncated"),
        (b"\x80\x02.", "damaged, truncated"),
        (b"\x80\x02}}.", "damaged, truncated"),
        (b"\x80\x02}h\x07.", "damaged, truncated"),  # a memo that was never put
        (b"\x80\x02}e.", "damaged, truncated"),  # no mark
        (b"\x80\x02}K\x01K\x02s.", "int where str belongs"),
        (b"\x80\x02K\x01)R.", "int where Inert belongs"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "a call of something that is no function"),
        (b"\x80\x02(cos\nsystem\no.", "`os.system`"),
        (b"\x80\x02P1\n.", "the instruction PERSID"),
        (b"\x80\x02\x82\x01.", "the instruction EXT1"),
        (b"\x80\x02(ios\nsystem\n.", "the instruction INST"),
        (b"\x80\x02c_codecs\nencode\nU\x01aU\x05utf-7\x86R.", "the encoding 'utf-7'"),
        (b"\x80\x02}U\x04datacnumpy\nndarray\ns.", "a value of kind type"),
        (DEEP + b"K\x01s.", "tuple where str belongs"),
        (DEEP + b"U\x01a\x93.", "tuple where str belongs"),
        (b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b".", "damaged, truncated"),
        (b"\x80\x02}r\xff\xff\xff\xff.", None),  # a memo far out costs nothing
    ],
    ids=lambda value: repr(value)[:30],
)
def test_an_odd_program_ends_in_a_sentence(content, match) -> None:
    if match is None:
        assert plain_pickle(content, "batch") == {}
        return
    with pytest.raises(DataError, match=match):
        plain_pickle(content, "batch")


def test_a_zip_of_the_pictures_by_split_and_class_is_read_as_one(tmp_path) -> None:
    path = tmp_path / "cifar10.zip"
    write_zip(path, {name: picture(array) for name, array in pictures((32, 32, 3)).items()})
    for named, plain in zip(load(f"cifar10:{path}"), load(path), strict=True):
        assert named.classes == plain.classes == ("cat", "dog")
        np.testing.assert_array_equal(named.inputs, plain.inputs)

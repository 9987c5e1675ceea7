"""Small files of every format that the readers know, written from plain arrays."""

import gzip
import struct
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image


def write_idx(path: Path, array: np.ndarray, *, magic: int | None = None) -> None:
    """Write unsigned bytes as IDX, gzipped when the name says so."""
    header = struct.pack(">I", 0x0800 + array.ndim if magic is None else magic)
    header += struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def write_mnist(folder: Path, *, n: int = 30, m: int = 20, gz: str = "") -> dict[str, np.ndarray]:
    """Write a folder of n training and m test pictures of 4 × 3, classes 0, 1, 2 in turn."""
    random = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte": random.integers(1, 256, (n, 4, 3)),
        "train-labels-idx1-ubyte": np.arange(n) % 3,
        "t10k-images-idx3-ubyte": random.integers(1, 256, (m, 4, 3)),
        "t10k-labels-idx1-ubyte": np.arange(m) % 3,
    }
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        write_idx(folder / (name + gz), array)
    return arrays


def cifar_arrays(batch: int, n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures (n, 3072) and labels 0, 1, 2 in turn of one batch."""
    random = np.random.default_rng(batch)
    return random.integers(1, 256, (n, 3072), dtype=np.uint8), np.arange(n) % 3


CIFAR_NAMES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def write_cifar_binary(folder: Path) -> None:
    """Write six binary batches."""
    folder.mkdir(exist_ok=True)
    for batch, name in enumerate(CIFAR_NAMES):
        images, labels = cifar_arrays(batch)
        records = np.concatenate([labels[:, None].astype(np.uint8), images], axis=1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())


def python2_batch(images: np.ndarray, labels: np.ndarray) -> bytes:
    """Return a batch pickled as Python 2 did it: protocol 2, bytes as strings."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    shape = number(images.shape[0]) + number(images.shape[1]) + b"\x86"
    raw = images.tobytes()
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + text(b"|") + b"NNN" + number(-1) + number(-1) + b"K\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
    array += text(b"b") + b"\x87R(K\x01" + shape + dtype + b"\x89"
    array += b"T" + struct.pack("<i", len(raw)) + raw + b"tb"
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels.tolist()) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + listed + b"u."


def picture(array: np.ndarray, kind: str = "PNG") -> bytes:
    """Return an encoded picture."""
    stream = BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


def pictures(shape: tuple[int, ...] = (4, 5, 3), *, each: int = 4) -> dict[str, np.ndarray]:
    """Return arrays by path, SPLIT/CLASS/FILE."""
    random = np.random.default_rng(0)
    return {
        f"{split}/{name}/{number}.png": random.integers(1, 256, shape, dtype=np.uint8)
        for split in ("train", "test")
        for name in ("cat", "dog")
        for number in range(each)
    }


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Write files below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    """Write an archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)

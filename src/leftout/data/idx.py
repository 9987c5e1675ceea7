"""MNIST in its original IDX files, gzipped or not: a magic number, the sizes, then bytes.

    offset 0   0 0 8 a        a axes of unsigned bytes: 3 for pictures (2051), 1 for labels (2049)
    offset 4   a sizes        32 bits each, most significant byte first
    then       the bytes      exactly as many as the sizes say

Format: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".
"""

import gzip
import math
import struct
import zlib
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from leftout.core.errors import DataError
from leftout.data.data_name import check_file, check_folder
from leftout.data.data_source import DataSource
from leftout.data.files import check_allocation
from leftout.data.pixels import WHITE, rows_of_images
from leftout.data.targets import RawTargets

IMAGES, LABELS = 2051, 2049
BLOCK = 2**20


def mnist(folder: Path, source: str) -> DataSource:
    """Return the official training set and test set of a folder of IDX files.

    Raises:
        DataError: a file is missing, truncated, too long or not IDX; pictures and labels differ in
            number; a label is above 9; the two sets differ in size of pictures.
    """
    check_folder(folder)
    train_images, train_labels = _pair(folder, "train")
    query_images, query_labels = _pair(folder, "t10k")
    if train_images.shape[1:] != query_images.shape[1:]:
        raise DataError(
            f"`{source}` must have pictures of one size; training has {train_images.shape[1:]}, "
            f"test {query_images.shape[1:]} (height, width)."
        )
    ids = [f"train/{row:05d}" for row in range(len(train_images))]
    ids += [f"t10k/{row:05d}" for row in range(len(query_images))]
    images = np.concatenate([train_images, query_images])
    return DataSource(
        name=source,
        ids=ids,
        targets=RawTargets(
            np.concatenate([train_labels, query_labels]).astype(np.int64), tuple("0123456789"), None
        ),
        read=lambda rows: rows_of_images(images[rows]),
        is_query=np.arange(len(images)) >= len(train_images),
        record={"format": "idx", "white": WHITE},
    )


def _pair(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    images = idx_array(_path(folder, f"{name}-images", "idx3-ubyte"), IMAGES)
    path = _path(folder, f"{name}-labels", "idx1-ubyte")
    labels = idx_array(path, LABELS)
    if len(images) != len(labels):
        raise DataError(
            f"`{path}` must hold one label per picture; got {len(labels)} labels and {len(images)} "
            "pictures. The files are of different sets, or one is damaged."
        )
    if labels.max() > 9:
        row = int(np.argmax(labels > 9))
        raise DataError(f"`{path}` must hold labels 0 … 9; label {row} is {labels[row]}.")
    return images, labels


def _path(folder: Path, stem: str, ending: str) -> Path:
    """Return the file, spelt with either joint, gzipped or not."""
    spellings = [f"{stem}{joint}{ending}{gz}" for gz in ("", ".gz") for joint in ("-", ".")]
    for spelling in spellings:
        if (folder / spelling).exists():
            return folder / spelling
    raise DataError(f"`{folder}` must hold {spellings[0]} or {spellings[2]}, a file of MNIST; there is none.")


def idx_array(path: Path, magic: int) -> np.ndarray:
    """Return the bytes of an IDX file in their shape; gzip checksums are verified.

    Raises:
        DataError: the magic number is wrong, or there are fewer or more bytes than the header says.
    """
    check_file(path)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as handle:
            return _read_idx(handle, path, magic)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"`{path}` cannot be read to its end: {error}. It is damaged or truncated; fetch it again."
        ) from error


def _read_idx(handle: BufferedIOBase, path: Path, magic: int) -> np.ndarray:
    axes = magic % 256
    header = handle.read(4 + 4 * axes)
    number = int.from_bytes(header[:4], "big")
    if len(header) < 4 or number != magic:
        raise DataError(
            f"`{path}` must begin with the magic number {magic} of IDX "
            f"{'pictures' if magic == IMAGES else 'labels'}; got {header[:4].hex(' ') or 'nothing'}"
            + (f" = {number}." if len(header) >= 4 else ".")
        )
    if len(header) < 4 + 4 * axes:
        raise DataError(f"`{path}` ends within its header of {4 + 4 * axes} bytes. Fetch it again.")
    shape = struct.unpack(f">{axes}I", header[4:])
    size = math.prod(shape)
    if size == 0:
        raise DataError(f"`{path}` must hold at least one example; its sizes are {shape}.")
    check_allocation(f"`{path}`, of shape {shape},", size)
    # In blocks: a header that promises more than the file holds must not cost memory.
    content = bytearray()
    while len(content) <= size and (block := handle.read(BLOCK)):
        content += block
    if len(content) != size:
        raise DataError(
            f"`{path}` must hold {size} bytes after its header, {' × '.join(map(str, shape))}; got "
            f"{'more' if len(content) > size else len(content)}. It is damaged; fetch it again."
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)

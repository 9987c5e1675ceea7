"""CIFAR-10 as its makers publish it: batches pickled by Python, or records of 3,073 bytes.

A record is one byte of label and 3,072 of picture: 32 × 32 of red, then of green, then of blue.

Format: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from pathlib import Path

import numpy as np

from leftout.core.errors import DataError
from leftout.data.data_name import check_folder
from leftout.data.data_source import DataSource
from leftout.data.files import file_bytes
from leftout.data.images import image_zip
from leftout.data.pickled import plain_pickle
from leftout.data.pixels import WHITE, rows_of_images
from leftout.data.targets import RawTargets

SIDE = 32
PIXELS = 3 * SIDE * SIDE
CLASSES = (*("airplane", "automobile", "bird", "cat", "deer"), *("dog", "frog", "horse", "ship", "truck"))
BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
QUERIES = "test_batch"
FOLDERS = (".", "cifar-10-batches-py", "cifar-10-batches-bin")


def cifar10(folder: Path, source: str) -> DataSource:
    """Return the five training batches and the test batch of a folder.

    A .zip of the same pictures by split and class, as others pass them on, is read as such.

    Raises:
        DataError: a batch is missing, damaged or of another length than the other training batches; a label
            outside the ten; a pickle that asks for more than plain data.
    """
    if folder.suffix.lower() == ".zip":
        return image_zip(folder, source)
    folder, ending = _batches(folder)
    batches = [_batch(folder / (name + ending)) for name in (*BATCHES, QUERIES)]
    lengths = [len(labels) for _, labels in batches]
    if len(set(lengths[:5])) > 1:
        raise DataError(
            f"`{folder}` must hold five training batches of one length; got {lengths[:5]} "
            "examples. The shorter are truncated; fetch them again."
        )
    classes = _class_names(folder)
    labels = np.concatenate([labels for _, labels in batches])
    for name, (_, of_batch) in zip((*BATCHES, QUERIES), batches, strict=True):
        _check_labels(folder / (name + ending), of_batch, len(classes))
    images = np.concatenate([images for images, _ in batches])  # (n, 3072)
    ids = [
        f"{name}/{row:04d}"
        for name, length in zip((*BATCHES, QUERIES), lengths, strict=True)
        for row in range(length)
    ]
    return DataSource(
        name=source,
        ids=ids,
        targets=RawTargets(labels, classes, None),
        read=lambda rows: rows_of_images(
            np.ascontiguousarray(images[rows].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
        ),
        is_query=np.arange(len(images)) >= sum(lengths[:5]),
        record={"format": "cifar10", "white": WHITE},
    )


def _batches(folder: Path) -> tuple[Path, str]:
    """Return the folder that holds the batches, `folder` or one inside it, and the ending of their names."""
    check_folder(folder)
    for inner in FOLDERS:
        for ending in ("", ".bin"):
            names = [name + ending for name in (*BATCHES, QUERIES)]
            missing = [name for name in names if not (folder / inner / name).exists()]
            if not missing:
                return folder / inner, ending
            if len(missing) < len(names):
                raise DataError(
                    f"`{folder / inner}` must hold all of {', '.join(names)}; there is no "
                    f"{', '.join(missing)}. Fetch them again."
                )
    raise DataError(
        f"`{folder}` must hold the batches of CIFAR-10, {BATCHES[0]} … {QUERIES} or the same with "
        "'.bin'; there is none. A folder or .zip of pictures is named without 'cifar10:'."
    )


def _batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures (n, 3072) and labels (n,) of one batch."""
    content = file_bytes(path)
    if path.suffix == ".bin":
        if not content or len(content) % (PIXELS + 1):
            raise DataError(
                f"`{path}` must hold records of {PIXELS + 1} bytes; got {len(content)} bytes, "
                "which is no whole number of them. It is truncated; fetch it again."
            )
        records = np.frombuffer(content, dtype=np.uint8).reshape(-1, PIXELS + 1)
        return records[:, 1:], records[:, 0].astype(np.int64)
    batch = plain_pickle(content, str(path))
    images, labels = batch.get("data"), batch.get("labels")
    if not isinstance(images, np.ndarray) or images.shape[1:] != (PIXELS,) or not len(images):
        shape = images.shape if isinstance(images, np.ndarray) else type(images).__name__
        raise DataError(f"`{path}` must hold `data` of shape (n, {PIXELS}); got {shape}.")
    if not isinstance(labels, list) or any(type(label) is not int for label in labels):
        raise DataError(f"`{path}` must hold `labels`, a list of whole numbers.")
    if len(labels) != len(images):
        raise DataError(
            f"`{path}` must hold one label per picture; got {len(labels)} labels and {len(images)} "
            "pictures. It is damaged; fetch it again."
        )
    _check_labels(path, np.array(labels, dtype=object), len(CLASSES))
    return images, np.array(labels, dtype=np.int64)


def _check_labels(path: Path, labels: np.ndarray, count: int) -> None:
    outside = np.flatnonzero((labels < 0) | (labels >= count))
    if len(outside):
        row = int(outside[0])
        raise DataError(
            f"`{path}` must hold labels 0 … {count - 1}; label {row} is {labels[row]}. It is "
            "damaged, or no CIFAR-10; fetch it again."
        )


def _class_names(folder: Path) -> tuple[str, ...]:
    """Return the names in batches.meta or batches.meta.txt, or those of CIFAR-10."""
    if (folder / "batches.meta").exists():
        path = folder / "batches.meta"
        listed = plain_pickle(file_bytes(path), str(path)).get("label_names")
        coded = listed if isinstance(listed, list) else []
        texts = [name.decode("latin-1") if isinstance(name, bytes) else name for name in coded]
        names = [text for text in texts if isinstance(text, str)]
    elif (folder / "batches.meta.txt").exists():
        path = folder / "batches.meta.txt"
        text = file_bytes(path).decode("utf-8", errors="replace")
        names = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        return CLASSES
    if len(names) != len(CLASSES) or len(set(names)) != len(CLASSES):
        raise DataError(f"`{path}` must name {len(CLASSES)} classes, each once; got {names}.")
    return tuple(names)

"""Arrays in a .npz archive: `x_train`, `y_train`, `x_test`, `y_test`; or `x`, `y`, split by seed.

`x` of shape (n, h, w), (n, h, w, 3) or (n, 3, h, w) may be pictures, see `leftout.data.pixels`; anything
else is features, flattened. Ids are `x_train[12]`. Pickled objects are refused.
"""

import zipfile
from pathlib import Path

import numpy as np

from leftout.core.errors import DataError
from leftout.data.conversion import check_whole_numbers
from leftout.data.data_source import DataSource
from leftout.data.files import check_allocation
from leftout.data.npy import array_of_bytes
from leftout.data.options import Task
from leftout.data.pixels import pixel_range, rows_of_array
from leftout.data.targets import float_class_note, joined_targets, raw_targets, target_array
from leftout.data.zipped import member_bytes, open_zip

SPLIT = ("x_train", "y_train", "x_test", "y_test")
WHOLE = ("x", "y")


def npz(path: Path, source: str, *, task: Task | None = None, pictures: bool | None = None) -> DataSource:
    """Return the arrays of an archive.

    Raises:
        DataError: not an archive, damaged, arrays missing, or of a type that is no number.
        MemoryBudgetError: an array says that it is larger than memory.
    """
    with open_zip(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        wanted = next((arrays for arrays in (SPLIT, WHOLE) if set(arrays) <= set(names)), None)
        if wanted is None:
            raise DataError(
                f"`{path}` must hold the arrays {', '.join(SPLIT)}, or x and y; it holds "
                f"{', '.join(sorted(names)) or 'none'}."
            )
        for name in wanted:
            check_allocation(f"`{name}` in {path}", 2 * archive.getinfo(f"{name}.npy").file_size)
        size = sum(archive.getinfo(f"{name}.npy").file_size for name in wanted)
        check_allocation(f"`{path}`, unpacked,", 2 * size)
        arrays = {name: _array(archive, name) for name in wanted}
    inputs = {name: array for name, array in arrays.items() if name.startswith("x")}
    targets = {name: array for name, array in arrays.items() if name.startswith("y")}
    return source_of_arrays(source, inputs, targets, task=task, pictures=pictures)


def source_of_arrays(
    source: str,
    inputs: dict[str, np.ndarray],
    targets: dict[str, np.ndarray],
    *,
    task: Task | None = None,
    pictures: bool | None = None,
) -> DataSource:
    """Return the rows of one pair of arrays, split by seed, or of two: training, then query."""
    for name, array in inputs.items():
        check_numbers(name, array)
    for (name, array), (of, per_row) in zip(inputs.items(), targets.items(), strict=True):
        check_lengths(name, array, of, per_row)
    arrays = list(inputs.values())
    per_array = [target_array(name, array) for name, array in targets.items()]
    if any(array.shape[1:] != arrays[0].shape[1:] for array in arrays):
        shapes = " and ".join(f"`{name}` {array.shape}" for name, array in inputs.items())
        raise DataError(f"`{source}` must have inputs of one shape; got {shapes}.")
    white, notes = pixel_range(arrays, pictures, source=source)
    coded = (
        raw_targets("y", per_array[0], task=task)
        if len(per_array) == 1
        else joined_targets("y", *per_array, task=task)
    )
    note = float_class_note("`y`", coded) if task is None else None
    starts = np.cumsum([0] + [len(array) for array in arrays])
    is_query = None if len(arrays) == 1 else np.arange(starts[-1]) >= starts[1]

    def gather(rows: np.ndarray) -> np.ndarray:
        owner = np.searchsorted(starts, rows, side="right") - 1
        # Integers are exact in double precision, as `check_numbers` made sure; int64 joins uint64 there.
        gathered = np.empty((len(rows), *arrays[0].shape[1:]), dtype=np.result_type(*arrays))
        for number, array in enumerate(arrays):
            gathered[owner == number] = array[rows[owner == number] - starts[number]]
        return gathered

    return DataSource(
        name=source,
        ids=[f"{name}[{row}]" for name, array in inputs.items() for row in range(len(array))],
        targets=coded,
        read=lambda rows: rows_of_array(gather(rows), white),
        is_query=is_query,
        record={"format": "arrays", "white": white, "notes": [*notes, *([note] if note else [])]},
    )


def check_numbers(name: str, array: np.ndarray) -> None:
    """Raise unless an array holds real numbers, one row per example, exact in double precision if whole."""
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"`{name}` must hold real numbers; got dtype {array.dtype}. Encode it as numbers first."
        )
    if array.ndim < 2 or 0 in array.shape:
        raise DataError(f"`{name}` must have shape (n, d…), none of them 0; got {array.shape}.")
    check_whole_numbers(name, array)


def check_lengths(name: str, array: np.ndarray, of: str, targets: np.ndarray) -> None:
    """Raise unless inputs and targets have the same length."""
    if len(array) != (len(targets) if targets.ndim else -1):
        raise DataError(
            f"`{of}` must have one row per row of `{name}`; got {targets.shape} and {array.shape}."
        )


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Return one array after checking its checksum, and that its bytes are as many as its header says."""
    member = f"{name}.npy"
    content = member_bytes(archive, member, limit=archive.getinfo(member).file_size)
    return array_of_bytes(content, f"`{name}` in {archive.filename}")

"""How are scores written so that a killed run goes on where it stopped?

Scores go to a Zarr store in blocks of queries; a block counts as done when `done.json`, replaced
atomically, says so. A block is always the same queries and is always computed alone, so a run that was
stopped and one that was not hold the same numbers.
"""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from leftout.core.errors import StoreError

BLOCK = 256
"""Queries in a block: what is lost at most when a run is killed."""

COLUMNS = 1024
"""Training examples in a chunk."""

DONE = "done.json"
TRAININGS = "trainings"
SCORES = "scores.zarr"


def create(
    folder: Path, *, times: Sequence[float], query: Sequence[str], train: Sequence[str], attrs: dict[str, Any]
) -> None:
    """Make an empty store of influence (at, query, train) in a folder."""
    labels = {
        "at": np.asarray(times, dtype=float),
        "query": np.asarray(query, dtype=str),
        "train": np.asarray(train, dtype=str),
    }
    xr.Dataset(coords=labels, attrs=attrs).to_zarr(
        folder / SCORES, mode="w", zarr_format=2, consolidated=False
    )
    shape = tuple(len(axis) for axis in labels.values())
    array = zarr.create_array(
        zarr.storage.LocalStore(folder / SCORES),
        name="influence",
        shape=shape,
        chunks=(1, min(BLOCK, shape[1]), min(COLUMNS, shape[2])),
        dtype="float64",
        fill_value=float("nan"),
        zarr_format=2,
    )
    array.attrs.update({**attrs, "_ARRAY_DIMENSIONS": list(labels)})
    write_json(folder / DONE, [])


def done(folder: Path) -> set[int]:
    """Return the first queries of the blocks that are whole; none where no store was made."""
    return set(read_json(folder / DONE)) if (folder / DONE).exists() else set()


def write_block(folder: Path, start: int, values: np.ndarray) -> None:
    """Write one block of queries (t, b, n), then say that it is done."""
    array = zarr.open_array(zarr.storage.LocalStore(folder / SCORES), path="influence", mode="r+")
    array[:, start : start + values.shape[1]] = values
    write_json(folder / DONE, sorted(done(folder) | {start}))


def write_tables(folder: Path, tables: xr.Dataset) -> None:
    """Add small arrays (predictions, margins) to the store."""
    tables.to_zarr(folder / SCORES, mode="a", zarr_format=2, consolidated=False)
    # One file that says what there is: `xarray.open_zarr` asks for it, and warns where it is missing.
    zarr.consolidate_metadata(zarr.storage.LocalStore(folder / SCORES), zarr_format=2)


def opened(folder: Path) -> xr.Dataset:
    """Return everything in a store; numbers are read when they are looked at.

    Raises:
        StoreError: no store, a damaged one, or one that lacks scores.
    """
    path = folder / SCORES
    if not path.is_dir():
        raise StoreError(f"{str(path)!r} is missing: {str(folder)!r} is no whole run.")
    try:
        tables: xr.Dataset = xr.open_zarr(path, consolidated=False, chunks=None)
        array = zarr.open_array(zarr.storage.LocalStore(path), path="influence", mode="r")
        axes = [tables.indexes[axis] for axis in ("at", "query", "train")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{str(path)!r} is damaged: {str(error) or repr(error)}") from None
    absent = array.nchunks - array.nchunks_initialized
    if absent:
        raise StoreError(f"{str(path)!r} is damaged: {absent} of {array.nchunks} chunks are gone.")
    if array.shape != tuple(len(axis) for axis in axes):
        raise StoreError(f"{str(path)!r} is damaged: {array.shape} scores, labels for others.")
    return tables


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    part = path.with_name(path.name + ".part")
    with part.open("w") as file:
        json.dump(_strict(value), file, indent=2, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _strict(value: Any) -> Any:
    """Return a value that JSON has: infinity and NaN, which it has not, as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _strict(entry) for key, entry in value.items()}
    return [_strict(entry) for entry in value] if isinstance(value, list | tuple) else value


def read_json(path: Path) -> Any:
    """Return what a JSON file holds, or raise one sentence about it.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "result.json"
        >>> _ = path.write_text('{"rows": 2}')
        >>> read_json(path)
        {'rows': 2}
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise StoreError(f"{str(path)!r} does not exist.") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{str(path)!r} is not readable JSON: {error}.") from None

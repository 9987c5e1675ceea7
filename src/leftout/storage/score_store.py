"""Scores in a Zarr store that a killed run goes on with where it stopped.

Scores go to a Zarr store in blocks of queries; a block counts as done when `done.json`, replaced
atomically, says so. A block is always the same queries and is always computed alone, so a run that was
stopped and one that was not hold the same numbers: to the last bit on one processor with as many
threads, else to rounding.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from leftout.core.errors import StoreError
from leftout.storage.json_file import read_json, write_json

BLOCK = 256
"""Queries in a block: what is lost at most when a run is killed."""

COLUMNS = 1024
"""Training examples in a chunk."""

DONE = "done.json"
TRAININGS = "trainings"
SCORES = "scores.zarr"


def create_store(
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


def finished_blocks(folder: Path) -> set[int]:
    """Return the first query of each block that is whole; none where no store was made."""
    return set(read_json(folder / DONE)) if (folder / DONE).exists() else set()


def write_block(folder: Path, start: int, scores: np.ndarray) -> None:
    """Write one block of queries (t, b, n), then say that it is done."""
    array = zarr.open_array(zarr.storage.LocalStore(folder / SCORES), path="influence", mode="r+")
    array[:, start : start + scores.shape[1]] = scores
    write_json(folder / DONE, sorted(finished_blocks(folder) | {start}))


def write_tables(folder: Path, tables: xr.Dataset) -> None:
    """Add small arrays (predictions, margins) to the store."""
    tables.to_zarr(folder / SCORES, mode="a", zarr_format=2, consolidated=False)
    # One file that says what there is: `xarray.open_zarr` asks for it, and warns where it is missing.
    zarr.consolidate_metadata(zarr.storage.LocalStore(folder / SCORES), zarr_format=2)


def open_store(folder: Path) -> xr.Dataset:
    """Return everything in a store; numbers are read when they are used.

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

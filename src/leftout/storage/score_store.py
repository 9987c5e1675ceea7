"""Scores in a Zarr store that a killed run goes on with where it stopped.

Scores go to a Zarr store in blocks of queries; a block counts as done when `done.json`, replaced
atomically, holds the checksums of its files, which are on the disk by then. A block is always the same
queries and is always computed alone, so a run that was stopped and one that was not hold the same numbers:
to the last bit on one processor with as many threads, else to rounding. Nothing else in a store that is not
finished is trusted: it is made again.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
import zarr
from torch import Tensor
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

from leftout.core.atomic_files import atomic_write, sync, sync_tree
from leftout.core.errors import StoreError
from leftout.core.json_file import read_json, write_json
from leftout.storage.checksums import checksums, differences, file_names

BLOCK = 256
"""Queries in a block: what is lost at most when a run is killed."""

COLUMNS = 1024
"""Training examples in a chunk."""

DONE = "done.json"
TRAININGS = "trainings"
WORK = "work"
"""Folder of what only serves to go on: tiles, and sums over blocks of queries."""

SCORES = "scores.zarr"
INFLUENCE = "influence"


def create_store(
    folder: Path, *, times: Sequence[float], query: Sequence[str], train: Sequence[str], attrs: dict[str, Any]
) -> None:
    """Make a store of influence (at, query, train) in a folder; keep whole blocks of an unfinished one."""
    whole = _whole_blocks(folder)
    _remove_all_but(folder / SCORES, {name for chunks in whole.values() for name in chunks})
    labels = {
        "at": np.asarray(times, dtype=float),
        "query": np.asarray(query, dtype=str),
        "train": np.asarray(train, dtype=str),
    }
    shape = tuple(len(axis) for axis in labels.values())
    array = zarr.create_array(
        LocalStore(folder / SCORES),
        name=INFLUENCE,
        shape=shape,
        chunks=(1, min(BLOCK, shape[1]), min(COLUMNS, shape[2])),
        dtype="float64",
        fill_value=float("nan"),
        zarr_format=2,
    )
    array.attrs.update({**attrs, "_ARRAY_DIMENSIONS": list(labels)})
    # The labels after the scores: xarray looks at what there is, and warns of chunks without a description.
    xr.Dataset(coords=labels, attrs=attrs).to_zarr(
        folder / SCORES, mode="a", zarr_format=2, consolidated=False
    )
    sync_tree(folder / SCORES)
    _write_done(folder, whole)


def finished_blocks(folder: Path) -> set[int]:
    """Return the first query of each block that is whole; none where no store was made."""
    return set(_read_done(folder))


def write_block(folder: Path, start: int, scores: np.ndarray) -> None:
    """Write one block of queries (t, b, n), then say that it is done."""
    record_blocks(folder, {start: write_part(folder, start, 0, scores)})


def write_part(folder: Path, query: int, train: int, scores: np.ndarray) -> dict[str, str]:
    """Write scores (t, b, c) of a block of queries that fill whole chunks, and return the checksums of these.

    Several processes may write at once, each its own chunks; none of them is done before `record_blocks`.

    Args:
        query, train: the first of each.
    """
    array = zarr.open_array(LocalStore(folder / SCORES), path=INFLUENCE, mode="r+")
    _, rows, columns = array.chunks
    stop = train + scores.shape[2]
    whole = train % columns == 0 and (stop % columns == 0 or stop == array.shape[2])
    assert whole, "another process may write the same chunk"
    array[:, query : query + scores.shape[1], train:stop] = scores
    places = range(train // columns, -(-stop // columns))
    chunks = [
        folder / SCORES / INFLUENCE / f"{time}.{query // rows}.{place}"
        for time in range(len(scores))
        for place in places
    ]
    for path in (*chunks, folder / SCORES / INFLUENCE):
        sync(path)
    names = [path.relative_to(folder / SCORES).as_posix() for path in chunks]
    return checksums(folder / SCORES, names)


def record_blocks(folder: Path, blocks: Mapping[int, Mapping[str, str]]) -> None:
    """Say that blocks of queries are done: the checksums of the files of each, by its first query."""
    written = {start: dict(chunks) for start, chunks in blocks.items()}
    _write_done(folder, _read_done(folder) | written)


def stored_attributes(folder: Path) -> dict[str, Any] | None:
    """Return the attributes of the scores in a folder, finished or not; None where there are none."""
    if not (folder / SCORES / INFLUENCE).is_dir():
        return None
    try:
        return dict(zarr.open_array(LocalStore(folder / SCORES), path=INFLUENCE, mode="r").attrs)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{str(folder / SCORES)!r} is damaged: {str(error) or repr(error)}. Remove it and run again."
        ) from None


def add_attributes(folder: Path, attrs: Mapping[str, Any]) -> None:
    """Add attributes to the scores in a folder."""
    zarr.open_array(LocalStore(folder / SCORES), path=INFLUENCE, mode="r+").attrs.update(dict(attrs))


def keep_movement(folder: Path, start: int, sums: Tensor | None) -> None:
    """Keep sums over a block of queries, before the block is said to be done."""
    if sums is None:
        return
    (folder / WORK).mkdir(exist_ok=True)
    with atomic_write(folder / WORK / f"moved-{start}.npy") as unfinished, unfinished.open("wb") as file:
        np.save(file, sums.cpu().numpy())


def movement(folder: Path, start: int) -> Tensor | None:
    """Return what was kept of a block; None where nothing was."""
    path = folder / WORK / f"moved-{start}.npy"
    return torch.from_numpy(np.load(path, allow_pickle=False)) if path.exists() else None


def _read_done(folder: Path) -> dict[int, dict[str, str]]:
    """Return the checksums of the files of each block that was said to be done."""
    if not (folder / DONE).exists():
        return {}
    try:
        return {int(start): dict(chunks) for start, chunks in read_json(folder / DONE).items()}
    except (AttributeError, TypeError, ValueError):  # StoreError is a ValueError
        raise StoreError(
            f"{str(folder / DONE)!r} is damaged. Remove it and run again: all scores are computed again."
        ) from None


def _write_done(folder: Path, blocks: dict[int, dict[str, str]]) -> None:
    write_json(folder / DONE, {str(start): blocks[start] for start in sorted(blocks)})


def _whole_blocks(folder: Path) -> dict[int, dict[str, str]]:
    """Return the blocks that were said to be done and are as they were written."""
    return {
        start: chunks
        for start, chunks in _read_done(folder).items()
        if not differences(folder / SCORES, chunks, chunks)
    }


def _remove_all_but(folder: Path, names: set[str]) -> None:
    """Remove all files of a folder, and folders below it that are empty then, but those named."""
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        if not path.is_dir():
            if path.relative_to(folder).as_posix() not in names:
                path.unlink()
        elif not any(path.iterdir()):
            path.rmdir()


def write_tables(folder: Path, tables: xr.Dataset) -> None:
    """Add small arrays (predictions, margins) to the store."""
    tables.to_zarr(folder / SCORES, mode="a", zarr_format=2, consolidated=False)
    # One file that says what there is: `xarray.open_zarr` asks for it, and warns where it is missing.
    zarr.consolidate_metadata(LocalStore(folder / SCORES), zarr_format=2)


def score_checksums(folder: Path) -> dict[str, str]:
    """Return the checksums of all files of a store; those of scores are of when they were written."""
    blocks = _read_done(folder).values()
    written = {f"{SCORES}/{name}": chunks[name] for chunks in blocks for name in chunks}
    names = {f"{SCORES}/{name}" for name in file_names(folder / SCORES)}
    return written | checksums(folder, names - set(written))


def is_chunk(name: str) -> bool:
    """Return whether a file of a run is a piece of an array, which is read and compared when it is used."""
    *folders, last = name.split("/")
    return bool(folders) and folders[0] == SCORES and last[0].isdigit()


class CheckedStore(WrapperStore[LocalStore]):
    """A store that compares every file that it reads with its checksum.

    Args:
        expected: SHA-256 of each file, by its path in the store.
    """

    def __init__(self, store: LocalStore, expected: Mapping[str, str]) -> None:
        super().__init__(store)
        self.expected = expected

    def _with_store(self, store: LocalStore) -> "CheckedStore":
        return type(self)(store, self.expected)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        content = await super().get(key, prototype)
        await asyncio.to_thread(self._check, key, None if content is None else content.to_bytes())
        return content if byte_range is None else await super().get(key, prototype, byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    def _check(self, key: str, content: bytes | None) -> None:
        """Raise where a file differs; zarr also asks for files that there need not be."""
        seen = None if content is None else hashlib.sha256(content).hexdigest()
        if seen != self.expected.get(key):
            raise StoreError(
                f"{str(self._store.root / key)!r} was changed after it was made. Make the run again."
            )


def open_store(folder: Path, expected: Mapping[str, str] | None = None) -> xr.Dataset:
    """Return everything in a store; numbers are read when they are used.

    Args:
        expected: SHA-256 of each file, by its path in the store, to be compared when it is read.

    Raises:
        StoreError: no store, a damaged one, or one that lacks scores.
    """
    path = folder / SCORES
    if not path.is_dir():
        raise StoreError(f"{str(path)!r} is missing: {str(folder)!r} is no whole run.")
    store = LocalStore(path) if expected is None else CheckedStore(LocalStore(path), expected)
    try:
        tables: xr.Dataset = xr.open_zarr(store, consolidated=False, chunks=None)
        array = zarr.open_array(store, path=INFLUENCE, mode="r")
        axes = [tables.indexes[axis] for axis in ("at", "query", "train")]
    except StoreError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{str(path)!r} is damaged: {str(error) or repr(error)}") from None
    absent = array.nchunks - array.nchunks_initialized
    if absent:
        raise StoreError(f"{str(path)!r} is damaged: {absent} of {array.nchunks} chunks are gone.")
    if array.shape != tuple(len(axis) for axis in axes):
        raise StoreError(f"{str(path)!r} is damaged: {array.shape} scores, labels for others.")
    return tables

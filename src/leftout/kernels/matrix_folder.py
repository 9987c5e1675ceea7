"""A kernel matrix of any size, computed tile by tile into a folder: a run that was stopped goes on.

    FOLDER/matrix.json    whose matrix it is: kernel, inputs, shape, dtype, inputs on a side of a tile

beside the files of `leftout.kernels.tile_file`.
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leftout.core.checks import check_count, check_kind, check_path, is_whole, shown
from leftout.core.errors import ShapeError, StoreError
from leftout.core.fingerprint import fingerprint
from leftout.core.json_file import read_json, strict, write_json
from leftout.core.version import __version__
from leftout.core.wording import byte_size, count, dtype_name, duration, whole_number
from leftout.core.writer_lock import writer_lock
from leftout.kernels.assemble import check_sides, check_tensor, check_tile, repeated_rows, tile_work
from leftout.kernels.base import Kernel
from leftout.kernels.symmetry import check_symmetric
from leftout.kernels.tile_file import Place, TileFile
from leftout.kernels.tiles import TileWork
from leftout.kernels.trial import tried_inputs

RECORD = "matrix.json"

LARGEST_TILE = 2048
"""Inputs on a side of a tile of a fast kernel: 32 MB in float64, a multiple of the blocks of `gram`."""

SMALLEST_TILE = 8

TILE_SECONDS = 20.0
"""What a stopped run loses at most, as estimated beforehand: a slow kernel gets smaller tiles."""

TRIAL_INPUTS = 512

SAME_VALUES = 4
"""Inputs of a finished tile that are evaluated again, to see that it is still the same kernel."""

NUMBERS: dict[torch.dtype, np.dtype[Any]] = {torch.float64: np.dtype("<f8"), torch.float32: np.dtype("<f4")}


@final
@dataclass(frozen=True)
class MatrixPlan:
    """What a kernel matrix in a folder will take.

    Attributes:
        rows, columns: of the matrix.
        bytes: on the disk.
        seconds: estimated from a trial on some of the inputs, on this machine as it is now.
        tiles: computed one after the other.
        block: inputs on a side of a tile.
    """

    rows: int
    columns: int
    bytes: int
    seconds: float
    tiles: int
    block: int

    def __str__(self) -> str:
        shape = f"{whole_number(self.rows)} × {whole_number(self.columns)} numbers"
        tiles = f"{count(self.tiles, 'tile')} of {count(self.block, 'input')} a side"
        return f"{shape}, {byte_size(self.bytes)} on disk, in {tiles}; about {duration(self.seconds)}"


@dataclass(frozen=True)
class _Matrix:
    """A kernel, its inputs, and how it is evaluated.

    Attributes:
        inputs, queries: of the columns; of the rows, None where they are the same.
        work: dtype, device and memory of a tile.
    """

    kernel: Kernel
    inputs: Tensor
    queries: Tensor | None
    work: TileWork

    @property
    def outputs(self) -> int:
        """Return how many rows of the matrix an input has."""
        return self.kernel.outputs or 1

    @property
    def row_inputs(self) -> Tensor:
        return self.inputs if self.queries is None else self.queries

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.row_inputs) * self.outputs, len(self.inputs) * self.outputs

    @property
    def bytes(self) -> int:
        return self.shape[0] * self.shape[1] * self.work.dtype.itemsize

    def values(self, rows: slice, columns: slice) -> np.ndarray:
        """Return the kernel at some rows and columns, checked and mirrored as `gram` and `cross` do."""
        on_diagonal = self.queries is None and rows == columns
        i, j = (slice(side.start // self.outputs, side.stop // self.outputs) for side in (rows, columns))
        tile = np.empty((rows.stop - rows.start, columns.stop - columns.start), NUMBERS[self.work.dtype])
        blocks_of_tile = self.kernel.tiles(
            self.row_inputs[i], None if on_diagonal else self.inputs[j], self.work
        )
        for a, b, block in blocks_of_tile:
            check_tile(block, rows.start + a.start, self.outputs)
            if on_diagonal and a == b:
                check_symmetric("kernel", block, first=rows.start + a.start)
                block = block.triu() + block.triu(1).T
            tile[a, b] = block.detach().cpu().numpy()
            if on_diagonal:
                tile[b, a] = tile[a, b].T
        return tile

    def record(self, block: int) -> dict[str, Any]:
        """Return what decides the numbers, JSON-like."""
        record: dict[str, Any] = strict(
            {
                "kernel": self.kernel.record,
                "inputs": fingerprint(self.inputs),
                "queries": None if self.queries is None else fingerprint(self.queries),
                "rows": self.shape[0],
                "columns": self.shape[1],
                "outputs": self.outputs,
                "dtype": dtype_name(self.work.dtype),
                "block": block,
            }
        )
        return record


def plan_matrix(
    kernel: Kernel,
    inputs: Tensor,
    queries: Tensor | None = None,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    memory: int | float | str | None = None,
    block: int | None = None,
) -> MatrixPlan:
    """Return what `compute` would take of the same arguments: bytes, seconds, tiles.

    Args:
        kernel, inputs, queries, dtype, device, memory, block: as for `compute`.

    Raises:
        DataError, ShapeError, OptionError: as `compute`.

    Cost:
        A trial of the kernel on up to 512 inputs, half a second; of a slow one, some eight evaluations.

    Accuracy:
        Of the seconds: what else runs on the machine, and what a kernel computes once for several inputs,
        which the trial sees for fewer of them.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> plan = plan_matrix(lo.kernels.ReLU(1), torch.eye(3, dtype=torch.float64), block=2)
        >>> plan.bytes, plan.tiles
        (72, 3)
    """
    return _plan(
        _matrix(kernel, inputs, queries, dtype=dtype, device=device, memory=memory, block=block), block
    )


def compute(
    kernel: Kernel,
    inputs: Tensor,
    queries: Tensor | None = None,
    *,
    out: str | Path,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    memory: int | float | str | None = None,
    block: int | None = None,
) -> Float[Tensor, "rows columns"]:
    """Return K(inputs, inputs), or K(queries, inputs), as a file that is mapped into memory.

    The same call goes on where a stopped one was, also one that was killed; on a matrix that is whole it
    computes tiles again that are not as they were written. The values are those of `gram` and `cross`, and
    equal to the last bit whether it was stopped or not.

    Args:
        kernel, inputs, queries: as for `gram` and `cross`.
        out: folder of the matrix, made if it is missing.
        dtype: in which pairs are evaluated and kept: float64, or float32 at half the bytes.
        device, memory: as for `gram`; the memory is that of a tile.
        block: inputs on a side of a tile; from a trial if None, so that one takes 20 seconds at most.

    Returns:
        (m, n), or (m k, n k) for a kernel that tells outputs apart, of `dtype`, read from the disk where it
        is used. What is written to it stays in memory. `Precomputed` takes it as it is.

    Raises:
        StoreError: the folder holds another matrix (what differs is named) or something else, another
            process writes it, or the disk is too small.
        DataError, ShapeError, MemoryBudgetError, OptionError: as for `gram` and `cross`.

    Cost:
        Evaluations and memory of a tile at a time; 8 bytes a pair on disk, of float32 4. Going on reads what
        is there once, for its checksums.

    Accuracy:
        As `gram` and `cross`. In float32 of 2,000 MNIST digits, 0 of 1,000 predicted classes changed, no
        prediction by more than 7e-6 of the largest and no influence by more than 1e-5 of the largest
        (records/2026-11-30-single-precision). Its eigenvalues are right to some 1e-6 of the largest: with
        a ridge below that, take float64.

    Example:
        >>> import tempfile, torch
        >>> import leftout as lo
        >>> folder = tempfile.mkdtemp()
        >>> matrix = compute(lo.kernels.ReLU(1), torch.eye(2, dtype=torch.float64), out=folder)
        >>> matrix
        tensor([[2.0000, 0.3183],
                [0.3183, 2.0000]], dtype=torch.float64)
        >>> lo.kernels.Precomputed(matrix)
        Precomputed(2 points)
    """
    check_path("out", out)
    matrix = _matrix(kernel, inputs, queries, dtype=dtype, device=device, memory=memory, block=block)
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with writer_lock(folder):
            file = _fill_folder(matrix, folder, block)
    except OSError as error:
        raise StoreError(
            f"{str(folder)!r} cannot be written: {error.strerror or error}. Once that is mended, the same "
            "call goes on; or choose another `out`."
        ) from None
    return torch.from_numpy(file.open("c"))


def open_matrix(folder: str | Path) -> Float[Tensor, "rows columns"]:
    """Return the kernel matrix in a folder that `compute` filled, mapped into memory.

    Raises:
        StoreError: there is none, it is not whole, or it is not as it was written.

    Cost:
        The file is read once, for its checksums.

    Example:
        >>> import tempfile, torch
        >>> import leftout as lo
        >>> folder = tempfile.mkdtemp()
        >>> _ = lo.kernels.compute(lo.kernels.ReLU(1), torch.eye(2, dtype=torch.float64), out=folder)
        >>> open_matrix(folder).shape
        torch.Size([2, 2])
    """
    check_path("folder", folder)
    folder = Path(folder)
    record = _read_record(folder)
    if record is None:
        raise StoreError(f"{str(folder)!r} holds no kernel matrix: it has no {RECORD}.")
    file = _file_of(folder, record)
    if not file.is_whole:
        raise StoreError(
            f"The kernel matrix in {str(folder)!r} is not whole. Call lo.kernels.compute with the same "
            "arguments, which goes on where it stopped."
        )
    finished = file.finished_tiles()
    for rows, columns in file.tiles():
        if (rows.start, columns.start) not in finished:
            raise StoreError(
                f"The kernel matrix in {str(folder)!r} was changed after it was made, in rows {rows.start} "
                f"to {rows.stop - 1} and columns {columns.start} to {columns.stop - 1}. Call "
                "lo.kernels.compute with the same arguments, which computes these again."
            )
    return torch.from_numpy(file.open("c"))


def _matrix(
    kernel: Kernel,
    inputs: Tensor,
    queries: Tensor | None,
    *,
    dtype: torch.dtype,
    device: torch.device | str | None,
    memory: int | float | str | None,
    block: int | None,
) -> _Matrix:
    """Return the matrix, once its arguments are checked."""
    check_kind(
        "kernel",
        kernel,
        Kernel,
        what="a kernel, such as ReLU(2)",
        advice="One that sees labels is fitted to them first: kernel.fit_labels(inputs, labels).",
    )
    if queries is None:
        check_tensor("inputs", inputs)
        kernel.check("inputs", inputs)
    else:
        check_sides(kernel, queries, inputs)
    sides = [len(inputs), len(inputs if queries is None else queries)]
    if 0 in sides:
        raise ShapeError(
            f"A kernel matrix on disk must have rows and columns; got {sides[1]} × {sides[0]} inputs."
        )
    if block is not None:
        check_count("block", block)
    rows, columns = (min(side, block or LARGEST_TILE) * (kernel.outputs or 1) for side in sides)
    work = tile_work(rows, columns, inputs, dtype=dtype, device=device, memory=memory, block=None)
    return _Matrix(kernel, inputs, queries, work)


def _plan(matrix: _Matrix, block: int | None) -> MatrixPlan:
    """Return bytes, seconds and tiles, from a trial of the kernel."""
    seconds = _seconds_per_number(matrix)
    if block is None:
        block = min(LARGEST_TILE, max(len(matrix.inputs), len(matrix.row_inputs)))
        while block > SMALLEST_TILE and seconds * (block * matrix.outputs) ** 2 > TILE_SECONDS:
            block //= 2
    tiles = _file_of(Path(), matrix.record(block)).tiles()
    numbers = sum((i.stop - i.start) * (j.stop - j.start) for i, j in tiles)
    return MatrixPlan(*matrix.shape, matrix.bytes, seconds * numbers, len(tiles), block)


def _seconds_per_number(matrix: _Matrix) -> float:
    """Return what a number takes, from a trial with more and more inputs."""
    size, longest = SMALLEST_TILE * matrix.outputs, TRIAL_INPUTS * matrix.outputs
    n_rows, n_columns = matrix.shape

    def seconds(side: int) -> float:
        began = time.perf_counter()
        matrix.values(slice(0, min(side, n_rows)), slice(0, min(side, n_columns)))
        return time.perf_counter() - began

    seconds(min(size, longest))  # loads what later calls have
    tried, took = tried_inputs(seconds, size, min(longest, max(matrix.shape)))
    return took / (min(tried, n_rows) * min(tried, n_columns))


def _file_of(folder: Path, record: Mapping[str, Any]) -> TileFile:
    """Return the file of a matrix with this record."""
    return TileFile(
        folder,
        shape=(record["rows"], record["columns"]),
        side=record["block"] * record["outputs"],
        dtype=np.dtype(record["dtype"]),
        symmetric=record["queries"] is None,
    )


def _fill_folder(matrix: _Matrix, folder: Path, block: int | None) -> TileFile:
    """Compute what is missing, in a folder that nobody else writes."""
    record = _read_record(folder)
    if record is None:
        if any(folder.iterdir()):
            raise StoreError(
                f"`out` must be a new folder, or one with the same kernel matrix; {str(folder)!r} holds "
                "other files. Choose another."
            )
        record = matrix.record(_plan(matrix, None).block if block is None else block)
        _check_disk(folder, matrix.bytes)
        write_json(folder / RECORD, {**record, "leftout": __version__})
    else:
        _check_same_record(folder, record, matrix.record(record["block"] if block is None else block))
    file = _file_of(folder, record)
    file.create()
    finished = file.finished_tiles()
    _check_same_values(matrix, file, finished)
    if not file.is_whole or len(finished) < len(file.tiles()):
        file.fill(finished, matrix.values, _first_equal_rows(matrix))
    return file


def _first_equal_rows(matrix: _Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row and each column of the matrix the first one of an equal input: often itself."""
    sides = []
    for inputs in (matrix.row_inputs, matrix.inputs):
        first = np.arange(len(inputs) * matrix.outputs)
        later, earlier = repeated_rows(inputs, matrix.outputs)
        first[later.numpy()] = earlier.numpy()
        sides.append(first)
    return sides[0], sides[1]


def _read_record(folder: Path) -> dict[str, Any] | None:
    """Return what a folder says of its matrix; None where it says nothing.

    Raises:
        StoreError: it is damaged.
    """
    if not (folder / RECORD).exists():
        return None
    record = read_json(folder / RECORD)
    whole_numbers = ("rows", "columns", "outputs", "block")
    if (
        not isinstance(record, dict)
        or not {"kernel", "inputs", "queries", "dtype"} <= set(record)
        or not all(is_whole(record.get(name)) and record[name] >= 1 for name in whole_numbers)
    ):
        raise StoreError(f"{str(folder / RECORD)!r} is damaged: remove its folder, and compute again.")
    return record


def _check_same_record(folder: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise if a folder holds another matrix, and say what is other about it."""
    differences = []
    for name, expected in wanted.items():
        if stored[name] == expected:
            continue
        if name == "kernel" and isinstance(stored[name], dict):
            parameters = sorted({*stored[name], *expected})
            differences += [
                f"{parameter} of the kernel is {shown(stored[name].get(parameter))} there and "
                f"{shown(expected.get(parameter))} here"
                for parameter in parameters
                if stored[name].get(parameter) != expected.get(parameter)
            ]
        elif name in ("inputs", "queries"):
            differences.append(f"`{name}` are others")
        else:
            differences.append(f"{name} is {stored[name]} there and {expected} here")
    if differences:
        raise StoreError(
            f"`out` = {str(folder)!r} holds another kernel matrix: {'; '.join(differences)}. Choose another "
            "folder, or remove it."
        )


def _check_same_values(matrix: _Matrix, file: TileFile, finished: Mapping[Place, str]) -> None:
    """Raise if the kernel is not the one that the first finished tile was computed with.

    A function's code is in no record, and other versions may compute other numbers.
    """
    if not finished:
        return
    stored, (row, column) = file.open("r"), next(iter(finished))
    side = SAME_VALUES * matrix.outputs
    rows, columns = (
        slice(row, min(row + side, len(stored))),
        slice(column, min(column + side, stored.shape[1])),
    )
    before, now = stored[rows, columns], matrix.values(rows, columns)
    difference = np.abs(before - now)
    if difference.max() > np.finfo(before.dtype).eps ** 0.5 * np.abs(before).max():
        i, j = np.unravel_index(difference.argmax(), difference.shape)
        raise StoreError(
            f"`out` = {str(file.folder)!r} holds a matrix of a kernel with the same record and other values: "
            f"entry ({row + i}, {column + j}) is {before[i, j]:.9g} there and {now[i, j]:.9g} here. Choose "
            "another folder, or remove it."
        )


def _check_disk(folder: Path, needed: int) -> None:
    """Raise if a disk has no room for the matrix."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StoreError(
            f"The kernel matrix takes {byte_size(needed)}, and the disk of {str(folder)!r} has "
            f"{byte_size(free)} left. Choose an `out` on another, fewer inputs, or dtype=torch.float32."
        )

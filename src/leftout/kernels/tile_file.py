"""A matrix in one file of numpy, written tile by tile: which tiles are as they were written?

    FOLDER/tiles.txt          a line for each finished tile: its first row and column, its SHA-256
    FOLDER/matrix.npy.part    the matrix while it is written; FOLDER/matrix.npy once it is whole

A tile counts as finished only where its bytes in the matrix have the checksum that was written after it, so
nothing has to be in order when a process is killed or a machine loses power. A symmetric matrix is written
from one triangle of tiles, each a second time as its mirror.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO, Literal, final

import numpy as np

from leftout.core.atomic_files import atomic_write, part_path, sync
from leftout.core.blocks import blocks
from leftout.core.errors import StoreError
from leftout.core.progress import with_progress
from leftout.core.wording import byte_size
from leftout.kernels.tiles import upper_blocks

LINES, MATRIX = "tiles.txt", "matrix.npy"

Region = tuple[slice, slice]
"""Rows and columns of the matrix."""

Place = tuple[int, int]
"""First row and first column of a tile, by which it is known."""


@final
@dataclass(frozen=True)
class TileFile:
    """A matrix in a folder, and the tiles it is written in.

    Attributes:
        folder: where its files are.
        shape: rows and columns of the matrix.
        side: rows and columns of a tile.
        dtype: of the numbers.
        symmetric: whether tiles below the diagonal are mirrors of those above.
    """

    folder: Path
    shape: tuple[int, int]
    side: int
    dtype: np.dtype[Any]
    symmetric: bool

    @property
    def path(self) -> Path:
        """Return the path of the matrix: under its own name once it is whole."""
        path = self.folder / MATRIX
        return path if path.exists() else part_path(path)

    @property
    def is_whole(self) -> bool:
        """Return whether all tiles were written."""
        return (self.folder / MATRIX).exists()

    @property
    def bytes(self) -> int:
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def tiles(self) -> list[Region]:
        """Return the tiles that are computed, in order."""
        rows, columns = self.shape
        if self.symmetric:
            return upper_blocks(rows, self.side)
        return list(product(blocks(rows, self.side), blocks(columns, self.side)))

    def create(self) -> None:
        """Make a file of the size of the matrix, unless there is one; bytes are taken when written."""
        if not self.path.exists():
            np.lib.format.open_memmap(self.path, "w+", self.dtype, self.shape)

    def open(self, mode: Literal["r", "c"]) -> np.memmap:
        """Return the matrix, mapped into memory; under "c" what is written to it stays there.

        Raises:
            StoreError: it is no matrix of this shape and dtype.
        """
        try:
            matrix: np.memmap = np.load(self.path, mmap_mode=mode, allow_pickle=False)
        except ValueError as error:
            raise StoreError(
                f"{str(self.path)!r} is damaged ({error}): remove its folder, and compute again."
            ) from None
        if matrix.shape != self.shape or matrix.dtype != self.dtype:
            raise StoreError(
                f"{str(self.path)!r} is damaged: it holds {matrix.shape} numbers of {matrix.dtype.name}, and "
                f"its record says {self.shape} of {self.dtype.name}. Remove its folder, and compute again."
            )
        return matrix

    def finished_tiles(self) -> dict[Place, str]:
        """Return the checksums of the tiles that are as they were written."""
        matrix, written = self.open("r"), _read_lines(self.folder / LINES)
        checksums = {}
        for rows, columns in with_progress(self.tiles(), what="checksums"):
            place = rows.start, columns.start
            tile = matrix[rows, columns]
            if place not in written or _checksum(tile) != written[place]:
                continue
            if not self.symmetric or np.array_equal(matrix[columns, rows], tile.T):
                checksums[place] = written[place]
        return checksums

    def fill(
        self,
        finished: dict[Place, str],
        compute: Callable[[slice, slice], np.ndarray],
        copied: tuple[np.ndarray, np.ndarray],
    ) -> None:
        """Compute the tiles that are not finished, and give the file its name.

        Args:
            compute: returns the numbers of a tile.
            copied: for every row and every column that which it is a copy of: itself, or an earlier one.
        """
        if self.is_whole:
            self.path.replace(part_path(self.folder / MATRIX))
        with atomic_write(self.folder / LINES) as unfinished:
            unfinished.write_text("".join(_line(place, checksum) for place, checksum in finished.items()))
        missing = [tile for tile in self.tiles() if (tile[0].start, tile[1].start) not in finished]
        self._compute(missing, compute, copied)
        sync(self.folder / LINES)
        sync(self.path)
        self.path.replace(self.folder / MATRIX)
        sync(self.folder)

    def _compute(
        self,
        tiles: list[Region],
        compute: Callable[[slice, slice], np.ndarray],
        copied: tuple[np.ndarray, np.ndarray],
    ) -> None:
        """Compute tiles and write them, each followed by a line with its checksum."""
        matrix = self.open("r")  # closed before the file is renamed, which Windows asks for
        with self.path.open("r+b") as file, (self.folder / LINES).open("a") as lines:
            for rows, columns in with_progress(tiles, what=f"kernel matrix ({byte_size(self.bytes)})"):
                numbers = compute(rows, columns)
                self._write(file, matrix.offset, (rows, columns), numbers)
                sources = copied[0][rows], copied[1][columns]
                if _are_copies(sources[0], rows) or _are_copies(sources[1], columns):
                    numbers = matrix[np.ix_(*sources)]  # written before, or in this tile
                    self._write(file, matrix.offset, (rows, columns), numbers)
                lines.write(_line((rows.start, columns.start), _checksum(numbers)))
                lines.flush()

    def _write(self, file: BinaryIO, offset: int, tile: Region, numbers: np.ndarray) -> None:
        """Write a tile and its mirror, through the file: a full disk ends a process that writes to a map."""
        rows, columns = tile
        regions = [(rows, columns, numbers)]
        if self.symmetric and rows != columns:
            regions.append((columns, rows, numbers.T))
        for down, across, block in regions:
            lines: Iterable[np.ndarray] = np.ascontiguousarray(block)
            for row, line in zip(range(down.start, down.stop), lines, strict=True):
                file.seek(offset + (row * self.shape[1] + across.start) * self.dtype.itemsize)
                file.write(line.data)
        file.flush()


def _are_copies(sources: np.ndarray, side: slice) -> bool:
    """Return whether a side of a tile has rows that are copies of earlier ones."""
    return bool((sources != np.arange(side.start, side.stop)).any())


def _checksum(numbers: np.ndarray) -> str:
    """Return the SHA-256 of the numbers of a tile, row by row."""
    return hashlib.sha256(np.ascontiguousarray(numbers).data).hexdigest()


def _line(place: Place, checksum: str) -> str:
    return f"{place[0]} {place[1]} {checksum}\n"


def _read_lines(path: Path) -> dict[Place, str]:
    """Return the checksums in a file of lines; a line that was cut off when a process was killed is none."""
    checksums = {}
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        words = line.split()
        if len(words) == 3 and words[0].isdecimal() and words[1].isdecimal():
            checksums[int(words[0]), int(words[1])] = words[2]
    return checksums

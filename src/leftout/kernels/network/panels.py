"""In which order are features made and multiplied, so that few are made twice and memory holds?

Where the features of all inputs of one side fit, they are made once and held, and the other side goes
by chunk by chunk: one pass over every input. Where they do not, a panel is held at a time, and what
comes after it (or the other side) goes by once for each panel. What was held of all inputs is kept for
the next call where it is small: training inputs come again and again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.fingerprint import fingerprint
from leftout.core.progress import with_progress
from leftout.kernels.network.extract import Extract
from leftout.kernels.network.features import COLUMNS, PIECE, Features
from leftout.kernels.tiles import BLOCK, Tile, Work, check_matrix_fits

CHUNK = 2**28
"""Bytes of temporaries of a pass beyond which taking more inputs together is no faster."""

KEPT = 4
"""A quarter of the budget may be taken by features that wait for the next call."""

COPIES = 6
"""Tiles that are held at once: the last one, the next, two factors of it, and two while it is mirrored."""


@dataclass(frozen=True)
class Plan:
    """How many inputs at a time: `panel` are held, `chunk` go by, `side` make a tile.

    Attributes:
        piece: bytes for products between positions of layers.
    """

    panel: int
    chunk: int
    side: int
    piece: int


@final
class Shelf:
    """The features of the last inputs that all of them fitted for."""

    def __init__(self) -> None:
        self.key = ""
        self.features: Features | None = None

    def held(self, inputs: Tensor) -> Features | None:
        """Return the features of these inputs, or None; then nothing is held any more."""
        if self.features is not None and self.key != fingerprint(inputs):
            self.features = None
        return self.features

    def keep(self, inputs: Tensor, features: Features) -> None:
        """Hold the features of these inputs."""
        self.key, self.features = fingerprint(inputs), features


@final
class Panels:
    """Tiles of the kernel between two batches.

    Args:
        extract: makes features.
        queries, inputs: on the device of the network and in its dtype; None for a triangle.
        room: bytes for everything.

    Raises:
        MemoryBudgetError: not even one input at a time fits.
    """

    def __init__(
        self,
        extract: Extract,
        queries: Tensor,
        inputs: Tensor | None,
        *,
        each: int,
        work: Work,
        room: int,
        shelf: Shelf,
    ) -> None:
        self.extract = extract
        self.each = each
        self.work = work
        self.room = room
        self.shelf = shelf
        self.triangle = inputs is None
        # The side that comes again is held if it fits, else the one that fits.
        self.mine, self.other = (queries, queries) if inputs is None else (inputs, queries)
        self.ready = shelf.held(self.mine)
        self.plan = self._plan(len(self.mine))
        self.swapped = True  # tiles are rows of `other` and columns of `mine`
        if inputs is not None and self.ready is None and self.plan.panel < len(inputs):
            across = self._plan(len(queries))
            if across.panel >= len(queries):
                self.mine, self.other = queries, inputs
                self.plan, self.swapped = across, False

    def tiles(self) -> Iterator[Tile]:
        """Yield the tiles, panel by panel."""
        for panel in blocks(len(self.mine), self.plan.panel):
            features = self.ready or self._features(self.mine[panel], what="gradients")
            self._keep(features)
            if self.triangle:
                yield from self._inside(features, panel.start)
            else:
                yield from self._against(features, panel.start, 0)
            if self.triangle and panel.stop < len(self.mine):
                yield from self._against(features, panel.start, panel.stop)
            del features  # before the next are made

    def _inside(self, features: Features, start: int) -> Iterator[Tile]:
        """Yield one triangle of a panel with itself."""
        parts = list(blocks(features.n, self.plan.side))
        pairs = [(i, j) for i in parts for j in parts if j.start >= i.start]
        for i, j in with_progress(pairs, what="kernel"):
            yield self._tile(features, i, start, features, j, start)

    def _against(self, features: Features, start: int, first: int) -> Iterator[Tile]:
        """Yield a panel with everything of the other side from `first` on."""
        chunks = [
            slice(first + one.start, first + one.stop)
            for one in blocks(len(self.other) - first, self.plan.chunk)
        ]
        for chunk in with_progress(chunks, what="kernel"):
            passing = self._features(self.other[chunk], what="gradients")
            for i in blocks(passing.n, self.plan.side):
                for j in blocks(features.n, self.plan.side):
                    if self.swapped and not self.triangle:
                        yield self._tile(passing, i, chunk.start, features, j, start)
                    else:
                        yield self._tile(features, j, start, passing, i, chunk.start)
            del passing  # before the next are made

    def _tile(self, left: Features, i: slice, above: int, right: Features, j: slice, before: int) -> Tile:
        value = left.products(i, right, j, piece=self.plan.piece).to(self.work.device)
        return self._rows(i, above), self._rows(j, before), value

    def _rows(self, inputs: slice, first: int) -> slice:
        return slice((first + inputs.start) * self.each, (first + inputs.stop) * self.each)

    def _features(self, inputs: Tensor, *, what: str) -> Features:
        """Return the features of some inputs, made chunk by chunk."""
        features: Features | None = None
        for rows in with_progress(list(blocks(len(inputs), self.plan.chunk)), what=what):
            parts = self.extract(inputs[rows])
            if features is None:
                features = Features(parts, len(inputs))
            features.fill(rows, parts)
            del parts  # before the next are made
        assert features is not None, "no inputs"
        return features

    def _keep(self, features: Features) -> None:
        """Keep the features of all inputs of the side that comes again, if they are small."""
        whole = self.swapped and features.n == len(self.mine)
        if self.ready is None and whole and features.nbytes * KEPT <= self.room:
            self.shelf.keep(self.mine, features)

    def _plan(self, n: int) -> Plan:
        """Return how many inputs at a time fit the memory."""
        extract, each = self.extract, self.each
        side = max(1, (self.work.block or BLOCK.get(self.mine.device.type, 512)) // each)
        room = self.room - (self.ready.nbytes if self.ready is not None else 0)
        one = extract.bytes_kept
        while side > 1 and self._tile_bytes(side) > room // 4:
            side //= 2
        smallest = extract.smallest_piece
        piece = max(smallest, min(PIECE, room // 4)) if smallest else 0
        tile = piece + self._tile_bytes(min(side, max(n, len(self.other))))
        passing = extract.bytes_working + one
        needed = tile + passing + (0 if self.ready is not None else one)
        check_matrix_fits(
            len(self.other) * each,
            len(self.mine) * each,
            self.work.result + needed,
            self.work.result + self.room,
        )
        # A projection is drawn anew for every chunk: the fewer the better.
        most = CHUNK if extract.projection is None else room
        chunk = max(1, min((room - tile) // 4, most) // passing)
        chunk = min(chunk, max(n, len(self.other)))
        panel = n if self.ready is not None else (room - tile - chunk * passing) // one
        return Plan(min(max(1, panel), n), chunk, side, piece)

    def _tile_bytes(self, side: int) -> int:
        rows = side * self.each
        return 8 * rows * (COPIES * rows + 2 * COLUMNS) + self.extract.bytes_of_tile(side)

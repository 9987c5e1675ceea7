"""The order in which features are made and multiplied: within the memory, and few of them twice.

Where the features of all inputs of one side fit, they are made once and held, and those of the other side
are made chunk by chunk: one pass over every input. Where they do not fit, one panel of inputs is held at a
time, and the inputs behind it (or the other side) are passed once for each panel. Features of all inputs
are kept for the next call where they are small, as training inputs are used again and again.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.fingerprint import fingerprint
from leftout.core.progress import with_progress
from leftout.kernels.network.extract import Extract
from leftout.kernels.network.features import COLUMNS, PIECE, NetworkFeatures
from leftout.kernels.tiles import BLOCK, FeatureBytes, Tile, TileWork, check_matrix_fits, upper_blocks

CHUNK = 2**28
"""Bytes of temporaries of a pass beyond which taking more inputs together is no faster."""

KEPT = 4
"""Features are kept for the next call where they take at most this fraction, a quarter, of the budget."""

ROWS = {"cpu": 1024}
"""Rows and columns of a tile, where they are not those of kernels of pairs: features are converted to float64
once for each tile, and half as many conversions made products of Jacobians 1.5 times as fast."""

COPIES = 6
"""Tiles that are held at once: the last one, the next, two factors of it, and two while it is mirrored."""


@dataclass(frozen=True)
class PanelPlan:
    """How many inputs are processed at a time.

    Attributes:
        panel: inputs whose features are held.
        beside: inputs of the other side whose features are multiplied with them at a time.
        chunk: inputs that pass through the network at a time.
        side: inputs along a side of a tile.
        piece: bytes for products between positions of layers.
    """

    panel: int
    beside: int
    chunk: int
    side: int
    piece: int


@final
class Shelf:
    """The features of the last inputs whose features fitted the memory."""

    def __init__(self) -> None:
        self.key = ""
        self.features: NetworkFeatures | None = None

    def features_of(self, inputs: Tensor) -> NetworkFeatures | None:
        """Return the features of these inputs; without any, forget those of other inputs and return None."""
        if self.features is not None and self.key != fingerprint(inputs):
            self.features = None
        return self.features

    def clear(self) -> None:
        """Forget the features."""
        self.features = None

    def keep(self, inputs: Tensor, features: NetworkFeatures) -> None:
        """Keep the features of these inputs."""
        self.key, self.features = fingerprint(inputs), features


@final
class Panels:
    """Tiles of the kernel between two batches.

    Args:
        extract: makes features.
        queries, inputs: on the device of the network and in its dtype; None for a triangle.
        room: bytes for everything but the result.
        keep: bytes up to which features of the held side are kept for the next call.

    Raises:
        MemoryBudgetError: not even one input at a time fits.
    """

    def __init__(
        self,
        extract: Extract,
        queries: Tensor,
        inputs: Tensor | None,
        *,
        work: TileWork,
        room: int,
        keep: int,
        shelf: Shelf,
    ) -> None:
        self.extract = extract
        self.rows_per_input = extract.network.rows_per_input
        self.work = work
        self.room, self.keep = room, keep
        self.shelf = shelf
        self.triangle = inputs is None
        # The side that the next call has again is held if it fits, else the one that fits.
        self.held, self.passing = (queries, queries) if inputs is None else (inputs, queries)
        self.ready = shelf.features_of(self.held)
        self.plan = self._plan(len(self.held))
        self.swapped = True  # tiles are rows of `passing` and columns of `held`
        if inputs is not None and self.ready is None and self.plan.panel < len(inputs):
            across = self._plan(len(queries))
            if across.panel >= len(queries):
                self.held, self.passing = queries, inputs
                self.plan, self.swapped = across, False

    def tiles(self) -> Iterator[Tile]:
        """Yield the tiles, panel by panel."""
        for panel in blocks(len(self.held), self.plan.panel):
            features = self.ready or self._features(self.held[panel])
            self._keep(features)
            if self.triangle:
                yield from self._inside(features, panel.start)
            else:
                yield from self._against(features, panel.start, 0)
            if self.triangle and panel.stop < len(self.held):
                yield from self._against(features, panel.start, panel.stop)
            del features  # before the next are made

    def _inside(self, features: NetworkFeatures, start: int) -> Iterator[Tile]:
        """Yield one triangle of a panel with itself."""
        for i, j in with_progress(upper_blocks(features.n, self.plan.side), what="kernel"):
            yield self._tile(features, i, start, features, j, start)

    def _against(self, features: NetworkFeatures, start: int, first: int) -> Iterator[Tile]:
        """Yield a panel with all inputs of the other side from `first` on."""
        parts = [
            slice(first + rows.start, first + rows.stop)
            for rows in blocks(len(self.passing) - first, self.plan.beside)
        ]
        for part in with_progress(parts, what="kernel"):
            passing = self._features(self.passing[part])
            for i in blocks(passing.n, self.plan.side):
                for j in blocks(features.n, self.plan.side):
                    if self.swapped and not self.triangle:
                        yield self._tile(passing, i, part.start, features, j, start)
                    else:
                        yield self._tile(features, j, start, passing, i, part.start)
            del passing  # before the next are made

    def _tile(
        self, a: NetworkFeatures, i: slice, above: int, b: NetworkFeatures, j: slice, before: int
    ) -> Tile:
        values = a.products(i, b, j, piece=self.plan.piece).to(self.work.device)
        return self._rows(i, above), self._rows(j, before), values

    def _rows(self, inputs: slice, first: int) -> slice:
        height = self.rows_per_input
        return slice((first + inputs.start) * height, (first + inputs.stop) * height)

    def _features(self, inputs: Tensor) -> NetworkFeatures:
        """Return the features of inputs, made chunk by chunk."""
        features: NetworkFeatures | None = None
        for rows in with_progress(list(blocks(len(inputs), self.plan.chunk)), what="gradients"):
            layers = self.extract(inputs[rows])
            if features is None:
                features = NetworkFeatures(layers, len(inputs))
            features.fill(rows, layers)
            del layers  # before the next are made
        assert features is not None, "no inputs"
        return features

    def _keep(self, features: NetworkFeatures) -> None:
        """Keep the features of all inputs of the side that the next call has again, if they are small."""
        complete = self.swapped and features.n == len(self.held)
        if self.ready is None and complete and features.nbytes <= self.keep:
            self.shelf.keep(self.held, features)

    def _plan(self, n: int) -> PanelPlan:
        """Return how many inputs at a time fit the memory."""
        extract, height = self.extract, self.rows_per_input
        side = _largest_side(extract, self.held.device.type, self.work.block)
        room = self.room - (self.ready.nbytes if self.ready is not None else 0)
        bytes_per_input = extract.bytes_kept
        while side > 1 and _tile_bytes(extract, side) > room // 4:
            side //= 2
        smallest = extract.smallest_piece
        piece = max(smallest, min(PIECE, room // 4)) if smallest else 0
        tile = piece + _tile_bytes(extract, min(side, max(n, len(self.passing))))
        passing = extract.bytes_working + bytes_per_input
        needed = tile + passing + (0 if self.ready is not None else bytes_per_input)
        check_matrix_fits(
            len(self.passing) * height,
            len(self.held) * height,
            self.work.result + needed,
            self.work.result + self.room,
        )
        # A projection is drawn anew for every chunk: the fewer the better.
        most = CHUNK if extract.projection is None else room
        inputs = max(n, len(self.passing))
        chunk = min(max(1, min((room - tile) // 4, most) // passing), inputs)
        # A pass takes few inputs where it needs much; products of so few with all others would convert
        # the features of all others again and again.
        beside = min(max(chunk, min(side, (room - tile) // 4 // bytes_per_input)), inputs)
        rest = room - tile - chunk * extract.bytes_working - beside * bytes_per_input
        panel = n if self.ready is not None else rest // bytes_per_input
        return PanelPlan(min(max(1, panel), n), beside, chunk, side, piece)


def feature_bytes(extract: Extract, device: torch.device) -> FeatureBytes:
    """Return what panels take: of features, of passes that make them, and of tiles."""
    smallest, passing = extract.smallest_piece, extract.bytes_working + extract.bytes_kept
    largest = _tile_bytes(extract, _largest_side(extract, device.type, None))
    return FeatureBytes(
        kept=extract.bytes_kept,
        passing=passing,
        tiles=largest,
        pieces=max(smallest, PIECE) if smallest else 0,
        least=_tile_bytes(extract, 1) + smallest + passing + extract.bytes_kept,
        most_passing=CHUNK if extract.projection is None else sys.maxsize,
        most_beside=_largest_side(extract, device.type, None),
    )


def _largest_side(extract: Extract, device: str, block: int | None) -> int:
    rows = block or ROWS.get(device) or BLOCK.get(device, BLOCK["cpu"])
    return max(1, rows // extract.network.rows_per_input)


def _tile_bytes(extract: Extract, side: int) -> int:
    rows = side * extract.network.rows_per_input
    return 8 * rows * (COPIES * rows + 2 * COLUMNS) + extract.bytes_of_tile(side)

"""The engine at a finite training time: the resolvents of `solvers.resolvent`, summed.

All times of a window share nodes and everything that is heavy about them; a time then costs one
product of (queries × modes) by (modes × examples) for each output.
"""

from collections.abc import Hashable
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.base import SpectralEngine, columns_times_rows
from leftout.attribution.engine.query_blocks import COLUMNS, QueryBlock
from leftout.core.work import WorkCount, product
from leftout.dynamics.fitted import Fitted
from leftout.solvers.resolvent import (
    Resolvents,
    added_coordinates,
    coefficients_work,
    edited_coordinates,
    group_left_out_duals,
    left_out_diagonal,
    left_out_ratios,
    reweighted_ratios,
)


@final
class SharedNodes:
    """Resolvents at the nodes that several times share, and what is derived from them once."""

    def __init__(self, resolvents: Resolvents) -> None:
        self.resolvents = resolvents
        self._last_group: tuple[tuple[int, ...], Tensor] | None = None

    @cached_property
    def ratios(self) -> Tensor:
        return left_out_ratios(self.resolvents)

    def group(self, rows: Tensor) -> Float64[Tensor, "t rows c"]:
        """Return dual without these rows − dual, at all times; the last group is kept."""
        key = tuple(rows.tolist())
        if self._last_group is None or self._last_group[0] != key:
            self._last_group = (key, group_left_out_duals(self.resolvents, rows))
        return self._last_group[1]


@final
class FiniteTime(SpectralEngine):
    """A finite time above 0.

    Args:
        nodes: shared by the times of a window.
        place: of this time in that window.
        key: which tells the nodes from others of the model.
    """

    def __init__(
        self,
        fitted: Fitted,
        time: float,
        nodes: SharedNodes,
        place: int,
        *,
        total: float,
        key: tuple[Hashable, ...],
    ) -> None:
        self.fitted = fitted
        self.time = time
        self.total = total
        self.nodes = nodes
        self.place = place
        self._nodes_key = key

    @property
    def key(self) -> tuple[Hashable, ...]:
        return self.time, *self._nodes_key

    def filter(self, values: Float64[Tensor, " r"]) -> Float64[Tensor, " r"]:
        return self.fitted.spectral_rule.filter(self.time, self.total)(values)

    def singles(self, queries: QueryBlock, columns: slice, output: int) -> Float64[Tensor, "m e"]:
        column = output if self.fitted.outputs_per_example == 1 else 0
        rows = self.fitted.rows.of_examples(columns)
        change = queries.of_output(output, queries.spectral) @ self._coordinates(
            self.nodes.ratios, rows, column
        )  # (m, r)(r, e)
        if self.shift is not None:
            change += (queries.of_output(output, queries.cross) @ self.shift[:, column])[:, None]
        return change

    def _coordinates(self, ratios: Tensor, rows: slice | Tensor, column: int) -> Float64[Tensor, "r e"]:
        """Return Vᵀ (dual of edited data − dual) in one column, for the examples of these rows."""
        return edited_coordinates(self.nodes.resolvents, ratios[:, :, column], self.place, rows)

    def _edited_duals(self, ratios: Tensor, rows: slice | Tensor) -> Float64[Tensor, "e rows c"]:
        """Return how the dual changes, for the examples of these rows."""
        columns = range(self.fitted.residual.shape[1])
        coordinates = torch.stack([self._coordinates(ratios, rows, c) for c in columns], dim=2)
        return self.with_shift(torch.einsum("nr,rec->enc", self.fitted.spectrum.vectors, coordinates))

    def single_duals(self, columns: slice) -> Float64[Tensor, "rows e c"]:
        return self._edited_duals(self.nodes.ratios, self.fitted.rows.of_examples(columns)).transpose(0, 1)

    def diagonal(self) -> Float64[Tensor, "n k"]:
        ratios = self.nodes.ratios
        columns = range(self.fitted.residual.shape[1])
        change = torch.stack(
            [left_out_diagonal(self.nodes.resolvents, ratios[:, :, c], self.place) for c in columns], dim=1
        )
        if self.shift is not None:
            change = change + self.fitted.gram @ self.shift
        return self.fitted.by_example(change)

    def group_dual(self, group: Tensor) -> Float64[Tensor, "rows c"]:
        return self.with_shift(self.nodes.group(self.fitted.rows.of_examples(group))[self.place])

    def relabel_duals(self, examples: Tensor, by: Tensor) -> Float64[Tensor, "e rows c"]:
        spectrum, rows = self.fitted.spectrum, self.fitted.rows.of_examples(examples)
        scaled = self.filter(spectrum.values)[:, None] * spectrum.vectors[rows].T
        columns = spectrum.vectors @ scaled  # (rows, e·b)
        return columns_times_rows(columns, self.fitted.by_row(by), self.fitted.outputs_per_example)

    def reweight_duals(self, examples: Tensor, weight: float) -> Float64[Tensor, "e rows c"]:
        ratios = reweighted_ratios(self.nodes.resolvents, weight)
        return self._edited_duals(ratios, self.fitted.rows.of_examples(examples))

    def add_duals(
        self, to_train: Tensor, to_itself: Tensor, targets: Tensor, start: Tensor
    ) -> tuple[Float64[Tensor, "a rows c"], Float64[Tensor, "arows c"]]:
        residual = self.fitted.by_row(targets - start)
        coordinates, new = added_coordinates(self.nodes.resolvents, to_train, to_itself, residual, self.place)
        change = torch.einsum("nr,rak->ank", self.fitted.spectrum.vectors, coordinates)
        return self.with_shift(change), new


def singles_at_time_work(m: int, n: int, k: int, blocks: int) -> WorkCount:
    """Return the work of `FiniteTime.singles` for all queries, in so many blocks, examples and outputs."""
    return k * (blocks * coefficients_work(n) + product(m, n, n))


def coordinates_bytes(n: int) -> int:
    """Return the bytes of the coordinates of a block of examples, and of what they are made from."""
    return 4 * 8 * n * min(n, COLUMNS)

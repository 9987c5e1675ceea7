"""What changes at a finite training time? The resolvents of `solvers.resolvent`, summed.

All times of a window share nodes and everything that is heavy about them; an instant then costs one
product of (queries × modes) by (modes × examples) for each output.
"""

from functools import cached_property
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.base import Features, Instant, combined
from leftout.dynamics.fitted import Fitted
from leftout.solvers.resolvent import (
    Resolvents,
    added_coordinates,
    edited_coordinates,
    group_left_out_coordinates,
    left_out_diagonal,
    left_out_ratios,
    reweighted_ratios,
)


class Window:
    """Resolvents at the nodes that several times share, and what is derived from them once."""

    def __init__(self, found: Resolvents) -> None:
        self.found = found
        self._groups: dict[tuple[int, ...], Tensor] = {}

    @cached_property
    def ratios(self) -> Tensor:
        return left_out_ratios(self.found)

    def group(self, rows: Tensor) -> Float64[Tensor, "t r c"]:
        """Return Vᵀ (dual without these rows − dual) at all times; the last group is kept."""
        key = tuple(rows.tolist())
        if key not in self._groups:
            self._groups = {key: group_left_out_coordinates(self.found, rows)}
        return self._groups[key]


@final
class Training(Instant):
    """A finite time above 0."""

    def __init__(self, fitted: Fitted, time: float, window: Window, position: int, *, total: float) -> None:
        self.fitted = fitted
        self.time = time
        self.total = total
        self.window = window
        self.position = position

    def singles(self, features: Features, columns: slice, output: int) -> Float64[Tensor, "m e"]:
        column = output if self.fitted.outputs_per_example == 1 else 0
        inside = self._inside(self.window.ratios, self.fitted.kernel_rows(columns), column)
        change = features.of(output, features.spectral) @ inside  # (m, r)(r, e)
        if self.shift is not None:
            change += (features.of(output, features.cross) @ self.shift[:, column])[:, None]
        return change

    def _inside(self, ratios: Tensor, rows: slice | Tensor, column: int) -> Float64[Tensor, "r e"]:
        """Return Vᵀ (dual of edited data − dual) in one column, for the examples of these rows."""
        return edited_coordinates(self.window.found, ratios[:, :, column], self.position, rows)

    def _edited(self, ratios: Tensor, rows: slice | Tensor) -> Float64[Tensor, "e rows c"]:
        """Return how the dual changes, for the examples of these rows."""
        columns = range(self.fitted.residual.shape[1])
        inside = torch.stack([self._inside(ratios, rows, c) for c in columns], dim=2)
        return self.with_shift(torch.einsum("nr,rec->enc", self.fitted.spectrum.vectors, inside))

    def left_out(self, columns: slice) -> Float64[Tensor, "rows e c"]:
        return self._edited(self.window.ratios, self.fitted.kernel_rows(columns)).transpose(0, 1)

    def diagonal(self) -> Float64[Tensor, "n k"]:
        columns = range(self.fitted.residual.shape[1])
        change = torch.stack(
            [
                left_out_diagonal(self.window.found, self.window.ratios[:, :, c], self.position)
                for c in columns
            ],
            dim=1,
        )
        if self.shift is not None:
            change = change + self.fitted.gram @ self.shift
        return self.fitted.by_example(change)

    def without(self, group: Tensor) -> Float64[Tensor, "rows c"]:
        inside = self.window.group(self.fitted.kernel_rows(group))[self.position]  # (r, c)
        return self.with_shift(self.fitted.spectrum.vectors @ inside)

    def relabelled(self, examples: Tensor, by: Tensor) -> Float64[Tensor, "e rows c"]:
        spectrum, rows = self.fitted.spectrum, self.fitted.kernel_rows(examples)
        learned = self.fitted.rule.filter(self.time, self.total)(spectrum.values)
        columns = spectrum.vectors @ (learned[:, None] * spectrum.vectors[rows].T)  # (rows, e·b)
        return combined(columns, self.fitted.by_row(by), self.fitted.outputs_per_example)

    def reweighted(self, examples: Tensor, weight: float) -> Float64[Tensor, "e rows c"]:
        ratios = reweighted_ratios(self.window.found, weight)
        return self._edited(ratios, self.fitted.kernel_rows(examples))

    def added(
        self, to_train: Tensor, to_itself: Tensor, residual: Tensor
    ) -> tuple[Float64[Tensor, "a rows c"], Float64[Tensor, "arows c"]]:
        inside, own = added_coordinates(self.window.found, to_train, to_itself, residual, self.position)
        return self.with_shift(torch.einsum("nr,rak->ank", self.fitted.spectrum.vectors, inside)), own

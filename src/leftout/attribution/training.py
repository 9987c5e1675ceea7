"""What changes at a finite training time? The resolvents of `solvers.resolvent`, summed.

All times of a window share nodes and everything that is heavy about them; an instant then costs one
product of (queries × modes) by (modes × examples) for each output.
"""

from functools import cached_property
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.instant import Features, Instant
from leftout.dynamics.fitted import Fitted
from leftout.solvers.resolvent import (
    Resolvents,
    added_coordinates,
    coefficients,
    group_left_out_coordinates,
    left_out_coordinates,
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

    def group(self, rows: Tensor) -> Float64[Tensor, "t r k"]:
        """Return Vᵀ (dual without the group − dual) at all times; the last group is kept."""
        key = tuple(rows.tolist())
        if key not in self._groups:
            self._groups = {key: group_left_out_coordinates(self.found, rows)}
        return self._groups[key]


@final
class Training(Instant):
    """A finite time above 0."""

    def __init__(
        self, fitted: Fitted, time: float, window: Window, position: int, *, total: float
    ) -> None:
        self.fitted = fitted
        self.time = time
        self.total = total
        self.window = window
        self.position = position

    def dual(self) -> Float64[Tensor, "n k"]:
        return self.fitted.dual(self.time, total=self.total)

    def as_fitted(self) -> Float64[Tensor, "n k"]:
        return self._as_fitted

    @cached_property
    def _as_fitted(self) -> Float64[Tensor, "n k"]:
        return self.fitted.dual(self.time)

    def singles(self, features: Features, columns: slice, output: int) -> Float64[Tensor, "m b"]:
        inside = left_out_coordinates(
            self.window.found, self.window.ratios[:, :, output], self.position, columns
        )
        change = features.spectral @ inside  # (m, r)(r, b)
        if self.shift is not None:
            change += (features.cross @ self.shift[:, output])[:, None]
        return change

    def diagonal(self) -> Float64[Tensor, "n k"]:
        outputs = range(self.fitted.residual.shape[1])
        change = torch.stack(
            [
                left_out_diagonal(self.window.found, self.window.ratios[:, :, c], self.position)
                for c in outputs
            ],
            dim=1,
        )
        return change if self.shift is None else change + self.fitted.gram @ self.shift

    def without(self, rows: Tensor) -> Float64[Tensor, "n k"]:
        inside = self.window.group(rows)[self.position]  # (r, k)
        return self.shifted(self.fitted.spectrum.vectors @ inside)

    def relabelled(self, rows: Tensor, by: Tensor) -> Float64[Tensor, "b n k"]:
        spectrum = self.fitted.spectrum
        learned = self.fitted.rule.filter(self.time, self.total)(spectrum.values)
        column = spectrum.vectors @ (learned[:, None] * spectrum.vectors[rows].T)  # (n, b)
        return column.T[:, :, None] * by[:, None, :]

    def reweighted(self, rows: Tensor, weight: float) -> Float64[Tensor, "b n k"]:
        found = self.window.found
        weights = torch.full((len(self.fitted),), weight, dtype=torch.float64, device=rows.device)
        ratios = reweighted_ratios(found, weights)[:, rows]  # (q, b, k)
        changes = []
        for output in range(ratios.shape[2]):
            inside = coefficients(found, ratios[:, :, output], self.position)
            changes.append(-(found.spectrum.vectors @ (inside * found.spectrum.vectors[rows].T)).T)
        return self.shifted(torch.stack(changes, dim=-1))

    def added(
        self, to_train: Tensor, to_itself: Tensor, residual: Tensor
    ) -> tuple[Float64[Tensor, "a n k"], Float64[Tensor, "a k"]]:
        inside, own = added_coordinates(
            self.window.found, to_train, to_itself, residual, self.position
        )
        return self.shifted(torch.einsum("nr,rak->ank", self.fitted.spectrum.vectors, inside)), own

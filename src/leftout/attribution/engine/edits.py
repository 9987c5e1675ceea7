"""What groups that go, and labels that change, do to the queries: edits of the dual, or refits.

A kernel that does not depend on labels stays as it is: an edit changes the dual by Δ, and f by K(x, X) Δ
(`DualEdits`). One that is fitted to labels is fitted again for every edit (`RefitEdits`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.attribution.engine.base import EditEngine
from leftout.attribution.engine.edit_engines import edit_engines
from leftout.attribution.engine.group_removal import groups_duals
from leftout.attribution.engine.labelled_result import Of
from leftout.attribution.engine.query_blocks import query_blocks
from leftout.attribution.engine.refit import RefitModel, refit
from leftout.core.blocks import blocks
from leftout.core.progress import with_progress
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted


class Edits(ABC):
    """Edits of the data of a model, each alone, and their effects: edited minus as it is, (t, m, e, …)."""

    def __init__(self, fitted: Fitted, times: Sequence[float]) -> None:
        self.fitted = fitted
        self.times = times

    @abstractmethod
    def without_groups(
        self, query: Examples, groups: Sequence[Int64[Tensor, " _"]], of: Of
    ) -> Float64[Tensor, "t m g ..."]:
        """Return the effect of removing each group of training examples, together."""

    @abstractmethod
    def with_targets(
        self, query: Examples, rows: Int64[Tensor, " e"], targets: Float64[Tensor, "e k"], of: Of
    ) -> Float64[Tensor, "t m e ..."]:
        """Return the effect of giving each training example another target."""


@final
class DualEdits(Edits):
    """Edits that leave the kernel as it is."""

    def without_groups(
        self, query: Examples, groups: Sequence[Int64[Tensor, " _"]], of: Of
    ) -> Float64[Tensor, "t m g ..."]:
        # As many groups at a time as leave room for their duals, (t, n, k) each.
        size = 8 * len(self.times) * self.fitted.targets.numel()
        effects = []
        ready: dict[int, list[EditEngine]] = {}
        for together in blocks(len(groups), max(1, self.fitted.memory // (6 * size))):
            duals = groups_duals(self.fitted, self.times, groups[together], ready)
            effects.append(dual_effects(self.fitted, query, duals, self.times, of))
        return torch.cat(effects, dim=2)

    def with_targets(
        self, query: Examples, rows: Int64[Tensor, " e"], targets: Float64[Tensor, "e k"], of: Of
    ) -> Float64[Tensor, "t m e ..."]:
        by = targets - self.fitted.targets[rows]
        engines = edit_engines(self.fitted, self.times, total=len(self.fitted))
        duals = torch.stack([engine.relabel_duals(rows, by) for engine in engines])
        return dual_effects(self.fitted, query, duals, self.times, of)


@final
class RefitEdits(Edits):
    """Edits for each of which the kernel is fitted to the labels again."""

    def without_groups(
        self, query: Examples, groups: Sequence[Int64[Tensor, " _"]], of: Of
    ) -> Float64[Tensor, "t m g ..."]:
        refits = []
        for group in groups:
            keep = torch.ones(len(self.fitted), dtype=torch.bool, device="cpu")
            keep[group.cpu()] = False
            refits.append(partial(refit, self.fitted, self.times, keep.nonzero().flatten()))
        return self._effects(query, refits, of)

    def with_targets(
        self, query: Examples, rows: Int64[Tensor, " e"], targets: Float64[Tensor, "e k"], of: Of
    ) -> Float64[Tensor, "t m e ..."]:
        train, everyone = self.fitted.train, torch.arange(len(self.fitted), device="cpu")
        refits = []
        for row, target in zip(rows.tolist(), targets, strict=True):
            labels = None if train.labels is None else train.labels.clone()
            if labels is not None:
                labels[row] = train.encoding.decode(target[None].cpu())[0]
            others = train.targets.to(self.fitted.device).clone()
            others[row] = target
            refits.append(partial(refit, self.fitted, self.times, everyone, labels=labels, targets=others))
        return self._effects(query, refits, of)

    def _effects(
        self, query: Examples, refits: Sequence[Callable[[], RefitModel]], of: Of
    ) -> Float64[Tensor, "t m e ..."]:
        """Return the effect of each refit.

        Cost:
            a refit is made again for each block of queries that the memory holds.
        """
        as_fitted = torch.stack([self.fitted.dual(time) for time in self.times])  # (t, n, c)
        effects = []
        for block in query_blocks(self.fitted, query):
            before = torch.stack(
                [block.initial + self.fitted.learned(block.cross, dual) for dual in as_fitted]
            )
            after = [
                refit_one().predictions(block) for refit_one in with_progress(refits, what="fitting again")
            ]
            change = torch.stack(after, dim=2) - before[:, :, None]
            effects.append(of_change(self.fitted, change, before, block.targets, of))
        return torch.cat(effects, dim=1)


def dual_effects(
    fitted: Fitted,
    query: Examples,
    duals: Float64[Tensor, "t e rows c"],
    times: Sequence[float],
    of: Of,
    *,
    new: tuple[Tensor, Float64[Tensor, "t erows c"]] | None = None,
) -> Float64[Tensor, "t m e ..."]:
    """Return what each of `e` changes of the dual does: edited minus as it is.

    Args:
        duals: changes of the dual, at each time and for each edit.
        new: inputs (e, …) of examples that the edits add, and their dual entries.

    Cost:
        2mnk flops an edit and time; k times that where the kernel has k outputs.
    """
    as_fitted = torch.stack([fitted.dual(time) for time in times])  # (t, rows, c)
    outputs = fitted.outputs_per_example
    effects = []
    for block in query_blocks(fitted, query):
        t, e, _, c = duals.shape
        change = block.cross @ duals.permute(2, 0, 1, 3).reshape(-1, t * e * c)  # (m·b, t·e·c)
        change = change.reshape(-1, outputs, t, e, c).permute(2, 0, 3, 1, 4)  # (t, m, e, b, c)
        if new is not None:
            inputs, new_duals = new
            beside = fitted.rows.between(block.inputs, inputs)  # (m·b, e·b)
            beside = torch.unflatten(torch.unflatten(beside, 1, (-1, outputs)), 0, (-1, outputs))
            new_duals = torch.unflatten(new_duals, 1, (-1, outputs))
            change = change + torch.einsum("mbea,teac->tmebc", beside, new_duals)
        change = change.flatten(3)  # (t, m, e, k)
        before = torch.stack([block.initial + fitted.learned(block.cross, dual) for dual in as_fitted])
        effects.append(of_change(fitted, change, before, block.targets, of))  # before: (t, m, k)
    return torch.cat(effects, dim=1)


def of_change(
    fitted: Fitted,
    change: Float64[Tensor, "t m e k"],
    predictions: Float64[Tensor, "t m k"],
    targets: Float64[Tensor, "m k"],
    of: Of,
) -> Float64[Tensor, "t m e ..."]:
    """Return a change of predictions, or what it does to the loss."""
    if of == "prediction":
        return change
    return fitted.rule.example_loss.change(predictions[:, :, None], change, targets[:, None])

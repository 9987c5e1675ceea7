"""What changes without each example, where the kernel saw its label? One model afresh for each."""

from functools import cached_property
from typing import NoReturn, final
from weakref import WeakKeyDictionary, proxy, ref

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.base import Features, Instant
from leftout.attribution.engine.refit_kernel import Relearned, relearned_without, taught_kernel
from leftout.core.blocks import check_fits
from leftout.core.progress import with_progress
from leftout.dynamics.fitted import Fitted


class WithoutEach:
    """The models without each example, at one time; made when first asked for, and kept."""

    def __init__(self, fitted: Fitted, time: float) -> None:
        self.fitted: Fitted = proxy(fitted)  # which keeps this, and is not to be kept by it
        self.time = time
        # Features know their model: whoever keeps them keeps that too.
        self._last: tuple[tuple[ref[Features], int, int], Tensor] | None = None
        check_fits(
            f"A model without each of {len(fitted)} examples",
            8 * len(fitted) * fitted.residual.numel(),
            fitted.memory,
            advice="Take fewer examples, or freeze the labels: fitted.freeze_labels().",
        )

    @property
    def made(self) -> bool:
        """Return whether the models are there already."""
        return "models" in self.__dict__

    @cached_property
    def models(self) -> list[Relearned]:
        """Return the model without each example."""
        everyone = torch.arange(len(self.fitted), device=self.fitted.device)[:, None]
        going = with_progress(list(everyone), what="teaching again")
        return [relearned_without(self.fitted, [self.time], one) for one in going]

    def predictions(self, features: Features, columns: slice) -> Float64[Tensor, "m e c"]:
        """Return what is predicted at the queries without each of some; the last are kept."""
        asked = (ref(features), columns.start, columns.stop)
        if self._last is None or self._last[0] != asked:
            self._last = None
            found = [model.predictions(features)[0] for model in self.models[columns]]
            self._last = (asked, torch.stack(found, dim=1))
        return self._last[1]

    @cached_property
    def own(self) -> Float64[Tensor, "n c"]:
        """Return what is predicted at each example without itself."""
        start = self.fitted.initial(self.fitted.train.inputs)
        terms = [self.terms(row).sum(0) for row in range(len(self.fitted))]
        return start + torch.stack(terms)

    def terms(self, row: int) -> Float64[Tensor, "n c"]:
        """Return what each example adds to the prediction at one of them, by the model without it."""
        model = self.models[row]
        found = torch.zeros_like(self.fitted.residual)
        if model.kernel is not None:
            seen = taught_kernel(self.fitted).pairs.of(slice(row, row + 1), slice(None))
            others = torch.arange(len(found), device=found.device) != row
            found[others] = model.kernel.cross(seen).T * model.duals[0]
        return found


def without_each(fitted: Fitted, time: float) -> WithoutEach:
    """Return the models without each example: n fits serve scores, doubted labels and rare examples."""
    known = KEPT.setdefault(fitted, {})
    if time not in known:
        known[time] = WithoutEach(fitted, time)
    return known[time]


KEPT: WeakKeyDictionary[Fitted, dict[float, WithoutEach]] = WeakKeyDictionary()
"""As long as the model lives."""


@final
class Relearning(Instant):
    """A training time of a model whose kernel sees labels; only leaving single examples out is known."""

    def __init__(self, fitted: Fitted, time: float, *, total: float) -> None:
        self.fitted = fitted
        self.time = time
        self.total = total
        self.each = without_each(fitted, time)

    def singles(self, features: Features, columns: slice, output: int) -> Float64[Tensor, "m e"]:
        without = self.each.predictions(features, columns)[:, :, output]
        return without - self.predictions(features)[:, output, None]

    def diagonal(self) -> Float64[Tensor, "n k"]:
        start = self.fitted.initial(self.fitted.train.inputs)
        return self.each.own - start - self.fitted.gram @ self.as_fitted()

    def pulls(self, row: int, direction: Float64[Tensor, " k"]) -> Float64[Tensor, " n"]:
        return self.each.terms(row) @ direction

    def left_out(self, columns: slice) -> Float64[Tensor, "rows e c"]:
        self._refuse()

    def without(self, group: Tensor) -> Float64[Tensor, "rows c"]:
        self._refuse()

    def relabelled(self, examples: Tensor, by: Tensor) -> Float64[Tensor, "e rows c"]:
        self._refuse()

    def reweighted(self, examples: Tensor, weight: float) -> Float64[Tensor, "e rows c"]:
        self._refuse()

    def added(self, to_train: Tensor, to_itself: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        self._refuse()

    def _refuse(self) -> NoReturn:
        """Raise: no change of the dual says what changes, as the kernel does too."""
        self.fitted.check_kernel_fixed()
        raise AssertionError("the kernel stays")

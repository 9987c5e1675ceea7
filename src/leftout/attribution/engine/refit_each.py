"""The engine of a kernel that is fitted to labels: a model is fitted without each example.

The kernel is another one without i, in all its entries, and no edit of one row undoes that. What was
compared once is kept: fitting the kernel again costs some n² numbers an example, the model n³/3.
"""

import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import final
from weakref import proxy, ref

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.base import EngineAtTime
from leftout.attribution.engine.query_blocks import QueryBlock
from leftout.attribution.engine.refit import RefitModel, label_refit_duals_work, refit
from leftout.core.blocks import check_fits
from leftout.core.errors import ExpansionWarning
from leftout.core.progress import with_progress
from leftout.core.work import Operation, WorkCount, operations, total_work
from leftout.dynamics.fit import fit
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import Rule
from leftout.kernels.assemble import gram_work
from leftout.kernels.label_dependent import (
    FittedLabelKernel,
    label_cross_work,
    label_fit_work,
    label_input_work,
    label_refit_work,
)


@final
class ModelsWithoutEach:
    """The models without each example, at one time; each is made when first asked for, and kept."""

    def __init__(self, fitted: Fitted, time: float) -> None:
        self.fitted: Fitted = proxy(fitted)  # which keeps this, and is not to be kept by it
        self.time = time
        self._models: dict[int, RefitModel] = {}
        # Query blocks know their model: whoever keeps them keeps that too.
        self._last: tuple[tuple[ref[QueryBlock], int, int], Tensor] | None = None
        check_fits(
            f"A model without each of {len(fitted)} examples",
            models_bytes(len(fitted), fitted.outputs),
            fitted.memory,
            advice="Take fewer examples, or freeze the labels: fitted.freeze_labels().",
        )

    def without(self, rows: slice) -> list[RefitModel]:
        """Return the model without each of some examples."""
        missing = [row for row in range(rows.start, rows.stop) if row not in self._models]
        everyone = torch.arange(len(self.fitted), device=self.fitted.device)
        for row in with_progress(missing, what="fitting again without each"):
            self._models[row] = refit(self.fitted, [self.time], everyone[everyone != row]).without_gram()
        return [self._models[row] for row in range(rows.start, rows.stop)]

    def predictions(self, queries: QueryBlock, columns: slice) -> Float64[Tensor, "m e c"]:
        """Return what is predicted at the queries without each of some examples; the last are kept."""
        key = (ref(queries), columns.start, columns.stop)
        if self._last is None or self._last[0] != key:
            self._last = None
            models = self.without(columns)
            self._last = (key, torch.stack([model.predictions(queries)[0] for model in models], dim=1))
        return self._last[1]

    @cached_property
    def at_training_examples(self) -> Float64[Tensor, "n c"]:
        """Return what is predicted at each training example without itself."""
        everyone = slice(0, len(self.fitted))
        self.without(everyone)
        initial = self.fitted.initial(self.fitted.train.inputs)
        return initial + torch.stack([self.terms(row).sum(0) for row in range(everyone.stop)])

    def terms(self, row: int) -> Float64[Tensor, "n c"]:
        """Return what each example adds to the prediction at one of them, by the model without it."""
        (model,) = self.without(slice(row, row + 1))
        terms = torch.zeros_like(self.fitted.targets)
        if model.kernel is not None:
            comparison = self.fitted.rows.compare_training(slice(row, row + 1))
            terms[model.keep] = model.kernel.cross(comparison).T * model.duals[0]
        return terms


@final
class RefitEach(EngineAtTime):
    """A training time of a model whose kernel is fitted to labels; it leaves single examples out."""

    def __init__(self, fitted: Fitted, time: float, *, total: float) -> None:
        self.fitted = fitted
        self.time = time
        self.total = total
        self.models: ModelsWithoutEach = fitted.memo(self.key, lambda: ModelsWithoutEach(fitted, time))

    @property
    def key(self) -> tuple[Hashable, ...]:
        return "fitted without each", self.time

    def singles(self, queries: QueryBlock, columns: slice, output: int) -> Float64[Tensor, "m e"]:
        without = self.models.predictions(queries, columns)[:, :, output]
        return without - self.predictions(queries)[:, output, None]

    def diagonal(self) -> Float64[Tensor, "n k"]:
        initial = self.fitted.initial(self.fitted.train.inputs)
        return self.models.at_training_examples - initial - self.fitted.gram @ self.dual_as_fitted

    def contributions(self, row: int, direction: Float64[Tensor, " k"]) -> Float64[Tensor, " n"]:
        return self.models.terms(row) @ direction

    def refit(self, row: int, output: int) -> Callable[[QueryBlock], Float64[Tensor, " m"]]:
        """Fit kernel and model to the other examples, with no matrix that is known already."""
        fitted = self.fitted
        at = None if self.time == math.inf else self.time
        others = fitted.train.select([i for i in range(len(fitted)) if i != row])
        assert isinstance(fitted.kernel, FittedLabelKernel)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExpansionWarning)  # it was said of the model itself
            model = fit(
                fitted.kernel.options,
                others,
                rule=fitted.rule,
                dtype=fitted.kernel_dtype,
                device=fitted.device,
                memory=fitted.memory,
            )
        return lambda queries: (self.predictions(queries) - model.predict(queries.inputs, at))[:, output]


def models_bytes(n: int, k: int) -> int:
    """Return the bytes of the models without each example, at one time."""
    return 8 * n * n * k


def models_work(m: int, n: int, rule: Rule, times: Sequence[float], *, size: int) -> WorkCount:
    """Return the work of the models without each example, and of their predictions at each time.

    Args:
        size: queries in a block.
    """
    of_each = label_refit_work(n) + label_cross_work(m, n, size=size) + label_input_work(n)
    return n * total_work(of_each + label_refit_duals_work(n, time, rule) for time in times)


def refit_from_scratch_work(m: int, n: int, rule: Rule, time: float, *, size: int) -> WorkCount:
    """Return the work of `RefitEach.refit` of one example, and of what the engine says of it."""
    kernel = gram_work(n) + label_fit_work(n) + operations(Operation.CROSS_PAIR, m * n)
    fits = label_refit_duals_work(n, time, rule) + label_cross_work(m, n, size=size)
    return kernel + label_refit_work(n) + 2 * fits

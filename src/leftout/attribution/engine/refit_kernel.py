"""What would be said if the kernel had not seen an example's label either? It is taught again, and fitted.

    f_without_i(x) = K_i(x, X_i) g(K_i) Y_i,        K_i: the kernel taught by all examples but i

A kernel that sees labels is another one without i, in all its entries, and no edit of one row undoes that.
What was compared once is kept: teaching again costs some n² numbers an example, fitting again n³/3.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.attribution.engine.base import Features
from leftout.attribution.engine.labelled_result import Of
from leftout.attribution.engine.query_blocks import query_blocks
from leftout.attribution.engine.refit import duals_afresh
from leftout.core.errors import DataError
from leftout.core.progress import with_progress
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted
from leftout.kernels.label_dependent import FittedLabelKernel, RefitLabelKernel


@dataclass(frozen=True, eq=False)
class Relearned:
    """A kernel taught by other examples or labels, and the models that it makes at some times.

    Attributes:
        kernel: None where nobody is left to teach it; networks then stay at f_0.
    """

    kernel: RefitLabelKernel | None
    duals: Float64[Tensor, "t k c"]

    def predictions(self, features: Features) -> Float64[Tensor, "t m c"]:
        """Return what is predicted at the queries, at each time."""
        if self.kernel is None:
            return features.initial.expand(len(self.duals), -1, -1)
        return features.initial + self.kernel.cross(features.pairs) @ self.duals


def taught_kernel(fitted: Fitted) -> FittedLabelKernel:
    """Return the kernel, which saw labels."""
    assert isinstance(fitted.kernel, FittedLabelKernel)
    return fitted.kernel


def relearned_without(fitted: Fitted, times: Sequence[float], gone: Int64[Tensor, " g"]) -> Relearned:
    """Return the model that never saw some of the examples.

    Cost:
        teaching by the others, and n³/3 (9n³ at finite times).
    """
    keep = torch.ones(len(fitted), dtype=torch.bool, device=fitted.device)
    keep[gone] = False
    rows = keep.nonzero().flatten()
    if not len(rows):
        return Relearned(None, fitted.residual.new_zeros(len(times), 0, fitted.outputs))
    try:
        kernel = taught_kernel(fitted).without(rows)
    except DataError as error:
        ids = [fitted.train.ids[row] for row in gone.tolist()]
        who = repr(ids[0]) if len(ids) == 1 else f"{len(ids)} examples from {ids[0]!r}"
        raise DataError(f"Without {who} the kernel cannot be taught: {error}") from error
    total = len(fitted) - len(gone)
    duals = duals_afresh(
        fitted, kernel.gram, fitted.residual[rows], times, total=total, definite=kernel.definite
    )
    return Relearned(kernel.lean(), duals)


def relearned_as(
    fitted: Fitted, times: Sequence[float], labels: Int64[Tensor, " n"], targets: Float64[Tensor, "n c"]
) -> Relearned:
    """Return the model that other labels and targets of the inputs make; cost as without some."""
    kernel = taught_kernel(fitted).relabelled(labels, targets)
    residual = targets - fitted.initial(fitted.train.inputs)
    duals = duals_afresh(fitted, kernel.gram, residual, times, total=len(fitted), definite=kernel.definite)
    return Relearned(kernel, duals)


def relearned_effects(
    fitted: Fitted,
    query: Examples,
    edits: Sequence[Callable[[], Relearned]],
    *,
    times: Sequence[float],
    of: Of,
) -> Float64[Tensor, "t m e ..."]:
    """Return what each edit changes: edited minus as it is; of the loss, or of each output.

    Cost:
        an edit is made again for each block of queries that the memory holds.
    """
    as_fitted = torch.stack([fitted.dual(time) for time in times])  # (t, n, c)
    parts = []
    for block in query_blocks(fitted, query):
        before = block.features.initial + block.features.cross @ as_fitted  # (t, m, c)
        after = [edit().predictions(block.features) for edit in with_progress(edits, what="teaching again")]
        change = torch.stack(after, dim=2) - before[:, :, None]
        if of == "loss":
            error = (before - block.targets)[:, :, None]
            change = (change * (error + change / 2)).sum(-1)
        parts.append(change)
    return torch.cat(parts, dim=1)

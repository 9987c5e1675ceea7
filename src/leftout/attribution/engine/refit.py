"""Fit the model again to some of the examples, or to other labels of them: dual coefficients and predictions.

    f_refit(x) = f_0(x) + K'(x, X') g(K') (Y' − f_0(X')),        K' = kernel.refit(keep, labels)

K' is a sub-matrix of K where the kernel does not depend on labels, and is fitted to the labels again where it
does. Every "what if it were fitted without …" that is no edit of the factorisations goes through here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.attribution.engine.query_blocks import QueryBlock
from leftout.core.errors import DataError
from leftout.core.work import NO_WORK, WorkCount, allocation, thin_product
from leftout.dynamics.factorisations import largest_of
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import Logistic, Rule
from leftout.kernels.base import RefitKernel
from leftout.solvers.cholesky import cholesky_work
from leftout.solvers.indefinite import factor_indefinite, indefinite_work
from leftout.solvers.kept_matrix import factor_kept, spectrum_kept
from leftout.solvers.krylov import largest_eigenvalue_work
from leftout.solvers.logistic import fit_logistic
from leftout.solvers.newton_equation import LogisticProblem
from leftout.solvers.resolvent import apply_filter
from leftout.solvers.spectrum import spectrum_work


@dataclass(frozen=True, eq=False)
class RefitModel:
    """A kernel fitted to other examples or labels, and the models that it makes at some times.

    Attributes:
        keep: rows of the examples that it is fitted to.
        kernel: None where no example is left; the prediction is then f_0.
        duals: at each time, by rows of `kernel`.
    """

    keep: Int64[Tensor, " k"]
    kernel: RefitKernel | None
    duals: Float64[Tensor, "t rows c"]

    def predictions(self, queries: QueryBlock) -> Float64[Tensor, "t m c"]:
        """Return what is predicted at the queries, at each time."""
        initial = queries.initial
        if queries.fitted.tilt is not None:
            initial = initial + queries.fitted.by_example(queries.cross @ queries.fitted.tilt)
        initial = initial.expand(len(self.duals), -1, -1)
        if self.kernel is None:
            return initial
        learned = self.kernel.cross(queries.comparison) @ self.duals
        return initial + learned.reshape(initial.shape)

    def without_gram(self) -> "RefitModel":
        """Return the same without its matrices, to be kept for every example."""
        return self if self.kernel is None else replace(self, kernel=self.kernel.without_gram())


def refit(
    fitted: Fitted,
    times: Sequence[float],
    keep: Int64[Tensor, " k"],
    *,
    labels: Int64[Tensor, " k"] | None = None,
    targets: Float64[Tensor, "k c"] | None = None,
) -> RefitModel:
    """Return the model of some of the examples, at each time.

    Args:
        keep: rows of the examples.
        labels, targets: of these, in their order; those of the training examples if None.

    Raises:
        DataError: the kernel cannot be fitted to these labels.
        DivergenceError, NotPositiveError: where training would not converge or be resolved.

    Cost:
        fitting the kernel to the labels, if it depends on them, then k³/3 at the end of training, 9k³ for
        finite times.
    """
    keep, train = keep.to(fitted.device), fitted.train
    if not len(keep):
        return RefitModel(
            keep, None, fitted.targets.new_zeros(len(times), 0, fitted.by_row(fitted.targets).shape[1])
        )
    here = keep.cpu()
    if labels is None and train.labels is not None:
        labels = train.labels[here]
    targets = fitted.targets[keep] if targets is None else targets
    try:
        kernel = fitted.rows.refit(keep, labels, targets)
    except DataError as error:
        if len(keep) == len(fitted):
            raise
        gone = sorted({*range(len(fitted))} - {*here.tolist()})
        first = repr(train.ids[gone[0]])
        who = first if len(gone) == 1 else f"{len(gone)} examples from {first}"
        raise DataError(f"Without {who} the kernel cannot be fitted to labels: {error}") from error
    near = None
    if isinstance(fitted.rule, Logistic) and not fitted.depends_on_labels:
        near = fitted.logistic.dual[keep]
    duals = refit_duals(fitted, kernel, targets, fitted.start[keep], times, total=len(keep), near=near)
    return RefitModel(keep, kernel, duals)


def refit_duals(
    fitted: Fitted,
    kernel: RefitKernel,
    targets: Float64[Tensor, "e k"],
    start: Float64[Tensor, "e k"],
    times: Sequence[float],
    *,
    total: float,
    near: Float64[Tensor, "e k"] | None = None,
) -> Float64[Tensor, "t r c"]:
    """Return the duals at each time of the rule of `fitted` with another kernel.

    Args:
        targets, start: Y and f_0 of the examples there.
        total: the sum of their weights.
        near: a dual from which cross-entropy is minimised; 0 if None. The minimum does not depend on it.
    """
    gram = kernel.gram
    if isinstance(fitted.rule, Logistic):
        ridge = fitted.rule.effective_ridge(total)
        problem = LogisticProblem(gram, start, targets, ridge, fitted.outputs_per_example)
        dual = fitted.by_row(fit_logistic(problem, start=near).dual)
        return dual.expand(len(times), *dual.shape)
    residual = fitted.by_row(targets - start)
    finite = any(0 < time < math.inf for time in times)
    spectrum = spectrum_kept(gram, made_in=fitted.kernel_dtype) if finite else None
    largest = None
    if fitted.rule.can_diverge:
        largest = largest_of(gram) if spectrum is None else spectrum.largest
    smallest = None if spectrum is None else spectrum.smallest
    fitted.check_trainable(times, total=total, largest=largest, smallest=smallest)
    duals = []
    for time in times:
        if time == math.inf:
            factorise = factor_kept if kernel.definite else factor_indefinite
            duals.append(factorise(gram, ridge=fitted.rule.effective_ridge(total)).solve(residual))
        elif time > 0:
            assert spectrum is not None
            duals.append(apply_filter(spectrum, residual, fitted.spectral_rule.filter(time, total)))
        else:
            duals.append(torch.zeros_like(residual))
    return torch.stack(duals)


def refit_work(n: int, time: float) -> WorkCount:
    """Return the work of `refit` to n rows where the kernel does not depend on labels: it is copied."""
    return cholesky_work(n) if time == math.inf else spectrum_work(n) + allocation(2 * n * n)


def refit_bytes(n: int, time: float) -> int:
    """Return the bytes of the kernel matrix of n rows, copied, and of its factor or eigenvectors."""
    return 8 * n**2 * (3 if time == math.inf else 5)


def label_refit_duals_work(n: int, time: float, rule: Rule) -> WorkCount:
    """Return the work of `refit_duals` with a kernel that is fitted to labels."""
    if time == 0:
        return NO_WORK
    if time < math.inf:
        return spectrum_work(n) + 2 * thin_product(n)
    return indefinite_work(n) + (largest_eigenvalue_work(n) if rule.can_diverge else NO_WORK)

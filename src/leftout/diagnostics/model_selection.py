"""Choice of a kernel by its exact leave-one-out loss, without test data.

The loss of a candidate is ½ Σ (f_without_i(x_i) − y_i)², averaged over the training examples. Losses of two
candidates are of the same examples, so that the standard error of their difference is known
(`Selection.lead`): a lead below two standard errors decides little, and the best is chosen nevertheless.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.attribution.engine.refit import label_refit_duals_work, refit_duals
from leftout.attribution.leave_one_out import out_of_sample
from leftout.core.checks import check_at_least, check_kind
from leftout.core.errors import DataError, DivergenceError, LeftoutError, NotPositiveError, OptionError
from leftout.core.progress import with_progress
from leftout.core.work import Operation, WorkCount, operations, passes
from leftout.data.examples import Examples
from leftout.data.pairs import Data, examples_of
from leftout.dynamics.fit import fit
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import At, Rule
from leftout.dynamics.weights_check import check_unseen
from leftout.kernels.assemble import gram_work
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import (
    LabelDependentKernel,
    label_fit_work,
    label_input_work,
    label_refit_work,
)
from leftout.kernels.pairwise.label_aware import FittedLabelAware, LabelAware, RefitLabelAware

STRENGTHS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Strengths that are tried, in half decades: from a label-blind kernel to one dominated by labels."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A kernel that was tried.

    Attributes:
        name: its name.
        kernel: the kernel; of a label-aware one with its strength.
        losses: ½ Σ (f_without_i(x_i) − y_i)² of each training example; None where it was not tried.
        accuracy: share of training examples that are classified right by the model without them; None for
            regression.
        smallest: smallest eigenvalue of the kernel matrix of a label-aware kernel, which may be negative.
        condition: |s + ridge|_max / |s + ridge|_min over the eigenvalues s of the same matrix.
        skipped: why it has no losses; empty where it has.
    """

    name: str
    kernel: Kernel | LabelDependentKernel
    losses: Float64[Tensor, " n"] | None = None
    accuracy: float | None = None
    smallest: float | None = None
    condition: float | None = None
    skipped: str = ""

    @property
    def loss(self) -> float:
        """Return the mean leave-one-out loss; inf where it was not tried."""
        return math.inf if self.losses is None else float(self.losses.mean())


@dataclass(frozen=True, eq=False)
class Selection:
    """Candidates by leave-one-out loss, best first, the skipped ones last in the order given."""

    candidates: tuple[Candidate, ...]

    @property
    def record(self) -> list[dict[str, Any]]:
        """Return the candidates, JSON-like; the loss of a skipped one is None."""
        return [
            {
                "name": candidate.name,
                "loss": None if candidate.losses is None else candidate.loss,
                "accuracy": candidate.accuracy,
                "smallest": candidate.smallest,
                "condition": candidate.condition,
                "skipped": candidate.skipped,
            }
            for candidate in self.candidates
        ]

    @property
    def best(self) -> Candidate:
        """Return the candidate of least leave-one-out loss."""
        return self.candidates[0]

    @property
    def kernel(self) -> Kernel | LabelDependentKernel:
        """Return the kernel of the best candidate."""
        return self.best.kernel

    @property
    def with_losses(self) -> tuple[Candidate, ...]:
        """Return the candidates that have a loss, best first."""
        return tuple(candidate for candidate in self.candidates if candidate.losses is not None)

    def lead(self, candidate: Candidate) -> tuple[float, float]:
        """Return the loss of a candidate minus that of the best, and the standard error of the difference."""
        if self.best.losses is None or candidate.losses is None:
            raise OptionError(f"`candidate` must have losses; {candidate.name} has none: {candidate.skipped}")
        difference = candidate.losses - self.best.losses
        error = float(difference.std()) / math.sqrt(len(difference)) if len(difference) > 1 else math.nan
        return float(difference.mean()), error


def choose_kernel(
    kernels: Mapping[str, Kernel | LabelDependentKernel] | Iterable[Kernel | LabelDependentKernel],
    train: Data,
    *,
    rule: Rule | None = None,
    at: At = None,
    memory: int | float | str | None = None,
    device: torch.device | str | None = None,
) -> Selection:
    """Return kernels by exact leave-one-out loss on the training examples, best first.

    Args:
        kernels: candidates, with names if a mapping. A `LabelAware` whose strength is None first gets the
            best of `STRENGTHS`, by `choose_strength`.
        train: as for `fit`.
        rule: as for `fit`; the same for all.
        at: training time at which they are compared; None for the end.

    Raises:
        OptionError: no kernels, two of one name, or none that could be fitted; the reasons are in the
            message. A network at trained weights: left-out losses of weights that saw the example choose
            nothing.

    Cost:
        for each kernel its Gram matrix and `out_of_sample`; for a label-dependent one, n more fits.

    Example:
        >>> import leftout as lo
        >>> train, _ = lo.load("digits", n_train=40, n_query=10)
        >>> kernels = {"deep": lo.kernels.ReLU(1), "two-layer": lo.kernels.TwoLayerReLU()}
        >>> selection = lo.choose_kernel(kernels, train, rule=lo.Ridge(0.1))
        >>> [(candidate.name, round(candidate.loss, 3)) for candidate in selection.candidates]
        [('two-layer', 0.287), ('deep', 0.363)]
    """
    check_kind("kernels", kernels, Iterable, what="kernels in a list, or by name")
    named = kernels if isinstance(kernels, Mapping) else _by_name(list(kernels))
    examples = examples_of(train, name="train")
    tried = []
    for name, kernel in named.items():
        check_kind("kernels", kernel, (Kernel, LabelDependentKernel), what="kernels, such as kernels.ReLU(1)")
        check_unseen("kernels", kernel, "a choice by leave-one-out")
        tried.append(evaluate_kernel(name, kernel, examples, rule=rule, at=at, memory=memory, device=device))
    return sort_candidates(drop_duplicates(tried))


def drop_duplicates(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates; a label-aware one of strength 0 is skipped if its base kernel is among them."""
    blind = [base for base in candidates if base.smallest is None and base.losses is not None]
    distinct = []
    for candidate in candidates:
        aware = candidate.smallest is not None
        same = [base for base in blind if aware and _are_equal(candidate.kernel, base.kernel)]
        if same:
            reason = f"Labels do not help: strength 0 predicts best, and that is {same[0].name}."
            candidate = replace(candidate, losses=None, accuracy=None, skipped=reason)
        distinct.append(candidate)
    return distinct


def _are_equal(first: Kernel | LabelDependentKernel, second: Kernel | LabelDependentKernel) -> bool:
    """Return whether two kernels are known to be equal."""
    if first is second:
        return True
    try:
        return bool(first == second)
    except (RuntimeError, ValueError):  # of tensors in them, which do not say so
        return False


def _by_name(kernels: Sequence[Kernel | LabelDependentKernel]) -> dict[str, Kernel | LabelDependentKernel]:
    """Return kernels by their text form."""
    names = [repr(kernel) for kernel in kernels]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise OptionError(
            f"`kernels` must have names that tell them apart; {twice.count(twice[0])} are called {twice[0]}. "
            "Pass a mapping from name to kernel."
        )
    return dict(zip(names, kernels, strict=True))


def choose_strength(
    kernel: LabelAware,
    train: Data,
    *,
    rule: Rule | None = None,
    at: At = None,
    strengths: Iterable[float] = STRENGTHS,
    memory: int | float | str | None = None,
    device: torch.device | str | None = None,
) -> Selection:
    """Return strengths of a label-aware kernel by exact leave-one-out loss, best first.

    The kernel is fitted again without each example: if it held the label of i, its prediction of that label
    would be too good. A strength at which K + λ Z, or that without an example, is singular to half of the
    digits is skipped, with the reason in `skipped`.

    Args:
        kernel: its strength is ignored.
        strengths: candidates; 0 is the label-blind kernel.

    Raises:
        OptionError: no strengths, or none that could be fitted.

    Cost:
        the base kernel once; fitting the labels without each example once, and n³/3 for each of them and each
        strength; 4n³/3 for each strength for its eigenvalues.

    Example:
        >>> import leftout as lo
        >>> train, _ = lo.load("digits", n_train=20, n_query=10)
        >>> kernel = lo.kernels.LabelAware(lo.kernels.ReLU(1))
        >>> selection = lo.choose_strength(kernel, train, rule=lo.Ridge(0.1), strengths=(0.0, 0.1))
        >>> selection.best.name
        'strength 0.1'
    """
    check_kind("kernel", kernel, LabelAware, what="a LabelAware kernel")
    check_kind("strengths", strengths, Iterable, what="numbers, such as (0.0, 0.1)")
    tried = tuple(strengths)
    for strength in tried:
        check_at_least("strengths", strength, 0)
    examples = examples_of(train, name="train")
    kernel.check_has_classes(examples.labels)  # the message names the kernel of the caller
    label_aware = replace(kernel, strength=1.0, frozen=False)
    first = fit(label_aware, examples, rule=rule, memory=memory, device=device)
    time = first.rule.time(at)
    losses = _by_strength(first, time, tuple(float(strength) for strength in tried))
    return sort_candidates(
        [_strength_candidate(kernel, first, strength, predicted) for strength, predicted in losses.items()],
        name="strengths",
    )


def _strength_candidate(
    kernel: LabelAware, first: Fitted, strength: float, predicted: Float64[Tensor, "n k"] | str
) -> Candidate:
    """Return a candidate, with the ends of its spectrum."""
    assert isinstance(first.kernel, FittedLabelAware)
    values = torch.linalg.eigvalsh(first.kernel.at_strength(strength).gram)
    sizes = (values + first.rule.effective_ridge(len(first))).abs()
    tried = Candidate(
        f"strength {strength:g}",
        replace(kernel, strength=strength),
        smallest=float(values[0]),
        condition=float(sizes.max() / sizes.min()),
    )
    if isinstance(predicted, str):
        return replace(tried, skipped=predicted)
    right = first.train.accuracy(predicted)
    return replace(tried, losses=first.rule.example_loss.of(predicted, first.train.targets), accuracy=right)


def sort_candidates(candidates: Sequence[Candidate], *, name: str = "kernels") -> Selection:
    """Return the candidates by loss, best first; `name` is that of the argument in messages.

    Raises:
        OptionError: none has a loss.
    """
    if not any(candidate.losses is not None for candidate in candidates):
        raise OptionError(f"`{name}` must hold one that can be fitted; got {_why_none(candidates)}")
    return Selection(tuple(sorted(candidates, key=lambda candidate: candidate.loss)))


def _why_none(candidates: Sequence[Candidate]) -> str:
    """Return why there is no loss: each reason once, with the names of its candidates."""
    names: dict[str, list[str]] = {}
    for candidate in candidates:
        names.setdefault(candidate.skipped, []).append(candidate.name)
    return " ".join(f"{', '.join(called)}: {why}" for why, called in names.items()) or "none."


def evaluate_kernel(
    name: str,
    kernel: Kernel | LabelDependentKernel,
    examples: Examples,
    *,
    rule: Rule | None,
    at: At,
    memory: int | float | str | None,
    device: torch.device | str | None,
) -> Candidate:
    """Return a kernel with its losses, or the reason why it has none; arguments as for `choose_kernel`."""
    try:
        if isinstance(kernel, LabelAware) and kernel.strength is None:
            strengths = choose_strength(kernel, examples, rule=rule, at=at, memory=memory, device=device)
            return _at_its_best(name, kernel, strengths.best)
        fitted = fit(kernel, examples, rule=rule, memory=memory, device=device)
        predicted = out_of_sample(fitted, fitted.rule.time(at)).cpu()
    except LeftoutError as error:
        return Candidate(name, kernel, skipped=str(error))
    losses = fitted.rule.example_loss.of(predicted, fitted.train.targets)
    return Candidate(name, kernel, losses, examples.accuracy(predicted))


def _at_its_best(name: str, kernel: LabelAware, best: Candidate) -> Candidate:
    """Return a label-aware kernel at the chosen strength; its base kernel at strength 0."""
    assert isinstance(best.kernel, LabelAware)
    strength = best.kernel.strength
    chosen = best.kernel if strength else kernel.base
    return replace(best, name=f"{name}, strength {strength:g}", kernel=chosen)


def _by_strength(
    fitted: Fitted, time: float, strengths: tuple[float, ...]
) -> dict[float, Float64[Tensor, "n k"] | str]:
    """Return the left-out prediction of each example by strength, or the reason why a strength has none."""
    kernel = fitted.kernel
    assert isinstance(kernel, FittedLabelAware)
    everyone = torch.arange(len(fitted), device=fitted.device)
    outcomes: dict[float, Tensor | str] = {}
    everything = kernel.refit_labels(everyone)
    for strength in strengths:
        if strength == 0:
            outcomes[strength] = _blind(fitted, kernel, time)
            continue
        # A chosen strength is later fitted to all examples: it must have a solution there as well.
        outcome = _dual_or_reason(fitted, everything.at_strength(strength), everyone, time)
        empty = fitted.targets.new_empty(len(fitted), fitted.outputs)
        outcomes[strength] = f"with every example: {outcome}" if isinstance(outcome, str) else empty
    for i in with_progress(range(len(fitted)), what="strengths, leaving one out"):
        keep = everyone[everyone != i]
        open_strengths = [s for s, outcome in outcomes.items() if s > 0 and not isinstance(outcome, str)]
        if not open_strengths:
            break
        try:
            refitted, comparison = kernel.refit_labels(keep), kernel.compare_training(slice(i, i + 1))
        except DataError as error:
            outcomes |= dict.fromkeys(open_strengths, f"without example {fitted.train.ids[i]!r}: {error}")
            break
        for strength in open_strengths:
            predicted, at_strength = outcomes[strength], refitted.at_strength(strength)
            assert isinstance(predicted, Tensor)
            dual = _dual_or_reason(fitted, at_strength, keep, time)
            if isinstance(dual, str):
                outcomes[strength] = f"without example {fitted.train.ids[i]!r}: {dual}"
                continue
            predicted[i] = (at_strength.cross(comparison) @ dual)[0]
    return {s: outcome if isinstance(outcome, str) else outcome.cpu() for s, outcome in outcomes.items()}


def _blind(fitted: Fitted, kernel: FittedLabelAware, time: float) -> Float64[Tensor, "n k"] | str:
    """Return the left-out predictions at strength 0, where the kernel does not depend on labels."""
    base = kernel.at_strength(0.0)
    model = fitted.with_kernel(base, base.gram)
    try:
        return out_of_sample(model, time)
    except (NotPositiveError, DivergenceError) as error:
        return str(error)


def _dual_or_reason(
    fitted: Fitted, refitted: RefitLabelAware, keep: Int64[Tensor, " s"], time: float
) -> Float64[Tensor, "s k"] | str:
    """Return the dual of the examples in `keep`, or the reason why there is none."""
    try:
        return refit_duals(
            fitted, refitted, fitted.targets[keep], fitted.start[keep], [time], total=len(keep)
        )[0]
    except (NotPositiveError, DivergenceError) as error:
        return str(error)


POSITIVE_SHARE = 0.5
"""Share of the strengths at which training takes finite times: stronger ones make the kernel indefinite.

3 to 6 of 9 on digits, by either estimator and on two base kernels; strength 0 is fitted to no labels.
"""


def fitted_strengths(time: float) -> float:
    """Return how many of `STRENGTHS` are fitted without each example, where the work is counted."""
    above_zero = len(STRENGTHS) - STRENGTHS.count(0)
    if time == 0:
        return 0.0
    return above_zero if time == math.inf else POSITIVE_SHARE * above_zero


def choose_strength_work(n: int, rule: Rule, time: float) -> WorkCount:
    """Return the work of `choose_strength`, the kernel matrix made for that alone."""
    # A kernel is given another strength in some passes over its matrix.
    of_strength = label_refit_duals_work(n, time, rule) + passes(n * n, 6) + label_input_work(n)
    of_example = label_refit_work(n) + fitted_strengths(time) * of_strength
    eigenvalues = len(STRENGTHS) * operations(Operation.EIGENPAIRS, side=n)
    return gram_work(n) + label_fit_work(n) + eigenvalues + n * of_example

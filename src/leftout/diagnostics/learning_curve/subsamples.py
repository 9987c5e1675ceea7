"""Backtest of the learning curve: forecasts from halves and quarters of the examples, against all of them.

Disjoint parts of the examples are fitted, and measured on the examples outside them. That gives the error
below n without bias, shows how wrong answers vary with errors, and tests the forecast: those from a half and
a quarter for n are compared with the exact left-out error at n.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int64
from torch import Tensor

from leftout.core.errors import NotPositiveError
from leftout.core.progress import with_progress
from leftout.core.work import NO_WORK, Operation, WorkCount, operations, passes, product, total_work
from leftout.diagnostics.learning_curve.population_curve import WINDOW, PopulationCurve
from leftout.diagnostics.learning_curve.ridge_path import (
    POINTS,
    RidgePath,
    held_out_path,
    left_out_path,
    path_ridges,
)
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import Ridge, Rule
from leftout.solvers.kept_matrix import spectrum_kept
from leftout.solvers.spectrum import Spectrum, spectrum_work

PARTS = (4, 2)
"""Numbers of parts into which the examples are divided, in turn."""

SEEN = 3.0
"""Fewest wrong answers at a ridge for their share to be used."""


@dataclass(frozen=True, eq=False)
class Sample:
    """n examples along the ridge, and at the rule's ridge for n.

    Attributes:
        n: examples.
        ridge: of the rule.
        curve: the population's curve as measured on the sample.
        at_rule: the path's single point at the rule's ridge.
    """

    n: int
    ridge: float
    curve: PopulationCurve
    at_rule: RidgePath

    @property
    def error(self) -> float:
        """Return the measured error at the rule's ridge."""
        return float(self.at_rule.errors.mean())

    @property
    def wrong(self) -> float | None:
        """Return the share of wrong answers there."""
        return None if self.at_rule.wrong is None else float(self.at_rule.wrong.double().mean())

    @cached_property
    def answers(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return log B, log E0 and the log share of wrong answers along the path, where these are enough."""
        path = self.curve.path
        assert path.wrong is not None
        share = path.wrong.double().mean(1)
        window = (
            path.log_kappa
            <= path.log_kappa[0] + torch.tensor(WINDOW, dtype=torch.float64, device="cpu").log()
        )
        usable = window & (share * path.wrong.shape[1] >= SEEN)
        return self.curve.log_left[usable], path.log_excess[usable], share[usable].log()


@dataclass(frozen=True, eq=False)
class Backtest:
    """The paths of all examples, and of their parts by the number of parts."""

    full: Sample
    parts: dict[int, list[Sample]]


def backtest(fitted: Fitted, *, seed: int) -> Backtest:
    """Return the paths of all examples and of their parts.

    Args:
        seed: divides the examples.

    Raises:
        NotPositiveError: without ridge, a Gram matrix that is singular to rounding.

    Cost:
        the spectrum, 9r³ if it is not known; for the parts 2.8r³ more, and 6r³ of products; r rows of the
        Gram matrix.
    """
    rule, n = fitted.rule, len(fitted)
    spectrum = fitted.spectrum
    ridge = rule.effective_ridge(n)
    _check_not_singular(spectrum, ridge)
    ridges = path_ridges(spectrum)
    path = left_out_path(spectrum, fitted.residual, fitted.train, ridges)
    at_rule = left_out_path(spectrum, fitted.residual, fitted.train, [ridge])
    everything = Sample(n, ridge, PopulationCurve(path), at_rule)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed), device="cpu")
    samples: dict[int, list[Sample]] = {count: [] for count in PARTS}
    divided = [(count, rows) for count in PARTS for rows in order.tensor_split(count)]
    for count, rows in with_progress(divided, what="parts of the examples"):
        samples[count].append(_sample_of(fitted, rows))
    return Backtest(everything, samples)


def _sample_of(fitted: Fitted, members: Int64[Tensor, " e"]) -> Sample:
    """Return the path of a part of the examples, measured on the examples outside it."""
    inside = torch.zeros(len(fitted), dtype=torch.bool, device="cpu")
    inside[members] = True
    sample, outside = (mask.nonzero().flatten() for mask in (inside, ~inside))
    sample_rows, outside_rows = (
        fitted.rows.of_examples(mask.to(fitted.device)) for mask in (sample, outside)
    )
    spectrum = spectrum_kept(fitted.gram[sample_rows[:, None], sample_rows], made_in=fitted.kernel_dtype)
    cross = fitted.gram[outside_rows][:, sample_rows]
    outside_examples = fitted.train.select(outside)
    ridge = fitted.rule.effective_ridge(len(sample))
    _check_not_singular(spectrum, ridge)
    residual, target = fitted.residual[sample_rows], fitted.residual[outside_rows]
    path, at_rule = (
        held_out_path(spectrum, residual, cross, target, outside_examples, ridges)
        for ridges in (path_ridges(spectrum), [ridge])
    )
    return Sample(len(sample), ridge, PopulationCurve(path), at_rule)


def _check_not_singular(spectrum: Spectrum, ridge: float) -> None:
    """Raise if K + ridge·I is singular to rounding."""
    noise = len(spectrum.values) * torch.finfo(torch.float64).eps * spectrum.largest
    if spectrum.smallest + ridge <= noise:
        raise NotPositiveError(
            f"`fitted` has no end of training that could be left out of: its Gram matrix + {ridge:g}·I "
            f"is singular to rounding (smallest eigenvalue {spectrum.smallest:.2g}). Fit with a `ridge` "
            "> 0, or drop repeated inputs."
        )


def takes_half(rule: Rule) -> bool:
    """Return whether an audit foretells from half of its examples: where nothing else needs a spectrum."""
    return isinstance(rule, Ridge)


def backtest_work(n: int, k: int, *, has_spectrum: bool) -> WorkCount:
    """Return the work of `backtest` for n rows: spectra of parts, and errors along the ridge."""
    of_all = NO_WORK if has_spectrum else spectrum_work(n)
    of_parts = total_work(
        count * (spectrum_work(n // count) + product(n - n / count, n / count, n / count)) for count in PARTS
    )
    # Diagonals in complex numbers, twice; then a thin product for each ridge, of all and of the parts.
    numbers = n * n * (1 + sum(1 - 1 / count for count in PARTS))
    errors = operations(Operation.THIN_PRODUCT, POINTS * numbers) + passes(POINTS * n * k, 12)
    return of_all + of_parts + product(n, n, 2 * (POINTS + 1)) + errors


def backtest_bytes(n: int, *, has_spectrum: bool) -> int:
    """Return the bytes of the largest spectrum made, with workspace, and of errors along the ridge."""
    side = n // 2 if has_spectrum else n
    return 6 * 8 * side**2 + 3 * 8 * POINTS * n

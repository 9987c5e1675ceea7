"""Certificate of leave-one-out at one training time: a bound, an estimate, and refits.

Three kinds of evidence: a *proved* bound on what the quadrature adds to any prediction change,

    2 √k(x, x) · max_s √s |g(s) − quadrature(s)| · ‖Y − f_0‖      (with and without the example),

an *estimate* of what rounding adds, 10 eps (s_max + λ) μ^(−3/2) √k(x, x) ‖Y − f_0‖ with
μ = max(s_min + λ, 1/ηt): g moves by at most that much when K moves by 10 eps s_max (for descent just
below the critical rate, g is steeper at s_max, and its slope there counts); and a few examples
*really* left out (`refit_examples`).

Where labels have made K indefinite there is no √k(x, x). With r and μ the largest and the least |s + λ|,
no prediction at the end of training is further from f_0 than ‖k(x, X)‖ ‖Y − f_0‖ / μ, and rounding moves it
by 10 eps r / μ of that.

Under cross-entropy a removal is one Newton step: its error is what the examples that are really left out
measure, fitted until convergence from their own matrix.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from leftout.attribution.engine.at_times import engine_at
from leftout.attribution.engine.query_blocks import queries_of, query_blocks
from leftout.attribution.refit_examples import compare_refits
from leftout.core.certificate import Certificate, Refit
from leftout.core.checks import check_seed, check_whole
from leftout.core.work import WorkCount
from leftout.data.examples import Examples
from leftout.data.pairs import Data
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import At, Logistic
from leftout.kernels import assemble
from leftout.solvers.krylov import filtered_vector_work, largest_eigenvalue
from leftout.solvers.quadrature import quadrature_error

EPS = torch.finfo(torch.float64).eps
BACKWARD = 10.0
"""A backward-stable factorisation perturbs K by a small multiple of eps·s_max; ten is generous."""


def certify(
    fitted: Fitted, query: Data, *, at: At = None, refit_examples: int = 3, seed: int = 0
) -> Certificate:
    """Return the evidence for the leave-one-out changes at one training time.

    Args:
        refit_examples: random training examples to leave out really, each in one random output.
        seed: chooses them.

    Cost:
        some 50 products with K and, for each refit, products until Lanczos has converged: about
        √cond · 15 of them, at most n. Where labels made K indefinite, its eigenvalues, 4n³/3; where the
        kernel is fitted to labels again, that twice for each refit, and two fits.

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=40, n_query=10)
        >>> certificate = lo.certify(lo.fit(lo.kernels.ReLU(1), train, rule=lo.Ridge(0.1)), query)
        >>> certificate.refit_difference < 1e-9
        True
    """
    check_whole("refit_examples", refit_examples, 0)
    check_seed(seed)
    examples = queries_of(fitted, query)
    engine = engine_at(fitted, at)
    time, total = engine.time, engine.total or len(fitted)
    generator = torch.Generator().manual_seed(seed)
    comparisons = compare_refits(engine, examples, count=refit_examples, generator=generator)
    fitted = fitted.freeze_labels()  # what follows is about the matrix as it is
    sizes = _sizes_of(fitted, time)(fitted, examples, time, total, generator)
    measured = fitted.kernel.distortion(fitted.train.inputs)
    return Certificate(
        at=time,
        condition=sizes.condition,
        smallest=sizes.low,
        effective_condition=sizes.effective,
        effective_rank=float(fitted.gram.diagonal().sum()) / sizes.high if sizes.high > 0 else 0.0,
        residual=_residual(fitted, total, time, sizes.reach),
        quadrature=sizes.quadrature,
        rounding=_measured_rounding(comparisons) if "tiles" in fitted.solved_in else sizes.rounding,
        scale=sizes.scale,
        dtype=fitted.solved_in,
        kernel_dtype=fitted.record["kernel_dtype"],
        device=fitted.device.type,
        refits=comparisons,
        approximation=None if measured is None else measured.record,
    )


def _measured_rounding(comparisons: Sequence[Refit]) -> float:
    """Return the largest change that tiles of few digits made to those of examples really left out."""
    return max((abs(refit.engine - refit.refit) for refit in comparisons), default=math.nan)


class _Sizes(NamedTuple):
    """Ends of the spectrum, `reach` the largest |s + λ|, and what follows of predictions."""

    high: float
    low: float
    reach: float
    condition: float
    effective: float
    quadrature: float
    rounding: float
    scale: float


def _sizes_of(fitted: Fitted, time: float) -> Callable[..., _Sizes]:
    """Return what measures the problem: by its loss, and by the sign of its kernel."""
    if isinstance(fitted.rule, Logistic):
        return _cross_entropy
    return _indefinite if time == math.inf and not fitted.kernel.definite else _positive


def _cross_entropy(
    fitted: Fitted, examples: Examples, time: float, total: float, generator: torch.Generator
) -> _Sizes:
    """The curvature of cross-entropy is at most ½ (¼ for one output), and the ridge is its least."""
    del time, generator
    high = fitted.largest
    ridge = fitted.rule.effective_ridge(total)
    reach = ridge + high * (0.25 if fitted.outputs == 1 else 0.5)
    of_queries = assemble.diagonal(
        fitted.kernel, examples.inputs, dtype=fitted.kernel_dtype, device=fitted.device
    )
    top = max(float(fitted.gram.diagonal().abs().max()), float(of_queries.abs().max()))
    # ½ λ |θ|² is at most the loss at the start.
    loss = float(fitted.rule.example_loss.of(fitted.start, fitted.targets).sum())
    scale = math.sqrt(top * 2 * loss / ridge)
    return _Sizes(
        high=high,
        low=math.nan,
        reach=reach,
        condition=reach / ridge,
        effective=reach / ridge,
        quadrature=0.0,
        rounding=(fitted.logistic.gradient + BACKWARD * EPS * reach / ridge) * scale,
        scale=scale,
    )


def _positive(
    fitted: Fitted, examples: Examples, time: float, total: float, generator: torch.Generator
) -> _Sizes:
    high, low = _ends(fitted, time, total, generator)
    ridge = fitted.rule.effective_ridge(total)
    learned = fitted.spectral_rule.effective_time(time, total)
    floor = max(low + ridge, 1 / learned if learned > 0 else math.inf)
    of_queries = assemble.diagonal(
        fitted.kernel, examples.inputs, dtype=fitted.kernel_dtype, device=fitted.device
    )
    # k(x, x) of queries may exceed that of the training examples; both count.
    top = max(float(fitted.gram.diagonal().abs().max()), float(of_queries.abs().max()))
    size = math.sqrt(top) * float(fitted.residual.norm(dim=0).max())
    return _Sizes(
        high=high,
        low=low,
        reach=high + ridge,
        condition=(high + ridge) / (low + ridge) if low + ridge > 0 else math.inf,
        effective=(high + ridge) / floor if floor > 0 else math.inf,
        quadrature=2 * size * _quadrature_error(fitted, time, total),
        rounding=BACKWARD * EPS * size * _amplification(fitted, time, total, high, floor),
        scale=size / math.sqrt(floor) if floor > 0 else math.inf,
    )


def _indefinite(
    fitted: Fitted, examples: Examples, time: float, total: float, generator: torch.Generator
) -> _Sizes:
    del time, generator
    values = fitted.factorisations.eigenvalues
    shifted = (values + fitted.rule.effective_ridge(total)).abs()
    reach, nearest = float(shifted.max()), float(shifted.min())
    rows = float(fitted.gram.norm(dim=1).max())
    for block in query_blocks(fitted, examples):
        rows = max(rows, float(block.cross.norm(dim=1).max()))
    condition = reach / nearest if nearest > 0 else math.inf
    size = rows * float(fitted.residual.norm(dim=0).max())
    scale = size / nearest if nearest > 0 else math.inf
    return _Sizes(
        high=float(values[-1]),
        low=float(values[0]),
        reach=reach,
        condition=condition,
        effective=condition,
        quadrature=0.0,
        rounding=BACKWARD * EPS * condition * scale,
        scale=scale,
    )


def _ends(fitted: Fitted, time: float, total: float, generator: torch.Generator) -> tuple[float, float]:
    """Return s_max and s_min: from the spectrum, or by Lanczos on K and on its inverse."""
    if 0 < time < math.inf:
        return fitted.spectrum.largest, fitted.spectrum.smallest
    if time == 0:
        return fitted.largest, 0.0
    ridge = fitted.rule.effective_ridge(total)
    inverse = fitted.inverse(ridge)
    flipped = largest_eigenvalue(
        lambda x: inverse @ x, len(fitted.gram), generator=generator, device=fitted.device, rtol=1e-4
    )
    return fitted.largest, 1 / flipped - ridge


def _amplification(fitted: Fitted, time: float, total: float, high: float, floor: float) -> float:
    """Return how far √s g moves when K moves by s_max + λ, at the bottom or at the top."""
    if floor <= 0:
        return math.inf
    reach = high + fitted.rule.effective_ridge(total)
    # Before anything is learned, ηt(s_max + λ) < 1, g ≈ ηt has no slope but its own rounding.
    bottom = max(reach / floor, math.sqrt(reach / floor)) / math.sqrt(floor)
    top = fitted.spectral_rule.filter_sensitivity(time, total, high) if 0 < time < math.inf else 0.0
    return max(bottom, top / math.sqrt(reach)) if reach > 0 else bottom


def _quadrature_error(fitted: Fitted, time: float, total: float) -> float:
    """Return a bound on max √s |g − quadrature| over the spectrum; 0 where none is used."""
    if not 0 < time < math.inf:
        return 0.0
    spectrum = fitted.spectrum
    ((_, quadrature),) = fitted.spectral_rule.quadratures([time], total=total, high=spectrum.largest)
    exact = fitted.spectral_rule.filter(time, total)
    error = quadrature_error(quadrature, exact, high=spectrum.largest, extra=spectrum.values)
    return float(error[0])


def _residual(fitted: Fitted, total: float, time: float, reach: float) -> float:
    """Return the backward error of the solve, or of the decomposition on the data."""
    if isinstance(fitted.rule, Logistic):
        return fitted.logistic.gradient
    if time == math.inf:
        dual = fitted.dual(time, total=total)
        rest = fitted.gram @ dual + fitted.rule.effective_ridge(total) * dual - fitted.residual
        # The backward error: relative to all that was added up, whatever the condition number.
        return _relative(rest, reach * dual.norm() + fitted.residual.norm())
    if time == 0:
        return 0.0
    spectrum = fitted.spectrum
    product = spectrum.vectors @ (spectrum.values[:, None] * spectrum.coordinates(fitted.residual))
    rest = fitted.gram @ fitted.residual - product
    return _relative(rest, spectrum.largest * fitted.residual.norm())


def _relative(rest: Tensor, size: Tensor) -> float:
    """Return ‖rest‖ / size; ‖rest‖ where the size is zero, as with targets of zero."""
    return float(rest.norm() / size) if float(size) > 0 else float(rest.norm())


def certificate_work(n: int, refits: int) -> WorkCount:
    """Return the work of `certify`: refits by Lanczos, and half of one for the ends of the spectrum."""
    return (refits + 0.5) * filtered_vector_work(n)


def certificate_bytes(n: int, ridge: float) -> int:
    """Return the bytes of Lanczos's basis, its copy and eigenvectors of its tridiagonal matrix.

    Args:
        ridge: as it is added to K; without one the basis may grow to n vectors, with one it was two n × n
            matrices at most on data of ten features.
    """
    return 8 * n**2 * (2 if ridge > 0 else 5)

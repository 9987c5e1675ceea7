"""Can these numbers be trusted? Evidence for leave-one-out at one training time, with refits.

Three kinds: a *proved* bound on what the quadrature adds to any prediction change,

    2 √k(x, x) · max_s √s |g(s) − quadrature(s)| · ‖Y − f_0‖      (with and without the example),

an *estimate* of what rounding adds, 10 eps (s_max + λ) μ^(−3/2) √k(x, x) ‖Y − f_0‖ with
μ = max(s_min + λ, 1/ηt): g moves by at most that much when K moves by 10 eps s_max (for descent just
below the critical rate, g is steeper at s_max, and its slope there counts); and a few examples
*really* left out, by Lanczos on the matrix without them, which shares nothing with factor, downdate
or quadrature.
"""

import math

import torch
from torch import Tensor

from leftout.attribution.instant import Instant
from leftout.attribution.instants import instants
from leftout.attribution.queries import queries_of, query_blocks
from leftout.core.certificate import Certificate, Refit
from leftout.core.checks import check_at_least, check_seed
from leftout.core.progress import tracked
from leftout.data.examples import Examples
from leftout.data.pairs import Data
from leftout.dynamics.fit import fit
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import At
from leftout.kernels import assemble
from leftout.kernels.teachable import TaughtKernel
from leftout.solvers.krylov import filtered_vector, largest_eigenvalue
from leftout.solvers.quadrature import quadrature_error

EPS = torch.finfo(torch.float64).eps
BACKWARD = 10.0
"""A backward-stable factorisation perturbs K by a small multiple of eps·s_max; ten is generous."""


def certify(
    fitted: Fitted, query: Data, *, at: At = None, refits: int = 3, seed: int = 0
) -> Certificate:
    """Return the evidence for the leave-one-out changes at one training time.

    Args:
        refits: random training examples to leave out really, each in one random output.
        seed: chooses them.

    Cost:
        some 50 products with K and, for each refit, products until Lanczos has converged: about
        √cond · 15 of them, at most n.
    """
    check_at_least("refits", refits, 0)
    check_seed(seed)
    examples = queries_of(fitted, query)
    time = fitted.rule.time(at)
    (moment,) = instants(fitted, [time], total=len(fitted) - 1)
    total = moment.total
    generator = torch.Generator().manual_seed(seed)
    again = _taught_again if fitted.relearns else _refits
    refitted = again(fitted, examples, moment, time, refits, generator)
    fitted = fitted.with_labels_frozen()  # what follows is about the matrix as it is
    high, low = _ends(fitted, time, total, generator)
    ridge = fitted.rule.shifted(total)
    nearest = _nearest(fitted, time, low + ridge, total)
    pace = fitted.rule.pace(time, total)
    floor = max(nearest, 1 / pace if pace > 0 else math.inf)
    # k(x, x) of queries may exceed that of the training examples; both count.
    of_queries = assemble.diagonal(
        fitted.kernel, examples.inputs, dtype=fitted.kernel_dtype, device=fitted.device
    )
    top = max(float(fitted.gram.diagonal().abs().max()), float(of_queries.abs().max()))
    size = math.sqrt(top) * float(fitted.residual.norm(dim=0).max())
    effective = (high + ridge) / floor if floor > 0 else math.inf
    measured = fitted.kernel.distortion(fitted.train.inputs)
    return Certificate(
        at=time,
        condition=(high + ridge) / nearest if nearest > 0 else math.inf,
        smallest=low,
        effective_condition=effective,
        effective_rank=float(fitted.gram.diagonal().sum()) / high if high > 0 else 0.0,
        residual=_residual(fitted, moment, time),
        quadrature=2 * size * _quadrature_error(fitted, time, total),
        rounding=BACKWARD * EPS * size * _amplification(fitted, time, total, high, floor),
        scale=size / math.sqrt(floor) if floor > 0 else math.inf,
        dtype="float64",
        kernel_dtype=fitted.record["kernel_dtype"],
        device=fitted.device.type,
        refits=refitted,
        approximation=None if measured is None else measured.record,
    )


def _ends(
    fitted: Fitted, time: float, total: float, generator: torch.Generator
) -> tuple[float, float]:
    """Return s_max and s_min: from the spectrum, or by Lanczos on K and on its inverse."""
    if 0 < time < math.inf:
        return fitted.spectrum.largest, fitted.spectrum.smallest
    if time == 0:
        return fitted.largest, 0.0
    if not fitted.kernel.definite:
        return float(fitted.eigenvalues[-1]), float(fitted.eigenvalues[0])
    ridge = fitted.rule.shifted(total)
    inverse = fitted.inverse(ridge)
    flipped = largest_eigenvalue(
        lambda x: inverse @ x,
        len(fitted.gram),
        generator=generator,
        device=fitted.device,
        rtol=1e-4,
    )
    return fitted.largest, 1 / flipped - ridge


def _nearest(fitted: Fitted, time: float, low: float, total: float) -> float:
    """Return how near to 0 an eigenvalue of K + λI comes: the smallest, where none is negative."""
    if time != math.inf or fitted.kernel.definite:
        return low
    return float((fitted.eigenvalues + fitted.rule.shifted(total)).abs().min())


def _amplification(fitted: Fitted, time: float, total: float, high: float, floor: float) -> float:
    """Return how far √s g moves when K moves by s_max + λ, at the bottom or at the top."""
    if floor <= 0:
        return math.inf
    reach = high + fitted.rule.shifted(total)
    # Before anything is learned, ηt(s_max + λ) < 1, g ≈ ηt has no slope but its own rounding.
    bottom = max(reach / floor, math.sqrt(reach / floor)) / math.sqrt(floor)
    top = fitted.rule.overshoot(time, total, high) if 0 < time < math.inf else 0.0
    return max(bottom, top / math.sqrt(reach)) if reach > 0 else bottom


def _quadrature_error(fitted: Fitted, time: float, total: float) -> float:
    """Return a bound on max √s |g − quadrature| over the spectrum; 0 where none is used."""
    if not 0 < time < math.inf:
        return 0.0
    spectrum = fitted.spectrum
    ((_, quadrature),) = fitted.rule.quadratures([time], total=total, high=spectrum.largest)
    exact = fitted.rule.filter(time, total)
    error = quadrature_error(quadrature, exact, high=spectrum.largest, extra=spectrum.values)
    return float(error[0])


def _residual(fitted: Fitted, moment: Instant, time: float) -> float:
    """Return the backward error of the solve, or of the decomposition on the data."""
    if time == math.inf:
        dual = moment.dual()
        left = fitted.gram @ dual + fitted.rule.shifted(moment.total) * dual - fitted.residual
        # The backward error: relative to all that was added up, whatever the condition number.
        size = (fitted.largest + fitted.rule.shifted(moment.total)) * dual.norm()
        return _relative(left, size + fitted.residual.norm())
    if time == 0:
        return 0.0
    spectrum = fitted.spectrum
    product = spectrum.vectors @ (spectrum.values[:, None] * spectrum.coordinates(fitted.residual))
    left = fitted.gram @ fitted.residual - product
    return _relative(left, spectrum.largest * fitted.residual.norm())


def _relative(left: Tensor, size: Tensor) -> float:
    """Return ‖left‖ / size; where there is nothing, as with targets of zero, nothing is left."""
    return float(left.norm() / size) if float(size) > 0 else float(left.norm())


def _refits(
    fitted: Fitted,
    examples: Examples,
    moment: Instant,
    time: float,
    count: int,
    generator: torch.Generator,
) -> tuple[Refit, ...]:
    """Return a few random leave-one-out columns beside those of the model fitted without."""
    chosen = _left_out(len(fitted), count, generator)
    outputs = torch.randint(0, fitted.outputs, (len(chosen),), generator=generator)
    pairs = list(zip(chosen, outputs.tolist(), strict=True))
    columns = fitted.residual.shape[1]
    again = [
        moment.as_fitted()[:, output % columns]
        - _dual_without(fitted, row, output % columns, time, moment.total)
        for row, output in tracked(pairs, what="refits")
    ]
    engine: list[list[Tensor]] = [[] for _ in pairs]
    refit: list[list[Tensor]] = [[] for _ in pairs]
    for block in query_blocks(fitted, examples) if pairs else []:
        for j, (row, output) in enumerate(pairs):
            single = moment.singles(block.features, slice(row, row + 1), output)
            engine[j].append(-single[:, 0])
            refit[j].append(block.features.of(output, block.features.cross) @ again[j])
    return tuple(
        _compared(row, torch.cat(ours), torch.cat(theirs))
        for (row, _), ours, theirs in zip(pairs, engine, refit, strict=True)
    )


def _taught_again(
    fitted: Fitted,
    examples: Examples,
    moment: Instant,
    time: float,
    count: int,
    generator: torch.Generator,
) -> tuple[Refit, ...]:
    """Return a few random columns beside those of the kernel taught from nothing without the example."""
    assert isinstance(fitted.kernel, TaughtKernel)
    n = len(fitted)
    chosen = _left_out(n, count, generator)
    at = None if time == math.inf else time
    before, found = fitted.predict(examples, at), []
    for row in tracked(chosen, what="refits"):
        output = int(torch.randint(0, fitted.outputs, (1,), generator=generator))
        others = fitted.train.select([i for i in range(n) if i != row])
        afresh = fit(
            fitted.kernel.asked, others, rule=fitted.rule, dtype=fitted.kernel_dtype,
            device=fitted.device, memory=fitted.memory,
        )  # fmt: skip
        theirs = (before - afresh.predict(examples, at))[:, output]
        ours = [
            -moment.singles(block.features, slice(row, row + 1), output)[:, 0]
            for block in query_blocks(fitted, examples)
        ]
        found.append(_compared(row, torch.cat(ours), theirs))
    return tuple(found)


def _left_out(n: int, count: int, generator: torch.Generator) -> list[int]:
    """Return random examples; none of a single one, without which nothing is left."""
    found: list[int] = torch.randperm(n, generator=generator)[: count if n > 1 else 0].tolist()
    return found


def _compared(row: int, engine: Tensor, refit: Tensor) -> Refit:
    difference = (engine - refit).abs()
    worst = int(difference.argmax())
    largest = float(refit.abs().max())
    relative = float(difference[worst]) / largest if largest > 0 else float(difference[worst])
    return Refit(row, worst, float(engine[worst]), float(refit[worst]), relative)


def _dual_without(fitted: Fitted, row: int, column: int, time: float, total: float) -> Tensor:
    """Return a column of the dual of the model fitted without an example; its entries are zero."""
    if time == 0:
        return torch.zeros_like(fitted.residual[:, column])
    keep = torch.ones_like(fitted.residual[:, column])
    keep[fitted.kernel_rows(slice(row, row + 1))] = 0
    if time == math.inf:
        ridge = fitted.rule.shifted(total)
        return filtered_vector(
            lambda x: keep * (fitted.gram @ x), fitted.residual[:, column] * keep,
            lambda s: 1 / (s + ridge),
        )  # fmt: skip
    learned = fitted.rule.filter(time, total)
    return filtered_vector(
        lambda x: keep * (fitted.gram @ x), fitted.residual[:, column] * keep, learned
    )

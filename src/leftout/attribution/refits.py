"""What happens when an example is *really* left out? A few refits beside what the engine says of them.

A kernel that stays is fitted again by Lanczos on the matrix without the example, which shares nothing with
factor, downdate or quadrature. A kernel that labels taught is taught again by the other examples themselves,
from nothing; it and its fit share the factorisation with the engine, but no matrix of pairs.
"""

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from leftout.attribution.engine.base import Features, Instant
from leftout.attribution.engine.query_blocks import query_blocks
from leftout.attribution.engine.refit_each import Relearning
from leftout.attribution.engine.refit_kernel import relearned_without, taught_kernel
from leftout.core.certificate import Refit
from leftout.core.errors import ExpansionWarning
from leftout.core.progress import with_progress
from leftout.data.examples import Examples
from leftout.dynamics.fit import fit
from leftout.dynamics.fitted import Fitted
from leftout.solvers.krylov import filtered_vector


def refitted(
    fitted: Fitted,
    examples: Examples,
    moment: Instant,
    time: float,
    *,
    count: int,
    generator: torch.Generator,
) -> tuple[Refit, ...]:
    """Return a few random leave-one-out columns beside those of the model fitted without.

    Args:
        examples: the queries.
        moment: the engine at `time`.
        count: examples to leave out, each in one random output.

    Cost:
        each: products until Lanczos has converged; or twice teaching the kernel, and twice a fit.
    """
    chosen = _left_out(len(fitted), count, generator)
    outputs = torch.randint(0, fitted.outputs, (len(chosen),), generator=generator).tolist()
    asked = _Asked(fitted, examples, moment, time, list(zip(chosen, outputs, strict=True)))
    ours, theirs = (_by_teaching if fitted.depends_on_labels else _by_lanczos)(asked)
    return tuple(map(_compared, chosen, ours, theirs))


@dataclass(frozen=True, eq=False)
class _Asked:
    """What examples are to be left out of; `pairs` are their rows, each with an output."""

    fitted: Fitted
    examples: Examples
    moment: Instant
    time: float
    pairs: list[tuple[int, int]]


def _by_lanczos(asked: _Asked) -> tuple[list[Tensor], list[Tensor]]:
    """Return what each example changes, with minus without, by the engine and by fitting without it."""
    fitted, moment = asked.fitted, asked.moment
    columns = fitted.residual.shape[1]
    again = [
        moment.as_fitted()[:, output % columns]
        - _dual_without(fitted, row, output % columns, asked.time, moment.total)
        for row, output in with_progress(asked.pairs, what="refits")
    ]
    engine: list[list[Tensor]] = [[] for _ in again]
    refit: list[list[Tensor]] = [[] for _ in again]
    for block in query_blocks(fitted, asked.examples) if again else []:
        for j, (row, output) in enumerate(asked.pairs):
            engine[j].append(_single(moment, block.features, row, output))
            refit[j].append(block.features.of(output, block.features.cross) @ again[j])
    return [torch.cat(parts) for parts in engine], [torch.cat(parts) for parts in refit]


def _by_teaching(asked: _Asked) -> tuple[list[Tensor], list[Tensor]]:
    """Return the same, by the kernel taught from nothing by the other examples."""
    fitted = asked.fitted
    at = None if asked.time == math.inf else asked.time
    before, refit = fitted.predict(asked.examples, at), []
    for row, output in with_progress(asked.pairs, what="refits"):
        others = fitted.train.select([i for i in range(len(fitted)) if i != row])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExpansionWarning)  # it was said of the model itself
            afresh = fit(
                taught_kernel(fitted).asked,
                others,
                rule=fitted.rule,
                dtype=fitted.kernel_dtype,
                device=fitted.device,
                memory=fitted.memory,
            )
        refit.append((before - afresh.predict(asked.examples, at))[:, output])
    return _told(asked), refit


def _told(asked: _Asked) -> list[Tensor]:
    """Return what the engine says of a kernel that is taught again.

    The very numbers of the scores where those are known; otherwise the same step for these examples alone,
    and not for all.
    """
    fitted, moment = asked.fitted, asked.moment
    known = isinstance(moment, Relearning) and moment.each.made
    gone = [] if known else [torch.tensor([row]) for row, _ in asked.pairs]
    models = [relearned_without(fitted, [asked.time], one) for one in gone]
    found: list[list[Tensor]] = [[] for _ in asked.pairs]
    for block in query_blocks(fitted, asked.examples) if found else []:
        before = moment.predictions(block.features)
        for j, (row, output) in enumerate(asked.pairs):
            found[j].append(
                _single(moment, block.features, row, output)
                if known
                else (before - models[j].predictions(block.features)[0])[:, output]
            )
    return [torch.cat(parts) for parts in found]


def _single(moment: Instant, features: Features, row: int, output: int) -> Tensor:
    return -moment.singles(features, slice(row, row + 1), output)[:, 0]


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
        ridge = fitted.rule.effective_ridge(total)
        return filtered_vector(
            lambda x: keep * (fitted.gram @ x), fitted.residual[:, column] * keep, lambda s: 1 / (s + ridge)
        )
    learned = fitted.rule.filter(time, total)
    return filtered_vector(lambda x: keep * (fitted.gram @ x), fitted.residual[:, column] * keep, learned)

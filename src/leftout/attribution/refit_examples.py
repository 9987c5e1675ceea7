"""A few examples really left out: models fitted without them, beside what the engine says of them."""

import torch
from torch import Tensor

from leftout.attribution.engine.base import EngineAtTime
from leftout.attribution.engine.query_blocks import query_blocks
from leftout.core.certificate import Refit
from leftout.data.examples import Examples


def compare_refits(
    engine: EngineAtTime, query: Examples, *, count: int, generator: torch.Generator
) -> tuple[Refit, ...]:
    """Return a few random leave-one-out columns beside those of models fitted without.

    Args:
        count: examples to leave out, each in one random output.

    Cost:
        each: products until Lanczos has converged; or twice fitting kernel and model.
    """
    fitted = engine.fitted
    # None of a single example, without which nothing is left.
    rows = torch.randperm(len(fitted), generator=generator, device="cpu")[
        : count if len(fitted) > 1 else 0
    ].tolist()
    outputs = torch.randint(0, fitted.outputs, (len(rows),), generator=generator, device="cpu").tolist()
    pairs = list(zip(rows, outputs, strict=True))
    refits = engine.refits(pairs)
    by_engine: list[list[Tensor]] = [[] for _ in pairs]
    by_refit: list[list[Tensor]] = [[] for _ in pairs]
    for block in query_blocks(fitted, query) if pairs else []:
        for j, (row, output) in enumerate(pairs):
            by_engine[j].append(-engine.singles(block, slice(row, row + 1), output)[:, 0])
            by_refit[j].append(refits[j](block))
    return tuple(
        _comparison(row, torch.cat(ours), torch.cat(theirs))
        for row, ours, theirs in zip(rows, by_engine, by_refit, strict=True)
    )


def _comparison(row: int, engine: Tensor, refit: Tensor) -> Refit:
    """Return the query at which engine and refit differ most."""
    difference = (engine - refit).abs()
    worst = int(difference.argmax())
    largest = float(refit.abs().max())
    relative = float(difference[worst]) / largest if largest > 0 else float(difference[worst])
    return Refit(row, worst, float(engine[worst]), float(refit[worst]), relative)

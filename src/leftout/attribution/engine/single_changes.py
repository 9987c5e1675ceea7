"""Changes of losses and predictions at a block of queries, without each training example."""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.base import EngineAtTime
from leftout.attribution.engine.edit_engines import finite_times
from leftout.attribution.engine.end_of_training import singles_at_end_work
from leftout.attribution.engine.finite_time import singles_at_time_work
from leftout.attribution.engine.query_blocks import COLUMNS, QueryBlock, query_block, query_rows
from leftout.core.blocks import blocks
from leftout.core.product_matrix import ProductMatrix
from leftout.core.progress import with_progress
from leftout.core.work import NO_WORK, WorkCount, passes, product
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.losses import SquaredLoss

E = TypeVar("E", bound=EngineAtTime)

STREAMED = 8192
"""Training examples at most whose effects are made at a time, where only the best of them are kept."""

STREAMED_BYTES = 2**24
"""Bytes at most of an array (queries × those examples): larger ones are new memory every time."""

STREAMED_ARRAYS = 12
"""Arrays (queries × those examples) that the budget has room for."""


def blocks_at_times(
    query: Examples, engines: Sequence[E], *, size: int | None = None, skip: Collection[int] = ()
) -> Iterator[tuple[QueryBlock, int, E]]:
    """Yield every block of queries at every time, block by block, and show how far that is.

    Args:
        engines: of one model, one for each time.
        skip: first queries of the blocks to leave out, because they are done.
    """
    fitted = engines[0].fitted
    rows_to_do = [rows for rows in query_rows(fitted, query, size=size) if rows.start not in skip]
    every = (
        (block, place, engine)
        for block in (query_block(fitted, query, rows) for rows in rows_to_do)
        for place, engine in enumerate(engines)
    )
    yield from with_progress(every, what="leaving one out", total=len(rows_to_do) * len(engines))


def loss_changes(
    engine: EngineAtTime, block: QueryBlock, *, into: Float64[Tensor, "b n"] | None = None
) -> Float64[Tensor, "b n"]:
    """Return loss without each training example minus loss with all, at a block of queries.

    Args:
        into: where to write the result; a new tensor if None.

    Cost:
        one product (b × n)(n × n) an output; a few blocks of columns besides the result, k under
        cross-entropy.
    """
    total = block.targets.new_empty(len(block.targets), len(engine.fitted)) if into is None else into
    for columns, change in loss_change_columns(engine, block):
        total[:, columns] = change
    return total


def loss_change_columns(
    engine: EngineAtTime, block: QueryBlock, *, width: int = COLUMNS
) -> Iterator[tuple[slice, Float64[Tensor, "b e"]]]:
    """Yield the same for some training examples after others: nothing of (queries × examples) is held.

    Args:
        width: training examples at a time.
    """
    n, k, loss = len(engine.fitted), block.targets.shape[1], engine.fitted.rule.example_loss
    predictions = engine.predictions(block)
    if not isinstance(loss, SquaredLoss):
        for columns in blocks(n, max(1, width // k)):
            changes = [engine.singles(block, columns, output) for output in range(k)]
            together = torch.stack(changes, dim=-1)  # (b, e, k)
            yield columns, loss.change(predictions[:, None], together, block.targets[:, None])
        return
    # Squares add up over outputs: one at a time.
    error = predictions - block.targets
    for columns in blocks(n, width):
        total = error.new_zeros(len(error), columns.stop - columns.start)
        for output in range(k):
            change = engine.singles(block, columns, output)  # (b, e)
            total += change.div(2).add_(error[:, output, None]).mul_(change)
        yield columns, total


def prediction_changes(
    engine: EngineAtTime, block: QueryBlock, *, into: Float64[Tensor, "b n k"] | None = None
) -> Float64[Tensor, "b n k"]:
    """Return prediction with all training examples minus prediction without each."""
    n, k = len(engine.fitted), block.targets.shape[1]
    total = block.targets.new_empty(len(block.targets), n, k) if into is None else into
    for columns, change in prediction_change_columns(engine, block):
        total[:, columns] = change
    return total


def prediction_change_columns(
    engine: EngineAtTime, block: QueryBlock, *, width: int = COLUMNS
) -> Iterator[tuple[slice, Float64[Tensor, "b e k"]]]:
    """Yield the same for some training examples after others."""
    n, k = len(engine.fitted), block.targets.shape[1]
    for columns in blocks(n, max(1, width // k)):
        changes = [engine.singles(block, columns, output) for output in range(k)]
        yield columns, torch.stack(changes, dim=-1).neg_()


def streamed_width(fitted: Fitted, queries: int) -> int:
    """Return how many training examples are gone through at a time, where only their best or mean is kept."""
    room = min(STREAMED_BYTES, fitted.memory // STREAMED_ARRAYS)
    return max(COLUMNS, min(STREAMED, room // (8 * queries)))


def streamed_queries(fitted: Fitted) -> int | None:
    """Return how many queries are asked together where only the best or the mean of examples is kept.

    None where kernel rows of queries are held: `query_rows` says how many of them fit.
    """
    if not isinstance(fitted.gram, ProductMatrix):
        return None
    return max(1, fitted.memory // (STREAMED_ARRAYS * 8 * (COLUMNS + fitted.gram.left.shape[1])))


def loss_changes_work(m: int, n: int, k: int, times: Sequence[float], *, size: int) -> WorkCount:
    """Return the work of `loss_changes` of all queries at several times, in blocks of `size` queries.

    Times share the queries' coordinates in the modes, at the end of training outputs share a product.
    """
    finite = finite_times(times)
    at_end = singles_at_end_work(m, n, k) + k * passes(m * n, 5)
    at_time = singles_at_time_work(m, n, k, math.ceil(m / size)) + k * passes(m * n, 5)
    work = product(m, n, n) + len(finite) * at_time if finite else NO_WORK
    return work + at_end if math.inf in times else work


def block_bytes(rows: int, n: int, times: int) -> int:
    """Return the bytes of a block of query rows at several times: the kernel, changes and temporaries."""
    return 8 * rows * n * (6 + 2 * times)

"""How far does the model move without an example? The information in each example, by one measure at a time.

    "function"    ½ mean over queries of ‖f − f_without‖²       information about the answers
    "weights"     ½ ‖w − w_without‖²                            information about the network

Both are those of `attribution.information`, in nats at σ = 1. An order of removal needs only one of them, and
"function" costs one product for each block of queries at the end of training, whatever the number of outputs.
"""

import math
from collections.abc import Iterable
from typing import Literal

from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.base import EditEngine
from leftout.attribution.engine.edit_engines import edit_engines
from leftout.attribution.engine.end_of_training import singles_at_end_work
from leftout.attribution.engine.finite_time import singles_at_time_work
from leftout.attribution.engine.query_blocks import COLUMNS, QueryBlock, query_blocks
from leftout.attribution.information import Measure
from leftout.attribution.weight_noise import Isotropic
from leftout.core.blocks import blocks
from leftout.core.progress import with_progress
from leftout.core.work import NO_WORK, WorkCount, allocation, passes, product
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted

By = Literal["function", "weights"]
MEASURES: tuple[By, ...] = ("function", "weights")

QUERIES = 256
"""Queries in a block: a fixed number, as sums over blocks sized by free memory would round differently."""


def model_change(fitted: Fitted, query: Examples, time: float, by: By) -> Float64[Tensor, " n"]:
    """Return how far the model moves without each training example, by the measure `by`.

    Cost:
        by function that of `leave_one_out`, never (queries × n); by weights 2n³k, and 2n³k more at
        finite times.
    """
    return fitted.memo(change_key(query, time, by), lambda: _model_change(fitted, query, time, by))


def change_key(query: Examples, time: float, by: By) -> tuple[str, str, float, By]:
    """Return the name under which a model keeps this: scores of all queries may have told it already."""
    return "model change", query.fingerprint, time, by


def _model_change(fitted: Fitted, query: Examples, time: float, by: By) -> Float64[Tensor, " n"]:
    (engine,) = edit_engines(fitted, [time], total=len(fitted) - 1)
    if by == "weights":
        return weight_change_without_each(engine, time)
    size = queries_at_once(len(fitted), fitted.outputs, fitted.memory)
    query_parts = query_blocks(fitted, query, size=size)
    return prediction_change_without_each(engine, query_parts, queries=len(query))


def prediction_change_without_each(
    engine: EditEngine, blocks_of_queries: Iterable[QueryBlock], *, queries: int
) -> Float64[Tensor, " n"]:
    """Return ½ mean over queries of ‖Δf‖² for each example left out."""
    fitted = engine.fitted
    total = fitted.gram.new_zeros(len(fitted))
    for block in blocks_of_queries:
        for columns in blocks(len(fitted), COLUMNS):
            for output in range(fitted.outputs):
                total[columns] += engine.singles(block, columns, output).square().sum(0)
    return total / (2 * queries)


def weight_change_without_each(engine: EditEngine, time: float) -> Float64[Tensor, " n"]:
    """Return ½ ‖Δw‖² for each example left out."""
    fitted = engine.fitted
    measure = Measure(fitted, Isotropic().form(fitted), Isotropic.in_modes)
    total = fitted.gram.new_zeros(len(fitted))
    size = fitted.memory // (6 * 8 * fitted.targets.numel())
    column_blocks = list(blocks(len(fitted), max(1, min(COLUMNS, size))))
    for columns in with_progress(column_blocks, what="leaving one out"):
        total[columns] = measure(engine.single_duals(columns), end=time == math.inf)
    return total / 2


def queries_at_once(n: int, k: int, memory: int) -> int:
    """Return the queries of a block for n examples with k outputs: what an eighth of the memory holds."""
    return min(QUERIES, max(1, memory // (8 * 8 * n * k)))


def model_change_work(m: int, n: int, k: int, time: float, memory: int) -> WorkCount:
    """Return the work of `model_change` by function, the model's resolvents at hand."""
    if time == 0:
        return NO_WORK
    if time == math.inf:
        singles = singles_at_end_work(m, n, k)
    else:
        blocks = math.ceil(m / queries_at_once(n, k, memory))
        singles = product(m, n, n) + singles_at_time_work(m, n, k, blocks) + k * passes(m * n)
    return singles + k * passes(m * n, 7) + allocation(m * n * k)


def model_change_bytes(m: int, n: int, k: int, memory: int) -> int:
    """Return the bytes of what changes at a block of queries."""
    return 2 * 8 * min(m, queries_at_once(n, k, memory)) * n * k

"""How far does the model move without an example? The information in it, by one measure at a time.

    "function"    ½ mean over queries of ‖f − f_without‖²       information about the answers
    "weights"     ½ ‖w − w_without‖²                            information about the network

Both are those of `attribution.information`, in nats at σ = 1; an order needs only one of them, and
by function only one product a block of queries at the end of training, however many outputs there are.
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
from leftout.core.progress import tracked
from leftout.core.work import NO_WORK, WorkCount, allocation, passes, product
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted

By = Literal["function", "weights"]
MEASURES: tuple[By, ...] = ("function", "weights")

QUERIES = 256
"""In a block: not as many as the free memory allows, which would round sums otherwise every day."""


def moved(fitted: Fitted, query: Examples, time: float, by: By) -> Float64[Tensor, " n"]:
    """Return how far the model moves without each training example.

    Cost:
        by function that of `leave_one_out`, never (queries × n); by weights 2n³k, and 2n³k more at
        finite times.
    """
    (moment,) = edit_engines(fitted, [time], total=len(fitted) - 1)
    if by == "weights":
        return moved_weights(moment, time)
    parts = query_blocks(fitted, query, size=queries_at_once(len(fitted), fitted.outputs, fitted.memory))
    return moved_function(moment, parts, queries=len(query))


def moved_function(moment: EditEngine, seen: Iterable[QueryBlock], *, queries: int) -> Float64[Tensor, " n"]:
    """Return ½ mean over queries of ‖Δf‖² for each example left out."""
    fitted = moment.fitted
    total = fitted.gram.new_zeros(len(fitted))
    for features in seen:
        for columns in blocks(len(fitted), COLUMNS):
            for output in range(fitted.outputs):
                total[columns] += moment.singles(features, columns, output).square().sum(0)
    return total / (2 * queries)


def moved_weights(moment: EditEngine, time: float) -> Float64[Tensor, " n"]:
    """Return ½ ‖Δw‖² for each example left out."""
    fitted = moment.fitted
    measure = Measure(fitted, Isotropic().form(fitted), Isotropic.in_modes)
    total = fitted.gram.new_zeros(len(fitted))
    size = fitted.memory // (6 * 8 * fitted.residual.numel())
    parts = list(blocks(len(fitted), max(1, min(COLUMNS, size))))
    for columns in tracked(parts, what="leaving one out"):
        total[columns] = measure(moment.single_duals(columns), end=time == math.inf)
    return total / 2


def queries_at_once(n: int, k: int, memory: int) -> int:
    """Return the queries of a block for n examples with k outputs: what an eighth of the memory holds."""
    return min(QUERIES, max(1, memory // (8 * 8 * n * k)))


def moved_work(m: int, n: int, k: int, time: float, memory: int) -> WorkCount:
    """Return the work of `moved` by function, the model's resolvents at hand."""
    if time == 0:
        return NO_WORK
    if time == math.inf:
        singles = singles_at_end_work(m, n, k)
    else:
        blocks = math.ceil(m / queries_at_once(n, k, memory))
        singles = product(m, n, n) + singles_at_time_work(m, n, k, blocks) + k * passes(m * n)
    return singles + k * passes(m * n, 7) + allocation(m * n * k)


def moved_bytes(m: int, n: int, k: int, memory: int) -> int:
    """Return the bytes of what changes at a block of queries."""
    return 2 * 8 * min(m, queries_at_once(n, k, memory)) * n * k

"""Which queries are asked about, and in blocks of what size?"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.instant import Features, Instant
from leftout.core.blocks import blocks
from leftout.core.errors import ShapeError
from leftout.core.progress import tracked
from leftout.data.examples import Examples
from leftout.data.pairs import Data, examples_of
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import At

COLUMNS = 1024
"""Training examples whose effects are made at a time: wide enough for full speed of a product."""


def is_scalar(at: At | Sequence[At]) -> bool:
    """Return whether one training time was asked for, rather than a sequence of them."""
    return not isinstance(at, Iterable)


def queries_of(fitted: Fitted, query: Data) -> Examples:
    """Return the queries, encoded as the training examples are.

    Raises:
        ShapeError, DataError: other inputs or classes than those of training.
    """
    examples = examples_of(query, encoding=fitted.train.encoding, name="query")
    theirs, ours = examples.inputs.shape[1:], fitted.train.inputs.shape[1:]
    if theirs != ours:
        raise ShapeError(
            f"`query` inputs must have shape (m, {', '.join(map(str, ours))}) as in training; got "
            f"{tuple(examples.inputs.shape)}."
        )
    if examples.encoding.outputs != fitted.train.encoding.outputs:
        raise ShapeError(
            f"`query` must have {fitted.train.encoding.outputs} target columns as in training; got "
            f"{examples.encoding.outputs}."
        )
    fitted.kernel.check("query", examples.inputs)
    return examples


@dataclass(frozen=True, eq=False)
class Block:
    """Some queries, and what the model says about them before anything is edited."""

    rows: slice
    features: Features
    targets: Float64[Tensor, "b k"]


def query_blocks(fitted: Fitted, query: Examples, *, size: int | None = None) -> Iterator[Block]:
    """Yield the queries in blocks whose kernel rows fit the memory budget.

    Args:
        size: queries in a block; as many as a sixth of the budget holds if not said (kernel rows,
            their coordinates, the result and temporaries of the same size).
    """
    n = len(fitted)
    size = size or max(1, min(len(query), fitted.memory // (6 * 8 * n)))
    for rows in tracked(
        list(blocks(len(query), size)), what="queries", total=-(-len(query) // size)
    ):
        inputs = query.inputs[rows]
        features = Features(fitted, fitted.cross(inputs), fitted.initial(inputs))
        yield Block(rows, features, query.targets[rows].to(fitted.device))


def loss_changes(instant: Instant, block: Block) -> Float64[Tensor, "b n"]:
    """Return loss without each training example minus loss with all, at a block of queries.

    With error e = f − y and change c of an output, ½ (e + c)² − ½ e² = c (e + c/2).

    Cost:
        one product (b × n)(n × n) an output; b·n numbers and a block of columns.
    """
    n = len(instant.fitted)
    error = instant.predictions(block.features) - block.targets  # (b, k)
    total = torch.zeros(len(error), n, dtype=torch.float64, device=error.device)
    for columns in blocks(n, COLUMNS):
        for output in range(error.shape[1]):
            change = instant.singles(block.features, columns, output)  # (b, c)
            total[:, columns] += change * (error[:, output, None] + change / 2)
    return total


def prediction_changes(instant: Instant, block: Block) -> Float64[Tensor, "b n k"]:
    """Return prediction with all training examples minus prediction without each."""
    n, k = len(instant.fitted), block.targets.shape[1]
    total = torch.empty(len(block.targets), n, k, dtype=torch.float64, device=block.targets.device)
    for columns in blocks(n, COLUMNS):
        for output in range(k):
            total[:, columns, output] = -instant.singles(block.features, columns, output)
    return total

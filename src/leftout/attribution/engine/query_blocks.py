"""Which queries are asked about, and in blocks of what size?"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.base import Features, Instant
from leftout.core.blocks import blocks
from leftout.core.errors import ShapeError
from leftout.core.progress import with_progress
from leftout.data.examples import Examples
from leftout.data.pairs import Data, examples_of
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import At
from leftout.kernels.label_dependent import FittedLabelKernel

COLUMNS = 512
"""Training examples whose effects are made at a time: wide enough for full speed of a product."""


def is_scalar(at: At | Sequence[At]) -> bool:
    """Return whether one training time was asked for, rather than a sequence of them."""
    # An array or tensor of no dimension can be asked to iterate, and is one time all the same.
    return getattr(at, "ndim", int(isinstance(at, Iterable))) == 0


def queries_of(fitted: Fitted, query: Data) -> Examples:
    """Return the queries of a fitted kernel, as `queries_like` its training examples.

    Raises:
        ShapeError, DataError: other inputs or classes than those of training.
    """
    examples = queries_like(fitted.train, query)
    fitted.kernel.check("query", examples.inputs)
    return examples


def queries_like(train: Examples, query: Data) -> Examples:
    """Return the queries, encoded as the training examples are.

    Raises:
        ShapeError, DataError: other inputs or classes than those of training.
    """
    examples = examples_of(query, encoding=train.encoding, name="query")
    theirs, ours = examples.inputs.shape[1:], train.inputs.shape[1:]
    if theirs != ours:
        raise ShapeError(
            f"`query` inputs must have shape (m, {', '.join(map(str, ours))}) as in training; got "
            f"{tuple(examples.inputs.shape)}."
        )
    if examples.encoding.outputs != train.encoding.outputs:
        raise ShapeError(
            f"`query` must have {train.encoding.outputs} target columns as in training; got "
            f"{examples.encoding.outputs}."
        )
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
            their coordinates, the result and temporaries of the same size); a twelfth where the kernel
            is taught again, from what is kept of each pair.
    """
    for rows in _parts(fitted, query, size):
        yield _block(fitted, query, rows)


def blocks_at_moments(
    fitted: Fitted,
    query: Examples,
    moments: Sequence[Instant],
    *,
    size: int | None = None,
    skip: Collection[int] = (),
) -> Iterator[tuple[Block, int, Instant]]:
    """Yield every block of queries at every moment, block by block, and show how far that is.

    Args:
        skip: first queries of the blocks to leave out, because they are done.
    """
    parts = [rows for rows in _parts(fitted, query, size) if rows.start not in skip]
    blocks_made = (_block(fitted, query, rows) for rows in parts)
    every = ((block, position, moment) for block in blocks_made for position, moment in enumerate(moments))
    yield from with_progress(every, what="leaving one out", total=len(parts) * len(moments))


def _parts(fitted: Fitted, query: Examples, size: int | None) -> list[slice]:
    row = 8 * fitted.gram.shape[1] * fitted.outputs_per_example
    held = 12 if fitted.depends_on_labels else 6
    size = size or max(1, min(len(query), fitted.memory // (held * row)))
    return list(blocks(len(query), size))


def _block(fitted: Fitted, query: Examples, rows: slice) -> Block:
    inputs, kernel = query.inputs[rows], fitted.kernel
    targets = query.targets[rows].to(fitted.device)
    if fitted.depends_on_labels:
        assert isinstance(kernel, FittedLabelKernel)
        pairs = fitted.compared(inputs)
        return Block(rows, Features(fitted, kernel.cross(pairs), fitted.initial(inputs), pairs), targets)
    return Block(rows, Features(fitted, fitted.cross(inputs), fitted.initial(inputs)), targets)


def loss_changes(
    instant: Instant, block: Block, *, into: Float64[Tensor, "b n"] | None = None
) -> Float64[Tensor, "b n"]:
    """Return loss without each training example minus loss with all, at a block of queries.

    With error e = f − y and change c of an output, ½ (e + c)² − ½ e² = c (e + c/2).

    Args:
        into: where to write the result; a new tensor if None.

    Cost:
        one product (b × n)(n × n) an output; two blocks of columns besides the result.
    """
    n = len(instant.fitted)
    error = instant.predictions(block.features) - block.targets  # (b, k)
    total = error.new_empty(len(error), n) if into is None else into
    total.zero_()
    for columns in blocks(n, COLUMNS):
        for output in range(error.shape[1]):
            change = instant.singles(block.features, columns, output)  # (b, c)
            total[:, columns] += change.div(2).add_(error[:, output, None]).mul_(change)
    return total


def prediction_changes(
    instant: Instant, block: Block, *, into: Float64[Tensor, "b n k"] | None = None
) -> Float64[Tensor, "b n k"]:
    """Return prediction with all training examples minus prediction without each."""
    n, k = len(instant.fitted), block.targets.shape[1]
    total = block.targets.new_empty(len(block.targets), n, k) if into is None else into
    for columns in blocks(n, COLUMNS):
        for output in range(k):
            total[:, columns, output] = -instant.singles(block.features, columns, output)
    return total

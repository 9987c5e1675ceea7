"""Queries, checked and in blocks whose kernel rows fit the memory budget."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.errors import ShapeError
from leftout.data.examples import Examples
from leftout.data.pairs import Data, examples_of
from leftout.dynamics.fitted import Fitted, check_fitted
from leftout.dynamics.rules import At
from leftout.kernels.base import Comparison

COLUMNS = 512
"""Training examples whose effects are made at a time: wide enough for full speed of a product."""


BESIDE_TILES = 48
"""A block of queries takes one of so many parts of the memory, most of which is for tiles."""


def is_scalar(at: At | Sequence[At]) -> bool:
    """Return whether one training time was asked for, rather than a sequence of them."""
    # An array or tensor of no dimension can be asked to iterate, and is one time all the same.
    return getattr(at, "ndim", int(isinstance(at, Iterable))) == 0


def queries_of(fitted: Fitted, query: Data) -> Examples:
    """Return the queries of a fitted kernel, as `queries_like` its training examples.

    Raises:
        ShapeError, DataError: other inputs or classes than those of training.
        OptionError: no fitted model.
    """
    check_fitted(fitted)
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
class QueryBlock:
    """A block of queries, and what the model says about them before anything is edited.

    Attributes:
        rows: places of the block among the queries.
        inputs, targets: of the block; targets are encoded like those of training.
        comparison: of the queries with the training inputs.
        initial: f_0 at the queries.
    """

    fitted: Fitted
    rows: slice
    inputs: Tensor
    targets: Float64[Tensor, "m k"]
    comparison: Comparison
    initial: Float64[Tensor, "m k"]

    @property
    def cross(self) -> Float64[Tensor, "mrows rows"]:
        """Return K(queries, training inputs), `outputs_per_example` rows a query."""
        return self.comparison.cross

    @cached_property
    def spectral(self) -> Float64[Tensor, "mrows r"]:
        """Return K(queries, X) V."""
        return self.fitted.spectrum.of_rows(self.cross)

    def of_output(self, output: int, matrix: Float64[Tensor, "mrows x"]) -> Float64[Tensor, "m x"]:
        """Return the rows of `cross` or `spectral` that one output is predicted from."""
        outputs = self.fitted.outputs_per_example
        return matrix if outputs == 1 else matrix[output::outputs]


def query_block(fitted: Fitted, query: Examples, rows: slice) -> QueryBlock:
    """Return some of the queries, compared with the training inputs."""
    inputs, targets = query.inputs[rows], query.targets[rows].to(fitted.device)
    return QueryBlock(fitted, rows, inputs, targets, fitted.rows.compare(inputs), fitted.initial(inputs))


def block_of_kernel_rows(fitted: Fitted, cross: Float64[Tensor, "a rows"]) -> QueryBlock:
    """Return rows over the training inputs as if they were those of queries that start from f_0 = 0."""
    none = cross.new_zeros(0, fitted.outputs)
    return QueryBlock(fitted, slice(0, 0), none, none, Comparison(cross), none)


def query_rows(fitted: Fitted, query: Examples, *, size: int | None = None) -> list[slice]:
    """Return the rows of each block of queries.

    Args:
        size: queries in a block; as many as a sixth of the budget holds if not said (kernel rows,
            their coordinates, the result and temporaries of the same size); a twelfth where pairs are
            kept for a kernel that is fitted to labels.
    """
    row = 8 * fitted.gram.shape[1] * fitted.outputs_per_example
    held = 6 if fitted.rows.matrices == 1 else 12
    if fitted.is_tiled:
        held = BESIDE_TILES
    return list(blocks(len(query), size or max(1, min(len(query), fitted.memory // (held * row)))))


def query_blocks(fitted: Fitted, query: Examples, *, size: int | None = None) -> Iterator[QueryBlock]:
    """Yield the queries in blocks of `query_rows`."""
    for rows in query_rows(fitted, query, size=size):
        yield query_block(fitted, query, rows)

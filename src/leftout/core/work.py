"""The work of a computation, counted by kind of operation: counts add up, and a machine's speeds price them.

Every algorithm counts its own work beside its code, in a function called `…_work`. Letters: n training
examples, m queries, k outputs; where the kernel tells outputs apart, n and m are rows of its matrix and k
is 1.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import final


class Operation(StrEnum):
    """A kind of operation; what it takes may depend on the side of the matrix that it is done to."""

    FLOP = "float64 operation of a matrix product"
    THIN_PRODUCT = "number of a large matrix that is multiplied with one column an output"
    STREAMED_BYTE = "byte that is read from memory which no cache holds"
    ALLOCATED_BYTE = "byte written to memory just allocated"
    CALL = "operation on almost nothing"
    SECOND = "second that does not depend on the machine's speeds"
    CHOLESKY = "Cholesky factorisation of a matrix"
    INVERSE = "inverse of a matrix from its Cholesky factor"
    EIGENPAIRS = "eigendecomposition of a symmetric matrix"
    INDEFINITE = "factorisation of a symmetric matrix that may have negative eigenvalues"
    KERNEL_ROW = "row of a kernel matrix, whatever the others: of a network, its passes"
    GRAM_PAIR = "pair of training rows under the kernel"
    CROSS_PAIR = "pair of a query row and a training row under the kernel"
    LABEL_FIT_PAIR = "pair of training examples of a kernel that is fitted to all labels"
    LABEL_REFIT_PAIR = "pair of training examples of a kernel that is fitted to all labels but one"
    LABEL_INPUT_PAIR = "pair of training examples where a kernel fitted to labels is evaluated at an input"
    LABEL_CROSS_PAIR = "pair of a further input there and a training example"
    RANKED_SCORE = "score among which the strongest are sought"
    STORED_SCORE = "score that is written and read back"
    PICTURE = "picture that is packed for the report"


@final
@dataclass(frozen=True, eq=False)
class WorkCount:
    """How many operations of each kind, by the side of the matrix where that decides (else side 1)."""

    counts: Mapping[tuple[Operation, float], float] = field(default_factory=dict)

    def __add__(self, more: "WorkCount") -> "WorkCount":
        total = dict(self.counts)
        for operation, number in more.counts.items():
            total[operation] = total.get(operation, 0.0) + number
        return WorkCount(total)

    def __mul__(self, times: float) -> "WorkCount":
        return WorkCount({operation: times * number for operation, number in self.counts.items()})

    __rmul__ = __mul__


NO_WORK = WorkCount()


def total_work(works: Iterable[WorkCount]) -> WorkCount:
    """Return the sum of several counts."""
    return sum(works, NO_WORK)


def operations(operation: Operation, number: float = 1, *, side: float = 1) -> WorkCount:
    """Return so many operations of one kind, each on a matrix of this side."""
    return WorkCount({(operation, side): number})


def product(m: float, n: float, p: float) -> WorkCount:
    """Return the work of the matrix product (m × n)(n × p)."""
    return operations(Operation.FLOP, 2 * m * n * p)


def passes(numbers: float, count: float = 1) -> WorkCount:
    """Return the work of going through so many float64 numbers in memory, `count` times."""
    return operations(Operation.STREAMED_BYTE, 8 * numbers * count)


def allocation(numbers: float) -> WorkCount:
    """Return the work of writing so many float64 numbers to new memory."""
    return operations(Operation.ALLOCATED_BYTE, 8 * numbers)


def calls(number: float) -> WorkCount:
    """Return so many operations whose time is that of calling them."""
    return operations(Operation.CALL, number)


def thin_product(n: float) -> WorkCount:
    """Return the work of (n × n)(n × k), with one column an output."""
    return operations(Operation.THIN_PRODUCT, n * n)

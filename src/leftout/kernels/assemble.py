"""How is the kernel between thousands of inputs computed without a second matrix of that size?

Block by block: each is evaluated in `dtype` where it fits a cache, then written to the float64
result. A gram matrix needs one triangle of blocks; the other is its mirror, so it is symmetric to
the last bit at half the price. Repeated inputs get the very row of the first of them, not one that
a matrix product rounded differently at another place.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from leftout.core.blocks import blocks, check_fits, memory_budget
from leftout.core.checks import check_choice
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.core.progress import tracked
from leftout.kernels.base import Kernel
from leftout.kernels.symmetry import check_symmetric

BLOCK = {"cpu": 512, "cuda": 4096}
"""Rows and columns of a block.

512² numbers in float64 are 2 MB, which a cache holds; a GPU would wait for launches of so little.
"""

SMALLEST_BLOCK = 32
"""Below this, calls cost more than arithmetic: a budget that allows no more is refused instead."""

TEMPORARIES = 14
"""Blocks held at once at the most: 10 in a deep kernel with bias, 13 in float32 if all pairs are near."""


def gram(
    kernel: Kernel,
    inputs: Float[Tensor, "n ..."],
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    memory: int | float | str | None = None,
    block: int | None = None,
) -> Float64[Tensor, "n n"]:
    """Return K(inputs, inputs), symmetric to the last bit, without ridge.

    Args:
        dtype: in which blocks are evaluated, float64 or float32; the result is float64.
        device: where they are evaluated and where the result lies; that of the inputs if None.
        memory: what result and temporaries may take together, in bytes or as "4GB"; 60 % of what is
            free if None.
        block: rows and columns of a block; what fits cache and `memory` if None.

    Raises:
        DataError: inputs that the kernel is not defined on, values that are NaN, infinite or not
            symmetric (each names the first row).
        MemoryBudgetError: the result and its smallest blocks do not fit; nothing was allocated.
        OptionError: `dtype` or `block` is none.

    Cost:
        Half the pairs, n²/2 evaluations; 8n² bytes and fourteen blocks.

    Accuracy:
        That of the kernel in `dtype`. Block sizes change it by the rounding of a matrix product.
    """
    kernel.check("inputs", inputs)
    rows, side = _prepared(inputs, inputs, dtype=dtype, device=device, memory=memory, block=block)[
        1:
    ]
    n = len(rows)
    result = torch.empty(n, n, dtype=torch.float64, device=rows.device)
    parts = list(blocks(n, side))
    pairs = [(i, j) for i in parts for j in parts if j.start >= i.start]
    for i, j in tracked(pairs, what="kernel"):
        value = kernel.block(rows[i], rows[j])
        _check_block(value, row=i.start)
        if i == j:
            check_symmetric("kernel", value, first=i.start)
            value = value.triu() + value.triu(1).T
        result[i, j] = value
        result[j, i] = value.T
    later, first = _repeats(inputs)
    result[later] = result[first]
    result[:, later] = result[:, first]
    return result


def cross(
    kernel: Kernel,
    queries: Float[Tensor, "m ..."],
    inputs: Float[Tensor, "n ..."],
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    memory: int | float | str | None = None,
    block: int | None = None,
) -> Float64[Tensor, "m n"]:
    """Return K(queries, inputs): rows are queries, columns training points.

    Args, errors and accuracy as `gram`; repeated queries have equal rows, repeated inputs equal
    columns.

    Raises:
        ShapeError: queries and inputs have not the same features.

    Cost:
        mn evaluations; 8mn bytes and fourteen blocks.
    """
    kernel.check("queries", queries)
    kernel.check("inputs", inputs)
    if queries.shape[1:] != inputs.shape[1:]:
        raise ShapeError(
            f"`queries` must have the features of `inputs`, {tuple(inputs.shape[1:])}; "
            f"got {tuple(queries.shape[1:])}."
        )
    left, right, side = _prepared(
        queries, inputs, dtype=dtype, device=device, memory=memory, block=block
    )
    result = torch.empty(len(left), len(right), dtype=torch.float64, device=right.device)
    pairs = [(i, j) for i in blocks(len(left), side) for j in blocks(len(right), side)]
    for i, j in tracked(pairs, what="kernel"):
        value = kernel.block(left[i], right[j])
        _check_block(value, row=i.start)
        result[i, j] = value
    later, first = _repeats(queries)
    result[later] = result[first]
    later, first = _repeats(inputs)
    result[:, later] = result[:, first]
    return result


def _prepared(
    queries: Tensor,
    inputs: Tensor,
    *,
    dtype: torch.dtype,
    device: torch.device | str | None,
    memory: int | float | str | None,
    block: int | None,
) -> tuple[Tensor, Tensor, int]:
    """Return both in `dtype` on `device`, and the side of a block, once all is sure to fit."""
    check_choice("dtype", dtype, (torch.float64, torch.float32))
    if block is not None and block < 1:
        raise OptionError(f"`block` must be a positive number of rows; got {block}.")
    device = torch.device(device) if device is not None else inputs.device
    budget = memory_budget(memory, device=device)
    fixed = 8 * len(queries) * len(inputs)
    for value in {id(tensor): tensor for tensor in (queries, inputs)}.values():
        if value.dtype != dtype or value.device != device:
            fixed += value.numel() * dtype.itemsize
    side = block
    if side is None:
        fitting = int((max(budget - fixed, 0) / (TEMPORARIES * dtype.itemsize)) ** 0.5)
        side = max(SMALLEST_BLOCK, min(BLOCK.get(device.type, BLOCK["cpu"]), fitting))
    check_fits(
        f"A kernel matrix of {len(queries)} × {len(inputs)}",
        fixed + TEMPORARIES * dtype.itemsize * min(side, len(queries)) * min(side, len(inputs)),
        budget,
        advice="Use fewer examples, or raise `memory`.",
    )
    # `.to` returns the tensor itself where nothing changes, and kernels never write to their rows.
    return queries.to(device, dtype), inputs.to(device, dtype), side


def _check_block(value: Tensor, *, row: int) -> None:
    """Raise if a block holds NaN or infinity, naming the first such row of the whole matrix."""
    if bool(torch.isfinite(value).all()):
        return
    i, j = (int(axis[0]) for axis in (~torch.isfinite(value)).nonzero(as_tuple=True))
    raise DataError(
        f"`kernel` must be finite; its row {row + i} holds {float(value[i, j])}. Look at that "
        "input, or evaluate in float64 if its values are large."
    )


def _repeats(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the row numbers that repeat an earlier row, and those of the rows they repeat."""
    seen: dict[bytes, int] = {}
    later, first = [], []
    rows = inputs.detach().cpu().numpy()
    for number, row in enumerate(rows):
        # + 0.0 turns −0.0 into 0.0: equal numbers must have equal bytes.
        earlier = seen.setdefault((row + 0.0).tobytes(), number)
        if earlier != number:
            later.append(number)
            first.append(earlier)
    return torch.tensor(later, dtype=torch.int64), torch.tensor(first, dtype=torch.int64)

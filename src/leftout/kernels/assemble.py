"""How is the kernel between thousands of inputs computed without a second matrix of that size?

Tile by tile: each is evaluated in `dtype` where it fits a cache, then written to the float64 result. A
gram matrix needs one triangle of tiles; the other is its mirror, so it is symmetric to the last bit at
half the price. Repeated inputs get a copy of the row of the first of them: a matrix product may round
equal rows differently.
"""

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.blocks import blocks, memory_budget
from leftout.core.checks import check_choice, check_kind
from leftout.core.device import usable_device
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.core.work import Operation, WorkCount, allocation, operations
from leftout.kernels.base import Kernel
from leftout.kernels.symmetry import check_symmetric
from leftout.kernels.tiles import BLOCK, TEMPORARIES, TileWork

ROWS = 1024
"""Inputs of a diagonal that are evaluated together."""


def gram(
    kernel: Kernel,
    inputs: Tensor,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    memory: int | float | str | None = None,
    block: int | None = None,
) -> Float64[Tensor, "rows rows"]:
    """Return K(inputs, inputs), symmetric to the last bit, without ridge.

    Args:
        dtype: in which pairs are evaluated, float64 or float32; the result is float64. A kernel with a
            dtype of its own (that of its module) keeps to it.
        device: where they are evaluated and where the result lies; that of the inputs if None. An
            empirical kernel is evaluated where its module lies.
        memory: what result and temporaries may take together, in bytes or as "4GB"; 60 % of what is
            free if None.
        block: rows and columns of a tile; what fits cache and `memory` if None.

    Returns:
        (n, n), or (n k, n k) for a kernel that tells outputs apart: row i·k + o is output o of input i.

    Raises:
        DataError: inputs that the kernel is not defined on, values that are NaN, infinite or not
            symmetric (each names the first row).
        MemoryBudgetError: the result and its smallest tiles do not fit; nothing was allocated.
        OptionError: a `dtype` or `block` that is not allowed.

    Cost:
        Half the pairs, n²/2 evaluations; 8n² bytes and fourteen tiles.

    Accuracy:
        That of the kernel in `dtype`. Tile sizes change it by the rounding of a matrix product.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> gram(lo.kernels.ReLU(1), torch.eye(2, dtype=torch.float64))
        tensor([[2.0000, 0.3183],
                [0.3183, 2.0000]], dtype=torch.float64)
    """
    check_tensor("inputs", inputs)
    kernel.check("inputs", inputs)
    outputs_per_example = kernel.outputs or 1
    side = len(inputs) * outputs_per_example
    work = tile_work(side, side, inputs, dtype=dtype, device=device, memory=memory, block=block)
    tiles = kernel.tiles(inputs, None, work)
    matrix = torch.empty(side, side, dtype=torch.float64, device=work.device)
    for i, j, tile in tiles:
        check_tile(tile, i.start, outputs_per_example)
        if i == j:
            check_symmetric("kernel", tile, first=i.start)
            tile = tile.triu() + tile.triu(1).T
        matrix[i, j] = tile
        matrix[j, i] = tile.T
    later, first = repeated_rows(inputs, outputs_per_example)
    matrix[later] = matrix[first]
    matrix[:, later] = matrix[:, first]
    return matrix


def cross(
    kernel: Kernel,
    queries: Tensor,
    inputs: Tensor,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    memory: int | float | str | None = None,
    block: int | None = None,
) -> Float64[Tensor, "rows columns"]:
    """Return K(queries, inputs): rows are queries, columns training points.

    Args, errors and accuracy as `gram`; repeated queries have equal rows, repeated inputs equal
    columns.

    Returns:
        (m, n), or (m k, n k) for a kernel that tells outputs apart.

    Raises:
        ShapeError: queries and inputs have not the same features.

    Cost:
        mn evaluations; 8mn bytes and fourteen tiles.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> inputs = torch.eye(2, dtype=torch.float64)
        >>> cross(lo.kernels.ReLU(1), inputs[:1], inputs)
        tensor([[2.0000, 0.3183]], dtype=torch.float64)
    """
    check_sides(kernel, queries, inputs)
    outputs_per_example = kernel.outputs or 1
    rows, columns = len(queries) * outputs_per_example, len(inputs) * outputs_per_example
    work = tile_work(rows, columns, inputs, dtype=dtype, device=device, memory=memory, block=block)
    tiles = kernel.tiles(queries, inputs, work)
    matrix = torch.empty(rows, columns, dtype=torch.float64, device=work.device)
    for i, j, tile in tiles:
        check_tile(tile, i.start, outputs_per_example)
        matrix[i, j] = tile
    later, first = repeated_rows(queries, outputs_per_example)
    matrix[later] = matrix[first]
    later, first = repeated_rows(inputs, outputs_per_example)
    matrix[:, later] = matrix[:, first]
    return matrix


def diagonal(
    kernel: Kernel,
    inputs: Tensor,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Float64[Tensor, " rows"]:
    """Return k(x, x) of every input, evaluated in `dtype` on `device`; both as for `gram`."""
    device = inputs.device if device is None else usable_device(device)
    if not inputs.is_floating_point():
        dtype = inputs.dtype  # tokens stay whole numbers
    batches = (inputs[rows].to(device, dtype) for rows in blocks(len(inputs), ROWS))
    empty = torch.empty(0, dtype=torch.float64, device=device)
    return torch.cat([empty, *(kernel.diagonal(batch).to(empty) for batch in batches)])


def check_tensor(name: str, inputs: Tensor) -> None:
    """Raise unless inputs are a tensor that holds all of its numbers."""
    check_kind(name, inputs, Tensor, what="a tensor", advice="torch.as_tensor(array) makes one of an array.")
    if inputs.layout != torch.strided:
        raise OptionError(f"`{name}` must be a dense tensor; got {inputs.layout}. Call {name}.to_dense().")


def check_sides(kernel: Kernel, queries: Tensor, inputs: Tensor) -> None:
    """Raise unless a kernel is defined on both sides of a matrix, and they have the same features."""
    check_tensor("queries", queries)
    check_tensor("inputs", inputs)
    kernel.check("queries", queries)
    kernel.check("inputs", inputs)
    if queries.shape[1:] != inputs.shape[1:]:
        raise ShapeError(
            f"`queries` must have the features of `inputs`, {tuple(inputs.shape[1:])}; "
            f"got {tuple(queries.shape[1:])}."
        )


def tile_work(
    rows: int,
    columns: int,
    inputs: Tensor,
    *,
    dtype: torch.dtype,
    device: torch.device | str | None,
    memory: int | float | str | None,
    block: int | None,
) -> TileWork:
    """Return dtype, device and memory for the tiles, once the options are checked."""
    check_choice("dtype", dtype, (torch.float64, torch.float32))
    if block is not None and block < 1:
        raise OptionError(f"`block` must be a positive number of rows; got {block}.")
    device = inputs.device if device is None else usable_device(device)
    return TileWork(
        dtype=dtype,
        device=device,
        budget=memory_budget(memory, device=device),
        result=8 * rows * columns,
        block=block,
    )


def check_tile(tile: Tensor, first_row: int, outputs_per_example: int) -> None:
    """Raise if a tile holds NaN or infinity, naming the first such input of the whole matrix."""
    if bool(torch.isfinite(tile).all()):
        return
    i, j = (int(axis[0]) for axis in (~torch.isfinite(tile)).nonzero(as_tuple=True))
    raise DataError(
        f"`kernel` must be finite; its row {(first_row + i) // outputs_per_example} holds "
        f"{float(tile[i, j])}. Look at that input, or evaluate in float64 if its values are large."
    )


def repeated_rows(inputs: Tensor, outputs_per_example: int) -> tuple[Tensor, Tensor]:
    """Return the row numbers that repeat an earlier row, and those of the rows they repeat.

    Args:
        outputs_per_example: rows of the matrix for each input.
    """
    first_with: dict[bytes, int] = {}
    later, first = [], []
    on_cpu = inputs.detach().cpu()
    rows = (on_cpu.float() if on_cpu.dtype == torch.bfloat16 else on_cpu).numpy()  # NumPy has no bfloat16
    for number, row in enumerate(rows):
        # + 0.0 turns −0.0 into 0.0: equal numbers must have equal bytes.
        earlier = first_with.setdefault((row + 0.0).tobytes(), number)
        if earlier != number:
            later.append(number)
            first.append(earlier)
    return _rows_of(later, outputs_per_example), _rows_of(first, outputs_per_example)


def _rows_of(numbers: list[int], outputs_per_example: int) -> Tensor:
    """Return the rows of the matrix that belong to these inputs."""
    of_inputs = torch.tensor(numbers, dtype=torch.int64, device="cpu")
    return (
        of_inputs[:, None] * outputs_per_example + torch.arange(outputs_per_example, device="cpu")
    ).flatten()


def gram_work(n: int) -> WorkCount:
    """Return the work of the kernel matrix of n rows: one triangle of tiles, each written twice."""
    pairs = n * (n + min(n, BLOCK["cpu"])) / 2
    return operations(Operation.KERNEL_ROW, n) + operations(Operation.GRAM_PAIR, pairs) + allocation(n * n)


def gram_bytes(n: int) -> int:
    """Return the bytes of the kernel matrix of n rows and of its temporaries."""
    return 8 * n**2 + TEMPORARIES * 8 * min(n, BLOCK["cpu"]) ** 2


def cross_work(m: int, n: int) -> WorkCount:
    """Return the work of the kernel between m rows of queries and n of training."""
    # What a network makes of training examples is kept; that of queries is made each time.
    pairs = operations(Operation.CROSS_PAIR, m * n)
    return operations(Operation.KERNEL_ROW, m) + pairs + allocation(m * n)

"""What would be predicted without each training example, where the matrix is on the workers of a cluster?

The numbers of `leftout.leave_one_out` at the end of training under squared loss. Tiles of K + λI are
computed, inverted and multiplied where they are (`inverse_graph`); queries, errors and duals go to them.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from leftout.attribution.engine.labelled_result import SIGN, DescribedModel, attributes, labelled_array
from leftout.attribution.engine.query_blocks import queries_like
from leftout.attribution.engine.ranked import by_rank, check_top
from leftout.cluster.checkpoint import CheckpointFolder
from leftout.cluster.cluster_run import ClusterRun, ModelOnCluster, TiledRun
from leftout.cluster.dask_pool import DaskPool
from leftout.cluster.score_graph import Kept
from leftout.cluster.tile_grid import TileGrid
from leftout.core.blocks import check_fits, memory_budget
from leftout.core.checks import check_choice
from leftout.core.errors import OptionError, StoreError
from leftout.core.fingerprint import fingerprint
from leftout.data.examples import Examples
from leftout.data.pairs import Data, examples_of
from leftout.dynamics.fit import check_kernel, check_rule, coded_for
from leftout.dynamics.fitted import model_record
from leftout.dynamics.rules import Ridge, Rule
from leftout.dynamics.weights_check import check_weights
from leftout.kernels.base import Kernel
from leftout.storage.score_store import SCORES, add_attributes, create_store, open_store, stored_attributes

SIDE = 1024
"""Rows and columns of a tile: 8 MB, enough for full speed of a product."""

TIMES = (float("inf"),)


def leave_one_out(
    kernel: Kernel,
    train: Data,
    query: Data,
    *,
    client: Any,
    rule: Rule | None = None,
    top: int | None = None,
    mean: bool = False,
    out: str | Path | None = None,
    dtype: torch.dtype = torch.float64,
    side: int | None = None,
    checkpoint: str | Path | None = None,
) -> xr.DataArray | xr.Dataset:
    """Return the exact influence of every training example on every query, computed by a cluster.

    Args:
        kernel: as for `leftout.fit`; one value for each pair of inputs, which depends on no label.
        train, query: as for `leftout.fit` and `leftout.leave_one_out`.
        client: of Dask (`distributed.Client`); all its workers and its scheduler must have leftout installed.
        rule: Ridge; Ridge(1.0) if not said.
        top: keep only so many most helpful and most harmful examples of each query.
        mean: keep only the mean over queries.
        out: folder, reached by client and workers under this name, where workers write all scores, in the
            form of an audit's store; what is returned is read from it when used. A call that was stopped goes
            on.
        dtype: in which the kernel is evaluated; it is kept, factored and inverted in float64.
        side: rows and columns of a tile; 1024, or less where every worker should have eight along a side.
        checkpoint: folder, reached by client and workers, where tiles are written now and then (4n² bytes). A
            worker that is lost then costs what was done since; without it, the inversion is begun again.

    Returns:
        As `leftout.leave_one_out` at the end of training. Attributes besides: `workers`, `tile_side`,
        `bytes_moved` between workers and, by kind of result, `bytes_moved_by_kind`, and `client_bytes`, which
        client and scheduler passed on.

    Raises:
        MemoryBudgetError: a worker's part does not fit its memory; the result does not fit the client's.
        NotPositiveError: K + λI has no Cholesky factor, or λ ≤ n · eps · tr K.
        OptionError: another rule than Ridge, a kernel that sees labels or tells outputs apart; no Dask.
        SolveError: workers were lost again and again.
        StoreError: `out` or `checkpoint` are of something else.

    Cost:
        2n³/3 for the inverse, 2mn² for all queries, divided among workers. A worker holds about 4n²/P bytes
        and a panel; 4n²(2p + q − 3) bytes move for the inverse on a p × q grid of P workers, 16nm(p + q − 2)
        for queries. Client and scheduler see inputs, n numbers for the diagonal, and what is returned.

    Accuracy:
        as on one machine, 10·cond·eps relative to the largest; results differ by rounding.

    Source:
        Cholesky and triangular inverse in place, as in Bientinesi, Gunter & van de Geijn 2008, "Families of
        algorithms related to the inversion of a symmetric positive definite matrix".

    Example:
        >>> import leftout as lo
        >>> from distributed import Client
        >>> train, query = lo.load("digits", n_train=40, n_query=10)
        >>> with Client(processes=False, n_workers=2, dashboard_address=None) as client:
        ...     scores = lo.cluster.leave_one_out(lo.kernels.ReLU(1), train, query, client=client)
        >>> scores.dims
        ('query', 'train')
    """
    rule = _checked_rule(rule)
    check_choice("mean", mean, (True, False))
    _check_kernel(kernel)
    examples = coded_for(kernel, rule, examples_of(train, name="train"))
    check_weights(kernel, examples, rule)
    rule.check_scales()
    queries = queries_like(examples, query)
    kernel.check("query", queries.inputs)
    check_top(top, len(examples), mean=mean, of="loss")
    if out is not None and (mean or top is not None):
        raise OptionError("`out` is where all scores go: leave `mean` and `top` out.")
    kept: Kept = "top" if top else "mean" if mean else "store" if out is not None else "all"
    if kept == "all":
        _check_result(len(queries), len(examples))
    pool = DaskPool(client)
    record = model_record(
        kernel, rule, examples, kernel_dtype=kernel.dtype or dtype, device=examples.inputs.device
    )
    described = DescribedModel(kernel, examples, rule, record)
    attrs = attributes(described, queries, of="loss", method="leave_one_out", sign=SIGN["loss"])
    folder = Path() if out is None else Path(out).absolute()
    if kept == "store":
        _open_for_writing(folder, examples, queries, attrs)
    model = ModelOnCluster(
        kernel, examples, queries, rule.effective_ridge(len(examples)), dtype, kept, top or 1, folder
    )
    grid = TileGrid(len(examples), side or _side(len(examples), pool.cells), pool.cells)
    identity = fingerprint(record, grid.side)
    points = None if checkpoint is None else CheckpointFolder(Path(checkpoint).absolute(), identity)
    run: ClusterRun = TiledRun(model, pool, grid, checkpoint=points)
    blocks = run.finish()
    return _result(model, blocks, attrs | _traffic(pool, grid))


def _checked_rule(rule: Rule | None) -> Ridge:
    check_rule(rule)
    rule = Ridge() if rule is None else rule
    if not isinstance(rule, Ridge) or rule.is_auto:
        raise OptionError(
            f"`rule` must be Ridge with a number on a cluster, the end of training; got {rule!r}. Other "
            "rules and times are answered by `leftout.leave_one_out` on one machine."
        )
    return rule


def _check_kernel(kernel: Kernel) -> None:
    """Raise unless the kernel is one number for each pair of inputs, whatever the labels."""
    check_kernel(kernel)
    if not isinstance(kernel, Kernel) or kernel.depends_on_labels or kernel.outputs or kernel.is_trained:
        raise OptionError(
            f"`kernel` must give one number for each pair of inputs and see no labels on a cluster; got "
            f"{kernel!r}. `leftout.fit` takes it on one machine."
        )


def _check_result(m: int, n: int) -> None:
    check_fits(
        f"The result ({m} × {n})",
        8 * m * n,
        memory_budget(None),
        advice="Let workers write it: `out=`. Or keep less of it: `top=` or `mean=True`.",
    )


def _side(n: int, cells: int) -> int:
    """Return the side of a tile: 1024, or what gives every worker eight along a side of the matrix."""
    return max(1, min(SIDE, n // (8 * int(cells**0.5))))


def _open_for_writing(folder: Path, train: Examples, query: Examples, attrs: dict[str, Any]) -> None:
    """Make the store, or go on with one of the same scores."""
    there = stored_attributes(folder)
    same = ("fitted_fingerprint", "query_fingerprint", "kernel_dtype")
    if there is not None and any(there.get(name) != attrs[name] for name in same):
        raise StoreError(
            f"{str(folder / SCORES)!r} holds scores of another model or other queries. Take another folder "
            "for `out`, or remove it."
        )
    folder.mkdir(parents=True, exist_ok=True)
    create_store(folder, times=TIMES, query=query.ids, train=train.ids, attrs=attrs)


def _traffic(pool: DaskPool, grid: TileGrid) -> dict[str, Any]:
    """Return what is recorded about the cluster."""
    moved = dict(sorted(pool.moved.items()))
    return {
        "workers": pool.cells,
        "tile_side": grid.side,
        "bytes_moved": sum(moved.values()),
        "bytes_moved_by_kind": json.dumps(moved),
        "client_bytes": pool.client_bytes,
    }


def _result(
    model: ModelOnCluster, done: dict[int, list[np.ndarray]], attrs: dict[str, Any]
) -> xr.DataArray | xr.Dataset:
    """Return what was kept of all queries under its axes."""
    groups = [done[start] for start in sorted(done)]
    if model.kept == "store":
        add_attributes(model.folder, attrs)
        stored = open_store(model.folder)["influence"].isel(at=0, drop=True)
        return stored.assign_attrs(attrs | {"at": "end of training"})
    if model.kept == "top":
        ranked = np.concatenate([block for group in groups for block in group])
        return by_rank(ranked[None], TIMES, True, model.query.ids, attrs)
    axes: dict[str, Any] = {"train": model.train.ids}
    if model.kept == "mean":
        totals = [np.concatenate(group) for group in groups]
        values = np.sum(totals, axis=0) / len(model.query)
        attrs = attrs | {"mean_over": "query"}
    else:
        values = _in_place(model, groups)
        axes = {"query": model.query.ids, **axes}
    return labelled_array(
        values[None], times=TIMES, scalar=True, coordinates=axes, attrs=attrs, name="influence"
    )


def _in_place(model: ModelOnCluster, groups: list[list[np.ndarray]]) -> np.ndarray:
    """Return the scores of all queries from blocks (m, b), train by train within a block of queries."""
    values = np.empty((len(model.query), len(model.train)))
    row = column = 0
    for block in (block for group in groups for block in group):
        values[row : row + block.shape[0], column : column + block.shape[1]] = block
        column += block.shape[1]
        if column == values.shape[1]:
            row, column = row + block.shape[0], 0
    return values

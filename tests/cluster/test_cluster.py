"""A cluster of processes gives the numbers of one machine, moves what it should, and outlives a worker."""

import json
import os
import signal
import threading
import time

import numpy as np
import pytest

import leftout as lo
from laws import assert_same
from leftout.cluster import dask_pool
from leftout.cluster.tile_grid import TileGrid
from leftout.core.errors import MemoryBudgetError, NotPositiveError, OptionError, StoreError

distributed = pytest.importorskip("distributed")
dask = pytest.importorskip("dask")

pytestmark = pytest.mark.filterwarnings("ignore")  # of Dask, about ports and unclosed sockets

N, M, SIDE = 600, 40, 150
KERNEL, RULE = lo.kernels.ReLU(1), lo.Ridge(0.1)


@pytest.fixture(scope="module")
def data():
    return lo.load("digits", n_train=N, n_query=M)


@pytest.fixture(scope="module")
def client():
    yield from cluster_of(2)


def cluster_of(workers: int):
    # Replicas are dropped by a timer otherwise, and some of them sent again.
    with (
        dask.config.set({"distributed.scheduler.active-memory-manager.start": False}),
        distributed.LocalCluster(workers, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def from_definition(train, query) -> np.ndarray:
    """Return influence by fitting again without each of the first examples."""
    gram = lo.kernels.gram(KERNEL, train.inputs).numpy()
    cross = lo.kernels.cross(KERNEL, query.inputs, train.inputs).numpy()
    targets, wanted = train.targets.numpy(), query.targets.numpy()

    def losses(keep: np.ndarray) -> np.ndarray:
        system = gram[np.ix_(keep, keep)] + RULE.ridge * np.eye(len(keep))
        predictions = cross[:, keep] @ np.linalg.solve(system, targets[keep])
        return np.square(predictions - wanted).sum(1) / 2

    everyone = np.arange(N)
    return np.stack([losses(np.delete(everyone, i)) - losses(everyone) for i in (0, 149, 150, 599)], axis=1)


def test_scores_are_those_of_the_definition(client, data) -> None:
    train, query = data
    scores = lo.cluster.leave_one_out(KERNEL, train, query, client=client, rule=RULE, side=SIDE)
    assert_same(scores.values[:, [0, 149, 150, 599]], from_definition(train, query), 1e-9)
    dense = lo.leave_one_out(lo.fit(KERNEL, train, rule=RULE), query)
    assert_same(scores, dense, 1e-9)
    assert scores.dims == dense.dims
    assert set(dense.attrs.items()) <= set(scores.attrs.items())
    assert list(scores.train.values) == list(dense.train.values)
    # What arrived at workers is the closed form; the duals have a column an output.
    grid, moved = TileGrid(N, SIDE, 2), json.loads(scores.attrs["bytes_moved_by_kind"])
    of_inverse = sum(moved.get(kind, 0) for kind in ("corner", "panel", "inverse"))
    assert of_inverse == grid.inversion_bytes()
    of_products = sum(moved.get(kind, 0) for kind in ("cross", "residual", "forward", "middle", "backward"))
    assert of_products == grid.product_bytes(M + train.targets.shape[1])
    assert scores.attrs["bytes_moved"] == sum(moved.values())


def test_no_tile_passes_client_or_scheduler(client, data, monkeypatch) -> None:
    """The scheduler of a local cluster is in this process: all that both read and write is looked at."""
    from distributed.comm import tcp

    sizes: list[int] = []
    read = tcp.TCP.read

    async def watched(self, deserializers=None):
        message = await read(self, deserializers=deserializers)
        sizes.append(dask.sizeof.sizeof(message))
        return message

    monkeypatch.setattr(tcp.TCP, "read", watched)
    train, query = data
    mean = lo.cluster.leave_one_out(KERNEL, train, query, client=client, rule=RULE, side=SIDE, mean=True)
    tile = 8 * SIDE * SIDE
    assert sizes
    assert max(sizes) < tile
    assert mean.attrs["client_bytes"] < 8 * (train.inputs.numel() + query.inputs.numel() + 40 * N)
    dense = lo.leave_one_out(lo.fit(KERNEL, train, rule=RULE), query, mean=True)
    assert_same(mean, dense, 1e-9)


def test_ranked_and_stored_scores(client, data, tmp_path) -> None:
    train, query = data
    fitted = lo.fit(KERNEL, train, rule=RULE)
    options = {"client": client, "rule": RULE, "side": SIDE}
    ranked = lo.cluster.leave_one_out(KERNEL, train, query, top=5, **options)
    dense = lo.leave_one_out(fitted, query, top=5)
    assert_same(ranked.helpful, dense.helpful, 1e-9)
    assert_same(ranked.harmful, dense.harmful, 1e-9)
    assert np.array_equal(ranked.helpful_train, dense.helpful_train)
    stored = lo.cluster.leave_one_out(KERNEL, train, query, out=tmp_path / "run", **options)
    assert_same(stored, lo.leave_one_out(fitted, query), 1e-9)
    again = lo.cluster.leave_one_out(KERNEL, train, query, out=tmp_path / "run", **options)
    assert again.attrs["bytes_moved"] == 0  # all of it was there
    with pytest.raises(StoreError, match="another model"):
        lo.cluster.leave_one_out(lo.kernels.ReLU(2), train, query, out=tmp_path / "run", **options)


def test_what_does_not_fit_or_is_not_answered_is_a_sentence(client, data, monkeypatch) -> None:
    train, query = data
    call = lo.cluster.leave_one_out
    with pytest.raises(OptionError, match="`rule` must be Ridge"):
        call(KERNEL, train, query, client=client, rule=lo.GradientFlow(1.0))
    with pytest.raises(OptionError, match="`client` must be a Client"):
        call(KERNEL, train, query, client="tcp://nowhere:1")
    with pytest.raises(NotPositiveError, match="n · eps · tr K"):
        call(KERNEL, train, query, client=client, rule=lo.Ridge(0.0), side=SIDE)
    monkeypatch.setattr(TileGrid, "held_bytes", lambda self: 10**15)
    with pytest.raises(MemoryBudgetError, match="more than their limit"):
        call(KERNEL, train, query, client=client, rule=RULE, side=SIDE)
    monkeypatch.setattr(dask_pool, "distributed", None)
    with pytest.raises(OptionError, match=r"leftout\[distributed\]"):
        call(KERNEL, train, query, client=client, rule=RULE)


def test_a_killed_worker_costs_time_and_not_the_result(client, data, tmp_path) -> None:
    train, query = data
    workers = {address: pid for address, pid in client.run(os.getpid).items()}
    killed = threading.Event()

    def kill_once_tiles_are_saved() -> None:
        end = time.monotonic() + 60
        while not (tmp_path / "checkpoint.json").exists():
            if time.monotonic() > end:
                return
            time.sleep(0.005)
        os.kill(next(iter(workers.values())), signal.SIGKILL)
        killed.set()

    thread = threading.Thread(target=kill_once_tiles_are_saved, daemon=True)
    thread.start()
    scores = lo.cluster.leave_one_out(
        KERNEL, train, query, client=client, rule=RULE, side=30, checkpoint=tmp_path
    )
    thread.join()
    assert killed.is_set()
    assert set(client.run(os.getpid).values()) != set(workers.values())
    assert_same(scores, lo.leave_one_out(lo.fit(KERNEL, train, rule=RULE), query), 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4])
def test_other_numbers_of_workers(workers: int, data) -> None:
    train, query = data
    dense = lo.leave_one_out(lo.fit(KERNEL, train, rule=RULE), query)
    for client in cluster_of(workers):
        scores = lo.cluster.leave_one_out(KERNEL, train, query, client=client, rule=RULE, side=64)
        assert_same(scores, dense, 1e-9)
        moved = json.loads(scores.attrs["bytes_moved_by_kind"])
        of_inverse = sum(moved.get(kind, 0) for kind in ("corner", "panel", "inverse"))
        assert of_inverse == TileGrid(N, 64, workers).inversion_bytes()

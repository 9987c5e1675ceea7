"""The workers of a Dask cluster as cells of a grid: run a graph on them, and notice when one is lost.

Tasks are pinned to the worker of their cell, so that tiles stay where they are. If a worker is lost, what was
in its memory is too: `run` raises `WorkerLostError`, `replace_lost` gives its cells to a new worker, or to
those that are left, and the caller goes on from its last checkpoint. (Dask would make lost results again by
itself, but on any worker, and from panels that were released long ago: all of the inversion, tile by tile.)
"""

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from typing import Any, final
from uuid import uuid4

import numpy as np

from leftout.cluster.tile_graph import Key, TileGraph
from leftout.core.checks import check_kind
from leftout.core.errors import LeftoutError, MemoryBudgetError, OptionError, SolveError
from leftout.core.wording import byte_size

try:
    import distributed
    from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

    from leftout.cluster.transfer_counter import TransferCounter
except ImportError:
    distributed = None  # type: ignore[assignment]

PATIENCE = 30.0
"""Seconds that a new worker in place of a lost one is waited for."""

LOOK = 0.5
"""Seconds between two looks at whether all workers are there."""

GATHER = 60.0
"""Seconds after which it is looked whether all workers are there, while results are taken from them."""

LOSSES = 3
"""Times that workers may be lost between two checkpoints before it is given up."""


def check_installed() -> None:
    """Raise where Dask is not installed."""
    if distributed is None:
        raise OptionError("A `client` of Dask needs dask and distributed. Install `leftout[distributed]`.")


class WorkerLostError(Exception):
    """A worker left while results were on it, or were made on it."""


@final
class DaskPool:
    """Workers by cell, the results that they hold, and what has moved.

    Attributes:
        addresses: of the worker of each cell; one has several where others were lost.
        futures: results that are kept on the workers, by key.
        client_bytes: of inputs sent and results fetched by the client.
    """

    def __init__(self, client: Any) -> None:
        check_installed()
        check_kind("client", client, distributed.Client, what="a Client of dask.distributed")
        self.client = client
        self.addresses = sorted(client.nthreads())
        if not self.addresses:
            raise OptionError(f"`client` must have workers; {client.scheduler.address} has none yet.")
        self.futures: dict[Key, Any] = {}
        self.client_bytes = 0
        self._counter = TransferCounter(uuid4().hex)
        self._moved: dict[str, Counter[str]] = {}
        self._losses = 0
        self._life = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what moves in the block; results are released at its end."""
        self.client.register_plugin(self._counter)
        try:
            yield
        finally:
            self.release(list(self.futures))
            self.client.unregister_worker_plugin(self._counter.name)

    @property
    def cells(self) -> int:
        """Return the number of cells, that of workers at the start."""
        return len(self.addresses)

    @property
    def moved(self) -> Counter[str]:
        """Return the bytes that arrived at workers from others, by kind of result."""
        return sum(self._moved.values(), Counter())

    def check_memory(self, needed: int, *, what: str) -> None:
        """Raise where a worker has less memory than its part takes."""
        limits = [limit for limit in self.client.run(_memory_limit).values() if limit]
        if limits and needed > min(limits):
            raise MemoryBudgetError(
                f"{what} needs {byte_size(needed)} on each of {self.cells} workers, more than their limit of "
                f"{byte_size(min(limits))}. Start more workers, or give them more memory."
            )

    def run(self, graph: TileGraph, keep: Iterable[Key]) -> None:
        """Run what is pending in a graph.

        Args:
            keep: results, of these tasks or of earlier ones, that stay on the workers that made them. All
                others go once the tasks that need them are done.

        Raises:
            WorkerLostError: a worker left.
            LeftoutError: from a task.
            MemoryBudgetError: a task found no memory.
        """
        pending = set(graph.pending)
        calls, workers, priorities = {}, {}, {}
        for key in graph.pending:
            task, name = graph.tasks[key], self._name(key)
            needs = (self._name(need) if need in pending else self.futures[need] for need in task.needs)
            calls[name] = (task.call, *needs)
            workers[name] = [self.addresses[task.cell]]
            priorities[name] = task.priority
            self.client_bytes += sum(_array_bytes(value) for value in task.call.keywords.values())
        annotations = {"workers": workers.__getitem__, "priority": priorities.__getitem__}
        layer = MaterializedLayer(calls, annotations=annotations)
        whole = HighLevelGraph({"leftout": layer}, {"leftout": set()})
        kept = set(keep)
        wanted = [key for key in graph.pending if key in kept]
        names = [self._name(key) for key in wanted]
        futures = self.client.get(whole, names, sync=False)
        graph.pending.clear()
        while not self.client.run_on_scheduler(_knows, names[0]):
            time.sleep(0.01)  # it must know who needs the results that are released
        self.release([key for key in self.futures if key not in kept])
        self.futures |= dict(zip(wanted, futures, strict=True))
        self._wait(futures)
        self._count()

    def fetch(self, keys: Sequence[Key]) -> list[Any]:
        """Return results to the client.

        Raises:
            WorkerLostError: a worker left.
        """
        futures = [self.futures[key] for key in keys]
        while True:
            self._wait(futures)
            try:
                gathering = partial(self.client.gather, futures, asynchronous=True)
                results = self.client.sync(gathering, callback_timeout=GATHER)
            except TimeoutError:
                continue
            self.client_bytes += sum(map(_array_bytes, results))
            return list(results)

    def release(self, keys: Iterable[Key]) -> None:
        """Let workers forget results."""
        for key in keys:
            self.futures.pop(key).release()

    def replace_lost(self) -> None:
        """Give the cells of lost workers to others; nothing is kept of any result.

        Raises:
            SolveError: no worker is left, or they are lost again and again.
        """
        self._losses += 1
        self.client.cancel(list(self.futures.values()), force=True)
        self.futures.clear()
        self._life += 1
        lost = [address for address in set(self.addresses) if address not in self.client.nthreads()]
        if self._losses > LOSSES:
            raise SolveError(
                f"Workers were lost {self._losses} times (the last: {', '.join(lost)}). One that takes more "
                "than its limit of memory is ended by its nanny: look at their logs, and start more of them "
                "or give them more memory."
            )
        here = set(self._workers_after(len(lost)))
        new = sorted(here - set(self.addresses))
        left = [address for address in self.addresses if address in here]
        if not new and not left:
            raise SolveError("All workers were lost, and none came back. Start some, and call again.")
        others = cycle([*new, *left])
        instead = {address: next(others) for address in sorted(lost)}
        self.addresses = [instead.get(address, address) for address in self.addresses]

    def progress_is_kept(self) -> None:
        """Say that what was made until now is on the disk: losses are counted from here."""
        self._losses = 0

    def _workers_after(self, lost: int) -> list[str]:
        """Return the workers that are there once those lost were replaced, or it was waited long enough."""
        give_up = time.monotonic() + PATIENCE
        while True:
            here = sorted(self.client.nthreads())
            if len(set(here) - set(self.addresses)) >= lost or time.monotonic() > give_up:
                return here
            time.sleep(LOOK)

    def _name(self, key: Key) -> Key:
        return (f"{key[0]}-{self._counter.run}", self._life, *key[1:])

    def _wait(self, futures: Sequence[Any]) -> None:
        """Wait until all are there; raise what went wrong in one."""
        while True:
            with contextlib.suppress(TimeoutError, distributed.CancelledError):  # which it was shows below
                distributed.wait(futures, timeout=LOOK)  # type: ignore[no-untyped-call]
            statuses = [future.status for future in futures]
            here = set(self.client.nthreads())
            if lost := sorted(set(self.addresses) - here):
                raise WorkerLostError(", ".join(lost))
            for future, status in zip(futures, statuses, strict=True):
                if status == "error":
                    raise _error_of(future.exception()) from None
            if "cancelled" in statuses or "lost" in statuses:
                raise SolveError("The computation was cancelled on the cluster. Call again.")
            if all(status == "finished" for status in statuses):
                return

    def _count(self) -> None:
        """Ask the workers what has arrived at them; of one that is lost it is known until here."""
        counted = self.client.run(_moved_to, self._counter.name)
        self._moved |= {address: moved for address, moved in counted.items() if moved is not None}


def _knows(name: Key, dask_scheduler: Any) -> bool:
    return name in dask_scheduler.tasks


def _memory_limit(dask_worker: Any) -> int | None:
    return dask_worker.memory_manager.memory_limit


def _moved_to(name: str, dask_worker: Any) -> Counter[str] | None:
    plugin = dask_worker.plugins.get(name)
    return None if plugin is None else Counter(plugin.moved)


def _array_bytes(value: Any) -> int:
    """Return the bytes of an array or tensor, 0 of anything else."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    return value.numel() * value.element_size() if hasattr(value, "element_size") else 0


def _error_of(error: BaseException) -> BaseException:
    """Return what is raised for an error of a task: a sentence where workers had no memory."""
    if isinstance(error, LeftoutError):
        return error
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return MemoryBudgetError(
            f"A worker had no memory for a tile ({error}). Take a smaller `side`, start more workers, or "
            "give them more memory."
        )
    if isinstance(error, distributed.KilledWorker):
        return SolveError(
            f"A task was given up as workers were lost on it, again and again ({error}). They may have had "
            "too little memory: look at their logs."
        )
    return error

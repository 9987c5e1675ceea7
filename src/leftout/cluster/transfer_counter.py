"""Bytes that move between workers, counted where they arrive: results that a worker takes from another."""

from collections import Counter
from typing import Any, final

from distributed import Worker, WorkerPlugin


@final
class TransferCounter(WorkerPlugin):
    """Counts what arrives at one worker, by kind of result; only results of one run.

    Args:
        run: mark of the run, which ends the first part of its keys.
    """

    def __init__(self, run: str) -> None:
        self.run = run
        self.name = f"leftout-transfers-{run}"
        self.moved: Counter[str] = Counter()

    def setup(self, worker: Worker) -> None:
        self.worker = worker

    def transition(self, key: Any, start: str, finish: str, **more: Any) -> None:
        if start == "flight" and finish == "memory" and isinstance(key, tuple):
            kind, _, run = str(key[0]).rpartition("-")
            if run == self.run:
                self.moved[kind] += self.worker.state.tasks[key].get_nbytes()

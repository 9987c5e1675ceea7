"""Progress of long computations, shown on stderr after two seconds, if it is a terminal."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PATIENCE = 2.0
"""Seconds before a bar appears, so that short work shows none."""

Step = TypeVar("Step")

_stage = threading.Lock()
"""Held by the bar that is shown: loops inside its loop show none."""


def with_progress(steps: Iterable[Step], *, what: str, total: int | None = None) -> Iterator[Step]:
    """Yield the steps of a loop, showing a bar on stderr once they take longer than two seconds.

    Nothing is shown where stderr is not a terminal, so logs and pipes stay clean.

    Example:
        >>> sum(with_progress(range(4), what="numbers"))
        6
    """
    count = total if total is not None else len(steps)  # type: ignore[arg-type]
    if not sys.stderr.isatty() or not _stage.acquire(blocking=False):
        yield from steps
        return
    bar = _bar(BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn())
    task = bar.add_task(what, total=count)
    began = time.monotonic()
    shown = False
    try:
        for done, step in enumerate(steps):
            if not shown and time.monotonic() - began > PATIENCE:
                bar.start()
                shown = True
            bar.update(task, completed=done)
            yield step
    finally:
        if shown:
            bar.stop()
        _stage.release()


@contextmanager
def spinner(what: str) -> Iterator[None]:
    """Show a spinner and the time elapsed during a single long call, such as a factorisation.

    A thread shows it, as the call cannot report its progress.
    """
    if not sys.stderr.isatty() or not _stage.acquire(blocking=False):
        yield
        return
    bar = _bar(SpinnerColumn())
    bar.add_task(what, total=None)
    patience = threading.Timer(PATIENCE, bar.start)
    patience.daemon = True
    patience.start()
    try:
        yield
    finally:
        patience.cancel()
        patience.join()
        bar.stop()
        _stage.release()


def _bar(*columns: ProgressColumn) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        *columns,
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )

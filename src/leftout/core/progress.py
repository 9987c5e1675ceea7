"""How far is a long computation? Told on stderr, to a terminal only, after two seconds."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

PATIENCE = 2.0
"""Seconds of silence before a bar appears: shorter work would only flicker."""

Item = TypeVar("Item")

_stage = threading.Lock()
"""Held by what is shown: work inside other work stays silent, and the outer bar goes on."""


def with_progress(items: Iterable[Item], *, what: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items, showing a bar on stderr once they take longer than two seconds.

    Nothing is shown where stderr is not a terminal, so logs and pipes stay clean.

    Example:
        >>> sum(with_progress(range(4), what="numbers"))
        6
    """
    count = total if total is not None else len(items)  # type: ignore[arg-type]
    if not sys.stderr.isatty() or not _stage.acquire(blocking=False):
        yield from items
        return
    bar = _bar(counts=True)
    task = bar.add_task(what, total=count)
    began = time.monotonic()
    shown = False
    try:
        for done, item in enumerate(items):
            if not shown and time.monotonic() - began > PATIENCE:
                bar.start()
                shown = True
            bar.update(task, completed=done)
            yield item
    finally:
        if shown:
            bar.stop()
        _stage.release()


@contextmanager
def spinner(what: str) -> Iterator[None]:
    """Show what is going on, and since when, while one call that cannot report takes long.

    Factorisations are single calls of a library: a thread turns the wheel meanwhile.
    """
    if not sys.stderr.isatty() or not _stage.acquire(blocking=False):
        yield
        return
    bar = _bar(counts=False)
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


def _bar(*, counts: bool) -> Any:
    """Return a bar that is not shown yet; what draws it is loaded only where there is a terminal."""
    from rich import progress
    from rich.console import Console

    steps = (
        progress.BarColumn(),
        progress.TextColumn("{task.completed}/{task.total}"),
        progress.TimeRemainingColumn(),
    )
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        *(steps if counts else (progress.SpinnerColumn(),)),
        progress.TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )

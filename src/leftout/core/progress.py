"""How far is a long computation? Told on stderr, to a terminal only, after two seconds."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PATIENCE = 2.0
"""Seconds of silence before a bar appears: shorter work would only flicker."""

Item = TypeVar("Item")


def tracked(items: Iterable[Item], *, what: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items, showing a bar on stderr once they take longer than two seconds.

    Nothing is shown where stderr is not a terminal, so logs and pipes stay clean.
    """
    count = total if total is not None else len(items)  # type: ignore[arg-type]
    if not sys.stderr.isatty():
        yield from items
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
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

"""Progress of long computations, shown on stderr after two seconds, if it is a terminal."""

import math
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, TypeVar

PATIENCE = 2.0
"""Seconds before a bar appears, so that short work shows none."""

Step = TypeVar("Step")

_stage = threading.Lock()
"""Held by the bar that is shown: loops inside its loop show none."""


def with_progress(
    steps: Iterable[Step], *, what: str, total: int | None = None, work: Sequence[float] | None = None
) -> Iterator[Step]:
    """Yield the steps of a loop, showing a bar on stderr once they take longer than two seconds.

    It appears during a step too, such as a first one that takes minutes.

    Args:
        work: what each step takes, in any unit, where that differs: the time that remains follows it.

    Nothing is shown where stderr is not a terminal, so logs and pipes stay clean.

    Example:
        >>> sum(with_progress(range(4), what="numbers"))
        6
    """
    count = total if total is not None else len(steps)  # type: ignore[arg-type]
    if not sys.stderr.isatty() or not _stage.acquire(blocking=False):
        yield from steps
        return
    bar = _bar(counts=work is None)
    reached = list(accumulate(work, initial=0.0)) if work is not None else range(count + 1)
    task = bar.add_task(what, total=reached[-1])
    began = time.monotonic()
    patience = _start_later(bar)
    try:
        for done, step in enumerate(steps):
            if time.monotonic() - began > PATIENCE:
                bar.start()
            bar.update(task, completed=reached[done])
            yield step
    finally:
        patience.cancel()
        patience.join()
        if bar.live.is_started:
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
    bar = _bar(counts=None)
    bar.add_task(what, total=None)
    patience = _start_later(bar)
    try:
        yield
    finally:
        patience.cancel()
        patience.join()
        bar.stop()
        _stage.release()


def _start_later(bar: Any) -> threading.Timer:
    """Return the timer that shows a bar, unless it is cancelled before."""
    patience = threading.Timer(max(0.0, PATIENCE), bar.start)
    patience.daemon = True
    patience.start()
    return patience


def _bar(*, counts: bool | None) -> Any:
    """Return a bar that is not shown yet; what draws it is loaded only where there is a terminal.

    Args:
        counts: whether it counts steps, or shows a share of the work; None where nothing is known.
    """
    from rich import progress
    from rich.console import Console

    steps = (
        progress.BarColumn(),
        progress.TextColumn("{task.completed}/{task.total}") if counts else progress.TaskProgressColumn(),
        progress.TimeRemainingColumn(),
    )
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        *(steps if counts is not None else (progress.SpinnerColumn(),)),
        progress.TimeElapsedColumn(),
        # From all that was done, not from the last half minute, of which one long step may be.
        speed_estimate_period=math.inf,
        console=Console(stderr=True),
        transient=True,
    )

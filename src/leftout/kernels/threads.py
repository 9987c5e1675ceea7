"""How many small pieces of work are spread over the threads that torch may use.

Operations on arrays that fit a cache are too short to share, so every operation keeps to one thread and
the pieces run side by side.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_thread_each(device: torch.device) -> Iterator[int]:
    """Keep every operation of torch to one thread meanwhile; yield how many pieces may run side by side.

    Threads that wait for a share of the next operation would spin, and take processors from the pieces.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield 1
        return
    torch.set_num_threads(1)  # of this thread, and of those that are started meanwhile
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> Iterator[Result]:
    """Yield work(item) of every item, in their order, so that sums of them are the same every time.

    Nothing is recorded for derivatives.
    """

    def run_alone(item: Item) -> Result:
        with torch.inference_mode():  # set for each thread
            return work(item)

    threads = min(threads, len(items))
    if threads <= 1:
        yield from map(run_alone, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield from pool.map(run_alone, items)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)  # stop the remaining work after an error

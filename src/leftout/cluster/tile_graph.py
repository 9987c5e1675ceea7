"""Tasks, what each needs, where it runs, and what it sends: a graph that any pool of workers can run.

Nothing here knows of Dask. From the graph follows what must move: a result goes once to each other cell
that has a task which needs it.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, final

Key = tuple[Hashable, ...]
"""What a result is called: its kind and its place, such as ("panel", 3, 1)."""


@final
@dataclass(frozen=True)
class TileTask:
    """One call on one worker.

    Attributes:
        call: takes the results of `needs` in their order.
        needs: keys of other tasks.
        cell: number of the worker that should run it.
        numbers: float64 numbers in its result.
        priority: higher ones first, among those that are ready.
    """

    call: partial[Any]
    needs: tuple[Key, ...]
    cell: int
    numbers: int
    priority: int


@final
@dataclass(eq=False)
class TileGraph:
    """Tasks by key; those in `pending` were not given to workers yet."""

    tasks: dict[Key, TileTask] = field(default_factory=dict)
    pending: list[Key] = field(default_factory=list)

    def add(
        self,
        key: Key,
        call: Callable[..., Any],
        needs: Iterable[Key] = (),
        *,
        cell: int,
        numbers: int,
        priority: int = 0,
        **fixed: Any,
    ) -> Key:
        """Add a task, and return its key.

        Args:
            fixed: further arguments of the call, by name.
        """
        assert key not in self.tasks, f"{key} is there already"
        needed = tuple(needs)
        missing = [need for need in needed if need not in self.tasks]
        assert not missing, f"{key} needs {missing}"
        self.tasks[key] = TileTask(partial(call, **fixed), needed, cell, numbers, priority)
        self.pending.append(key)
        return key

    def planned_bytes(self) -> Counter[str]:
        """Return the bytes that must move between cells, by kind of result."""
        takers: defaultdict[Key, set[int]] = defaultdict(set)
        for task in self.tasks.values():
            for need in task.needs:
                takers[need].add(task.cell)
        moved: Counter[str] = Counter()
        for key, cells in takers.items():
            others = len(cells - {self.tasks[key].cell})
            moved[str(key[0])] += 8 * self.tasks[key].numbers * others
        return +moved

    def run_here(self) -> dict[Key, Any]:
        """Return all results, computed in this process one after the other, as they were added.

        Example:
            >>> graph = TileGraph()
            >>> one = graph.add(("one",), lambda: 1.0, cell=0, numbers=1)
            >>> two = graph.add(("two",), lambda x, by: x * by, [one], cell=1, numbers=1, by=2)
            >>> graph.run_here()[two], graph.planned_bytes()["one"]
            (2.0, 8)
        """
        results: dict[Key, Any] = {}
        for key, task in self.tasks.items():
            results[key] = task.call(*(results[need] for need in task.needs))
        self.pending.clear()
        return results

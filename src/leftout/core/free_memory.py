"""How much memory a new allocation can take: of the machine, of a container's limit, of the process's own.

A container sees the memory of the whole machine, and is killed where it takes more than its control group
(cgroup) allows; a process started under `ulimit -v` is refused by the system.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import torch

ROOT = Path("/")
"""Where /proc and /sys lie."""

VERSION_1_FILES = "memory.limit_in_bytes", "memory.usage_in_bytes"


def free_memory(device: torch.device | None = None) -> int:
    """Return the bytes that a new allocation could take on `device` without swapping.

    On the CPU the least of what the machine has available, of what the control groups of this process
    (cgroup v1 or v2) have left, and of what its limit of address space has left.
    """
    if device is not None and device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil  # not every process asks

    process = psutil.Process()
    room = [int(psutil.virtual_memory().available), *control_group_room(ROOT)]
    if hasattr(process, "rlimit"):  # Linux
        limit = process.rlimit(psutil.RLIMIT_AS)[0]
        if limit != psutil.RLIM_INFINITY:
            room.append(limit - process.memory_info().vms)
    return max(0, min(room))


def control_group_room(root: Path) -> Iterator[int]:
    """Yield the bytes left below each limit of the control groups in which this process is.

    Args:
        root: where /proc and /sys lie; "/" but for tests.

    Source:
        docs.kernel.org: admin-guide/cgroup-v2 (memory.max, memory.current, memory.stat), and
        admin-guide/cgroup-v1/memory (memory.limit_in_bytes, memory.usage_in_bytes).
    """
    for folder, limit, usage, cache in _control_groups(root):
        most, used = _number(folder / limit), _number(folder / usage)
        if most is not None and used is not None:
            # Pages of files that nobody maps are given back before anything is refused.
            yield max(0, most - max(0, used - _statistic(folder / "memory.stat", cache)))


def _control_groups(root: Path) -> Iterator[tuple[Path, str, str, str]]:
    """Yield the folders that may limit this process, and the names of limit, usage and cache in them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return
    mounts: tuple[str, ...]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mounts, names = ("", "unified"), ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mounts, names = ("memory",), (*VERSION_1_FILES, "total_inactive_file")
        else:
            continue
        # A group is limited by those above it too. Of a container the mount is its own group, and the path
        # may be one of the machine that is not seen from inside.
        below = Path(path.lstrip("/"))
        for mount, group in product(mounts, (below, *below.parents)):
            yield root / "sys/fs/cgroup" / mount / group, *names


def _number(path: Path) -> int | None:
    """Return the number in a file; None where there is no file, or it says "max"."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _statistic(path: Path, name: str) -> int:
    """Return one number of memory.stat, 0 where it is missing."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), 0)

"""What may be allocated is bounded by the machine, by control groups and by the process's own limit."""

import subprocess
import sys

import psutil
import pytest
import torch

from leftout.core import free_memory as module
from leftout.core.free_memory import control_group_room, free_memory

GB = 10**9


def write(root, files: dict[str, object]) -> None:
    """Write files below a folder that stands for the root of a machine."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def test_it_is_less_than_there_is_and_more_than_nothing() -> None:
    assert 10**6 < free_memory() <= psutil.virtual_memory().total
    assert free_memory(torch.device("cpu")) > 10**6


# The machine's files, and the room below each limit that they tell of.
MACHINES = {
    "version 2, in a container": (
        {
            "proc/self/cgroup": "0::/",
            "sys/fs/cgroup/memory.max": 2 * GB,
            "sys/fs/cgroup/memory.current": GB,
            "sys/fs/cgroup/memory.stat": f"anon {GB}\ninactive_file {GB // 4}",
        },
        [GB + GB // 4],
    ),
    "version 2, a group and the one above": (
        {
            "proc/self/cgroup": "0::/jobs/mine",
            "sys/fs/cgroup/jobs/mine/memory.max": "max",
            "sys/fs/cgroup/jobs/mine/memory.current": GB,
            "sys/fs/cgroup/jobs/memory.max": 3 * GB,
            "sys/fs/cgroup/jobs/memory.current": 2 * GB,
        },
        [GB],
    ),
    "version 1, in a container that does not see its path": (
        {
            "proc/self/cgroup": "5:devices:/docker/12ab\n4:memory:/docker/12ab\n0::/",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": GB,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": GB // 2,
            "sys/fs/cgroup/memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {GB // 2}",
        },
        [GB],
    ),
    "version 1, with other controllers": (
        {
            "proc/self/cgroup": "4:cpu,memory:/batch",
            "sys/fs/cgroup/memory/batch/memory.limit_in_bytes": GB,
            "sys/fs/cgroup/memory/batch/memory.usage_in_bytes": GB + 1,
        },
        [0],
    ),
    "both versions, memory by the second": (
        {
            "proc/self/cgroup": "1:name=systemd:/\n0::/a",
            "sys/fs/cgroup/unified/a/memory.max": 5 * GB,
            "sys/fs/cgroup/unified/a/memory.current": 3 * GB,
        },
        [2 * GB],
    ),
    "no limit": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "max"}, []),
    "no Linux": ({}, []),
}


@pytest.mark.parametrize("name", MACHINES)
def test_the_room_in_control_groups_is_what_their_files_say(name, tmp_path) -> None:
    files, room = MACHINES[name]
    write(tmp_path, files)
    assert list(control_group_room(tmp_path)) == room


def test_the_least_of_all_limits_counts(tmp_path, monkeypatch) -> None:
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/",
            "sys/fs/cgroup/memory.max": 9 * 10**6,
            "sys/fs/cgroup/memory.current": 2 * 10**6,
        },
    )
    monkeypatch.setattr(module, "ROOT", tmp_path)
    assert free_memory() == 7 * 10**6


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="only Linux limits address space")
def test_a_limit_of_address_space_counts() -> None:
    code = (
        "import resource, psutil; from leftout.core.free_memory import free_memory;"
        "used = psutil.Process().memory_info().vms;"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2); print(free_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # Between the two lines the process itself may grow by a few megabytes.
    assert 2.5e8 < int(done.stdout) <= 3e8

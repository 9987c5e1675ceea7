"""Time and memory of one process, and records of both: ratios in one run, on whatever machine it is."""

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from leftout.storage.provenance import environment, save_record

ROOT = Path(__file__).resolve().parent.parent


def seconds(work: Callable[[], Any], *, repeats: int = 3) -> float:
    """Return the shortest of a few runs: noise only ever adds."""
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return best


def alternating(works: dict[str, Callable[[], Any]], *, repeats: int = 3) -> dict[str, float]:
    """Return the shortest time of each, taken in turns so that a busy minute hits all alike."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(repeats):
        for name, work in works.items():
            best[name] = min(best[name], seconds(work, repeats=1))
    return best


def peak_bytes(work: Callable[[], Any]) -> int:
    """Return by how much the resident size of this process rises above now while `work` runs."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def record(name: str, result: dict[str, Any]) -> Path:
    """Write records/DATE-NAME/: command, environment, result."""
    folder = ROOT / "records" / f"{datetime.now(UTC):%Y-%m-%d}-{name}"
    arguments = " ".join(sys.argv[1:])
    command = f"python benchmarks/{Path(sys.argv[0]).name} {arguments}".strip()
    save_record(folder, command=command, environment=environment(), result=result)
    print(json.dumps(result, indent=2))
    print(f"record: {folder.relative_to(ROOT)}")
    return folder


def data_folder() -> Path | None:
    """Return the folder of real data, where there is one."""
    for folder in (os.environ.get("LEFTOUT_DATA"), ROOT.parent / "shared" / "data"):
        if folder is not None and Path(folder).is_dir():
            return Path(folder)
    return None

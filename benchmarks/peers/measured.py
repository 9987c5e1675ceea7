"""One method in a process of its own: its scores in a file, and seconds, peak memory and lines of code."""

import importlib.metadata
import inspect
import io
import json
import shutil
import sys
import time
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch


@dataclass
class Task:
    """What every method is given."""

    folder: Path
    out: Path
    """A folder of the method's own, for its scores."""
    train_inputs: torch.Tensor
    train_labels: torch.Tensor
    query_inputs: torch.Tensor
    query_labels: torch.Tensor

    def dataset(self, which: str) -> torch.utils.data.TensorDataset:
        """Return the inputs and labels of "train" or "query"."""
        return torch.utils.data.TensorDataset(
            getattr(self, f"{which}_inputs"), getattr(self, f"{which}_labels")
        )

    def loader(self, which: str, size: int = 100) -> torch.utils.data.DataLoader:
        """Return batches in order."""
        return torch.utils.data.DataLoader(self.dataset(which), batch_size=size, shuffle=False)


@dataclass
class Method:
    """How a method is asked, and how its answer is read."""

    ask: Callable[[Task], Any]
    """Returns the file of its scores, or losses, in the task's folder of that method."""
    label: str
    source: str
    package: str
    networks: int
    sign: int = 1
    helpers: tuple[Callable[..., Any], ...] = ()
    """Other functions whose lines count as the user's."""
    not_of: tuple[str, ...] = ()
    """Networks (`networks.kind` of a task) of which the method is not asked."""


def main(methods: dict[str, Method]) -> None:
    """Run the method that is named: `python FILE.py FOLDER NAME`."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    method = methods[name]
    out = folder / "scores" / name
    shutil.rmtree(out, ignore_errors=True)  # what a stopped run left
    out.mkdir(parents=True)
    with np.load(folder / "data.npz") as arrays:
        tensors = {key: torch.from_numpy(arrays[key]) for key in arrays}
    task = Task(folder=folder, out=out, **tensors)
    torch.manual_seed(0)
    torch.nn.Linear(2, 2)(torch.zeros(1, 2)).sum().backward()  # torch's own start is no method's memory
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before, began = _status("VmRSS"), time.perf_counter()
    file = method.ask(task)
    report = {
        "label": method.label,
        "source": method.source,
        "sign": method.sign,
        "networks": method.networks,
        "version": importlib.metadata.version(method.package),
        "file": str(Path(file).relative_to(folder)),
        "seconds": round(time.perf_counter() - began, 1),
        "peak_MB": round((_status("VmHWM") - before) / 1e6),
        "lines": sum(map(lines_of, (method.ask, *method.helpers))),
        "threads": torch.get_num_threads(),
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print(name, json.dumps(report))


def lines_of(function: Callable[..., Any]) -> int:
    """Return the lines of code of a function, without its head, docstring and comments."""
    function = getattr(function, "func", function)
    used = set()
    statements = tokenize.generate_tokens(io.StringIO(inspect.getsource(function)).readline)
    plain = (
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    )
    for token in statements:
        if token.type not in plain and not (
            token.type == tokenize.STRING and token.line.strip().startswith('"""')
        ):
            used.update(range(token.start[0], token.end[0] + 1))
    return len(used) - 1


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise KeyError(key)

"""Records of published numbers: a folder with the command, the code, the machine and the result.

command.txt  environment.json  result.json  and figure.png, if there is one
"""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

from leftout.core.version import __version__

HERE = Path(__file__).resolve().parent

FILES = ("command.txt", "environment.json", "result.json", "figure.png")
"""Files of a record; other files in its folder are not ours, and stay."""


def environment(*code: Path) -> dict[str, Any]:
    """Return version, commit (None outside a checkout), libraries and machine.

    Args:
        code: folders, besides that of this package, whose uncommitted changes count as well.

    Example:
        >>> sorted(environment())[:3]
        ['changed_since', 'commit', 'cpus']
    """
    commit = _git("rev-parse", "HEAD")
    return {
        "leftout": __version__,
        "commit": commit,
        "changed_since": bool(_git("status", "--porcelain", "--", ".", *map(str, code))) if commit else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_at_start": os.getloadavg()[0],
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def save_record(
    folder: Path,
    *,
    command: str,
    environment: dict[str, Any],
    result: dict[str, Any],
    pictures: Mapping[str, Callable[[Path], None]] | None = None,
) -> None:
    """Write a record, whole or not at all, over an older one of the same name.

    Args:
        pictures: for each file name, a function that writes the picture at a path.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp()) / "record"
        >>> save_record(folder, command="leftout papers", environment={}, result={"rows": 2})
        >>> sorted(path.name for path in folder.iterdir())
        ['command.txt', 'environment.json', 'result.json']
    """
    recover_record(folder)
    unfinished = _hidden_sibling(folder, "part")
    unfinished.mkdir(parents=True)
    (unfinished / "command.txt").write_text(command + "\n")
    (unfinished / "environment.json").write_text(json.dumps(environment, indent=2) + "\n")
    (unfinished / "result.json").write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    for name, write in (pictures or {}).items():
        write(unfinished / name)
    if folder.exists():
        folder.rename(_hidden_sibling(folder, "old"))
    unfinished.rename(folder)
    recover_record(folder)


def recover_record(folder: Path) -> None:
    """Complete what a killed run left of a record: the old one is back, or the new one is whole.

    No folder is exchanged for another in one step. The old record waits under a hidden name, which
    nothing that lists records sees, until the new one is in its place.
    """
    shutil.rmtree(_hidden_sibling(folder, "part"), ignore_errors=True)
    old = _hidden_sibling(folder, "old")
    if not old.exists():
        return
    if not folder.exists():
        old.rename(folder)
        return
    for path in old.iterdir():
        if path.name in FILES:
            path.unlink()
        else:
            path.rename(folder / path.name)
    old.rmdir()


def recover_records(folder: Path) -> None:
    """Complete what killed runs left of the records in a folder.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / ".figure1.part").mkdir()  # of a run that was killed while it wrote
        >>> recover_records(folder)
        >>> list(folder.iterdir())
        []
    """
    for hidden in [*folder.glob(".*.part"), *folder.glob(".*.old")]:
        recover_record(folder / hidden.stem.removeprefix("."))


def _hidden_sibling(folder: Path, suffix: str) -> Path:
    return folder.with_name(f".{folder.name}.{suffix}")


def _git(*words: str) -> str | None:
    """Return the output of git in the folder of this file; None outside a checkout, or without git."""
    try:
        answer = subprocess.run(["git", *words], cwd=HERE.parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()

"""By what command, from which code and on what machine was a number made? A folder that says so.

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
"""What a record is made of; whatever else lies in its folder is somebody else's, and stays."""


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
    """Write a record, whole or not at all; an older one of the same name is replaced.

    Args:
        pictures: for each file name, what writes it at a path.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp()) / "record"
        >>> save_record(folder, command="leftout papers", environment={}, result={"rows": 2})
        >>> sorted(path.name for path in folder.iterdir())
        ['command.txt', 'environment.json', 'result.json']
    """
    settle(folder)
    part = _beside(folder, "part")
    part.mkdir(parents=True)
    (part / "command.txt").write_text(command + "\n")
    (part / "environment.json").write_text(json.dumps(environment, indent=2) + "\n")
    (part / "result.json").write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    for name, write in (pictures or {}).items():
        write(part / name)
    if folder.exists():
        folder.rename(_beside(folder, "old"))
    part.rename(folder)
    settle(folder)


def settle(folder: Path) -> None:
    """Finish what a killed run left of a record: the old one is back, or the new one is whole.

    No folder is exchanged for another in one step. The old record waits under a hidden name, which
    nothing that lists records sees, until the new one is in its place.
    """
    shutil.rmtree(_beside(folder, "part"), ignore_errors=True)
    old = _beside(folder, "old")
    if not old.exists():
        return
    if not folder.exists():
        old.rename(folder)
        return
    for entry in old.iterdir():
        if entry.name in FILES:
            entry.unlink()
        else:
            entry.rename(folder / entry.name)
    old.rmdir()


def tidy(folder: Path) -> None:
    """Finish what killed runs left of the records in a folder.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / ".figure1.part").mkdir()  # of a run that was killed while it wrote
        >>> tidy(folder)
        >>> list(folder.iterdir())
        []
    """
    for left in [*folder.glob(".*.part"), *folder.glob(".*.old")]:
        settle(folder / left.stem.removeprefix("."))


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")


def _git(*words: str) -> str | None:
    """Return what git says of the folder this file is in; None where there is no checkout or no git."""
    try:
        done = subprocess.run(["git", *words], cwd=HERE.parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()

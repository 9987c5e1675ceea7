"""By what command, from which code and on what machine was a number made? A folder that says so.

command.txt  environment.json  result.json  and pictures, if there are any
"""

import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

from leftout.core.version import __version__

HERE = Path(__file__).resolve().parent


def environment() -> dict[str, Any]:
    """Return version, commit (None outside a checkout), libraries and machine."""
    commit = _git("rev-parse", "HEAD")
    return {
        "leftout": __version__,
        "commit": commit,
        "changed_since": bool(_git("status", "--porcelain", "--", ".")) if commit else None,
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
    """
    part = folder.with_name(folder.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    for old in part.iterdir():
        old.unlink()
    (part / "command.txt").write_text(command + "\n")
    (part / "environment.json").write_text(json.dumps(environment, indent=2) + "\n")
    (part / "result.json").write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    for name, write in (pictures or {}).items():
        write(part / name)
    if folder.exists():
        for old in folder.iterdir():
            old.unlink()
        folder.rmdir()
    part.rename(folder)


def _git(*words: str) -> str | None:
    """Return what git says of the folder this file is in; None where there is no checkout or no git."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=HERE.parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()

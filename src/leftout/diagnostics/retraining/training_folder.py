"""A folder of finished trainings, so that a run that was stopped goes on: arrays by key, and whose they are.

FOLDER/of.json        what they are trainings of: fingerprints of network, data, rule and queries
FOLDER/KEY.npz        arrays of one training or of several that were trained together
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
from joblib import Parallel, delayed

from leftout.core.atomic_files import atomic_write
from leftout.core.errors import StoreError

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")


def open_training_folder(folder: Path, identity: Mapping[str, Any]) -> None:
    """Create the folder, or check that it belongs to this computation.

    Args:
        identity: everything that decides the numbers, JSON-like.

    Raises:
        StoreError: it holds trainings of another computation, or cannot be written.
    """
    path = folder / "of.json"
    try:
        _check_folder(path, identity)
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(path, shared=True) as unfinished:
                unfinished.write_text(json.dumps(identity, indent=2) + "\n")
    except OSError as error:
        raise StoreError(
            f"`out` must be a folder that can be written; {str(folder)!r} is none "
            f"({error.strerror or error}). Choose another."
        ) from None


def _check_folder(path: Path, identity: Mapping[str, Any]) -> None:
    """Raise if the folder of this file is not a folder, or belongs to another computation."""
    folder = path.parent
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"`out` must be a folder; {str(folder)!r} is a file.")
    if path.exists():
        stored = _read_json(path)
        different = [name for name, expected in identity.items() if stored.get(name) != expected]
        if different:
            raise StoreError(
                f"`out` = {str(folder)!r} holds trainings of another computation (other "
                f"{', '.join(different)}): choose another folder, or remove it."
            )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise StoreError(f"{str(path)!r} is damaged: remove the folder and train again.")
    return record


def read_training(path: Path, names: Iterable[str]) -> dict[str, np.ndarray] | None:
    """Return the arrays of these names in a file; None where there is no file.

    Raises:
        StoreError: a damaged file.
    """
    if not path.exists():
        return None
    try:
        # Opened here, as np.load does not close a damaged file.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise StoreError(
            f"{str(path)!r} is damaged ({str(error) or type(error).__name__}): remove it, and it is "
            "trained again."
        ) from None


def write_training(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays by name; the file appears when it is whole."""
    with atomic_write(path, shared=True) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **arrays)


def in_processes(
    function: Callable[[Task], Outcome], tasks: Iterable[Task], *, jobs: int
) -> Iterator[Outcome]:
    """Yield what a function returns of each task, as they finish, in no particular order.

    Args:
        function: sent to the processes as bytes, functions of the user by their code; nothing of that is
            stored.
        jobs: processes; 1 stays in this one.
    """
    tasks = list(tasks)
    if jobs == 1 or len(tasks) < 2:
        yield from map(function, tasks)
        return
    work = Parallel(n_jobs=min(jobs, len(tasks)), return_as="generator_unordered")
    yield from work(delayed(function)(task) for task in tasks)

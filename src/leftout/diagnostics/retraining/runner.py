"""Many trainings of one network, each without some examples: in processes, kept as they finish.

FOLDER/of.json        fingerprint of network, data, rule and queries
FOLDER/KEY.npz        predictions without one group, KEY the hash of its row numbers and start
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float64, Int64
from joblib import Parallel, delayed
from torch import Tensor, nn

from leftout.core.errors import StoreError
from leftout.core.fingerprint import fingerprint
from leftout.core.progress import with_progress
from leftout.data.examples import Examples
from leftout.dynamics.rules import GradientDescent, Ridge
from leftout.dynamics.train import Trained, state_fingerprint, train

Start = Literal["initial", "warm"]

Item = tuple[str, list[int]]
"""A key, and the row numbers that are left out."""

SHARE = 4
"""Tasks for each process: a task carries the network, so groups travel together."""


@dataclass(frozen=True)
class Again:
    """A network trained without some examples.

    Attributes:
        predictions: at the queries.
        steps, relative_gradient, converged, status: as of `Trained`.
    """

    predictions: Float64[np.ndarray, "m k"]
    steps: int
    relative_gradient: float
    converged: bool
    status: str


@dataclass(frozen=True)
class Task:
    """What every training has in common; it travels to each process, so it holds no more.

    Attributes:
        initial, start, train, rule, limit, tolerance: as of `train`.
        query: where to predict.
        memory: share of each process.
        folder: where finished trainings are kept; None keeps none.
    """

    initial: nn.Module
    start: nn.Module | None
    train: Examples
    rule: Ridge | GradientDescent
    limit: int
    tolerance: float | None
    query: Tensor
    memory: int
    folder: Path | None


def trained_again(
    trained: Trained,
    query: Examples,
    groups: Sequence[Int64[Tensor, " _"]],
    *,
    start: Start,
    jobs: int,
    folder: Path | None,
) -> list[Again]:
    """Return the network trained without each group, in the order given.

    Raises:
        StoreError: the folder holds trainings of another network, data or query.
    """
    if folder is not None:
        _open(folder, trained, query)
    task = Task(
        trained.initial,
        trained.module if start == "warm" else None,
        trained.train,
        trained.rule,
        trained.limit,
        trained.tolerance,
        query.inputs,
        max(1, trained.memory // jobs),
        folder,
    )
    keys = [fingerprint(sorted(group.tolist()), start) for group in groups]
    found = {} if folder is None else {key: one for key in set(keys) if (one := _read(folder, key))}
    missing = {key: group.tolist() for key, group in zip(keys, groups, strict=True) if key not in found}
    going = _every(task, list(missing.items()), jobs)
    for key, one in with_progress(going, what="training again", total=len(missing)):
        found[key] = one
    return [found[key] for key in keys]


def _every(task: Task, items: list[Item], jobs: int) -> Iterator[tuple[str, Again]]:
    """Yield keys and trainings as they finish, in no particular order."""
    if jobs == 1 or len(items) < 2:
        yield from (_one(task, item) for item in items)
        return
    size = max(1, len(items) // (SHARE * jobs))
    parts = [items[i : i + size] for i in range(0, len(items), size)]
    work = Parallel(n_jobs=min(jobs, len(parts)), return_as="generator_unordered")
    for done in work(delayed(_some)(task, part) for part in parts):
        yield from done


def _some(task: Task, items: list[Item]) -> list[tuple[str, Again]]:
    return [_one(task, item) for item in items]


def _one(task: Task, item: Item) -> tuple[str, Again]:
    """Return one training; it is on disk before it is returned."""
    key, without = item
    threads = torch.get_num_threads()
    # Sums in another order are other numbers: one thread, however many processes there are.
    torch.set_num_threads(1)
    try:
        found = _without(task, without)
    finally:
        torch.set_num_threads(threads)
    if task.folder is not None:
        _write(task.folder, key, found)
    return key, found


def _without(task: Task, rows: list[int]) -> Again:
    keep = torch.ones(len(task.train), dtype=torch.bool)
    keep[rows] = False
    again = train(
        task.initial,
        task.train.select(torch.nonzero(keep).flatten()),
        rule=task.rule,
        steps=task.limit,
        tolerance=task.tolerance,
        start=task.start,
        memory=task.memory,
    )
    return Again(
        again.predict(task.query).cpu().numpy(),
        again.steps,
        again.relative_gradient,
        again.converged,
        again.status,
    )


def _open(folder: Path, trained: Trained, query: Examples) -> None:
    """Make the folder, or make sure that it belongs to this network and these queries."""
    identity = {
        "network": trained.record["shape"],
        "initial": state_fingerprint(trained.initial),
        "weights": state_fingerprint(trained.module),
        "train": trained.train.fingerprint,
        "query": query.fingerprint,
        "rule": trained.rule.record,
        "tolerance": trained.tolerance,
        "limit": trained.limit,
    }
    path = folder / "of.json"
    try:
        _check_folder(path, identity)
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            part = path.with_name("of.json.part")
            part.write_text(json.dumps(identity, indent=2) + "\n")
            part.replace(path)
    except OSError as error:
        raise StoreError(
            f"`out` must be a folder that can be written; {str(folder)!r} is none "
            f"({error.strerror or error}). Choose another."
        ) from None


def _check_folder(path: Path, identity: dict[str, Any]) -> None:
    """Raise if the folder of this file is none, or belongs to another computation."""
    folder = path.parent
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"`out` must be a folder; {str(folder)!r} is a file.")
    if path.exists():
        kept = _json(path)
        different = [name for name, value in identity.items() if kept.get(name) != value]
        if different:
            raise StoreError(
                f"`out` = {str(folder)!r} holds trainings of another computation (other "
                f"{', '.join(different)}): choose another folder, or remove it."
            )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise StoreError(f"{str(path)!r} is damaged: remove the folder and train again.")
    return found


def _read(folder: Path, key: str) -> Again | None:
    path = folder / f"{key}.npz"
    if not path.exists():
        return None
    try:
        # Opened here, so that it is closed here: np.load leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return Again(
                kept["predictions"],
                int(kept["steps"]),
                float(kept["relative_gradient"]),
                bool(kept["converged"]),
                str(kept["status"]),
            )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise StoreError(
            f"{str(path)!r} is damaged ({str(error) or type(error).__name__}): remove it, and it is "
            "trained again."
        ) from None


def _write(folder: Path, key: str, found: Again) -> None:
    part = folder / f"{key}.{os.getpid()}.part"
    with part.open("wb") as file:
        np.savez(file, **vars(found))
    part.replace(folder / f"{key}.npz")

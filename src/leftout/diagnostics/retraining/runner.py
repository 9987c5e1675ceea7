"""Many trainings of one network, each without a group of examples: in parallel, stored as they finish.

FOLDER/of.json        fingerprint of network, data, rule and queries
FOLDER/KEY.npz        predictions without one group, KEY the hash of its row numbers and start
"""

import json
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

from leftout.core.atomic_files import atomic_write
from leftout.core.errors import StoreError
from leftout.core.fingerprint import fingerprint
from leftout.core.progress import with_progress
from leftout.data.examples import Examples
from leftout.dynamics.rules import GradientDescent, Ridge
from leftout.dynamics.train import Trained, state_fingerprint, train

Start = Literal["initial", "warm"]

GroupKey = tuple[str, list[int]]
"""A key, and the row numbers that are left out."""

SHARE = 4
"""Tasks for each process: each task carries a copy of the network, so it trains several groups."""


@dataclass(frozen=True)
class RetrainedNetwork:
    """A network trained without a group of examples.

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
class RetrainingTask:
    """Everything that all trainings have in common, as sent to each process.

    Attributes:
        initial, start, train, rule, limit, tolerance: as of `train`.
        query: where to predict.
        memory: share of each process.
        folder: where finished trainings are stored; None stores none.
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


def retrain_groups(
    trained: Trained,
    query: Examples,
    groups: Sequence[Int64[Tensor, " _"]],
    *,
    start: Start,
    jobs: int,
    folder: Path | None,
) -> list[RetrainedNetwork]:
    """Return the network trained without each group, in the order given.

    Raises:
        StoreError: the folder holds trainings of another network, data or query.
    """
    if folder is not None:
        _open_folder(folder, trained, query)
    task = RetrainingTask(
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
    networks = (
        {} if folder is None else {key: net for key in set(keys) if (net := _read_training(folder, key))}
    )
    missing = {key: group.tolist() for key, group in zip(keys, groups, strict=True) if key not in networks}
    trainings = _train_all(task, list(missing.items()), jobs)
    for key, network in with_progress(trainings, what="training again", total=len(missing)):
        networks[key] = network
    return [networks[key] for key in keys]


def _train_all(
    task: RetrainingTask, groups: list[GroupKey], jobs: int
) -> Iterator[tuple[str, RetrainedNetwork]]:
    """Yield keys and trainings as they finish, in no particular order."""
    if jobs == 1 or len(groups) < 2:
        yield from (_train_one(task, group) for group in groups)
        return
    size = max(1, len(groups) // (SHARE * jobs))
    batches = [groups[i : i + size] for i in range(0, len(groups), size)]
    work = Parallel(n_jobs=min(jobs, len(batches)), return_as="generator_unordered")
    for done in work(delayed(_train_batch)(task, batch) for batch in batches):
        yield from done


def _train_batch(task: RetrainingTask, groups: list[GroupKey]) -> list[tuple[str, RetrainedNetwork]]:
    return [_train_one(task, group) for group in groups]


def _train_one(task: RetrainingTask, group: GroupKey) -> tuple[str, RetrainedNetwork]:
    """Return one training, after storing it."""
    key, without = group
    threads = torch.get_num_threads()
    # One thread whatever the number of processes: the order of sums changes their rounding.
    torch.set_num_threads(1)
    try:
        network = _train_without(task, without)
    finally:
        torch.set_num_threads(threads)
    if task.folder is not None:
        _write_training(task.folder, key, network)
    return key, network


def _train_without(task: RetrainingTask, rows: list[int]) -> RetrainedNetwork:
    keep = torch.ones(len(task.train), dtype=torch.bool, device="cpu")
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
    return RetrainedNetwork(
        again.predict(task.query).cpu().numpy(),
        again.steps,
        again.relative_gradient,
        again.converged,
        again.status,
    )


def _open_folder(folder: Path, trained: Trained, query: Examples) -> None:
    """Create the folder, or check that it belongs to this network and these queries."""
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
            with atomic_write(path, shared=True) as unfinished:
                unfinished.write_text(json.dumps(identity, indent=2) + "\n")
    except OSError as error:
        raise StoreError(
            f"`out` must be a folder that can be written; {str(folder)!r} is none "
            f"({error.strerror or error}). Choose another."
        ) from None


def _check_folder(path: Path, identity: dict[str, Any]) -> None:
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


def _read_training(folder: Path, key: str) -> RetrainedNetwork | None:
    path = folder / f"{key}.npz"
    if not path.exists():
        return None
    try:
        # Opened here, as np.load does not close a damaged file.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return RetrainedNetwork(
                stored["predictions"],
                int(stored["steps"]),
                float(stored["relative_gradient"]),
                bool(stored["converged"]),
                str(stored["status"]),
            )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise StoreError(
            f"{str(path)!r} is damaged ({str(error) or type(error).__name__}): remove it, and it is "
            "trained again."
        ) from None


def _write_training(folder: Path, key: str, network: RetrainedNetwork) -> None:
    with atomic_write(folder / f"{key}.npz", shared=True) as part, part.open("wb") as file:
        np.savez(file, **vars(network))

"""Many trainings of one network, each without a group of examples: in parallel, stored as they finish.

A file of `training_folder` holds the predictions without one group, its key the hash of row numbers and
start.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from leftout.core.fingerprint import fingerprint
from leftout.core.progress import with_progress
from leftout.data.examples import Examples
from leftout.diagnostics.retraining.training_folder import (
    in_processes,
    open_training_folder,
    read_training,
    write_training,
)
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
    for trainings in in_processes(partial(_train_batch, task), batches, jobs=jobs):
        yield from trainings


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
        write_training(task.folder / f"{key}.npz", vars(network))
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
    open_training_folder(folder, identity)


def _read_training(folder: Path, key: str) -> RetrainedNetwork | None:
    stored = read_training(folder / f"{key}.npz", [field.name for field in fields(RetrainedNetwork)])
    if stored is None:
        return None
    return RetrainedNetwork(
        stored["predictions"],
        int(stored["steps"]),
        float(stored["relative_gradient"]),
        bool(stored["converged"]),
        str(stored["status"]),
    )

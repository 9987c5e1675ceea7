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

import numpy as np
import torch
from jaxtyping import Float64, Int64
from joblib import Parallel, delayed
from torch import Tensor

from leftout.core.errors import StoreError
from leftout.core.fingerprint import fingerprint
from leftout.core.progress import tracked
from leftout.data.examples import Examples
from leftout.dynamics.train import Trained, state_fingerprint, train

Start = Literal["initial", "warm"]

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


def trained_again(
    trained: Trained,
    query: Examples,
    groups: Sequence[Int64[Tensor, " g"]],
    *,
    start: Start,
    jobs: int,
    folder: Path | None,
) -> list[Again]:
    """Return the network trained without each group, in the order given.

    Raises:
        StoreError: the folder holds trainings of another network, data or query.
    """
    keys = [_key(group, start) for group in groups]
    if folder is not None:
        _open(folder, trained, query)
    found = {} if folder is None else {key: one for key in set(keys) if (one := _read(folder, key))}
    missing = {
        key: group.tolist() for key, group in zip(keys, groups, strict=True) if key not in found
    }
    for key, one in tracked(
        _every(trained, query, missing, start, jobs, folder),
        what="training again", total=len(missing),
    ):  # fmt: skip
        found[key] = one
    return [found[key] for key in keys]


def _every(
    trained: Trained,
    query: Examples,
    groups: dict[str, list[int]],
    start: Start,
    jobs: int,
    folder: Path | None,
) -> Iterator[tuple[str, Again]]:
    """Yield keys and trainings as they finish, in no particular order."""
    items = list(groups.items())
    if jobs == 1 or len(items) < 2:
        for item in items:
            yield _one(trained, query, item, start, 1, folder)
        return
    size = max(1, len(items) // (SHARE * jobs))
    parts = [items[i : i + size] for i in range(0, len(items), size)]
    work = Parallel(n_jobs=min(jobs, len(parts)), return_as="generator_unordered")
    tasks = (delayed(_some)(trained, query, part, start, jobs, folder) for part in parts)
    for done in work(tasks):
        yield from done


def _some(
    trained: Trained,
    query: Examples,
    items: list[tuple[str, list[int]]],
    start: Start,
    jobs: int,
    folder: Path | None,
) -> list[tuple[str, Again]]:
    return [_one(trained, query, item, start, jobs, folder) for item in items]


def _one(
    trained: Trained,
    query: Examples,
    item: tuple[str, list[int]],
    start: Start,
    jobs: int,
    folder: Path | None,
) -> tuple[str, Again]:
    """Return one training; it is on disk before it is returned."""
    key, without = item
    threads = torch.get_num_threads()
    # Sums in another order are other numbers: one thread, however many processes there are.
    torch.set_num_threads(1)
    try:
        found = _trained(trained, query, without, start, jobs)
    finally:
        torch.set_num_threads(threads)
    if folder is not None:
        _write(folder, key, found)
    return key, found


def _trained(
    trained: Trained, query: Examples, without: list[int], start: Start, jobs: int
) -> Again:
    keep = torch.ones(len(trained.train), dtype=torch.bool)
    keep[without] = False
    again = train(
        trained.initial,
        trained.train.select(torch.nonzero(keep).flatten()),
        rule=trained.rule,
        steps=trained.limit,
        tolerance=trained.tolerance,
        start=trained.module if start == "warm" else None,
        memory=max(1, trained.memory // jobs),
    )
    return Again(
        again.predict(query).cpu().numpy(), again.steps, again.relative_gradient,
        again.converged, again.status,
    )  # fmt: skip


def _key(group: Int64[Tensor, " g"], start: Start) -> str:
    return fingerprint(sorted(group.tolist()), start)


def _open(folder: Path, trained: Trained, query: Examples) -> None:
    """Make the folder, or make sure that it belongs to this network and these queries."""
    identity = {
        "network": trained.record["module"],
        "initial": state_fingerprint(trained.initial),
        "weights": state_fingerprint(trained.module),
        "train": trained.train.fingerprint,
        "query": query.fingerprint,
        "rule": trained.rule.record,
        "tolerance": trained.tolerance,
        "limit": trained.limit,
    }
    path = folder / "of.json"
    if path.exists():
        kept = _json(path)
        different = [name for name, value in identity.items() if kept.get(name) != value]
        if different:
            raise StoreError(
                f"`out` = {str(folder)!r} holds trainings of another computation (other "
                f"{', '.join(different)}): choose another folder, or remove it."
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name("of.json.part")
    part.write_text(json.dumps(identity, indent=2) + "\n")
    part.replace(path)


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
    with np.load(path, allow_pickle=False) as kept:
        return Again(
            kept["predictions"], int(kept["steps"]), float(kept["relative_gradient"]),
            bool(kept["converged"]), str(kept["status"]),
        )  # fmt: skip


def _write(folder: Path, key: str, found: Again) -> None:
    part = folder / f"{key}.{os.getpid()}.part"
    with part.open("wb") as file:
        np.savez(file, **vars(found))
    part.replace(folder / f"{key}.npz")

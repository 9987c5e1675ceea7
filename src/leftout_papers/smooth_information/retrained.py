"""How weights and predictions change when an example is left out, by training again without it.

FOLDER/KEY/ROW.json    the two numbers of one example, KEY a hash of network, data, rule and queries
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from joblib import Parallel, cpu_count, delayed
from torch.nn.utils import parameters_to_vector

import leftout as lo
from leftout.core import atomic_write, with_progress
from leftout.storage import read_json
from leftout_papers.material import Material


@dataclass(frozen=True)
class Effects:
    """Effects of leaving out each of several examples, one at a time.

    Attributes:
        weights: |w − w_without|².
        predictions: Σ over queries of (f − f_without)².
    """

    weights: Float64[np.ndarray, " r"]
    predictions: Float64[np.ndarray, " r"]

    def select(self, rows: list[int]) -> "Effects":
        """Return the effects of the given rows."""
        return Effects(self.weights[rows], self.predictions[rows])


def retrained_effects(
    material: Material, trained: lo.Trained, query: lo.Examples, rows: list[int]
) -> Effects:
    """Return the effects of training again, from the same initial weights, without each of the rows.

    Finished trainings are kept in the material's folder, so that an interrupted run goes on.
    """
    folder = None
    if material.folder is not None:
        settings = json.dumps([trained.record, trained.limit, query.fingerprint], sort_keys=True)
        folder = material.folder / hashlib.sha256(settings.encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
    device = next(trained.module.parameters()).device.type
    jobs = material.jobs or (1 if material.quick or device != "cpu" else cpu_count())
    if jobs == 1:
        going = (_effects_of_row(trained, query, row, folder) for row in rows)
    else:
        # One thread each: cores that share a small product wait for each other.
        work = Parallel(n_jobs=jobs, return_as="generator")
        going = work(delayed(_single)(trained, query, row, folder) for row in rows)
    effects = np.array(list(with_progress(going, what="training again", total=len(rows))))  # (r, 2)
    return Effects(effects[:, 0], effects[:, 1])


def _single(trained: lo.Trained, query: lo.Examples, row: int, folder: Path | None) -> tuple[float, float]:
    torch.set_num_threads(1)
    return _effects_of_row(trained, query, row, folder)


def _effects_of_row(
    trained: lo.Trained, query: lo.Examples, row: int, folder: Path | None
) -> tuple[float, float]:
    path = None if folder is None else folder / f"{row}.json"
    if path is not None and path.exists():
        weights, predictions = read_json(path)
        return weights, predictions
    keep = [i for i in range(len(trained.train)) if i != row]
    again = lo.train(
        trained.initial,
        trained.train.select(keep),
        rule=trained.rule,
        steps=trained.limit,
        tolerance=None,
        memory=trained.memory,
    )
    now, then = (
        parameters_to_vector(network.module.parameters()).detach().double() for network in (again, trained)
    )
    moved = again.predict(query) - trained.predict(query)
    effects = float((now - then).square().sum()), float(moved.square().sum())
    if path is not None:
        with atomic_write(path, shared=True) as unfinished:
            unfinished.write_text(json.dumps(effects))
    return effects

"""What would each query's loss be, had the network been trained on a subset? By training it, again and again.

This is the ground truth for every attribution: many random subsets, and several seeds of each, whose
agreement says how much of the truth is noise of training.
"""

import json
import pickle
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float64
from joblib import cpu_count
from torch import Tensor

from leftout.attribution.engine.query_blocks import queries_like
from leftout.core.checks import check_count, check_path, check_whole, row_numbers
from leftout.core.errors import OptionError
from leftout.core.fingerprint import fingerprint
from leftout.core.progress import with_progress
from leftout.core.version import __version__
from leftout.core.wording import count, duration
from leftout.data.examples import Examples
from leftout.data.pairs import Data, examples_of
from leftout.diagnostics.retraining.query_losses import LOSSES, LossName, query_losses
from leftout.diagnostics.retraining.sgd_training import Network, SGDTraining
from leftout.diagnostics.retraining.subset_trainings import (
    SubsetTraining,
    TrainFunction,
    subset_training,
    warn_of_short_trainings,
)
from leftout.diagnostics.retraining.subsets import Subsets, subset_membership, tensor_rows
from leftout.diagnostics.retraining.training_folder import (
    in_processes,
    open_training_folder,
    read_training,
    write_training,
)
from leftout.dynamics.train import Trained


def retrain_subsets(
    train_function: TrainFunction | SGDTraining | Trained,
    train: Data,
    query: Data,
    subsets: Subsets,
    *,
    seeds: Iterable[SupportsIndex] | SupportsIndex = 0,
    loss: LossName | None = None,
    at_once: int | None = None,
    jobs: int | None = None,
    out: str | Path | None = None,
) -> xr.Dataset:
    """Return the loss of each query after training on each subset only, with each seed.

    Args:
        train_function: how to train. A function of (train, seed), which gets the `Examples` of the subset
            (`inputs`, `targets`, `labels`) and returns a network, or a function of inputs that gives outputs
            (m, k): it may train in any way. Or an `SGDTraining`, of which many small networks are trained at
            once. Or a network from `lo.train`, which is trained in the same way.
        train: Examples, a pair (inputs, targets) of arrays, or a Dataset.
        query: likewise.
        subsets: rows kept, one row of row numbers or of truth values for each training, such as
            `random_subsets` gives; a mapping names them.
        seeds: one or more; each gives a network of every subset.
        loss: "cross-entropy" or "squared" (½ Σ (f − y)²), of the queries; where not said, that of training,
            and for a function cross-entropy of classes and squared of numbers.
        at_once: networks of an `SGDTraining` that are trained together; as many as pay if not said, 1 for one
            after another.
        jobs: processes; None for one per core. Each uses one thread, so that the numbers do not depend on how
            many there are. Functions are sent to them by their code (cloudpickle).
        out: folder that stores what is finished, so that a run that was stopped goes on and ends with the
            same numbers. A function is known there by its name and text.

    Returns:
        A Dataset with `loss` (subset, seed, query), and `kept` (subset, train): which examples each subset
        keeps. Attributes: units, fingerprints of the data, `training` (what trained, as JSON), `way` (how
        many at once, and why), `not_converged`. A file of it (`to_zarr`) holds all that `referee` needs.

    Raises:
        OptionError: a subset, seed or option that cannot be; a function that fails, or that cannot be sent to
            other processes.
        ShapeError: outputs that are not one for each class or target.
        DataError: outputs that are not finite.
        DivergenceError: an `SGDTraining` whose loss leaves the numbers.
        StoreError: `out` holds trainings of another computation, or cannot be written.

    Warns:
        NotConvergedWarning: a training like `lo.train`'s stopped short of its tolerance.

    Cost:
        subsets × seeds trainings; the bar on a terminal says how long they will take.

    Example:
        >>> import leftout as lo, torch
        >>> train, query = lo.load("digits", n_train=60, n_query=20)
        >>> recipe = lo.SGDTraining(epochs=3, batch_size=10, learning_rate=1.0,
        ...     build=lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)))
        >>> subsets = lo.random_subsets(60, count=4)
        >>> truth = lo.retrain_subsets(recipe, train, query, subsets, seeds=(0, 1), jobs=1)
        >>> truth.sizes["subset"], truth.sizes["seed"], truth.attrs["way"]
        (4, 2, '64 networks at once')
    """
    examples = examples_of(train, name="train")
    queries = queries_like(examples, query)
    names, kept = subset_membership(subsets, len(examples))
    seed_list = _seeds(seeds)
    for name, option in (("at_once", at_once), ("jobs", jobs)):
        if option is not None:
            check_count(name, option)
    training = subset_training(train_function, examples, seeds=seed_list, loss=loss, at_once=at_once)
    folder = None
    if out is not None:
        check_path("out", out)
        folder = Path(out)
        open_training_folder(
            folder, {**training.record, "train": examples.fingerprint, "query": queries.fingerprint}
        )
    networks = [(tensor_rows(rows), seed) for rows in kept for seed in seed_list]
    work = _Trainings(training, examples, queries.inputs, folder)
    outputs, statuses = _train_networks(work, networks, jobs or int(cpu_count()))
    values = torch.stack([query_losses(network, queries, training.loss) for network in outputs])
    return loss_dataset(
        values.view(len(names), len(seed_list), -1).numpy(),
        names=names,
        kept=kept,
        train=examples,
        query=queries,
        seeds=seed_list,
        loss=training.loss,
        method="retrain_subsets",
        training=json.dumps(training.record),
        way=training.way,
        not_converged=warn_of_short_trainings(statuses),
    )


def loss_dataset(
    losses: Float64[np.ndarray, "subsets *seeds m"],
    *,
    names: Sequence[str],
    kept: Bool[np.ndarray, "subsets n"],
    train: Examples,
    query: Examples,
    loss: LossName,
    method: str,
    seeds: Sequence[int] | None = None,
    **attrs: Any,
) -> xr.Dataset:
    """Return losses of queries after training on subsets, and which examples each keeps, as a Dataset."""
    dims = ("subset", "query") if seeds is None else ("subset", "seed", "query")
    coordinates: dict[str, Any] = {
        "subset": np.asarray(names),
        "query": np.asarray(query.ids),
        "train": np.asarray(train.ids),
    }
    if seeds is not None:
        coordinates["seed"] = np.asarray(seeds)
    about = {
        "method": method,
        "loss": loss,
        "units": LOSSES[loss].units,
        "sign": "loss after training on the subset alone: smaller = better",
        "train_fingerprint": train.fingerprint,
        "query_fingerprint": query.fingerprint,
        "leftout_version": __version__,
    }
    variables = {"loss": (dims, losses), "kept": (("subset", "train"), kept)}
    return xr.Dataset(variables, coords=coordinates, attrs=about | attrs)


@dataclass(frozen=True)
class _Trainings:
    """Everything that all trainings have in common, as sent to each process."""

    training: SubsetTraining
    train: Examples
    query: Tensor
    folder: Path | None

    def __call__(self, networks: Sequence[Network]) -> tuple[str, Tensor, list[str]]:
        """Return key, outputs (c, m, k) and endings of networks trained together, after storing them."""
        threads = torch.get_num_threads()
        # One thread whatever the number of processes: the order of sums changes their rounding.
        torch.set_num_threads(1)
        try:
            outcomes = self.training.outcomes(self.train, networks, self.query)
        finally:
            torch.set_num_threads(threads)
        outputs = torch.stack([outputs for outputs, _ in outcomes])
        statuses = [status for _, status in outcomes]
        key = _key(networks)
        if self.folder is not None:
            write_training(
                self.folder / f"{key}.npz", {"outputs": outputs.numpy(), "statuses": np.asarray(statuses)}
            )
        return key, outputs, statuses

    def stored(self, networks: Sequence[Network]) -> tuple[Tensor, list[str]] | None:
        """Return what an earlier run stored of these networks; None where there is nothing."""
        if self.folder is None:
            return None
        arrays = read_training(self.folder / f"{_key(networks)}.npz", ("outputs", "statuses"))
        if arrays is None:
            return None
        return torch.from_numpy(arrays["outputs"]), [str(status) for status in arrays["statuses"]]


def _train_networks(
    work: _Trainings, networks: Sequence[Network], jobs: int
) -> tuple[list[Tensor], list[str]]:
    """Return the outputs and the ending of each network."""
    places = list(_chunks(networks, work.training.at_once))
    chunks = [[networks[place] for place in chunk] for chunk in places]
    keys = [_key(chunk) for chunk in chunks]
    outcomes = {
        key: outcome
        for key, chunk in zip(keys, chunks, strict=True)
        if (outcome := work.stored(chunk)) is not None
    }
    missing = {key: chunk for key, chunk in zip(keys, chunks, strict=True) if key not in outcomes}
    for key, outputs, statuses in with_progress(
        _run(work, list(missing.values()), jobs),
        what=_announcement(work, list(missing.values()), jobs),
        total=len(missing),
    ):
        outcomes[key] = (outputs, statuses)
    by_network: dict[int, tuple[Tensor, str]] = {}
    for key, chunk in zip(keys, places, strict=True):
        by_network |= dict(zip(chunk, zip(*outcomes[key], strict=True), strict=True))
    return [by_network[i][0] for i in range(len(networks))], [by_network[i][1] for i in range(len(networks))]


def _run(work: _Trainings, chunks: list[list[Network]], jobs: int) -> Iterator[tuple[str, Tensor, list[str]]]:
    try:
        yield from in_processes(work, chunks, jobs=jobs)
    except pickle.PicklingError as error:
        raise OptionError(
            "`train_function` must be one that other processes can be given; it holds something that cannot "
            f"be sent ({error}). Pass jobs=1, or open it inside the function."
        ) from error


def _chunks(networks: Sequence[Network], at_once: int) -> Iterator[list[int]]:
    """Yield the places of networks that are trained together: of one size, the same whatever is stored
    already.
    """
    by_size: dict[int, list[int]] = {}
    for place, (rows, _) in enumerate(networks):
        by_size.setdefault(len(rows), []).append(place)
    for places in by_size.values():
        yield from (places[start : start + at_once] for start in range(0, len(places), at_once))


def _announcement(work: _Trainings, chunks: Sequence[Sequence[Network]], jobs: int) -> str:
    """Return what is going to be done, with about the time that it takes where a trial can tell."""
    networks = sum(map(len, chunks))
    text = f"training {count(networks, 'network')} on subsets"
    if not chunks or not sys.stderr.isatty():  # nobody would read it
        return text
    seconds = work.training.seconds(work.train, chunks[0])
    if seconds is None:
        return text
    total = seconds / len(chunks[0]) * networks / min(jobs, len(chunks))
    return f"{text}, about {duration(total)}"


def _key(networks: Sequence[Network]) -> str:
    return fingerprint([[rows.tolist(), seed] for rows, seed in networks])


def _seeds(seeds: Iterable[SupportsIndex] | SupportsIndex) -> list[int]:
    """Return seeds as whole numbers, each once."""
    numbers = row_numbers("seeds", seeds)
    for seed in numbers:
        check_whole("seeds", seed, 0)
    if not numbers or len(set(numbers)) < len(numbers):
        raise OptionError(f"`seeds` must be one or more different whole numbers; got {numbers}.")
    return numbers

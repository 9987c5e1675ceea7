"""Do the answers of an audit speak for the network trained again? Measured: by training it again.

Random halves of the training examples judge groups; single examples left out are judged beside what a second
seed of the same training says of them, which is mostly another thing.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Generator

from leftout.core.errors import OptionError
from leftout.core.wording import number, number_with_interval
from leftout.data.examples import Examples
from leftout.diagnostics.referee.referee import referee
from leftout.diagnostics.retraining.retrain_subsets import retrain_subsets
from leftout.diagnostics.retraining.sgd_training import SGDTraining
from leftout.diagnostics.retraining.subsets import random_subsets
from leftout.dynamics.fitted import Fitted
from leftout.kernels.network.empirical import Empirical

SEEDS = (0, 1)
"""Networks of each training; two tell how much of a difference is their seed's."""

HALVES, SINGLES = "lds", "leave_one_out"


@dataclass(frozen=True)
class Measured:
    """What one measure says of the answers.

    Attributes:
        measure: "lds", of groups, or "leave_one_out", of single examples: rank correlations, means over
        queries. trainings: networks trained for it.
        estimate, low, high: with an interval of 95 %.
        ceiling: what exact knowledge of the mean over seeds would reach.
        sentence: the same in words.
        queries_left_out: queries whose loss no training moved, which have no correlation.
    """

    measure: str
    estimate: float
    low: float
    high: float
    ceiling: float
    sentence: str
    queries_left_out: int = 0

    @property
    def record(self) -> dict[str, Any]:
        """Return everything, JSON-like."""
        return asdict(self)


def retrained_answers(
    training: SGDTraining,
    train: Examples,
    query: Examples,
    scores: xr.DataArray,
    *,
    subsets: int,
    examples: int,
    seed: int,
    out: Path | None = None,
) -> tuple[Measured, ...]:
    """Return how the answers agree with networks that were trained again.

    Args:
        training: how the network was trained.
        scores: influence (query, train), positive = the example helped.
        subsets: random halves to train on; 0 for none.
        examples: training examples, drawn at random, to train without; 0 for none.
        seed: of both draws.
        out: folder that keeps what is trained.

    Raises:
        DivergenceError, OptionError, ShapeError: as of `retrain_subsets`.

    Cost:
        2 (subsets + examples + 1) trainings.
    """
    measured = []
    if subsets:
        halves = random_subsets(len(train), count=subsets, seed=seed)
        folder = out and out / "halves"
        truth = retrain_subsets(training, train, query, halves, seeds=SEEDS, out=folder)
        moved = _vary(truth.loss.mean("seed").transpose("query", "subset").values, scores.values)
        how = f"really training on {subsets} random halves, in {len(SEEDS)} seeds each,"
        measured.append(_judge(HALVES, scores, truth, moved=moved, how=how, seed=seed))
    if examples:
        rows = (
            torch.randperm(len(train), generator=Generator().manual_seed(seed), device="cpu")[:examples]
            .sort()
            .values
        )
        kept = np.ones((examples + 1, len(train)), dtype=bool)
        kept[np.arange(1, examples + 1), rows.numpy()] = False
        folder = out and out / "examples"
        losses = retrain_subsets(training, train, query, kept, seeds=SEEDS, out=folder).loss
        effects = (losses[1:].values - losses[:1].values).transpose(1, 2, 0)
        effect = xr.DataArray(
            effects,
            dims=("seed", "query", "train"),
            coords={"query": list(query.ids), "train": [train.ids[row] for row in rows.tolist()]},
        )
        of_these = scores[:, rows.numpy()]
        moved = _vary(effects.mean(0), of_these.values)
        how = f"really training without each of {examples} examples, in {len(SEEDS)} seeds each,"
        measured.append(_judge(SINGLES, of_these, effect, moved=moved, how=how, seed=seed))
    return tuple(measured)


def check_training(training: SGDTraining, fitted: Fitted) -> None:
    """Raise unless the training makes networks like the one that is asked.

    Raises:
        OptionError: parameters of other names or shapes; names the first.
    """
    kernel = fitted.kernel
    assert isinstance(kernel, Empirical)
    ours, theirs = (
        {name: tuple(weight.shape) for name, weight in module.named_parameters()}
        for module in (kernel.module, training.network(0))
    )
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            raise OptionError(
                f"`training` must build networks like the one that is audited; {name!r} has shape "
                f"{theirs.get(name, 'none')} there, and {ours.get(name, 'none')} here."
            )


def _vary(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return for which queries both numbers vary over columns."""
    moved: np.ndarray = (np.ptp(truth, axis=1) > 0) & (np.ptp(scores, axis=1) > 0)
    return moved


def _judge(
    measure: str,
    scores: xr.DataArray,
    truth: xr.Dataset | xr.DataArray,
    *,
    moved: np.ndarray,
    how: str,
    seed: int,
) -> Measured:
    """Return what the referee says of the queries whose loss moves."""
    left_out = int((~moved).sum())
    if left_out == len(moved):
        nan = float("nan")
        return Measured(measure, nan, nan, nan, nan, f"{how} moved the loss of no query.", left_out)
    row = referee(scores[moved], truth.isel(query=np.flatnonzero(moved)), seed=seed).sel(measure=measure)
    estimate, low, high, ceiling = (float(row[name]) for name in ("estimate", "low", "high", "ceiling"))
    sentence = (
        f"{how} agrees with these answers by a rank correlation of "
        f"{number_with_interval(estimate, low, high)}, where the noise of training allows {number(ceiling)}."
    )
    return Measured(measure, estimate, low, high, ceiling, sentence, left_out)

"""A predicted removal curve beside that of the network, trained again without the removed examples.

The curve of `prune` is that of the kernel model, or of the linearised network. A trained network has another
curve: here it is computed at a few counts, each network trained from the same initial weights.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from leftout.attribution.engine.query_blocks import queries_like
from leftout.core.checks import check_kind, row_numbers
from leftout.core.errors import OptionError
from leftout.curation.prune import Pruned, loss_and_accuracy
from leftout.data.pairs import Data
from leftout.diagnostics.retraining.retrain import retrain
from leftout.dynamics.rules import GradientDescent, Rule
from leftout.dynamics.train import Trained


@dataclass(frozen=True)
class PruneCheck:
    """A predicted removal curve beside a trained network's.

    Attributes:
        counts, shares: of the order removed.
        predicted_loss, predicted_accuracy: as `Pruned` has them.
        retrained_loss, retrained_accuracy: of the network, trained again on what remains; that of all
            examples at 0.
        not_converged: of the networks trained again.
    """

    counts: tuple[int, ...]
    shares: tuple[float, ...]
    predicted_loss: tuple[float, ...]
    predicted_accuracy: tuple[float, ...] | None
    retrained_loss: tuple[float, ...]
    retrained_accuracy: tuple[float, ...] | None
    not_converged: int

    def to_frame(self) -> pd.DataFrame:
        """Return both curves as a table: a row for each count."""
        columns = {name: column for name, column in vars(self).items() if isinstance(column, tuple)}
        return pd.DataFrame(columns)


def prune_check(
    pruned: Pruned,
    trained: Trained,
    query: Data,
    *,
    counts: Sequence[int] | None = None,
    jobs: int | None = None,
    out: str | Path | None = None,
) -> PruneCheck:
    """Return query loss and accuracy at counts of the removal order, predicted and from training again.

    Args:
        pruned: from `prune`, on the same examples.
        trained: from `train`, by the rule and for the time of `pruned`: the same module, limit of steps
            and tolerance are used.
        query: the queries of `pruned`.
        counts: some of the counts of `pruned`; None for all.
        jobs, out: processes, and a folder that stores finished trainings, as for `retrain`.

    Raises:
        OptionError: a count that the curve does not have, an order of other examples or queries, or a
            network trained by another rule or for another time.
        StoreError: `out` holds trainings of another network, data or query, or cannot be written.

    Warns:
        NotConvergedWarning: a network stopped short of its tolerance.

    Cost:
        one training for each count above 0.

    Example:
        >>> import leftout as lo, torch
        >>> inputs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
        >>> data = inputs, torch.tensor([1.0, -1.0, 0.5])
        >>> module = torch.nn.Linear(2, 1).double()
        >>> trained = lo.train(module, data, rule=lo.Ridge(0.1))
        >>> fitted = lo.fit(lo.kernels.Empirical(module, weights="initial"), data, rule=lo.Ridge(0.1))
        >>> check = lo.prune_check(lo.prune(fitted, data, shares=[0.3]), trained, data, jobs=1)
        >>> check.counts
        (0, 1)
        >>> abs(check.predicted_loss[1] - check.retrained_loss[1]) < 1e-4  # a linear module: they agree
        True
    """
    check_kind("pruned", pruned, Pruned, what="an order of removal, from `prune`")
    check_kind("trained", trained, Trained, what="a trained network, from `train`")
    examples = queries_like(trained.train, query)
    for name, fingerprint, expected in (
        ("trained", trained.train.fingerprint, pruned.train),
        ("query", examples.fingerprint, pruned.query),
    ):
        if fingerprint != expected:
            raise OptionError(
                f"`{name}` must hold the examples that `pruned` was made from; these are different. "
                "Pass the same Examples to `prune`, `train` and here."
            )
    _check_trained_alike(pruned, trained)
    chosen = _counts_to_train(pruned, counts)
    groups = {str(count): pruned.order[:count] for count in chosen if count}
    before = trained.predict(examples).cpu()
    predictions = {0: before}
    not_converged = 0
    if groups:
        effect = retrain(trained, examples, groups, of="prediction", jobs=jobs, out=out)
        not_converged = int(effect.attrs["not_converged"])
        change = torch.from_numpy(effect.values)  # (m, g, k), with minus without
        predictions |= {int(name): before - change[:, j] for j, name in enumerate(groups)}
    loss, accuracy = loss_and_accuracy(
        [predictions[count] for count in chosen], examples, trained.rule.example_loss
    )
    positions = [pruned.counts.index(count) for count in chosen]
    right = pruned.accuracy
    return PruneCheck(
        counts=tuple(chosen),
        shares=tuple(pruned.shares[j] for j in positions),
        predicted_loss=tuple(pruned.loss[j] for j in positions),
        predicted_accuracy=None if right is None else tuple(right[j] for j in positions),
        retrained_loss=tuple(loss),
        retrained_accuracy=accuracy,
        not_converged=not_converged,
    )


def _check_trained_alike(pruned: Pruned, trained: Trained) -> None:
    """Raise unless the network was trained by the rule and for the time of the pruned model.

    At the end of training ridge and loss must agree; before it, a flow also agrees with descent of the same
    rate · steps.
    """
    assert pruned.rule is not None, "`prune` says by which rule"
    steps = math.inf if trained.tolerance is not None else float(trained.steps)
    predicted_by, trained_by = _course(pruned.rule, pruned.time), _course(trained.rule, steps)
    both_step = isinstance(pruned.rule, GradientDescent) and isinstance(trained.rule, GradientDescent)
    steps_differ = both_step and math.isfinite(pruned.time) and pruned.time != steps
    alike = math.isclose(predicted_by[2], trained_by[2], rel_tol=1e-9)
    if predicted_by[:2] != trained_by[:2] or not alike or steps_differ:
        raise OptionError(
            f"`trained` must be trained as the model of `pruned` was, by {pruned.rule!r} "
            f"{_for(pruned.time)}; it was by {trained.rule!r} {_for(steps)}."
        )


def _course(rule: Rule, time: float) -> tuple[float, str, float]:
    """Return ridge, loss, and rate times time."""
    rate = getattr(rule, "rate", math.inf)
    return rule.ridge, rule.loss, math.inf if math.isinf(time) else rate * time


def _for(time: float) -> str:
    return "to the end" if math.isinf(time) else f"for a time of {time:g}"


def _counts_to_train(pruned: Pruned, counts: Sequence[int] | None) -> list[int]:
    """Return the counts to train at, ascending; raise for a count that is not on the curve."""
    if counts is None:
        return list(pruned.counts)
    chosen = sorted(set(row_numbers("counts", counts)))
    unknown = [count for count in chosen if count not in pruned.counts]
    if unknown or not chosen:
        came = unknown[0] if unknown else "none"
        raise OptionError(
            f"`counts` must be among those of `pruned`, {', '.join(map(str, pruned.counts))}; got {came}."
        )
    return chosen

"""How far is the linearised model from its network?

    linearised     f_0(x) + J(x) (w_t − w_0)        the prediction of the kernel model
    network        f(x; w_t)                        that of the network at the same weights w_t

Their difference is compared with J(x) (w_t − w_0), the change of the prediction by training: where it is
relatively small, the network is nearly linear on the way, and results of the kernel model hold for it. With
`retrain_examples` the network is trained, and trained again without some examples.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.query_blocks import queries_of
from leftout.attribution.leave_one_out import leave_one_out
from leftout.core.checks import check_seed, row_numbers
from leftout.core.errors import OptionError
from leftout.data.examples import Examples
from leftout.data.pairs import Data
from leftout.diagnostics.retraining.agreement import FEWEST, agreement
from leftout.diagnostics.retraining.retrain import retrain
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.follow import check_followed, follow
from leftout.dynamics.linearised_module import linear_kernel, linearised_module
from leftout.dynamics.rules import At
from leftout.dynamics.train import predictions

SMALL, LARGE = 0.1, 0.25
"""Gaps relative to the change of predictions in training: up to the first they are small, beyond the second
large. On forty networks that classify digits (benchmarks/linearity.py) exact leave-one-out correlates
with retraining at 0.90 to 1.00 below; at 0.60 to 0.95 between, one at 0.01; and at 0.02 to 0.92 beyond,
mostly below 0.5. For influence `linearity_test` has a closer measure."""


@dataclass(frozen=True)
class RetrainingCheck:
    """The network, trained, and trained again without a few examples, beside the linearised model.

    Attributes:
        left_out: row numbers of the examples, each left out alone.
        gap: root mean square over queries and outputs of linearised minus trained network.
        agreement: share of queries that both give the same class; None for regression.
        pearson, slope: of the exact leave-one-out influence of the linearised model against that of
            retraining, over all queries and left-out examples.
        trained: how training ended, in one sentence.
        converged: whether it and all trainings without an example took their prescribed steps, or reached the
            minimum.
    """

    left_out: tuple[int, ...]
    gap: float
    agreement: float | None
    pearson: float
    slope: float
    trained: str
    converged: bool


@dataclass(frozen=True)
class LinearisationGap:
    """The linearised model beside the network at the same weights, on queries.

    Attributes:
        at: training time; inf is the end.
        moved: root mean square over queries and outputs of linearised minus f_0.
        gap: the same of linearised minus network.
        agreement: share of queries that both give the same class; None for regression.
        accuracy_before, accuracy_linearised, accuracy_network: share of queries whose class is right, by
            the network as passed, linearised, and at the weights w_t; None for regression.
        retraining: the comparison with the trained network; None without `retrain_examples`.
    """

    at: float
    moved: float
    gap: float
    agreement: float | None
    accuracy_before: float | None
    accuracy_linearised: float | None
    accuracy_network: float | None
    retraining: RetrainingCheck | None = None

    @property
    def relative_gap(self) -> float:
        """Return gap / moved: 0 for a linear network, inf if only the network's predictions moved."""
        return safe_ratio(self.gap, self.moved)

    @property
    def record(self) -> dict[str, Any]:
        """Return all of it, JSON-like."""
        return asdict(self) | {"relative_gap": self.relative_gap}


def linearisation_gap(
    fitted: Fitted,
    query: Data,
    *,
    at: At = None,
    retrain_examples: int | Sequence[int] = 0,
    seed: int = 0,
    jobs: int | None = None,
    out: str | Path | None = None,
) -> LinearisationGap:
    """Return how far the linearised model is from its network, on queries.

    Use it to check a fitted model without training. `linearity_test` compares both while the network is
    trained, at the cost of one training; `retrain_examples` compares influences, at the cost of many.

    Args:
        fitted: of an Empirical kernel with outputs="full" (or one output), not projected.
        query: Examples, or a pair (inputs, targets) like the training data.
        at: training time; None for the end.
        retrain_examples: how many training examples, or which, to leave out of the network's training, each
            alone; 0 for no training.
        seed: chooses them.
        jobs, out: as for `retrain`.

    Raises:
        OptionError: another kernel; retraining under a flow, which a network cannot be trained by exactly.

    Warns:
        NotConvergedWarning: the network, or one trained again, stopped short of its tolerance.

    Cost:
        a pass over the training examples and two over the queries; with `retrain_examples` one training and
        one more for each example.

    Example:
        >>> import leftout as lo, torch
        >>> inputs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
        >>> data = inputs, torch.tensor([1.0, -1.0, 0.5])
        >>> kernel = lo.kernels.Empirical(torch.nn.Linear(2, 1).double(), weights="initial")
        >>> fitted = lo.fit(kernel, data, rule=lo.Ridge(0.1))
        >>> lo.linearisation_gap(fitted, data).relative_gap < 1e-10  # the module is linear
        True
    """
    check_seed(seed)
    examples, time = queries_of(fitted, query), fitted.rule.time(at)
    kernel = linear_kernel(fitted)
    chosen = _rows_to_leave_out(retrain_examples, len(fitted), seed)
    if chosen:
        check_followed(fitted.rule, time)
    before = kernel.initial(examples.inputs).cpu()
    predicted = fitted.predict(examples, time).cpu()
    after = predictions(
        linearised_module(fitted, time), examples.inputs, outputs=fitted.outputs, memory=fitted.memory
    ).cpu()
    return LinearisationGap(
        at=time,
        moved=rms(predicted - before),
        gap=rms(predicted - after),
        agreement=_class_agreement(examples, predicted, after),
        accuracy_before=examples.accuracy(before),
        accuracy_linearised=examples.accuracy(predicted),
        accuracy_network=examples.accuracy(after),
        retraining=_retraining_check(fitted, examples, time, chosen, jobs, out) if chosen else None,
    )


def _rows_to_leave_out(retrain_examples: int | Sequence[int], n: int, seed: int) -> list[int]:
    """Return row numbers of the examples to leave out."""
    if not isinstance(retrain_examples, Integral):
        chosen = row_numbers("retrain_examples", retrain_examples)
        if len(set(chosen)) < len(chosen) or len(chosen) < FEWEST:
            raise OptionError(f"`retrained` must name {FEWEST} examples or more, each once; got {chosen}.")
        return chosen
    count = int(retrain_examples)
    if count and not FEWEST <= count <= n:
        raise OptionError(
            f"`retrained` must be 0, or {FEWEST} … {n} examples to leave out: fewer tell no agreement; "
            f"got {count}."
        )
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed), device="cpu")
    return sorted(order[:count].tolist())


def _retraining_check(
    fitted: Fitted, query: Examples, time: float, chosen: list[int], jobs: int | None, out: str | Path | None
) -> RetrainingCheck:
    network = follow(fitted, linear_kernel(fitted).module, time)
    truth = retrain(network, query, chosen, jobs=jobs, out=out)
    scores = leave_one_out(fitted, query, at=time).isel(train=chosen)
    agree = agreement(scores, truth, top=1, measures=("pearson", "slope"), per_query=False)["pooled"].sel
    predicted, actual = fitted.predict(query, time).cpu(), network.predict(query).cpu()
    return RetrainingCheck(
        left_out=tuple(chosen),
        gap=rms(predicted - actual),
        agreement=_class_agreement(query, predicted, actual),
        pearson=float(agree(measure="pearson")),
        slope=float(agree(measure="slope")),
        trained=str(network.status),
        converged=network.as_asked and not int(truth.attrs["not_converged"]),
    )


def safe_ratio(gap: float, moved: float) -> float:
    """Return gap / moved, and 0 for 0 / 0."""
    if moved == 0:
        return 0.0 if gap == 0 else math.inf
    return gap / moved


def rms(difference: Float64[Tensor, "m k"]) -> float:
    """Return the root mean square over examples and outputs."""
    return float(difference.square().mean().sqrt())


def _class_agreement(
    query: Examples, first: Float64[Tensor, "m k"], second: Float64[Tensor, "m k"]
) -> float | None:
    """Return the share of queries that both give the same class."""
    if query.labels is None:
        return None
    return float((query.encoding.decode(first) == query.encoding.decode(second)).double().mean())

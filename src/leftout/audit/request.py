"""What an audit is asked for: arguments checked, memory counted, and the model fitted."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from leftout.attribution.engine.query_blocks import queries_like
from leftout.core.blocks import memory_budget
from leftout.core.checks import check_kind, check_whole
from leftout.core.device import usable_device
from leftout.core.errors import OptionError
from leftout.core.fingerprint import fingerprint
from leftout.curation.sources import named_sources
from leftout.data.examples import Examples
from leftout.data.pairs import Data, examples_of
from leftout.diagnostics.model_selection import Selection
from leftout.diagnostics.referee.referee import FEWEST_SUBSETS
from leftout.diagnostics.retraining.agreement import FEWEST
from leftout.diagnostics.retraining.sgd_training import SGDTraining
from leftout.diagnostics.trust.retrained_answers import check_training
from leftout.dynamics.fit import check_kernel, check_rule, coded_for, fit
from leftout.dynamics.fit_features import feature_count
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.follow import check_followed
from leftout.dynamics.linearised_module import has_network
from leftout.dynamics.options import SolverName
from leftout.dynamics.rules import At, Ridge, Rule
from leftout.dynamics.weights_check import check_starts_here
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import LabelDependentKernel
from leftout.kernels.network.empirical import Empirical
from leftout.planning.audit_solver import with_solver
from leftout.planning.planned_audit import PlannedAudit, planned_audit
from leftout.planning.tiled_memory import memory_of
from leftout.storage import score_store as store


@dataclass(frozen=True, eq=False)
class AuditRequest:
    """A fitted model, and what an audit asks of it; as for `audit`, but checked and complete."""

    fitted: Fitted
    query: Examples
    times: list[float]
    refit_examples: int
    retrain_examples: int
    retrain_subsets: int
    training: SGDTraining | None
    seed: int
    provenance: list[str] | None
    selection: Selection | None

    @property
    def identity(self) -> dict[str, Any]:
        """Return what makes two audits the same computation."""
        fitted = self.fitted
        # A function's name does not say what it computes (`kernels.From`): its values do. To nine digits,
        # so that a sum that another number of threads rounds otherwise is the same.
        sums = (
            fitted.gram.sum(),
            fitted.gram.diagonal().sum(),
            (fitted.targets - fitted.initial_at_train).square().sum(),
        )
        return {
            "fitted": fitted.record,
            "values": [f"{float(total):.9g}" for total in sums],
            "query": self.query.fingerprint,
            "at": [None if time == math.inf else time for time in self.times],
            "refit_examples": self.refit_examples,
            "retrain_examples": self.retrain_examples,
            **({} if self.training is None else {"retrain_subsets": self.retrain_subsets}),
            **({} if self.training is None else {"training": self.training.record}),
            "seed": self.seed,
            "provenance": self.provenance and fingerprint(self.provenance),
            "block": store.BLOCK,
            # The report says what a chosen kernel was chosen from.
            **({} if self.selection is None else {"selection": "by leave-one-out"}),
            **({} if self.fitted.ridge_choice is None else {"ridge": "by leave-one-out"}),
        }


def _solver_of(audit: PlannedAudit, asked: SolverName) -> SolverName:
    """Return how the model of an audit is solved, where "auto" was asked as it was planned."""
    if audit.tile_dtype is not None:
        return "tiled"
    if asked == "auto" and audit.row_numbers is None:
        return "dense"
    return asked


def audit_request(
    kernel: Kernel | LabelDependentKernel | Selection,
    train: Data,
    query: Data,
    *,
    rule: Rule | None,
    at: At | Sequence[At],
    refit_examples: int,
    retrain_examples: int,
    retrain_subsets: int = 0,
    training: SGDTraining | None = None,
    provenance: Iterable[Any] | None,
    seed: int,
    dtype: torch.dtype = torch.float64,
    solver: SolverName = "auto",
    tile_dtype: torch.dtype | None = None,
    device: torch.device | str | None,
    memory: int | float | str | None,
    on_disk: bool = True,
) -> AuditRequest:
    """Return a fitted model and the checked options of an audit; arguments as for `audit`.

    Args:
        on_disk: whether `run_audit` will be given a folder.

    Raises:
        MemoryBudgetError: it would not fit; raised before anything is computed.
    """
    check_whole("refit_examples", refit_examples, 0)
    selection = kernel if isinstance(kernel, Selection) else None
    kernel = kernel.kernel if isinstance(kernel, Selection) else kernel
    check_kernel(kernel)
    check_rule(rule)
    rule = Ridge() if rule is None else rule
    train = examples_of(train, name="train")
    budget = memory_budget(
        memory, device=usable_device(device) if device is not None else train.inputs.device
    )
    kernel = kernel.within(budget)
    train = coded_for(kernel, rule, train)
    query = queries_like(train, query)
    kernel.check("query", query.inputs)
    asked_for = planned_audit(
        kernel, train, query, rule=rule, at=at, refit_examples=refit_examples, budget=budget, on_disk=on_disk
    )
    asked_for = with_solver(
        asked_for, kernel, solver=solver, tile_dtype=tile_dtype, features=feature_count(kernel, train.inputs)
    )
    memory_of(asked_for, kernel).check()
    fitted = fit(
        kernel,
        train,
        rule=rule,
        solver=_solver_of(asked_for, solver),
        tile_dtype=asked_for.tile_dtype,
        dtype=dtype,
        device=device,
        memory=budget,
    )
    request = AuditRequest(
        fitted,
        query,
        list(asked_for.times),
        refit_examples,
        retrain_examples,
        retrain_subsets,
        training,
        seed,
        None if provenance is None else named_sources(provenance, len(fitted)),
        selection,
    )
    _check_retraining(request)
    return request


def _check_retraining(request: AuditRequest) -> None:
    """Raise where there is no network that could be trained, before anything is computed."""
    fitted = request.fitted
    is_trained = isinstance(fitted.kernel, Empirical) and fitted.kernel.is_trained
    fewest_examples = FEWEST_SUBSETS if is_trained else FEWEST
    for name, fewest in (("retrain_examples", fewest_examples), ("retrain_subsets", FEWEST_SUBSETS)):
        asked = getattr(request, name)
        check_whole(name, asked, 0)
        if asked and asked < fewest:
            raise OptionError(
                f"`{name}` must be 0, or at least {fewest}: fewer tell no agreement; got {asked}."
            )
    if request.retrain_examples > len(fitted):
        raise OptionError(
            f"`retrain_examples` must be at most {len(fitted)}, the examples to leave out; got "
            f"{request.retrain_examples}."
        )
    if is_trained:
        _check_training(request)
        return
    if request.retrain_subsets or request.training is not None:
        name = "retrain_subsets" if request.retrain_subsets else "training"
        raise OptionError(
            f"`{name}` trains a network again as it was trained, and this kernel is none of trained weights: "
            f"{fitted.kernel!r}. Leave it out."
        )
    if not request.retrain_examples:
        return
    check_starts_here(fitted.kernel, "`retrain_examples`")
    check_followed(fitted.rule, request.times[-1])
    if not has_network(fitted):
        raise OptionError(
            "`retrain_examples` trains a network again, and this kernel is no exact one of a network of your "
            f"own: {fitted.kernel!r}. Give a network (--model), outputs='full' and no projection."
        )


def _check_training(request: AuditRequest) -> None:
    """Raise where trained weights are to be trained again, and it is not said how, or the other way round."""
    asked = request.retrain_subsets or request.retrain_examples
    if request.training is None:
        if asked:
            raise OptionError(
                "`training` must say how the network was trained, as an SGDTraining, where it is to be "
                "trained again."
            )
        return
    check_kind("training", request.training, SGDTraining, what="an SGDTraining, or None")
    if not asked:
        raise OptionError("`training` is for `retrain_subsets` or `retrain_examples`; give one of them.")
    check_training(request.training, request.fitted)

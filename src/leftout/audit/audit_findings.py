"""What an audit finds: fit, leave every example out once, and list what a person should look at."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.certify import certify
from leftout.attribution.engine.at_times import engines
from leftout.attribution.engine.labelled_result import SIGN, attributes, labelled_array
from leftout.attribution.engine.single_changes import blocks_at_times, loss_changes
from leftout.attribution.trajectory import has_training_curve, training_times
from leftout.audit.label_findings import LeftOut, label_findings, left_out_by
from leftout.audit.learning_curve import audit_learning_curve
from leftout.audit.request import AuditRequest
from leftout.audit.retrained_curve import retrained_removal_curve
from leftout.audit.run_folder import RunFolder
from leftout.audit.summary import audit_settings
from leftout.core.errors import OptionError
from leftout.curation.duplicates import duplicates
from leftout.curation.learned import Learned, learned
from leftout.curation.model_change import change_key
from leftout.curation.prune import Pruned
from leftout.curation.prune_check import PruneCheck
from leftout.curation.rare import outliers
from leftout.curation.redundant import redundant
from leftout.curation.sources import sources
from leftout.curation.subclasses import subclasses_by
from leftout.curation.verdicts import verdict_of_rows
from leftout.data.examples import Examples
from leftout.diagnostics.linearity.linearisation_gap import LinearisationGap, linearisation_gap
from leftout.diagnostics.trust.retrained_answers import Measured, retrained_answers
from leftout.diagnostics.trust.trust import trust
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.linearised_module import has_network
from leftout.kernels.network.empirical import Empirical
from leftout.report.findings import Findings, ModelAtTime
from leftout.storage import score_store as store

RETRAINED_POINTS = 3
"""Points of the removal curve at which a network is trained again, where trainings are asked for."""


def audit_findings(request: AuditRequest, folder: RunFolder | None) -> Findings:
    """Return the findings; what takes long is kept in the folder of the run, where there is one."""
    fitted, query, times, last_time = request.fitted, request.query, request.times, request.times[-1]
    fitted.rows.keep_comparison(query.inputs)
    if folder is not None and folder.unfinished is not None:
        fitted.factorisations.tiles_folder = folder.unfinished / store.WORK / "tiles"
    scores, change = _scores(request, folder)
    if change is not None:
        fitted.memo(change_key(query, last_time, "function"), lambda: change)
    labels = label_findings(fitted, last_time)
    fixed = fitted.freeze_labels()
    unlike, copies = outliers(fitted), duplicates(fitted.train)
    verdicts = verdict_of_rows(
        len(fitted), suspects=labels.doubted.suspects, duplicates=copies, outliers=unlike, rare=labels.rare
    )
    removal = redundant(fixed, query, at=last_time, keep=verdicts.rows_to_look_at)
    if labels.doubted.refusal:
        removal = dataclasses.replace(removal, stop=0, reason=labels.doubted.refusal)
    at_times = tuple(_model_at(fitted, query, time, labels.left_out) for time in times)
    curve, no_curve = audit_learning_curve(fixed, at_times[-1].out_of_sample, seed=request.seed)
    trainings = None if folder is None else folder.trainings
    names = request.provenance
    trusted, no_verdict = _trust(request, scores)
    return Findings(
        train=fitted.train,
        query=query,
        settings=audit_settings(fitted, query, times),
        at_times=at_times,
        scores=scores,
        margins=labels.doubted.margins,
        suspects=labels.doubted.suspects,
        refusal=labels.doubted.refusal,
        dominant=labels.doubted.dominant,
        label_scores=labels.doubted.scores,
        redundant=removal,
        rare=verdicts.only("rare", labels.rare),
        outliers=verdicts.only("outlier", unlike),
        duplicates=copies,
        certificate=certify(
            fitted, query, at=last_time, refit_examples=request.refit_examples, seed=request.seed
        ),
        learned=_learned_over_time(fixed, times),
        linearisation_gap=_linearisation_gap(request, trainings),
        of_network=isinstance(fitted.kernel, Empirical),
        is_trained=fitted.kernel.is_trained,
        trust=trusted,
        no_verdict=no_verdict,
        measured=_retrained_answers(request, scores, trainings),
        label_note=labels.note,
        retrained_removal=_retrained_removal(request, removal, trainings),
        subclasses=subclasses_by(fixed, removal.by_row),
        sources=None if names is None else sources(fixed, query, names, at=last_time),
        learning_curve=curve,
        no_learning_curve=no_curve,
        selection=request.selection,
        depends_on_labels=fitted.depends_on_labels,
        loss=fitted.rule.example_loss,
        ridge_choice=fitted.ridge_choice,
    )


def _scores(
    request: AuditRequest, folder: RunFolder | None
) -> tuple[xr.DataArray, Float64[Tensor, " n"] | None]:
    """Return influence (at, query, train), in memory or in the store of a run; and how far the model moves.

    The last is what `model_change` returns at the last time, where it comes with the scores; else None.
    """
    fitted, query, times = request.fitted, request.query, request.times
    attrs = attributes(fitted, query, of="loss", method="leave_one_out", sign=SIGN["loss"])
    unfinished = None if folder is None else folder.unfinished
    if folder is not None and unfinished is None:
        return folder.scores(), None
    if unfinished is not None:
        store.create_store(unfinished, times=times, query=query.ids, train=fitted.train.ids, attrs=attrs)
    finished = set() if unfinished is None else store.finished_blocks(unfinished)
    blocks: list[np.ndarray] = []
    at_times: list[np.ndarray] = []
    moved: dict[int, Float64[Tensor, " n"] | None] = {}
    to_do = blocks_at_times(query, engines(fitted, times), size=store.BLOCK, skip=finished)
    for block, position, engine in to_do:
        at_times.append(loss_changes(engine, block).cpu().numpy())
        if position < len(times) - 1:
            continue
        moved[block.rows.start] = engine.movement(block)
        if unfinished is None:
            blocks.append(np.stack(at_times))
        else:
            store.keep_movement(unfinished, block.rows.start, moved[block.rows.start])
            store.write_block(unfinished, block.rows.start, np.stack(at_times))
        at_times = []
    if unfinished is not None:
        moved |= {start: store.movement(unfinished, start) for start in finished}
    total = _half_mean([moved[start] for start in sorted(moved)], len(query))
    if folder is not None:
        return folder.scores(), total
    scores = labelled_array(
        np.concatenate(blocks, axis=1),
        times=times,
        scalar=False,
        coordinates={"query": query.ids, "train": fitted.train.ids},
        attrs=attrs,
        name="influence",
    )
    return scores, total


def _half_mean(squares: Sequence[Tensor | None], queries: int) -> Tensor | None:
    """Return half of the mean over queries of sums over blocks of them; None where a block has none."""
    known = [of_block for of_block in squares if of_block is not None]
    return sum(known[1:], known[0]) / (2 * queries) if known and len(known) == len(squares) else None


def _learned_over_time(fitted: Fitted, times: list[float]) -> Learned | None:
    """Return when each example was learned, on a curve that holds all times asked for."""
    if not has_training_curve(fitted.rule, times[-1]):
        return None
    return learned(fitted, [*training_times(fitted), *times], kinds_at=times[-1])


def _linearisation_gap(request: AuditRequest, trainings: Path | None) -> LinearisationGap | None:
    """Return the model beside its network, where there is one."""
    if not has_network(request.fitted) or request.fitted.kernel.is_trained:
        return None
    return linearisation_gap(
        request.fitted,
        request.query,
        at=request.times[-1],
        retrain_examples=request.retrain_examples,
        seed=request.seed,
        out=trainings,
    )


def _retrained_removal(request: AuditRequest, removal: Pruned, trainings: Path | None) -> PruneCheck | None:
    """Return the removal curve of the network itself, where trainings were asked for."""
    kernel = request.fitted.kernel
    if not request.retrain_examples or not isinstance(kernel, Empirical) or kernel.is_trained:
        return None
    return retrained_removal_curve(
        request.fitted, request.query, removal, kernel.module, most=RETRAINED_POINTS, out=trainings
    )


def _trust(request: AuditRequest, scores: xr.DataArray) -> tuple[xr.Dataset | None, str]:
    """Return which answers about a trained network to trust, or why that is not known."""
    if not request.fitted.kernel.is_trained:
        return None, ""
    try:
        return trust(request.fitted, request.query, scores=scores.isel(at=-1)), ""
    except OptionError as error:
        return None, f"There is no second model to agree with: {error}"


def _retrained_answers(
    request: AuditRequest, scores: xr.DataArray, trainings: Path | None
) -> tuple[Measured, ...]:
    """Return how the answers agree with networks trained again, where that was asked for."""
    if request.training is None:
        return ()
    return retrained_answers(
        request.training,
        request.fitted.train,
        request.query,
        scores.isel(at=-1).load(),
        subsets=request.retrain_subsets,
        examples=request.retrain_examples,
        seed=request.seed,
        out=trainings,
    )


def _model_at(fitted: Fitted, query: Examples, time: float, left_out: LeftOut | None) -> ModelAtTime:
    """Return the predictions at a training time, and how good they are.

    Args:
        left_out: what is predicted of each training example without it, where another model says so.
    """
    predictions = fitted.predict(query, None if time == math.inf else time).cpu()
    left_out = left_out_by(fitted, time) if left_out is None else left_out
    return ModelAtTime(
        at=time,
        predictions=predictions,
        out_of_sample=left_out.predictions,
        query_loss=fitted.rule.example_loss.mean(predictions, query.targets),
        left_out_loss=left_out.loss,
        query_accuracy=query.accuracy(predictions),
        left_out_accuracy=left_out.accuracy,
    )

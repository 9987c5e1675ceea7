"""The audit of a data set: fit, leave every example out once, and list what a person should look at."""

import dataclasses
import inspect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from errno import EISDIR
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from leftout.attribution.certify import certify
from leftout.attribution.engine.at_times import engines
from leftout.attribution.engine.labelled_result import SIGN, attributes, labelled_array
from leftout.attribution.engine.single_changes import blocks_at_times, loss_changes
from leftout.attribution.trajectory import has_training_curve, training_times
from leftout.audit.audit_data import audit_data, check_loading
from leftout.audit.label_findings import LeftOut, label_findings, left_out_by
from leftout.audit.learning_curve import audit_learning_curve
from leftout.audit.request import AuditRequest, audit_request
from leftout.audit.retrained_curve import retrained_removal_curve
from leftout.audit.run_folder import RunFolder, finish_run, run_folder
from leftout.audit.summary import audit_card, audit_settings
from leftout.audit.tables import duplicates_of, rare_of, redundant_of, suspects_html, suspects_of
from leftout.core.checks import check_path, check_seed
from leftout.core.errors import LeftoutError, OptionError, StoreError
from leftout.curation.duplicates import duplicates
from leftout.curation.learned import Learned, learned
from leftout.curation.prune import Pruned
from leftout.curation.prune_check import PruneCheck
from leftout.curation.rare import outliers
from leftout.curation.redundant import redundant
from leftout.curation.sources import sources
from leftout.curation.subclasses import subclasses_by
from leftout.curation.verdicts import verdict_of_rows
from leftout.data.examples import Examples
from leftout.diagnostics.linearity.linearisation_gap import LinearisationGap, linearisation_gap
from leftout.diagnostics.model_selection import Selection
from leftout.diagnostics.retraining.sgd_training import SGDTraining
from leftout.diagnostics.trust.retrained_answers import Measured, retrained_answers
from leftout.diagnostics.trust.trust import trust
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.linearised_module import has_network
from leftout.dynamics.rules import At, GradientDescent, GradientFlow, Rule
from leftout.kernels.label_dependent import AnyKernel
from leftout.kernels.network.empirical import Empirical
from leftout.report.audit_plots import AuditPlots
from leftout.report.findings import Findings, ModelAtTime
from leftout.report.report import write_report
from leftout.storage import score_store as store

RETRAINED_POINTS = 3
"""Points of the removal curve at which a network is trained again, where trainings are asked for."""


@dataclass(frozen=True, eq=False)
class Audit:
    """A fitted model and what was found, made by `audit`; `run` is its folder, where it has one.

    `suspects`, `redundant`, `rare` and `duplicates` are frames of pandas, and `open` gives the same of a run.
    In each, `id` names an example, and `row` is its row in the file, table or array it came from, from 0.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=60, n_query=20)
        >>> audit = lo.audit(lo.kernels.TwoLayerReLU(), train, query)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     audit.report(Path(folder) / "report.html").name
        'report.html'
    """

    fitted: Fitted
    findings: Findings
    run: Path | None = None

    def __repr__(self) -> str:
        return str(audit_card(self.findings, self.fitted, self.run))

    def _repr_html_(self) -> str:
        return audit_card(self.findings, self.fitted, self.run).html(suspects_html(self.suspects))

    @property
    def plot(self) -> AuditPlots:
        """Return the plots: `suspects()`, `removal()`, `margins()`, `influence(query)`; each gives axes."""
        return AuditPlots(self.findings)

    @property
    def suspects(self) -> pd.DataFrame:
        """Return every training example with what is said of its label, most doubtful first.

        `given` and `suggested`: its class, and the most probable one without the example; for numbers both in
        the units of the data, the suggestion being the prediction without it. `label_score`: from 0 to 1,
        small where the label is doubtful: the calibrated left-out probability of the given class, or for
        numbers how often a residual as large would be seen by chance. `is_label_issue`: whether it is
        doubted, with the `reason`. `margin`: the left-out score of the given class minus the best other, in
        target units (for numbers: how far inside the fence), by which those that are doubted are ordered, and
        then the others. `given_label`, `predicted_label`, `predicted_score`: the same in cleanlab's names.
        Where no label could be doubted `attrs["refusal"]` says why.

        Example:
            >>> import leftout as lo
            >>> suspects = lo.audit("digits", n_train=200, n_query=20).suspects
            >>> len(suspects)
            200
            >>> print(suspects[["row", "given", "suggested", "is_label_issue"]].head(1))
                row given suggested  is_label_issue
            0  1658     9         3            True
        """
        return suspects_of(self.findings)

    @property
    def redundant(self) -> pd.DataFrame:
        """Return every training example in the order of removal, the most dispensable first.

        `rank`: from 1. `can_go`: whether it is among those that can go together. `share`: of the examples up
        to there. `query_loss` and `query_accuracy`: of the model without all examples up to there, exactly,
        where that was computed; NaN at the ranks between.
        """
        return redundant_of(self.findings)

    @property
    def rare(self) -> pd.DataFrame:
        """Return examples of which there are too few, and those unlike any other, by `kind`.

        `loss`: of the prediction without it, in loss units. `agreement`: share of its nearest neighbours with
        its label. `similarity`: largest kernel correlation of an outlier with another example.
        """
        return rare_of(self.findings)

    @property
    def duplicates(self) -> pd.DataFrame:
        """Return every example with the inputs of another: its `group`, and whether labels differ there."""
        return duplicates_of(self.findings)

    def report(self, path: str | Path) -> Path:
        """Write the report, one self-contained HTML file, and return its path.

        Raises:
            StoreError: a file cannot be made there.
        """
        path = Path(path)
        try:
            if path.is_dir():
                raise IsADirectoryError(EISDIR, "it is a folder")
            return write_report(self.findings, path)
        except LeftoutError:
            raise
        except (OSError, ValueError) as error:  # a ValueError where the path holds a zero byte
            reason = getattr(error, "strerror", None) or error
            raise StoreError(
                f"The report cannot be written to {str(path)!r}: {reason}. Name a file in a folder that "
                "exists and can be written."
            ) from None


def audit(
    *data: Any,
    kernel: AnyKernel | Selection | None = None,
    train: Any = None,
    query: Any = None,
    rule: Rule | None = None,
    at: At | Sequence[At] = None,
    out: str | Path | None = None,
    refit_examples: int = 3,
    retrain_examples: int = 0,
    retrain_subsets: int = 0,
    training: SGDTraining | None = None,
    provenance: Iterable[Any] | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    memory: int | float | str | None = None,
    **loading: Any,
) -> Audit:
    """Return what a data set's examples do to the predictions, and which of them to look at.

    `lo.audit(data)` does what `leftout audit DATA` does: everything that is not said is the same, and so are
    the numbers. `lo.audit(kernel, train, query)` takes a kernel and examples as they are.

    Args:
        data: one of these, told apart by the type of the first

            - `lo.audit("digits")`, `lo.audit("table.csv")`, `lo.audit(frame, target="y")`: whatever `load`
              takes. It is encoded, and scaled for the kernel; where it has no queries, a quarter becomes
              queries, drawn by the seed.
            - `lo.audit(X, y)`, `lo.audit((X, y))`: inputs and targets, arrays or lists; the same.
            - `lo.audit(train, query)`: two of Examples, which are used as they are, or two pairs.
            - `lo.audit(examples)`: Examples, which are split, and otherwise used as they are.
            - `lo.audit(kernel, train, query)`: with a kernel; `lo.audit(kernel, data)` loads the data.
        kernel, rule, dtype, device, memory: as for `fit`; without a kernel it is ReLU(2, bias_variance=0.3)
            at the ridge of least left-out loss, or for a training time TwoLayerReLU(). The kernel may be the
            result of `choose_kernel`, and the report then says what it was chosen from. Of a kernel fitted to
            labels, influence, doubted labels, rare examples and left-out predictions are those of the kernel
            fitted again without each example; questions about many removals keep it as it is, and the report
            says so.
        train, query: by name, the same as in place.
        at: training times at which to ask; lists are made at the last of them.
        out: folder for the results (`scores.zarr`, the tables as `suspects.csv`, `redundant.csv`, `rare.csv`,
            `duplicates.csv`, `curve.csv`, under a rule with training time `learned.csv`, what to act on as
            `corrected.csv`, `review.json`, `keep.txt`, `report.html`, `run.json`). Work goes to `NAME.part`
            and is renamed when whole; a run that was stopped goes on where it stopped.
        refit_examples: training examples that are really left out and the model fitted again, for the
            certificate.
        retrain_examples: training examples without which a network of the user's own (an Empirical kernel)
            is really trained again; 0 trains nothing. From initial weights that is at the last of the times,
            and without the first of the redundant at three points of the removal curve; a network at its
            trained weights is trained in two seeds as `training` says.
        retrain_subsets: random halves of the training examples on which a network at its trained weights is
            trained again, in two seeds: they measure whether answers about groups speak for it.
        training: how that network was trained; `build` must make it as it was before.
        provenance: where each training example comes from, to be compared as by `sources`.
        seed: draws the split, and chooses the examples to leave out.
        loading: options of `load`: `target`, `columns`, `n_train`, `n_query`, `labels`, …

    Raises:
        OptionError: arguments that may mean two things, or none; an option that `load` has not.
        StoreError: `out` holds another computation.
        MemoryBudgetError: `plan` says that it does not fit `memory`; nothing was computed.
        LeftoutError: whatever `load`, `fit` and `leave_one_out` refuse.

    Cost:
        as `plan` says: the factorisation, or for a chosen ridge an eigendecomposition, one product
        (m × n)(n × n) a time and output for the scores, as much again for the order of removal, some twenty
        n³ for its joint effects at finite times, and the spectrum for the curve of a rule with training time.

    Example:
        >>> import leftout as lo
        >>> audit = lo.audit("digits", n_train=60, n_query=20)
        >>> audit.findings.scores.dims  # positive = the example helped
        ('at', 'query', 'train')
        >>> train, query = lo.load("digits", n_train=60, n_query=20)
        >>> audit = lo.audit(lo.kernels.TwoLayerReLU(), train, query, rule=lo.Ridge(0.1))
        >>> len(audit.findings.redundant.order)
        60
    """
    if out is not None:
        check_path("out", out)
    check_seed(seed)
    check_loading(loading, inspect.signature(audit).parameters)
    over_time = at is not None or isinstance(rule, GradientFlow | GradientDescent)
    audited = audit_data(
        data, kernel=kernel, train=train, query=query, over_time=over_time, seed=seed, loading=loading
    )
    request = audit_request(
        audited.kernel,
        audited.train,
        audited.query,
        rule=audited.rule if rule is None else rule,
        at=at,
        refit_examples=refit_examples,
        retrain_examples=retrain_examples,
        retrain_subsets=retrain_subsets,
        training=training,
        provenance=provenance,
        seed=seed,
        dtype=dtype,
        device=device,
        memory=memory,
        on_disk=out is not None,
    )
    return run_audit(request, out)


def run_audit(
    request: AuditRequest, out: str | Path | None, *, command: dict[str, Any] | None = None
) -> Audit:
    """Return what an audit finds.

    Args:
        out: as for `audit`.
        command: what the command line was given, kept in `run.json` so that it can repeat the run.
    """
    if out is None:
        return Audit(request.fitted, _findings(request, None))
    with run_folder(Path(out), request.identity) as folder:
        findings = _findings(request, folder)
        if folder.unfinished is not None:
            store.write_tables(folder.unfinished, _arrays(findings))
            finish_run(folder, findings, command=command or {})
    return Audit(request.fitted, dataclasses.replace(findings, scores=folder.scores()), folder.run)


def _findings(request: AuditRequest, folder: RunFolder | None) -> Findings:
    """Return the findings; what takes long is kept in the folder of the run, where there is one."""
    fitted, query, times, last_time = request.fitted, request.query, request.times, request.times[-1]
    fitted.rows.keep_comparison(query.inputs)
    scores = _scores(request, folder)
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


def _scores(request: AuditRequest, folder: RunFolder | None) -> xr.DataArray:
    """Return influence (at, query, train), in memory or in the store of a run."""
    fitted, query, times = request.fitted, request.query, request.times
    attrs = attributes(fitted, query, of="loss", method="leave_one_out", sign=SIGN["loss"])
    unfinished = None if folder is None else folder.unfinished
    if folder is not None and unfinished is None:
        return folder.scores()
    if unfinished is not None:
        store.create_store(unfinished, times=times, query=query.ids, train=fitted.train.ids, attrs=attrs)
    finished = set() if unfinished is None else store.finished_blocks(unfinished)
    blocks: list[np.ndarray] = []
    at_times: list[np.ndarray] = []
    to_do = blocks_at_times(query, engines(fitted, times), size=store.BLOCK, skip=finished)
    for block, position, engine in to_do:
        at_times.append(loss_changes(engine, block).cpu().numpy())
        if position < len(times) - 1:
            continue
        if unfinished is None:
            blocks.append(np.stack(at_times))
        else:
            store.write_block(unfinished, block.rows.start, np.stack(at_times))
        at_times = []
    if folder is not None:
        return folder.scores()
    return labelled_array(
        np.concatenate(blocks, axis=1),
        times=times,
        scalar=False,
        coordinates={"query": query.ids, "train": fitted.train.ids},
        attrs=attrs,
        name="influence",
    )


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


def _arrays(findings: Findings) -> xr.Dataset:
    """Return predictions, margins and the curve of training, to be stored beside the scores."""
    predictions = np.stack([model.predictions.numpy() for model in findings.at_times])
    left_out = np.stack([model.out_of_sample.numpy() for model in findings.at_times])
    arrays: dict[str, Any] = {
        "prediction": (("at", "query", "output"), predictions),
        "left_out_prediction": (("at", "train", "output"), left_out),
        "margin": (("train",), findings.margins.numpy()),
    }
    if findings.trust is not None:
        arrays |= {
            name: (("query",), findings.trust[name].values.astype(float)) for name in ("agreement", "trusted")
        }
    attrs = {"labels": findings.label_note} if findings.label_note else {}
    if findings.learned is None:
        return xr.Dataset(arrays, attrs=attrs)
    names = ("fitted_loss", "left_out_loss", "from_others", "by_heart")
    arrays |= {name: ("time", np.asarray(getattr(findings.learned, name))) for name in names}
    return xr.Dataset(arrays, coords={"time": np.asarray(findings.learned.times)})

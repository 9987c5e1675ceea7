"""What is in this data set? Fit, leave everything out once, and list what a person should look at."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from leftout.attribution.certify import certify
from leftout.attribution.engine.at_times import engines
from leftout.attribution.engine.labelled_result import SIGN, attributes, labelled_array
from leftout.attribution.engine.query_blocks import queries_of
from leftout.attribution.engine.single_changes import blocks_at_times, loss_changes
from leftout.attribution.leave_one_out import out_of_sample
from leftout.attribution.trajectory import has_training_curve, training_times
from leftout.audit.retrained_curve import pruned_again
from leftout.audit.run_folder import Target, abandon, finish, prepare
from leftout.audit.summary import settings
from leftout.core.blocks import check_fits
from leftout.core.checks import check_at_least
from leftout.core.errors import OptionError
from leftout.core.fingerprint import fingerprint
from leftout.curation.duplicates import duplicates
from leftout.curation.learned import Learned, learned
from leftout.curation.mislabelled import Mislabelled, mislabelled
from leftout.curation.prune import Pruned
from leftout.curation.prune_check import PruneCheck
from leftout.curation.rare import outliers, rare
from leftout.curation.redundant import redundant
from leftout.curation.sources import named_sources, sources
from leftout.curation.subclasses import subclasses_by
from leftout.data.examples import Examples
from leftout.data.pairs import Data
from leftout.diagnostics.linearity.linearisation_gap import LinearisationGap, linearisation_gap
from leftout.diagnostics.model_selection import Selection
from leftout.diagnostics.retraining.agreement import FEWEST
from leftout.dynamics.fit import fit
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.follow import check_followed
from leftout.dynamics.linearised_module import has_network
from leftout.dynamics.rules import At, Rule
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import LabelDependentKernel
from leftout.kernels.network.empirical import Empirical
from leftout.report.findings import Findings, Moment
from leftout.report.learning_curve_panel import outlook
from leftout.report.report import write_report
from leftout.storage import score_store as store

AGAIN = 3
"""Points of the removal curve at which a network is trained again, where trainings are asked for."""


@dataclass(frozen=True)
class Evidence:
    """How much is really left out and trained again, and what chooses it."""

    refits: int
    verify: int
    seed: int


@dataclass(frozen=True, eq=False)
class Audit:
    """A fitted model and what was found; `run` is its folder, where it has one."""

    fitted: Fitted
    findings: Findings
    run: Path | None = None

    def report(self, path: str | Path) -> Path:
        """Write the report, one self-contained HTML file, and return its path."""
        return write_report(self.findings, Path(path))


def audit(
    kernel: Kernel | LabelDependentKernel | Selection,
    train: Data,
    query: Data,
    *,
    rule: Rule | None = None,
    at: At | Sequence[At] = None,
    out: str | Path | None = None,
    refits: int = 3,
    verify: int = 0,
    source: Iterable[Any] | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    memory: int | float | str | None = None,
    asked: dict[str, Any] | None = None,
) -> Audit:
    """Return what a data set's examples do to the predictions, and which of them to look at.

    Args:
        kernel, rule, dtype, device, memory: as for `fit`; the kernel may be what `choose_kernel` found, and
            the report then says what it was chosen from. Of one that sees labels, influence, doubted labels,
            rare examples and left-out predictions are those of the kernel taught again without each example;
            what is asked of many removals keeps it as it is, and the report says so.
        train, query: Examples, or pairs (inputs, targets).
        at: training times at which to ask; lists are made at the last of them.
        out: folder for the results (`scores.zarr`, `suspects.csv`, `redundant.csv`, `curve.csv`, under a
            rule with training time `learned.csv`, `report.html`, `run.json`). Work goes to `NAME.part` and
            is renamed when whole; a run that was stopped goes on where it stopped.
        refits: training examples really left out, for the certificate.
        verify: training examples without which a network of the user's own (an Empirical kernel) is
            really trained again, at the last of the times, and without the first of the redundant at three
            points of the removal curve; 0 trains nothing.
        source: where each training example comes from, to be compared as by `sources`.
        seed: chooses them.
        asked: what the user typed, kept in `run.json` so that the run can be made again.

    Raises:
        StoreError: `out` holds another computation.
        LeftoutError: whatever `fit` and `leave_one_out` refuse.

    Cost:
        as `plan` says: the factorisation, one product (m × n)(n × n) a time and output for the
        scores, as much again for the order of removal, some twenty n³ for its joint effects at
        finite times, and the spectrum for the curve of a rule with training time.
    """
    check_at_least("refits", refits, 0)
    selection = kernel if isinstance(kernel, Selection) else None
    kernel = kernel.kernel if isinstance(kernel, Selection) else kernel
    fitted = fit(kernel, train, rule=rule, dtype=dtype, device=device, memory=memory)
    examples = queries_of(fitted, query)
    times = sorted(set(fitted.times(at)))
    evidence = Evidence(refits, verify, seed)
    _check_verify(fitted, verify, times[-1])
    origins = None if source is None else named_sources(source, len(fitted))
    if out is None:
        findings, _ = _found(fitted, examples, times, None, evidence, origins)
        return Audit(fitted, dataclasses.replace(findings, selection=selection))
    identity = _identity(fitted, examples, times, evidence, origins)
    if selection is not None:
        identity["chosen"] = "by leave-one-out"  # its report says from what
    target = prepare(Path(out), identity)
    try:
        findings, labels = _found(fitted, examples, times, target, evidence, origins)
        findings = dataclasses.replace(findings, selection=selection)
    except Exception:
        abandon(target)
        raise
    if target.part is not None:
        store.write_tables(target.part, _tables(findings, labels))
        finish(target, findings, asked=asked or {})
    return Audit(fitted, dataclasses.replace(findings, scores=target.scores()), target.run)


def _found(
    fitted: Fitted,
    query: Examples,
    times: list[float],
    target: Target | None,
    evidence: Evidence,
    origins: list[str] | None,
) -> tuple[Findings, Mislabelled]:
    """Return what is found, and what was made of the labels of all examples."""
    fitted.rows.keep_comparison(query.inputs)
    scores = _scores(fitted, query, times, target)
    judged = times[-1]
    labels = mislabelled(fitted, at=judged)
    stays = fitted.freeze_labels()
    order = redundant(stays, query, at=judged)
    moments = tuple(_moment(fitted, query, time) for time in times)
    ahead, why = outlook(stays, moments, seed=evidence.seed)
    findings = Findings(
        train=fitted.train,
        query=query,
        settings=settings(fitted, query, times),
        moments=moments,
        judged=len(times) - 1,
        scores=scores,
        suspects=labels.suspects,
        redundant=order,
        rare=rare(fitted, at=judged),
        outliers=outliers(fitted),
        duplicates=duplicates(fitted.train),
        certificate=certify(fitted, query, at=judged, refits=evidence.refits, seed=evidence.seed),
        learned=_learned(stays, times),
        linearisation=_linearisation(fitted, query, judged, target, evidence),
        of_network=isinstance(fitted.kernel, Empirical),
        redundant_again=_redundant_again(fitted, query, order, target, evidence),
        subclasses=subclasses_by(stays, order.by_row),
        sources=None if origins is None else sources(stays, query, origins, at=judged),
        outlook=ahead,
        no_outlook=why,
        depends_on_labels=fitted.depends_on_labels,
    )
    return findings, labels


def _scores(fitted: Fitted, query: Examples, times: list[float], target: Target | None) -> xr.DataArray:
    """Return influence (at, query, train), in memory or in the store of a run."""
    n, m = len(fitted), len(query)
    attrs = attributes(fitted, query, of="loss", method="leave_one_out", sign=SIGN["loss"])
    if target is not None and target.part is None:
        return target.scores()
    if target is None:
        check_fits(
            f"A table of {len(times)} × {m} × {n} scores",
            8 * len(times) * m * n,
            fitted.memory,
            advice="Pass `out=` to keep them on disk, or ask for fewer queries or times.",
        )
    elif not (target.folder / store.DONE).exists():
        store.create(target.folder, times=times, query=query.ids, train=fitted.train.ids, attrs=attrs)
    finished = set() if target is None else store.done(target.folder)
    moments = engines(fitted, times)
    kept, values = [], []
    asked = blocks_at_times(query, moments, size=store.BLOCK, skip=finished)
    for block, position, moment in asked:
        values.append(loss_changes(moment, block).cpu().numpy())
        if position < len(moments) - 1:
            continue
        if target is None:
            kept.append(np.stack(values))
        else:
            store.write_block(target.folder, block.rows.start, np.stack(values))
        values = []
    if target is not None:
        return target.scores()
    return labelled_array(
        np.concatenate(kept, axis=1),
        times=times,
        scalar=False,
        coordinates={"query": query.ids, "train": fitted.train.ids},
        attrs=attrs,
        name="influence",
    )


def _learned(fitted: Fitted, times: list[float]) -> Learned | None:
    """Return when each example was learned, on a curve that holds all times asked for."""
    if not has_training_curve(fitted.rule, times[-1]):
        return None
    return learned(fitted, [*training_times(fitted), *times], judged=times[-1])


def _linearisation(
    fitted: Fitted, query: Examples, judged: float, target: Target | None, evidence: Evidence
) -> LinearisationGap | None:
    """Return the model beside its network, where there is one; trainings are kept beside the scores."""
    if not has_network(fitted):
        return None
    part = None if target is None else target.part
    return linearisation_gap(
        fitted,
        query,
        at=judged,
        retrained=evidence.verify,
        seed=evidence.seed,
        out=None if part is None else part / store.TRAININGS,
    )


def _redundant_again(
    fitted: Fitted, query: Examples, order: Pruned, target: Target | None, evidence: Evidence
) -> PruneCheck | None:
    """Return the removal curve of the network itself, where trainings were asked for."""
    if not evidence.verify or not isinstance(fitted.kernel, Empirical):
        return None
    part = None if target is None else target.part
    return pruned_again(
        fitted,
        query,
        order,
        fitted.kernel.module,
        most=AGAIN,
        out=None if part is None else part / store.TRAININGS,
    )


def _check_verify(fitted: Fitted, verify: int, judged: float) -> None:
    """Raise where there is no network that could be trained, before anything is computed."""
    check_at_least("verify", verify, 0)
    if not verify:
        return
    if not FEWEST <= verify <= len(fitted):
        raise OptionError(
            f"`verify` must be 0, or {FEWEST} … {len(fitted)} examples to leave out: fewer tell no "
            f"agreement; got {verify}."
        )
    check_followed(fitted.rule, judged)
    if not has_network(fitted):
        raise OptionError(
            "`verify` trains a network again, and this kernel is no exact one of a network of your own: "
            f"{fitted.kernel!r}. Give a network (--model), outputs='full' and no projection."
        )


def _moment(fitted: Fitted, query: Examples, time: float) -> Moment:
    at = None if time == math.inf else time
    predictions = fitted.predict(query, at).cpu()
    left_out = out_of_sample(fitted, at).cpu()
    return Moment(
        at=time,
        predictions=predictions,
        out_of_sample=left_out,
        query_loss=query.mean_loss(predictions),
        left_out_loss=fitted.train.mean_loss(left_out),
        query_accuracy=query.accuracy(predictions),
        left_out_accuracy=fitted.train.accuracy(left_out),
    )


def _identity(
    fitted: Fitted, query: Examples, times: list[float], evidence: Evidence, origins: list[str] | None
) -> dict[str, Any]:
    """Return what makes two runs the same computation."""
    # A function's name does not say what it computes (`kernels.From`): its values do. To nine digits,
    # so that a sum that another number of threads rounds otherwise is the same.
    values = (fitted.gram.sum(), fitted.gram.diagonal().sum(), fitted.residual.square().sum())
    return {
        "fitted": fitted.record,
        "values": [f"{float(value):.9g}" for value in values],
        "query": query.fingerprint,
        "at": [None if time == math.inf else time for time in times],
        **dataclasses.asdict(evidence),
        "source": None if origins is None else fingerprint(origins),
        "block": store.BLOCK,
    }


def _tables(findings: Findings, labels: Mislabelled) -> xr.Dataset:
    """Return predictions, margins and the curve of training, to be stored beside the scores."""
    tables: dict[str, Any] = {
        "prediction": (
            ("at", "query", "output"),
            np.stack([one.predictions.numpy() for one in findings.moments]),
        ),
        "left_out_prediction": (
            ("at", "train", "output"),
            np.stack([one.out_of_sample.numpy() for one in findings.moments]),
        ),
        "margin": (("train",), labels.margins.numpy()),
    }
    if findings.learned is None:
        return xr.Dataset(tables)
    names = ("fitted_loss", "left_out_loss", "from_others", "by_heart")
    tables |= {name: ("time", np.asarray(getattr(findings.learned, name))) for name in names}
    return xr.Dataset(tables, coords={"time": np.asarray(findings.learned.times)})

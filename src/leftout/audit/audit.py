"""The audit of a data set: what is asked for, what comes of it, and the folder in which it is kept."""

import dataclasses
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from errno import EISDIR
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from leftout.audit.audit_data import audit_data, check_loading
from leftout.audit.audit_findings import audit_findings
from leftout.audit.request import AuditRequest, audit_request
from leftout.audit.run_folder import finish_run, run_folder
from leftout.audit.summary import audit_card
from leftout.audit.tables import duplicates_of, rare_of, redundant_of, suspects_html, suspects_of
from leftout.core.checks import check_path, check_seed
from leftout.core.errors import LeftoutError, StoreError
from leftout.diagnostics.model_selection import Selection
from leftout.diagnostics.retraining.sgd_training import SGDTraining
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.options import SolverName
from leftout.dynamics.rules import At, GradientDescent, GradientFlow, Rule
from leftout.kernels.label_dependent import AnyKernel
from leftout.report.audit_plots import AuditPlots
from leftout.report.findings import Findings
from leftout.report.report import write_report
from leftout.storage import score_store as store


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
    solver: SolverName = "auto",
    tile_dtype: torch.dtype | None = None,
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
        kernel, rule, solver, tile_dtype, dtype, device, memory: as for `fit`. The solver "auto" takes
            features where a kernel is made of few, else is dense where all steps of the audit fit. Without a
            kernel it is ReLU(2, bias_variance=0.3) at the ridge of least left-out loss, or for a training
            time TwoLayerReLU(). The kernel may be the result of `choose_kernel`, and the report then says
            what it was chosen from. Of a kernel fitted to labels, influence, doubted labels, rare examples
            and left-out predictions are those of the kernel fitted again without each example; questions
            about many removals keep it as it is, and the report says so.
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
        solver=solver,
        tile_dtype=tile_dtype,
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
        return Audit(request.fitted, audit_findings(request, None))
    with run_folder(Path(out), request.identity) as folder:
        findings = audit_findings(request, folder)
        if folder.unfinished is not None:
            store.write_tables(folder.unfinished, _arrays(findings))
            finish_run(folder, findings, command=command or {})
    return Audit(request.fitted, dataclasses.replace(findings, scores=folder.scores()), folder.run)


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

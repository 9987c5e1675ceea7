"""The folder of a run: whole or not there, `NAME.part` until it is renamed.

scores.zarr     influence (at, query, train), predictions, margins; labelled, read by xarray
suspects.csv, redundant.csv, curve.csv, learned.csv under a rule with training time: `result_tables`
report.html     for a person
run.json        everything needed to make it again
"""

import dataclasses
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import xarray as xr

from leftout.core.atomic_files import part_path
from leftout.core.errors import StoreError
from leftout.core.fingerprint import fingerprint
from leftout.core.version import __version__
from leftout.report.findings import Findings, ModelAtTime
from leftout.report.report import write_report
from leftout.storage import result_tables
from leftout.storage import score_store as store
from leftout.storage.csv_table import write_csv
from leftout.storage.json_file import read_json, write_json

RUN = "run.json"
HALF_WAY = "It was stopped half-way: run it again to finish it."


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run while it is made; `unfinished` is where work goes on, or None if it is whole."""

    run: Path
    unfinished: Path | None
    identity: dict[str, Any]

    @property
    def trainings(self) -> Path | None:
        """Return where finished trainings of networks are kept until the run is whole."""
        return self.unfinished and self.unfinished / store.TRAININGS

    def scores(self) -> xr.DataArray:
        """Return the influence of the store, read when it is used."""
        return store.open_store(self.run if self.run.is_dir() else self.unfinished or self.run)["influence"]


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run, read back by `open`.

    Attributes:
        scores: influence (at, query, train), read when used.
        tables: everything in the store: predictions, left-out predictions, margins; the curve of
            training over `time`, where it has time.
        suspects, redundant: the tables of the CSV files.
        learned: the same; None under a rule without training time.
        record: `run.json`.
        report: path of the report.
    """

    path: Path
    scores: xr.DataArray
    tables: xr.Dataset
    suspects: pd.DataFrame
    redundant: pd.DataFrame
    learned: pd.DataFrame | None
    record: dict[str, Any]
    report: Path


def prepare_run(run: Path, identity: dict[str, Any]) -> RunFolder:
    """Return where to work: a new folder, one that was left half-way, or one that is whole.

    Raises:
        StoreError: the folder holds another computation, something that is no run, or is damaged.
    """
    wanted = {"leftout": __version__, "identity": fingerprint(identity)}
    if run.exists():
        _check_same(run, wanted)
        open(run)
        return RunFolder(run, None, identity)
    unfinished = part_path(run)
    if _holds_work(unfinished):
        _check_same(unfinished, wanted)
    else:
        try:
            unfinished.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{str(unfinished)!r} cannot be made: {error.strerror}.") from None
        write_json(unfinished / RUN, wanted)
    return RunFolder(run, unfinished, identity)


def abandon_run(folder: RunFolder) -> None:
    """Remove a folder without a whole block of scores: there is nothing in it to go on from."""
    if folder.unfinished is not None and not store.finished_blocks(folder.unfinished):
        shutil.rmtree(folder.unfinished)


def finish_run(folder: RunFolder, findings: Findings, *, command: dict[str, Any]) -> None:
    """Write tables, report and record, and rename the folder: now it is whole."""
    unfinished, train = folder.unfinished, findings.train
    assert unfinished is not None
    rows = result_tables.suspect_rows(train, findings.suspects)
    write_csv(unfinished / "suspects.csv", result_tables.SUSPECT_COLUMNS, rows)
    write_csv(
        unfinished / "redundant.csv",
        result_tables.REMOVAL_COLUMNS,
        result_tables.removal_rows(train, findings.redundant),
    )
    if findings.learned is not None:
        write_csv(
            unfinished / "learned.csv",
            result_tables.LEARNED_COLUMNS,
            result_tables.learned_rows(train, findings.learned),
        )
    if findings.learning_curve is not None:
        write_csv(
            unfinished / "curve.csv",
            result_tables.CURVE_COLUMNS,
            result_tables.curve_rows(findings.learning_curve),
        )
    write_report(findings, unfinished / "report.html")
    write_json(unfinished / RUN, _record(folder.identity, findings, command))
    shutil.rmtree(unfinished / store.TRAININGS, ignore_errors=True)  # their results are in the record
    unfinished.rename(folder.run)
    # Last: without it a run that was killed before its new name would be computed once more.
    (folder.run / store.DONE).unlink(missing_ok=True)


def _record(identity: dict[str, Any], findings: Findings, command: dict[str, Any]) -> dict[str, Any]:
    """Return the content of run.json."""
    return {
        "leftout": __version__,
        "identity": fingerprint(identity),
        "command": command,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        # Another version or another number of threads rounds otherwise: the last digits may differ.
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "computation": identity,
        "preparation": {"train": findings.train.preparation, "query": findings.query.preparation},
        "at_times": [_summary_record(model) for model in findings.at_times],
        "selection": findings.selection and findings.selection.record,
        "stop": findings.learned and dataclasses.asdict(findings.learned.stop),
        "certificate": dataclasses.asdict(findings.certificate),
        "linearisation_gap": findings.linearisation_gap and findings.linearisation_gap.record,
        "retrained_removal": findings.retrained_removal and dataclasses.asdict(findings.retrained_removal),
        "subclasses": [dataclasses.asdict(subclass) for subclass in findings.subclasses],
        "learning_curve": findings.learning_curve and findings.learning_curve.record,
        "sources": findings.sources and dataclasses.asdict(findings.sources),
    }


def _summary_record(model: ModelAtTime) -> dict[str, float | None]:
    """Return time, losses and accuracies, without the predictions."""
    return {name: field for name, field in vars(model).items() if isinstance(field, float | None)}


def open(run: str | Path) -> Run:
    """Return a finished run: scores, tables, record.

    Raises:
        StoreError: no such run, one that was stopped half-way, of another version, or damaged.

    Example:
        >>> import tempfile
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=60, n_query=20)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     audit = lo.audit(lo.kernels.TwoLayerReLU(), train, query, out=f"{folder}/run")
        ...     run = lo.open(audit.run)
        >>> run.suspects.columns.tolist()
        ['id', 'given', 'suggested', 'margin', 'reason']
    """
    path = Path(run)
    if not path.is_dir():
        hint = f" {HALF_WAY}" if part_path(path).is_dir() else ""
        raise StoreError(f"{str(path)!r} is no finished run.{hint}")
    record = read_json(path / RUN)
    if not isinstance(record, dict) or record.get("leftout") != __version__:
        version = record.get("leftout") if isinstance(record, dict) else None
        raise StoreError(
            f"{str(path)!r} was made by leftout {version}, this is {__version__}. {_make_again(path)}"
        )
    if "computation" not in record:
        raise StoreError(f"{str(path)!r} is no finished run. {HALF_WAY}")
    arrays = store.open_store(path)
    _check_agree(path, record, arrays["influence"].attrs)
    return Run(
        path=path,
        scores=arrays["influence"],
        tables=arrays,
        suspects=result_tables.read_table(path / "suspects.csv", result_tables.SUSPECT_COLUMNS),
        redundant=result_tables.read_table(path / "redundant.csv", result_tables.REMOVAL_COLUMNS),
        learned=(
            result_tables.read_table(path / "learned.csv", result_tables.LEARNED_COLUMNS)
            if record.get("stop")
            else None
        ),
        record=record,
        report=path / "report.html",
    )


def _make_again(path: Path) -> str:
    return f"Make it again: leftout audit --repeat {path / RUN} --out NEW."


def _check_agree(path: Path, record: dict[str, Any], made_from: dict[str, Any]) -> None:
    """Raise unless record and scores say that they come from the same computation."""
    computation = record["computation"]
    same = (
        record.get("identity") == fingerprint(computation)
        and made_from.get("fitted_fingerprint") == computation["fitted"]["weights"]
        and made_from.get("query_fingerprint") == computation["query"]
    )
    if not same:
        raise StoreError(
            f"{str(path)!r} was changed after it was made: {RUN} and {store.SCORES} are not of one "
            f"computation. {_make_again(path)}"
        )


def _holds_work(unfinished: Path) -> bool:
    """Return whether a folder holds more than the unfinished run.json of a run killed at its first write."""
    if not unfinished.is_dir():
        return unfinished.exists()
    return any(path.name != part_path(Path(RUN)).name for path in unfinished.iterdir())


def _check_same(folder: Path, wanted: dict[str, str]) -> None:
    record = read_json(folder / RUN) if (folder / RUN).exists() else None
    if not isinstance(record, dict) or "identity" not in record:
        raise StoreError(f"{str(folder)!r} exists and is no run of leftout. Choose another `out`.")
    if record.get("leftout") != wanted["leftout"]:
        raise StoreError(
            f"{str(folder)!r} was made by leftout {record.get('leftout')}, this is "
            f"{wanted['leftout']}. Choose another `out`, or remove it."
        )
    if record["identity"] != wanted["identity"]:
        raise StoreError(
            f"{str(folder)!r} holds another computation (other data, kernel, rule or times). "
            "Choose another `out`, or remove it."
        )

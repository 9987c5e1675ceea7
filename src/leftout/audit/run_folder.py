"""Where do results live? A folder that is whole or not there: `NAME.part` until it is renamed.

scores.zarr     influence (at, query, train), predictions, margins; labelled, read by xarray
suspects.csv    every training example whose label is doubted, most doubtful first
redundant.csv   the order of removal, and the exact joint effect where it was computed
learned.csv     when every training example was learned, and how; under a rule with training time
curve.csv       error and accuracy measured up to the examples at hand, and predicted beyond
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
from leftout.curation.learned import Learned
from leftout.data.examples import Examples
from leftout.report.findings import Findings
from leftout.report.learning_curve_panel import COLUMNS, curve_rows
from leftout.report.report import write_report
from leftout.storage import score_store as store
from leftout.storage.csv_table import write_csv

RUN = "run.json"
SUSPECTS = ("id", "given", "suggested", "margin", "reason")
REDUNDANT = ("rank", "id", "label", "share", "query_loss", "query_accuracy")
LEARNED = ("id", "label", "learned_at", "understood_at", "kind")
NUMBERS = {
    "margin": float,
    "rank": int,
    "share": float,
    "query_loss": float,
    "query_accuracy": float,
    "learned_at": float,
    "understood_at": float,
}
HALF_WAY = "It was stopped half-way: run it again to finish it."


@dataclass(frozen=True)
class Target:
    """The folder of a run. `part` is where work goes on; None where the run is whole already."""

    run: Path
    part: Path | None
    identity: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Return where the files are now."""
        return self.part or self.run

    def scores(self) -> xr.DataArray:
        """Return the influence of a store, read when looked at."""
        where = self.run if self.run.is_dir() else self.folder
        return store.opened(where)["influence"]


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run, read back.

    Attributes:
        scores: influence (at, query, train), read when looked at.
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


def prepare(run: Path, identity: dict[str, Any]) -> Target:
    """Return where to work: a new folder, one that was left half-way, or one that is whole.

    Raises:
        StoreError: the folder holds another computation, something that is no run, or is damaged.
    """
    wanted = {"leftout": __version__, "identity": fingerprint(identity)}
    if run.exists():
        _check_same(run, wanted)
        open(run)
        return Target(run, None, identity)
    part = part_path(run)
    if _is_begun(part):
        _check_same(part, wanted)
    else:
        try:
            part.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{str(part)!r} cannot be made: {error.strerror}.") from None
        store.write_json(part / RUN, wanted)
    return Target(run, part, identity)


def abandon(target: Target) -> None:
    """Remove what was begun where no block of scores is whole: nobody would go on from there."""
    if target.part is not None and not store.done(target.part):
        shutil.rmtree(target.part)


def finish(target: Target, findings: Findings, *, asked: dict[str, Any]) -> None:
    """Write tables, report and record, and rename the folder: now it is whole."""
    assert target.part is not None
    part = target.part
    write_csv(part / "suspects.csv", SUSPECTS, _suspects(findings))
    write_csv(part / "redundant.csv", REDUNDANT, _redundant(findings))
    if findings.learned is not None:
        write_csv(part / "learned.csv", LEARNED, _learned(findings.train, findings.learned))
    if findings.outlook is not None:
        write_csv(part / "curve.csv", COLUMNS, curve_rows(findings.outlook))
    write_report(findings, part / "report.html")
    found, again = findings.linearisation, findings.redundant_again
    record = {
        "leftout": __version__,
        "identity": fingerprint(target.identity),
        "asked": asked,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        # Another version or another number of threads rounds otherwise: the last digits may differ.
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "computation": target.identity,
        "preparation": {"train": findings.train.preparation, "query": findings.query.preparation},
        "moments": [
            {name: value for name, value in vars(one).items() if isinstance(value, float | None)}
            for one in findings.moments
        ],
        "selection": findings.selection and findings.selection.record,
        "stop": None if findings.learned is None else dataclasses.asdict(findings.learned.stop),
        "certificate": dataclasses.asdict(findings.certificate),
        "linearisation": found and found.record,
        "redundant_again": again and dataclasses.asdict(again),
        "subclasses": [dataclasses.asdict(one) for one in findings.subclasses],
        "outlook": findings.outlook and findings.outlook.record,
        "sources": None if findings.sources is None else dataclasses.asdict(findings.sources),
    }
    store.write_json(part / RUN, record)
    shutil.rmtree(part / store.TRAININGS, ignore_errors=True)  # what they told is in the record
    part.rename(target.run)
    # Last: without it a run that was killed before its new name would be computed once more.
    (target.run / store.DONE).unlink(missing_ok=True)


def open(run: str | Path) -> Run:
    """Return a finished run: scores, tables, record.

    Raises:
        StoreError: no such run, one that was stopped half-way, of another version, or damaged.
    """
    path = Path(run)
    if not path.is_dir():
        part = part_path(path)
        more = f" {HALF_WAY}" if part.is_dir() else ""
        raise StoreError(f"{str(path)!r} is no finished run.{more}")
    record = store.read_json(path / RUN)
    if not isinstance(record, dict) or record.get("leftout") != __version__:
        found = record.get("leftout") if isinstance(record, dict) else None
        raise StoreError(
            f"{str(path)!r} was made by leftout {found}, this is {__version__}. {_make_again(path)}"
        )
    if "computation" not in record:
        raise StoreError(f"{str(path)!r} is no finished run. {HALF_WAY}")
    tables = store.opened(path)
    _check_agree(path, record, tables["influence"].attrs)
    return Run(
        path=path,
        scores=tables["influence"],
        tables=tables,
        suspects=_read_csv(path / "suspects.csv", SUSPECTS),
        redundant=_read_csv(path / "redundant.csv", REDUNDANT),
        learned=_read_csv(path / "learned.csv", LEARNED) if record.get("stop") else None,
        record=record,
        report=path / "report.html",
    )


def _make_again(path: Path) -> str:
    return f"Make it again: leftout audit --again {path / RUN} --out NEW."


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


def _is_begun(part: Path) -> bool:
    """Return whether there is more than a run that was killed with its first breath leaves."""
    if not part.is_dir():
        return part.exists()
    return any(one.name != f"{RUN}.part" for one in part.iterdir())


def _check_same(folder: Path, wanted: dict[str, str]) -> None:
    record = store.read_json(folder / RUN) if (folder / RUN).exists() else None
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


def _suspects(findings: Findings) -> list[tuple[Any, ...]]:
    return [
        (findings.train.ids[one.row], one.given, one.suggested, repr(one.margin), one.reason)
        for one in findings.suspects
    ]


def _redundant(findings: Findings) -> list[tuple[Any, ...]]:
    """Return the order; loss and accuracy stand where everything up to that row was removed."""
    found, train = findings.redundant, findings.train
    at = {count: j for j, count in enumerate(found.counts)}
    rows = []
    for rank, row in enumerate(found.order, start=1):
        j = at.get(rank)
        loss = "" if j is None else repr(found.loss[j])
        accuracy = "" if j is None or found.accuracy is None else repr(found.accuracy[j])
        share = repr(rank / len(train))
        rows.append((rank, train.ids[row], _label(train, row), share, loss, accuracy))
    return rows


def _learned(train: Examples, found: Learned) -> list[tuple[Any, ...]]:
    """Return all examples, learned last first; no time where one is not right at the last."""

    def said(time: float | None) -> str:
        return "" if time is None else repr(time)

    return [
        (
            train.ids[row],
            _label(train, row),
            said(found.learned_at[row]),
            said(found.understood_at[row]),
            found.kinds[row],
        )
        for row in found.order
    ]


def _label(train: Examples, row: int) -> str:
    """Return the class of an example as it is named; nothing where there are no classes."""
    if train.labels is None or train.classes is None:
        return ""
    return train.classes[int(train.labels[row])]


def _read_csv(path: Path, header: tuple[str, ...]) -> pd.DataFrame:
    # Ids and labels are text even where they look like numbers ("007", "NA"), and objects, as the
    # text type of pandas refuses names that are not UTF-8.
    try:
        frame = pd.read_csv(path, dtype=object, keep_default_na=False, encoding_errors="surrogatepass")
        if tuple(frame.columns) != header:
            raise ValueError(f"its columns must be {', '.join(header)}")
        for name, kind in NUMBERS.items():
            if name in header:
                values = [float(text or "nan") for text in frame[name]]
                frame[name] = pd.Series(values, dtype=float).astype(kind)
    except (OSError, ValueError) as error:
        raise StoreError(f"{str(path)!r} is not readable: {error}.") from None
    return frame

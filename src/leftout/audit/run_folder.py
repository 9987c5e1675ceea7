"""The folder of a run: whole or not there, `NAME.part` until it is renamed.

scores.zarr     influence (at, query, train), predictions, margins; labelled, read by xarray
suspects.csv, redundant.csv, rare.csv, duplicates.csv, curve.csv, learned.csv under a rule with training time:
`result_tables`
corrected.csv, review.json, keep.txt: to act on, `action_files`
report.html     for a person
run.json        everything needed to make it again, and the SHA-256 of all other files

One process at a time writes a run (`core/writer_lock.py`); what it calls done is on the disk by then.
"""

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import xarray as xr

from leftout.audit.summary import data_text, model_text, to_do_text
from leftout.audit.tables import TABLES, suspects_html
from leftout.core.atomic_files import part_path, sync, sync_tree
from leftout.core.card import Card
from leftout.core.checks import check_path
from leftout.core.errors import StoreError
from leftout.core.fingerprint import fingerprint
from leftout.core.json_file import read_json, write_json
from leftout.core.version import __version__, code_fingerprint
from leftout.core.writer_lock import clear_lock, writer_lock
from leftout.report.findings import Findings, ModelAtTime
from leftout.report.report import write_report
from leftout.storage import action_files, result_tables
from leftout.storage import score_store as store
from leftout.storage.checksums import (
    CHANGED,
    FILES,
    checksums,
    differences,
    file_names,
    has_seal,
    raise_damage,
    write_sealed,
)
from leftout.storage.csv_table import write_csv

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
        if self.run.is_dir():
            return open(self.run).scores
        return store.open_store(self.unfinished or self.run)[store.INFLUENCE]


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run, read back by `open`.

    Attributes:
        scores: influence (at, query, train), read when used.
        tables: everything in the store: predictions, left-out predictions, margins; the curve of
            training over `time`, where it has time.
        suspects, redundant, rare, duplicates: the tables of `Audit`, from the CSV files.
        learned: that of learned.csv; None under a rule without training time.
        record: `run.json`.
        report: path of the report.
    """

    path: Path
    scores: xr.DataArray
    tables: xr.Dataset
    suspects: pd.DataFrame
    redundant: pd.DataFrame
    rare: pd.DataFrame
    duplicates: pd.DataFrame
    learned: pd.DataFrame | None
    record: dict[str, Any]
    report: Path

    def __repr__(self) -> str:
        return str(self._card)

    def _repr_html_(self) -> str:
        return self._card.html(suspects_html(self.suspects))

    @property
    def _card(self) -> Card:
        """Return what is shown of this run."""
        preparation, fitted = self.record["preparation"]["train"], self.record["computation"]["fitted"]
        first = self.record["refusal"] or self.record["verdict"]
        issues = None if self.record["no_doubts"] else int(self.suspects["is_label_issue"].sum())
        lines = [
            *([("take care", first)] if first else []),
            ("model", model_text(fitted["kernel"], fitted["rule"], chosen=bool(self.record["ridge_choice"]))),
        ]
        if not self.record["refusal"]:
            to_do = to_do_text(issues, int(self.redundant["can_go"].sum()), len(self.suspects))
            lines.append(("to do", to_do))
        lines.append(("report", str(self.report)))
        return Card(
            data_text("Run", preparation, len(self.suspects), self.scores.sizes["query"]), tuple(lines)
        )


@contextmanager
def run_folder(run: Path, identity: dict[str, Any]) -> Iterator[RunFolder]:
    """Yield where to work: a new folder, one that was left half-way, or one that is whole.

    A folder that is not whole belongs to this process until the block ends.

    Raises:
        StoreError: the folder holds another computation, something that is no run, or is damaged; another
            process writes it; or the disk did not take what was written in the block.
    """
    if run.exists():
        _check_same(run, _identity_record(identity))
        clear_lock(run.resolve())  # "." has no name
        yield _finished_run(run, identity)
        return
    _check_outside_runs(run)
    _make_folder(run.parent, part_path(run))
    with writer_lock(run):
        if run.exists():  # another process finished it meanwhile
            yield _finished_run(run, identity)
            return
        folder = None
        try:
            folder = _unfinished_run(run, identity)
            yield folder
        except Exception as error:
            if folder is not None:
                _abandon(folder)
            if not isinstance(error, OSError):
                raise
            place = f" ({error.filename})" if error.filename else ""
            raise StoreError(
                f"{str(run)!r} is not finished: {error.strerror or error}{place}. What is done is kept: run "
                "it again to finish it."
            ) from error


def _finished_run(run: Path, identity: dict[str, Any]) -> RunFolder:
    """Return a run that is whole, every file compared with its checksum."""
    _check_same(run, _identity_record(identity))
    open(run)
    raise_damage(run, damaged_files(run), _make_again(run))
    return RunFolder(run, None, identity)


def _unfinished_run(run: Path, identity: dict[str, Any]) -> RunFolder:
    """Return a folder to work in; where only the last name is missing, give it and return the whole run."""
    unfinished = part_path(run)
    if _holds_work(unfinished):
        _check_same(unfinished, _identity_record(identity))
        if _is_complete(unfinished):
            _publish(unfinished, run)
            return RunFolder(run, None, identity)
    else:
        _make_folder(unfinished, unfinished)
        write_json(unfinished / RUN, _identity_record(identity))
        sync(run.parent)
    for path in unfinished.glob("*.part"):  # of files that were not whole
        path.unlink()
    return RunFolder(run, unfinished, identity)


def _identity_record(identity: dict[str, Any]) -> dict[str, str]:
    """Return the content of run.json while a run is not finished."""
    return {"leftout": __version__, "identity": fingerprint(identity)}


def _check_outside_runs(run: Path) -> None:
    """Raise where a new run would be written into the folder of another, finished or not."""
    for above in run.resolve().parents:
        if (above / RUN).is_file() and (above / store.SCORES).is_dir():
            raise StoreError(
                f"{str(run)!r} lies in {str(above)!r}, which is a run itself and would not be as it was made "
                "any more. Choose another `out`."
            )


def _make_folder(folder: Path, named: Path) -> None:
    """Make a folder and those above it; it is named in an error by what is to be made there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise StoreError(f"{str(named)!r} cannot be made: {str(folder)!r} is a file.") from None
    except OSError as error:
        raise StoreError(f"{str(named)!r} cannot be made: {error.strerror}.") from None


def _abandon(folder: RunFolder) -> None:
    """Remove a folder without a whole block of scores: there is nothing in it to go on from."""
    unfinished = folder.unfinished
    if unfinished is None or not unfinished.exists() or (unfinished / store.WORK).exists():
        return
    if store.finished_blocks(unfinished):
        return
    for path in unfinished.iterdir():
        if path.name != RUN:  # last: a folder with other files and without it is not ours
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(unfinished)


def finish_run(folder: RunFolder, findings: Findings, *, command: dict[str, Any]) -> None:
    """Write tables, report and record, and rename the folder: now it is whole."""
    unfinished, train = folder.unfinished, findings.train
    assert unfinished is not None
    for name, table_of in TABLES.items():
        table = table_of(findings)
        if table is not None:
            result_tables.write_table(unfinished / name, table)
    write_csv(
        unfinished / "corrected.csv",
        action_files.corrected_columns(train),
        action_files.corrected_rows(train, findings.suspects),
    )
    _write_text(unfinished / "review.json", action_files.review_tasks(train, findings.suspects))
    _write_text(unfinished / "keep.txt", action_files.kept_ids(train, findings.redundant))
    write_report(findings, unfinished / "report.html")
    sync_tree(unfinished)
    scores = store.score_checksums(unfinished)
    others = checksums(unfinished, _result_names(unfinished) - set(scores))
    write_sealed(
        unfinished / RUN,
        {**_record(folder.identity, findings, command), FILES: dict(sorted({**others, **scores}.items()))},
    )
    _publish(unfinished, folder.run)


def _write_text(path: Path, text: str) -> None:
    # Names of files need not be text: what they hold instead passes through as it is.
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="\n")


def _result_names(folder: Path) -> set[str]:
    """Return the files of a run that have checksums: not the record, nor what serves to go on."""
    return {
        name
        for name in file_names(folder)
        if name not in (RUN, store.DONE) and name.split("/")[0] not in (store.TRAININGS, store.WORK)
    }


def _is_complete(unfinished: Path) -> bool:
    """Return whether a folder is a whole run but for its last name."""
    if not has_seal(unfinished / RUN):
        return False
    expected = read_json(unfinished / RUN)[FILES]
    return not differences(unfinished, expected, {*expected, *_result_names(unfinished)})


def _publish(unfinished: Path, run: Path) -> None:
    """Give a whole run its name, without what only serves to go on."""
    for work in (store.TRAININGS, store.WORK):  # their results are in the record
        shutil.rmtree(unfinished / work, ignore_errors=True)
    (unfinished / store.DONE).unlink(missing_ok=True)
    sync(unfinished)
    unfinished.rename(run)
    sync(run.parent)


def _record(identity: dict[str, Any], findings: Findings, command: dict[str, Any]) -> dict[str, Any]:
    """Return the content of run.json."""
    return {
        "leftout": __version__,
        "identity": fingerprint(identity),
        "command": command,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        # Another version or another number of threads rounds otherwise: the last digits may differ.
        "torch": torch.__version__,
        "code": code_fingerprint(),
        "threads": torch.get_num_threads(),
        "computation": identity,
        "preparation": {"train": findings.train.preparation, "query": findings.query.preparation},
        "at_times": [_summary_record(model) for model in findings.at_times],
        "selection": findings.selection and findings.selection.record,
        "ridge_choice": findings.ridge_choice and findings.ridge_choice.record,
        "stop": findings.learned and dataclasses.asdict(findings.learned.stop),
        "labels": findings.label_note or None,
        "verdict": findings.verdict or None,
        "trust": None if findings.trust is None else findings.trust.attrs,
        "retrained": [each.record for each in findings.measured],
        "refusal": findings.refusal or None,
        "dominant": findings.dominant or None,
        "no_doubts": findings.no_doubts,
        "predicts_numbers": findings.train.labels is None,
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

    Every file is compared with its checksum: scores, predictions and other arrays when they are read, all
    others now. `damaged_files` compares all.

    Raises:
        StoreError: no such run, one that was stopped half-way, of another version, or damaged.

    Example:
        >>> import tempfile
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=60, n_query=20)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     audit = lo.audit(lo.kernels.TwoLayerReLU(), train, query, out=f"{folder}/run")
        ...     run = lo.open(audit.run)
        >>> run.suspects.columns[:8].tolist()
        ['id', 'row', 'given', 'suggested', 'label_score', 'is_label_issue', 'margin', 'reason']
    """
    check_path("run", run)
    path = Path(run)
    record = _finished_record(path, {__version__})
    names = {name for name in (*record[FILES], *file_names(path)) if not _is_chunk_in_place(path, name)}
    raise_damage(path, _damage(path, record, names), _make_again(path))
    expected = {
        name.removeprefix(f"{store.SCORES}/"): record[FILES][name]
        for name in record[FILES]
        if name.startswith(f"{store.SCORES}/")
    }
    arrays = store.open_store(path, expected)
    _check_agree(path, record, arrays[store.INFLUENCE].attrs)
    return Run(
        path=path,
        scores=arrays[store.INFLUENCE],
        tables=arrays,
        suspects=result_tables.read_suspects(
            path / "suspects.csv", of_numbers=record["predicts_numbers"], refusal=record["no_doubts"]
        ),
        redundant=result_tables.read_table(path / "redundant.csv", result_tables.REMOVAL_COLUMNS),
        rare=result_tables.read_table(path / "rare.csv", result_tables.RARE_COLUMNS),
        duplicates=result_tables.read_table(path / "duplicates.csv", result_tables.DUPLICATE_COLUMNS),
        learned=(
            result_tables.read_table(path / "learned.csv", result_tables.LEARNED_COLUMNS)
            if record.get("stop")
            else None
        ),
        record=record,
        report=path / "report.html",
    )


def damaged_files(run: str | Path) -> dict[str, str]:
    """Return the files of a finished run that are not as they were made, by their paths in its folder.

    What happened to one is "changed", "missing", "added", or why it cannot be read. Nothing is damaged where
    the result is empty. A single flipped bit counts, also in `run.json`.

    Args:
        run: folder of a finished run, of any version.

    Raises:
        StoreError: no finished run, or its run.json cannot be read.

    Cost: every byte is read once; SHA-256 takes about a second for each gigabyte.

    Example:
        >>> import tempfile
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=60, n_query=20)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     audit = lo.audit(lo.kernels.TwoLayerReLU(), train, query, out=f"{folder}/run")
        ...     whole = lo.damaged_files(audit.run)
        ...     (audit.run / "report.html").unlink()
        ...     (whole, lo.damaged_files(audit.run))
        ({}, {'report.html': 'missing'})
    """
    check_path("run", run)
    path = Path(run)
    record = _finished_record(path)
    return _damage(path, record, {*record[FILES], *file_names(path)})


def _finished_record(path: Path, versions: set[str] | None = None) -> dict[str, Any]:
    """Return the content of run.json, of one of these versions; it need not be as it was written."""
    if not path.is_dir():
        hint = f" {HALF_WAY}" if part_path(path).is_dir() else ""
        raise StoreError(f"{str(path)!r} is no finished run.{hint}")
    record: Any = read_json(path / RUN)
    version = record.get("leftout") if isinstance(record, dict) else None
    if version is None or (versions and version not in versions):
        raise StoreError(
            f"{str(path)!r} was made by leftout {version}, this is {__version__}. {_make_again(path)}"
        )
    if "computation" not in record:
        raise StoreError(f"{str(path)!r} is no finished run. {HALF_WAY}")
    files = record.get(FILES)
    if not isinstance(files, dict) or not all(isinstance(checksum, str) for checksum in files.values()):
        raise StoreError(
            f"{str(path / RUN)!r} holds no checksums of files: it was changed, or made by an older leftout. "
            f"{_make_again(path)}"
        )
    return dict(record)


def _damage(path: Path, record: dict[str, Any], names: set[str]) -> dict[str, str]:
    """Return which of these files differ from the record, and how."""
    damage = {} if has_seal(path / RUN) else {RUN: CHANGED}
    return damage | differences(path, record[FILES], names - {RUN})


def _is_chunk_in_place(path: Path, name: str) -> bool:
    """Return whether a file holds numbers that are compared when they are read."""
    return store.is_chunk(name) and (path / name).is_file()


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
    try:
        record = read_json(folder / RUN) if (folder / RUN).exists() else None
    except StoreError as error:
        raise StoreError(f"{error} Choose another `out`, or remove {str(folder)!r} and run again.") from None
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

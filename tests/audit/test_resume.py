"""A run that is killed goes on where it stopped, to the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import leftout as lo
from leftout.audit import audit_findings as findings_module
from leftout.audit import run_folder as run_module
from leftout.core.errors import StoreError
from leftout.storage import result_tables
from leftout.storage import score_store as store
from problems.runs import KERNEL, digits, tree

TABLES = ("suspects.csv", "redundant.csv", "rare.csv", "duplicates.csv", "learned.csv")
TIMES = (1.0, 20.0)
BLOCKS = 3
QUERIES = 2 * store.BLOCK + 50
FEW = 16
"""Queries in a block where nothing is really killed: quicker."""


class Killed(BaseException):
    """Ends a run as a signal does: nothing of ours catches it."""


def run_of(out):
    train, query = digits(60, 2 * FEW + 5)
    rule = lo.GradientFlow(1.0, 0.1)
    return lo.audit(KERNEL, train, query, rule=rule, at=TIMES, out=out)


@pytest.fixture(scope="module")
def few():
    """Make blocks small."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(store, "BLOCK", FEW)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, few):
    """Return a run that nobody interrupted, in blocks of few queries as all that use it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run_of(folder)
    return folder


def assert_same_results(folder, whole):
    """Equal bits: every block is the same queries computed alone, by as many threads of one processor."""
    for name in (one for one in TABLES if (whole / one).exists()):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    one, other = lo.open(folder), lo.open(whole)
    assert one.tables.identical(other.tables), "scores, predictions, margins, labels, attributes"
    records = [run.record for run in (one, other)]
    for record in records:
        del record["made"], record["sha256"]  # the time, and the checksum of a text that holds it
    assert records[0] == records[1]


def killed_at(monkeypatch, owner, name, *, before=0, half=None):
    """Kill at a call of owner.name, after `before` calls, leaving behind what `half` does."""
    real, calls = getattr(owner, name), []

    def call(*given, **more):
        if len(calls) == before:
            if half is not None:
                half(*given, **more)
            raise Killed
        calls.append(given)
        return real(*given, **more)

    monkeypatch.setattr(owner, name, call)


def half_a_block(folder, start, values):
    """Write the scores of a block and die before it is said to be done."""
    array = store.zarr.open_array(
        store.zarr.storage.LocalStore(folder / store.SCORES), path="influence", mode="r+"
    )
    array[:1, start : start + values.shape[1]] = -values[:1]


def half_a_file(path, *more):
    path.write_text("id,given\nhalf")


def half_a_report(findings, path):
    path.write_text("<!doctype html><title>half")


def half_a_record(path, value):
    path.with_name(path.name + ".part").write_text('{"leftout": ')


# What is killed, and how many blocks are whole by then.
DEATHS = {
    "before there is a record": (run_module, "write_json", 0, half_a_record, 0),
    "before there is a store": (store, "create_store", 0, None, 0),
    "before anything is done": (store, "write_json", 0, half_a_record, 0),
    "before the first block": (store, "write_block", 0, None, 0),
    "in the middle of the first block": (store, "write_block", 0, half_a_block, 0),
    "in the middle of the second block": (store, "write_block", 1, half_a_block, 1),
    "before the last block": (store, "write_block", 2, None, 2),
    "after the scores": (findings_module, "label_findings", 0, None, 3),
    "at the certificate": (findings_module, "certify", 0, None, 3),
    "before the tables": (store, "write_tables", 0, None, 3),
    "in the first table": (result_tables, "write_csv", 0, half_a_file, 3),
    "in the second table": (result_tables, "write_csv", 1, half_a_file, 3),
    "in the third table": (result_tables, "write_csv", 2, half_a_file, 3),
    "in the report": (run_module, "write_report", 0, half_a_report, 3),
    "in the last record": (run_module, "write_sealed", 0, half_a_record, 3),
    "before its last name": (run_module, "_publish", 0, None, 3),
}


@pytest.mark.sample(5)
@pytest.mark.parametrize(("owner", "name", "before", "half", "blocks"), DEATHS.values(), ids=DEATHS)
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, whole, owner, name, before, half, blocks) -> None:
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patched:
        killed_at(patched, owner, name, before=before, half=half)
        with pytest.raises(Killed):
            run_of(folder)
    assert not folder.exists(), "half a run must not look like one"
    assert (tmp_path / "run.part").is_dir()
    assert len(store.finished_blocks(tmp_path / "run.part")) == blocks
    with pytest.raises(StoreError, match="stopped half-way"):
        lo.open(folder)
    computed = []
    with pytest.MonkeyPatch.context() as patched:
        real = findings_module.loss_changes
        patched.setattr(findings_module, "loss_changes", lambda *given: computed.append(1) or real(*given))
        run_of(folder)
    assert len(computed) == (BLOCKS - blocks) * len(TIMES), "whole blocks are not computed again"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert set(tree(folder)) == set(tree(whole))
    assert_same_results(folder, whole)


@pytest.mark.slow
def test_a_run_may_be_killed_again_and_again(tmp_path, whole) -> None:
    folder = tmp_path / "run"
    for owner, name, before, half, _ in DEATHS.values():
        with pytest.MonkeyPatch.context() as patched:
            killed_at(patched, owner, name, before=before and 1, half=half)
            try:
                run_of(folder)
            except Killed:
                continue
            break
    run_of(folder)
    assert_same_results(folder, whole)


def test_blocks_that_are_whole_are_left_as_they_are(tmp_path, few) -> None:
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patched:
        killed_at(patched, store, "write_block", before=1)
        with pytest.raises(Killed):
            run_of(folder)
    chunks = "scores.zarr/influence/*.0.*"
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run.part").glob(chunks)}
    assert len(before) == len(TIMES)
    run_of(folder)
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob(chunks)}
    assert after == before


def test_a_record_of_what_is_done_that_is_damaged_is_refused(tmp_path, few) -> None:
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patched:
        killed_at(patched, store, "write_block", before=1)
        with pytest.raises(Killed):
            run_of(folder)
    (tmp_path / "run.part" / store.DONE).write_text("[0,")
    with pytest.raises(StoreError, match=r"done.json' is damaged. Remove it and run again"):
        run_of(folder)


def test_an_error_before_a_block_is_whole_leaves_nothing(tmp_path, few) -> None:
    def fails(*given):
        raise RuntimeError("no such luck")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(findings_module, "loss_changes", fails)
        with pytest.raises(RuntimeError, match="no such luck"):
            run_of(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_an_error_after_a_whole_block_keeps_it(tmp_path, few) -> None:
    def fails(*given, **more):
        raise RuntimeError("no such luck")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(findings_module, "certify", fails)
        with pytest.raises(RuntimeError, match="no such luck"):
            run_of(tmp_path / "run")
    assert len(store.finished_blocks(tmp_path / "run.part")) == BLOCKS


# The same by real signals, through the command line.

DATA = f"""
import os, signal, time
from leftout import load
from leftout.audit import run_folder as run
from leftout.storage import result_tables
from leftout.storage import score_store as store

def data():
    block, report = store.write_block, run.write_report

    def write_block(folder, start, values):
        block(folder, start, values)
        if os.environ.get("DIE") == f"block {{start}}":
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ.get("DIE") == "slowly":
            time.sleep(60)

    def write_report(findings, path):
        report(findings, path)
        path.write_bytes(path.read_bytes()[:1000])
        if os.environ.get("DIE") == "report":
            os.kill(os.getpid(), signal.SIGKILL)
        return report(findings, path)

    store.write_block, run.write_report = write_block, write_report
    return load("digits", n_train=100, n_query={QUERIES})
"""

COMMAND = [sys.executable, "-m", "leftout", "audit", "data.py:data", "--ridge", "0.1", "--out"]


def environment(die=""):
    # One thread, so that every process rounds alike.
    return os.environ | {"DIE": die, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def audited(folder, out, die=""):
    return subprocess.run(
        [*COMMAND, out],
        cwd=folder,
        env=environment(die),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def blocks_done(path):
    return [int(start) for start in json.loads(path.read_text())]


@pytest.fixture(scope="module")
def signalled(tmp_path_factory):
    """Return a folder with data.py and an uninterrupted run by the command line, `whole`."""
    folder = tmp_path_factory.mktemp("signals")
    (folder / "data.py").write_text(DATA)
    done = audited(folder, "whole")
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.mark.slow
def test_a_run_killed_by_sigkill_twice_goes_on(signalled) -> None:
    out = signalled / "killed"
    for die, blocks in (("block 256", [0, 256]), ("report", [0, 256, 512])):
        assert audited(signalled, "killed", die).returncode == -signal.SIGKILL
        assert not out.exists()
        assert blocks_done(signalled / "killed.part/done.json") == blocks
    done = audited(signalled, "killed")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (signalled / "killed.part").exists()
    assert_same_results(out, signalled / "whole")
    assert (out / "report.html").stat().st_size == (signalled / "whole/report.html").stat().st_size


def test_a_run_stopped_by_hand_says_so_and_goes_on(signalled) -> None:
    process = subprocess.Popen(
        [*COMMAND, "stopped"],
        cwd=signalled,
        env=environment("slowly"),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A job in the background ignores the signal, and hands that on to its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    done = signalled / "stopped.part/done.json"
    for _ in range(1200):
        if done.exists() and blocks_done(done) == [0]:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert err == "Stopped. What is done is kept: run the same command to go on.\n"
    assert out == ""
    assert blocks_done(done) == [0]
    before = {path.name: path.stat().st_mtime_ns for path in done.parent.rglob("influence/0.0.0")}
    assert audited(signalled, "stopped").returncode == 0
    after = (signalled / "stopped/scores.zarr/influence/0.0.0").stat().st_mtime_ns
    assert before == {"0.0.0": after}
    assert_same_results(signalled / "stopped", signalled / "whole")


@pytest.mark.slow
def test_a_run_killed_at_any_moment_goes_on(signalled) -> None:
    draw = np.random.default_rng(0)
    for number in range(12):
        process = subprocess.Popen(
            [*COMMAND, f"any{number}"],
            cwd=signalled,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        part, deadline = signalled / f"any{number}.part", time.monotonic() + 300
        while not part.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.6))
        process.kill()
        process.wait()
        done = audited(signalled, f"any{number}")
        assert (done.returncode, done.stderr) == (0, "")
        assert_same_results(signalled / f"any{number}", signalled / "whole")

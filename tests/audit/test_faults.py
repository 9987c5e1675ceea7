"""Whatever happens to a run's files, the next run ends with the same bytes or says in a sentence what to do.

The faults and the program that injects them stand in `problems/fault_injection.py`: a kill, an emptied file,
a full disk or a loss of power at every file-system event of an audit. A sample runs here, all of them in the
slow suite.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import leftout as lo
from leftout.core.errors import StoreError
from leftout.core.writer_lock import lock_path, writer_lock
from leftout.storage.checksums import has_seal
from problems.runs import KERNEL, digits, tree

PROGRAM = Path(__file__).parents[1] / "problems/fault_injection.py"
ADVICE = re.compile(r"Remove it and run again|remove '.*' and run again|run it again to finish|Make it again")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
HARMLESS = {"kill", "full", "crash", "crash+"}
"""Faults after which nothing is lost: the next run always ends with the same bytes."""


def outcomes(folder: Path, start: str, count: int) -> list[tuple[str, ...]]:
    """Return fault, event, path, what came of it and the sentence, of all cases or so many."""
    done = subprocess.run(
        [sys.executable, PROGRAM, folder, start, str(count), "0"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert sum(answer["events"].values()) - answer["events"]["read"] > 300, "few events: are they heard?"
    return [tuple(result) for result in answer["results"]]


def check(results: list[tuple[str, ...]]) -> None:
    wrong = [result for result in results if result[3] not in ("same", "sentence", "not reached")]
    assert not wrong, wrong[:3]
    assert sum(result[3] == "not reached" for result in results) <= 1 + len(results) // 100
    unhelpful = [result for result in results if result[3] == "sentence" and not ADVICE.search(result[4])]
    assert not unhelpful, unhelpful[:3]
    lost = [result for result in results if result[3] == "sentence" and result[0] in HARMLESS]
    assert not lost, lost[:3]


def test_an_audit_survives_a_sample_of_faults(tmp_path) -> None:
    results = outcomes(tmp_path, "a block", 8)
    check(results)
    assert len({fault for fault, *_ in results}) >= 3
    assert len({event for _, event, *_ in results}) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("start", ["nothing", "a block"])
def test_an_audit_survives_every_fault_at_every_event(tmp_path, start) -> None:
    results = outcomes(tmp_path, start, 0)
    print(Counter((fault, outcome) for fault, _, _, outcome, _ in results))
    check(results)
    assert len(results) > 1500


# Damage to a finished run.


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a finished run over time, which has every kind of file."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    audit(folder)
    return folder


def audit(folder):
    train, query = digits(40, 10)
    return lo.audit(KERNEL, train, query, rule=lo.GradientFlow(1.0, 0.1), at=[1.0, 5.0], out=folder)


def files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def read_everything(folder: Path) -> None:
    lo.open(folder).tables.load()


def test_a_flipped_bit_in_any_file_is_noticed_when_it_is_read(tmp_path, whole) -> None:
    folder, draw = shutil.copytree(whole, tmp_path / "run"), np.random.default_rng(0)
    assert len(files(folder)) > 40
    for path in files(folder):
        before = path.read_bytes()
        harmed = bytearray(before)
        bit = int(draw.integers(8 * len(before)))
        harmed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(harmed)
        with pytest.raises(StoreError):
            read_everything(folder)
        name = path.relative_to(folder).as_posix()
        if name != "run.json":  # which need not be readable then
            assert lo.damaged_files(folder) == {name: "changed"}
        path.write_bytes(before)
    read_everything(folder)
    assert lo.damaged_files(folder) == {}


@pytest.mark.slow
def test_every_flipped_bit_of_the_record_is_noticed(tmp_path, whole) -> None:
    path, before = tmp_path / "run.json", (whole / "run.json").read_bytes()
    path.write_bytes(before)
    assert has_seal(path)
    for bit in range(8 * len(before)):
        harmed = bytearray(before)
        harmed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(harmed)
        try:
            assert not has_seal(path), bit
        except StoreError:
            continue


@pytest.mark.parametrize("harm", ["emptied", "missing", "a folder"])
def test_a_file_that_is_gone_or_empty_is_noticed(tmp_path, whole, harm) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    for path in files(folder):
        before = path.read_bytes()
        path.unlink()
        if harm == "emptied":
            path.touch()
        if harm == "a folder":
            path.mkdir()
        with pytest.raises(StoreError):
            read_everything(folder)
        if path.name != "run.json":
            assert set(lo.damaged_files(folder)) == {path.relative_to(folder).as_posix()}
        path.rmdir() if harm == "a folder" else path.unlink(missing_ok=True)
        path.write_bytes(before)


def test_exchanged_files_are_noticed(tmp_path, whole) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    one, other = (folder / f"scores.zarr/influence/{time}.0.0" for time in (0, 1))
    first = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(first)
    run = lo.open(folder)  # chunks are compared when they are read
    with pytest.raises(StoreError, match=r"influence/[01]\.0\.0' was changed after it was made"):
        run.scores.sum()
    with pytest.raises(
        StoreError, match=r"influence/0\.0\.0 \(changed\), .*1\.0\.0 \(changed\)\. Make it again"
    ):
        audit(folder)


def test_an_added_file_is_noticed_wherever_it_is(tmp_path, whole) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    for name in ("notes.txt", "scores.zarr/influence/9.0.0", "scores.zarr/more/.zarray", "empty/also"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
        assert lo.damaged_files(folder) == {name: "added"}
        with pytest.raises(StoreError, match=re.escape(f"{name} (added)")):
            audit(folder)
        (folder / name).unlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path, whole) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "report.html").unlink()
    os.mkfifo(folder / "report.html")
    assert lo.damaged_files(folder) == {"report.html": "changed"}


def test_the_command_says_what_is_damaged(leftout, tmp_path, whole) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    assert leftout("verify", "run") == (0, "run: every file is as it was made.\n", "")
    (folder / "report.html").write_text("")
    (folder / "suspects.csv").unlink()
    said = "report.html: changed\nsuspects.csv: missing\n"
    assert leftout("verify") == (1, said, "leftout: run was changed after it was made: 2\xa0files.\n")
    code, out, err = leftout("verify", "nothing")
    assert (code, out, err) == (2, "", "leftout: 'nothing' is no finished run.\n")


# One writer.

CONTEST = """
import sys
import leftout as lo
from leftout.core.errors import StoreError
train, query = lo.load("digits", n_train=40, n_query=10)
print("ready", flush=True)
for folder in sys.stdin:
    try:
        lo.audit(lo.kernels.TwoLayerReLU(), train, query, out=folder.strip() + "/run")
        print("done", flush=True)
    except StoreError as error:
        print(error, flush=True)
"""


def contest(folder: Path, *, processes: int, rounds: int) -> list[list[str]]:
    """Let processes loose on one folder after another, and return what each said in each round."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CONTEST],
            cwd=folder, env=ENVIRONMENT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(processes)
    ]  # fmt: skip
    assert [process.stdout.readline() for process in started] == ["ready\n"] * processes
    answers = []
    for number in range(rounds):
        (folder / str(number)).mkdir()
        for process in started:
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
        answers.append([process.stdout.readline() for process in started])
    ends = [process.communicate() for process in started]
    assert ends == [("", "")] * processes
    return answers


@pytest.mark.parametrize(
    ("processes", "rounds"), [(2, 1), pytest.param(5, 60, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_of_processes_with_one_folder_one_writes_and_the_others_are_told(tmp_path, processes, rounds) -> None:
    told = r"'\d+/run' is being written by process \d+ on \S+ since \d{4}-\S+\. Nothing was changed: wait"
    refusals = 0
    for number, said in enumerate(contest(tmp_path, processes=processes, rounds=rounds)):
        refused = [line for line in said if line != "done\n"]
        assert len(refused) < processes
        assert all(re.match(told, line) for line in refused), refused
        assert [path.name for path in (tmp_path / str(number)).iterdir()] == ["run"]
        assert lo.damaged_files(tmp_path / str(number) / "run") == {}
        refusals += len(refused)
    print(f"{rounds} contests of {processes}: {refusals} processes were told who writes")


HOLD = """
import sys
from pathlib import Path
from leftout.core.writer_lock import writer_lock
with writer_lock(Path("run")):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Return a process that holds the lock of `run` in this folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=tmp_path, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_who_holds_a_lock_is_named_and_nothing_is_written(leftout, tmp_path, holder) -> None:
    code, _out, err = leftout("audit", "digits", "--n-train", "40", "--n-query", "10")
    assert code == 2
    assert f"run' is being written by process {holder.pid} on " in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [lock_path(Path("run")).name]
    holder.communicate("\n")
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, holder) -> None:
    holder.kill()
    holder.wait()
    assert [path.name for path in tmp_path.iterdir()] == [lock_path(Path("run")).name]
    began = time.monotonic()
    with writer_lock(tmp_path / "run"):
        assert f"process {os.getpid()} on " in lock_path(tmp_path / "run").read_text()
    assert time.monotonic() - began < 5
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_of_its_lock_goes_with_the_next_run(tmp_path, whole, holder) -> None:
    shutil.copytree(whole, tmp_path / "run")
    holder.kill()
    holder.wait()
    assert lock_path(tmp_path / "run").exists()
    audit(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_finished_run_is_opened_while_another_process_would_write_it(tmp_path, whole, holder) -> None:
    shutil.copytree(whole, tmp_path / "run")
    before = tree(tmp_path)
    audit(tmp_path / "run")
    assert tree(tmp_path) == before

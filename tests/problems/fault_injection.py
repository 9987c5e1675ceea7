"""Faults at every file-system event of an audit: run as a program, it prints what came of each as JSON.

One process loads everything and fits the model; each case is a fork of it, so that it costs what the files
cost. A case runs an audit in a folder of its own until the fault, and then runs it again without one. Events
are those that Python audits (open, rename, mkdir, remove, ...) under that folder, and fsync.

The faults, each at event number k, which has not happened by then:

kill      the process is killed
empty     the file of the event is emptied, and the process is killed
full      the disk is full from then on: what is opened for writing becomes an empty file and an error
crash     power is lost: files that were written since they were last synced are empty
crash+    the same, and names given, changed or removed since their folder was last synced are as before
"""

import contextlib
import errno
import json
import os
import shutil
import signal
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np

import leftout as lo
from leftout.audit import audit_findings as findings_module
from leftout.audit.audit import run_audit
from leftout.audit.request import audit_request
from leftout.core.errors import LeftoutError
from leftout.core.version import code_fingerprint
from leftout.core.writer_lock import lock_path
from leftout.report import report
from leftout.storage import score_store as store

FAULTS = ("kill", "empty", "full", "crash", "crash+")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
OTHER_FILES = {
    "open",
    "os.rename",
    "os.link",
    "os.mkdir",
    "os.rmdir",
    "os.remove",
    "os.truncate",
    "shutil.rmtree",
}
COMPUTED = (
    "label_findings", "redundant", "_model_at", "audit_learning_curve", "outliers", "duplicates",
    "certify", "_learned_over_time", "subclasses_by", "audit_settings",
)  # fmt: skip
"""What an audit computes without a file: the same in every case."""

STARTS = ("nothing", "a block")
"""What an audit with a fault begins with: no folder, or one killed after the first of two blocks."""


class Disk:
    """What the process did to the files of a folder, and what a loss of power leaves of it."""

    def __init__(self, folder: Path, aside: Path) -> None:
        self.folder, self.aside = folder, aside
        self.unsynced: set[str] = set()
        self.changes: list[tuple[str, Callable[[], None]]] = []
        """Folder whose names changed, and how to change them back."""

    def opened(self, path: str, writes: bool) -> None:
        if writes and not os.path.isdir(path):
            if not os.path.exists(path):
                self.changed(path, lambda: os.path.exists(path) and os.unlink(path))
            self.unsynced.add(path)

    def synced(self, path: str) -> None:
        self.unsynced.discard(path)
        self.changes = [(folder, undo) for folder, undo in self.changes if folder != path]

    def renamed(self, source: str, target: str) -> None:
        moved = {path for path in self.unsynced if path == source or path.startswith(source + "/")}
        self.unsynced = self.unsynced - moved - {target} | {target + path[len(source) :] for path in moved}
        replaced = self.kept(target) if os.path.isfile(target) else None

        def undo() -> None:
            if os.path.exists(target):
                os.rename(target, source)
            if replaced:
                os.link(replaced, target)

        self.changed(target, undo)

    def removed(self, path: str) -> None:
        self.unsynced.discard(path)
        copy = self.kept(path)
        self.changed(path, lambda: os.path.isdir(os.path.dirname(path)) and os.link(copy, path))

    def made(self, path: str) -> None:
        self.changed(path, lambda: shutil.rmtree(path, ignore_errors=True))

    def changed(self, path: str, undo: Callable[[], object]) -> None:
        self.changes.append((os.path.dirname(path), undo))

    def kept(self, path: str) -> str:
        """Return another name of a file, for when it is removed."""
        copy = str(self.aside / str(len(os.listdir(self.aside))))
        os.link(path, copy)
        return copy

    def lose_power(self, *, names: bool) -> None:
        for path in self.unsynced:
            if os.path.isfile(path):
                os.truncate(path, 0)
        for _, undo in reversed(self.changes if names else []):
            with contextlib.suppress(FileNotFoundError, FileExistsError, NotADirectoryError):
                undo()


class Watch:
    """An audit hook that counts the events under a folder and lets something happen at one of them."""

    def __init__(self, folder: Path, *, fault: str | None = None, at: int = -1) -> None:
        aside = folder.with_name(folder.name + "-aside")
        aside.mkdir(exist_ok=True)
        self.folder, self.fault, self.at = str(folder.resolve()), fault, at
        self.disk = Disk(folder, aside)
        self.events: list[tuple[str, str]] = []
        self.read: set[str] = set()
        self.lock, self.busy = threading.RLock(), threading.local()
        sys.addaudithook(self.heard)
        self.fsync, os.fsync = os.fsync, self.synced

    def synced(self, descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        self.heard("fsync", (path,))
        self.fsync(descriptor)
        self.disk.synced(path)

    def heard(self, event: str, given: tuple) -> None:
        if (event not in OTHER_FILES and event != "fsync") or getattr(self.busy, "now", False):
            return
        paths = [
            os.path.abspath(os.fsdecode(path)) for path in given[:2] if isinstance(path, str | bytes | Path)
        ]
        if event == "open":
            paths = paths[:1]
        if not paths or not paths[0].startswith(self.folder) or lock_path(Path("run")).name in paths[0]:
            return
        self.busy.now = True
        try:
            with self.lock:
                self.event(event, given, paths)
        finally:
            self.busy.now = False

    def event(self, event: str, given: tuple, paths: list[str]) -> None:
        number, path = len(self.events), paths[0]
        mode, flags = (given[1], given[2]) if event == "open" else ("", 0)
        writes = (
            event not in ("open", "shutil.rmtree")
            or bool((flags or 0) & WRITING)
            or set(mode or "") & set("wax+")
        )
        # Between two changes of the disk all moments are alike: a file that is read twice counts once.
        if not writes and (path in self.read or not os.path.isfile(path)):
            return
        if event == "os.mkdir" and os.path.exists(path):
            return
        self.read = {*self.read, path} if not writes else set()
        self.events.append((event if writes else "read", os.path.relpath(path, self.folder)))
        if number == self.at and self.fault != "full":
            self.end(path)
        if self.fault == "full" and number >= self.at and writes and event not in ("os.remove", "os.rmdir"):
            if event == "open" and not os.path.isdir(path) and os.path.isdir(os.path.dirname(path)):
                os.close(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        note = self.disk
        if event == "open":
            note.opened(path, bool(writes))
        elif event == "os.rename":
            note.renamed(*paths)
        elif event == "os.remove" and os.path.exists(path):
            note.removed(path)
        elif event == "os.mkdir" and not os.path.exists(path):
            note.made(path)

    def end(self, path: str) -> None:
        """Let the fault happen and kill this process."""
        if self.fault == "empty" and os.path.isfile(path):
            os.truncate(path, 0)
        if self.fault in ("crash", "crash+"):
            self.disk.lose_power(names=self.fault == "crash+")
        os.kill(os.getpid(), signal.SIGKILL)


def request():
    """Return a small audit in two blocks, all of it computed once, so that forks find it made."""
    train, query = lo.load("digits", n_train=40, n_query=24)
    store.BLOCK = 16
    asked = audit_request(
        lo.kernels.TwoLayerReLU(), train, query, rule=lo.GradientFlow(1.0, 0.1), at=[1.0, 20.0],
        refit_examples=1, retrain_examples=0, provenance=None, seed=0, device=None, memory=None,
    )  # fmt: skip
    for name in COMPUTED:
        setattr(findings_module, name, computed_once(getattr(findings_module, name)))
    page = report.html(run_audit(asked, None).findings)
    report.html = lambda findings: findings.scores.to_numpy().shape and page  # still reads every score
    return asked


def computed_once(function: Callable) -> Callable:
    """Return a function that hands the same objects the same answer."""
    answers: dict[tuple, object] = {}

    def answer(*given, **more):
        key = tuple(part if isinstance(part, float) else id(part) for part in given), str(more)
        if key not in answers:
            answers[key] = function(*given, **more)
        return answers[key]

    return answer


def in_fork(work: Callable[[], object], answer: Path) -> int:
    """Return how a fork ended that did some work: 0, 2 after an error of ours, or minus a signal."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        work()
        code = 0
    except LeftoutError as error:
        answer.write_text(str(error))
        code = 2
    except BaseException as error:
        import traceback

        answer.write_text("".join(traceback.format_exception(error)))
    finally:
        os._exit(code)


def content(run: Path) -> dict[str, bytes]:
    """Return every file of a run, without the time at which it was made."""
    files = {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    record = json.loads(files["run.json"])
    del record["made"], record["sha256"]
    return files | {"run.json": json.dumps(record).encode()}


def case(
    asked, begin: Path | None, folder: Path, whole: dict[str, bytes], fault: str, at: int
) -> tuple[str, str]:
    """Return what came of an audit with a fault and one after it, and the sentences of both."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(folder.with_name(folder.name + "-aside"), ignore_errors=True)
    shutil.copytree(begin, folder) if begin else folder.mkdir()
    run, answer = folder / "run", folder.with_name("answer.txt")
    answer.unlink(missing_ok=True)

    def with_fault() -> None:
        Watch(folder, fault=fault, at=at)
        run_audit(asked, run)

    first = in_fork(with_fault, answer)
    said = answer.read_text() if answer.exists() else ""
    if first not in ((0, 2) if fault == "full" else (0, -signal.SIGKILL)):
        return f"the first run ended with {first}", said
    answer.unlink(missing_ok=True)
    second = in_fork(lambda: run_audit(asked, run), answer)
    if second == 2:
        return "sentence", answer.read_text()
    if second != 0:
        return f"the second run ended with {second}", answer.read_text()
    if content(run) != whole:
        return "other bytes", str([name for name, held in content(run).items() if held != whole.get(name)])
    left = sorted(path.name for path in folder.iterdir())
    if left != ["run"]:
        return "left behind", str(left)
    # Threads decide how often a file is read: the last event of one run need not be there in another.
    return ("not reached" if first == 0 and fault != "full" else "same"), said


def sample(events: list[tuple[str, str]], count: int | None, draw: Random) -> Iterator[tuple[str, int]]:
    """Yield faults and the events at which they happen: all, or so many, each kind of event alike."""
    kinds: dict[tuple[str, str], list[int]] = defaultdict(list)
    for at, (event, _) in enumerate(events):
        for fault in FAULTS if event != "read" else ("empty",):  # the others do nothing to what is read
            kinds[fault, event].append(at)
    if count is None:
        yield from ((fault, at) for fault, event in kinds for at in kinds[fault, event])
        return
    order = draw.sample(sorted(kinds), len(kinds))
    for number in range(count):
        fault, event = order[number % len(order)]
        yield fault, draw.choice(kinds[fault, event])


def main(folder: Path, start: str, count: int | None, seed: int) -> None:
    """Print how many events of each kind there are, and what came of faults at them: all, or `count`."""
    code_fingerprint()  # now: the package may be edited while this runs
    asked, answer = request(), folder / "answer.txt"
    draw, results = Random(seed), []
    (folder / "half").mkdir()
    seen = folder / "events.json"

    def watched(name: str) -> None:
        (folder / name).mkdir(exist_ok=True)
        watch = Watch(folder / name)
        run_audit(asked, folder / name / "run")
        seen.write_text(json.dumps(watch.events))

    def killed_after_a_block() -> None:
        real = store.write_block

        def write_block(at: Path, start: int, scores: np.ndarray) -> None:
            real(at, start, scores)
            os.kill(os.getpid(), signal.SIGKILL)

        store.write_block = write_block
        run_audit(asked, folder / "half/run")

    assert in_fork(lambda: watched("whole"), answer) == 0, answer.read_text()
    whole, begin = content(folder / "whole/run"), None
    if start == "a block":
        begin = folder / "half"
        assert in_fork(killed_after_a_block, answer) == -signal.SIGKILL
        shutil.copytree(begin, folder / "resumed")
        assert in_fork(lambda: watched("resumed"), answer) == 0, answer.read_text()
        assert content(folder / "resumed/run") == whole
    events = json.loads(seen.read_text())
    for fault, at in sample(events, count, draw):
        outcome, said = case(asked, begin, folder / "case", whole, fault, at)
        results.append([fault, *events[at], outcome, said.replace(str(folder), "")])
    print(json.dumps({"events": Counter(event for event, _ in events), "results": results}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) or None, int(sys.argv[4]))

"""Everything, in turn: truth, every method that has not answered yet, the table.

    make peers                                          in an environment of the tools' own
    python benchmarks/peers/run.py OUT --tools PYTHON

Each method runs in a process of its own; a run that was stopped goes on where it was. A tool that is not
installed is left out with a sentence, as is a method that fails, whose output is in `OUT/TASK/NAME.log`.
"""

import argparse
import ast
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from networks import kind
from tasks import TASKS

HERE = Path(__file__).resolve().parent
TIMEOUT = 1500
"""Seconds after which a method is ended: it is then missing from the table."""


def names(file: str, python: str) -> dict[str, list[str]]:
    """Return the methods of a file, and the networks that each is not asked of."""
    code = f"from {file} import METHODS; print({{name: [*m.not_of] for name, m in METHODS.items()}})"
    asked = subprocess.run([python, "-c", code], cwd=HERE, text=True, capture_output=True)
    if asked.returncode:
        print(f"The methods of {file}.py are left out: {asked.stderr.strip().splitlines()[-1]}")
        return {}
    return ast.literal_eval(asked.stdout)


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tools", default=sys.executable, help="Python of the environment of the tools")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    print(f"{len(TASKS)} tasks. On two idle cores: truth some 20 minutes, all methods some 3 hours.")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    pairs = [("ours", sys.executable), ("tools", arguments.tools)]
    methods = [(file, python, *method) for file, python in pairs for method in names(file, python).items()]
    for task in arguments.tasks:
        subprocess.run([sys.executable, HERE / "prepare.py", out, task], check=True)
        for file, python, name, not_of in methods:
            answered = (out / task / "scores" / name / "report.json").exists()
            if not answered and kind(task) not in not_of:
                print(f"{task}: {name}", flush=True)
                run(out / task, file, python, name)
    subprocess.run([sys.executable, HERE / "table.py", out], check=True)


def run(folder: Path, file: str, python: str, name: str) -> None:
    """Run one method, and say so where it gives no answer."""
    log = folder / f"{name}.log"
    with log.open("w") as output:
        command = [python, HERE / f"{file}.py", folder, name]
        try:
            code = subprocess.run(command, stdout=output, stderr=output, timeout=TIMEOUT).returncode
        except subprocess.TimeoutExpired:
            print(f"    left out: no answer in {TIMEOUT} s")
            return
    if code:
        print(f"    left out: it failed; see {log}")


if __name__ == "__main__":
    main()

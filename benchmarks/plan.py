"""How near is `leftout plan` to what `leftout audit` then takes? Both as commands, one after the other.

    python benchmarks/plan.py                    all settings, MNIST where it is at hand
    python benchmarks/plan.py --only digits      settings whose name begins so
    python benchmarks/plan.py --out FILE.json    write there instead of records/

Time is the wall clock of the command, memory the peak of its resident size; ratios are planned over
actual, and the promise is that they lie between 1/2 and 2. A machine that is busy with something else
during one of the two commands is measured along with them: look at `load`.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import data_folder, environment, record

LEFTOUT = Path(sys.executable).with_name("leftout")
DIGITS = {
    "digits, end": "digits",
    "digits, three times": "digits --at 1 --at 10 --at 100",
    "digits, two classes": "digits --classes 3,8",
    "digits, descent": "digits --rule descent --rate 0.001 --at 5 --at 100 --at 10000",
    "digits, mean loss": "digits --loss mean --ridge 0.001",
}
MNIST = {
    "mnist 2000, end": "--n-train 2000 --n-query 500",
    "mnist 2000, three times": "--n-train 2000 --n-query 500 --at 1 --at 10 --at 100",
    "mnist 4000 7 v 9, end": "--n-train 4000 --n-query 1000 --classes 7,9",
    "mnist 2000, deep": "--n-train 2000 --n-query 500 --kernel relu --depth 3",
}
UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
UNITS |= {"s": 1, "minutes": 60, "hours": 3600}
SAID = re.compile(r"take about ([\d.e+]+) (\w+) and ([\d.e+]+) (\w+) at the peak")


def planned(words):
    """Return the seconds and bytes that the command prints."""
    done = subprocess.run(
        [LEFTOUT, "plan", *words],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "1000"},
    )
    value, unit, size, size_unit = SAID.search(done.stdout).groups()
    return float(value) * UNITS[unit], float(size) * UNITS[size_unit]


def actual(words):
    """Return the seconds and bytes that the audit took."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        process = subprocess.Popen(
            [LEFTOUT, "audit", *words, "--out", f"{folder}/run"], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        taken = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"leftout audit {' '.join(words)} failed: status {process.returncode}")
    # Kilobytes on Linux, bytes on macOS.
    return taken, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measured(words, repeats):
    """Return plans, audits and the median of their ratios."""
    runs = []
    for _ in range(repeats):
        load = os.getloadavg()[0]
        (seconds, memory), (took, held) = planned(words), actual(words)
        runs.append(
            {
                "load": load,
                "planned_seconds": seconds,
                "seconds": round(took, 2),
                "planned_bytes": memory,
                "bytes": held,
                "time_ratio": round(seconds / took, 3),
                "memory_ratio": round(memory / held, 3),
            }
        )
    ratios = {key: statistics.median(run[key] for run in runs) for key in ("time_ratio", "memory_ratio")}
    return {"command": " ".join(words), **ratios, "runs": runs}


def main():
    """Measure all settings and keep the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="settings whose name begins so")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    settings = dict(DIGITS)
    if (folder := data_folder()) is not None:
        settings |= {name: f"mnist:{folder / 'mnist'} {words}" for name, words in MNIST.items()}
    result = {}
    for name, words in settings.items():
        if name.startswith(asked.only):
            result[name] = measured(words.split(), asked.repeats)
            one = result[name]
            print(
                f"{name:28s} time × {one['time_ratio']:.2f}  memory × {one['memory_ratio']:.2f}",
                [run["time_ratio"] for run in one["runs"]],
                f"load {one['runs'][0]['load']:.1f}",
                f"{one['runs'][-1]['seconds']} s",
                file=sys.stderr,
                flush=True,
            )
    if asked.out is None:
        record("plan", result)
    else:
        whole = {"environment": environment(), "result": result}
        asked.out.write_text(json.dumps(whole, indent=2) + "\n")


if __name__ == "__main__":
    main()

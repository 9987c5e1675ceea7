"""Time of `import leftout` and the first names most people use, beside that of `import torch`.

    python benchmarks/import_time.py             nine pairs of fresh processes, in turns
    python benchmarks/import_time.py --pairs 3   fewer

Each process times its own import, so the start of Python counts in neither. The promise is a median ratio of
at most 1.25. On a busy machine single pairs scatter; look at `load_at_start`, and at the spread of `ratios`.
"""

import argparse
import statistics
import subprocess
import sys

from measure import environment, record

STATEMENTS = {"torch": "import torch", "leftout": "import leftout as lo; lo.fit; lo.kernels.ReLU"}
TIMED = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"
PROMISE = 1.25


def import_seconds(statement: str) -> float:
    """Return how long a statement takes in a fresh process."""
    command = [sys.executable, "-c", TIMED.format(statement)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=9)
    pairs = parser.parse_args().pairs
    for statement in STATEMENTS.values():
        import_seconds(statement)  # the first run compiles what is not compiled yet
    load = environment()["load_at_start"]
    seconds: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(pairs):
        for name, statement in STATEMENTS.items():
            seconds[name].append(import_seconds(statement))
    ratios = [ours / theirs for ours, theirs in zip(seconds["leftout"], seconds["torch"], strict=True)]
    record(
        "import-time",
        {
            "statements": STATEMENTS,
            "median_seconds": {name: statistics.median(times) for name, times in seconds.items()},
            "median_ratio": statistics.median(ratios),
            "promised_ratio": PROMISE,
            "ratios": ratios,
            "load_at_start": load,
        },
    )


if __name__ == "__main__":
    main()

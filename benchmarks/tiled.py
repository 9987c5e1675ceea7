"""What does exact leave-one-out of many examples cost in tiles, and what do tiles of few digits change?

    python benchmarks/tiled.py stages      20,000 MNIST digits, 2,000 queries, beside bare torch
    python benchmarks/tiled.py whole       leftout audit of all of MNIST, 60,000 and 10,000, with 12 GB

Floor: n³ operations for the inverse and 2mn² for the queries, in the precision of the tiles, and half of the
matrix, 4n² bytes or 2n². "Bare" is torch on whole float64 matrices: Cholesky, inverse, and one product with
the queries, the kernel matrix at hand. Of tiles in float32: influence on 200 queries, leverages and the
first 20 examples of each query, beside tiles in float64.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from measure import data_folder, peak_bytes, record

import leftout as lo

KERNEL = lo.kernels.ReLU(2, bias_variance=0.3)
RIDGE = 0.1
COMPARED = 200


def clocked(times: dict[str, float], name: str, work: Any) -> Any:
    """Return what is computed, and keep how long that took."""
    began = time.perf_counter()
    made = work()
    times[name] = time.perf_counter() - began
    print(f"{name}: {times[name]:.1f} s, load {os.getloadavg()[0]:.2f}", flush=True)
    return made


def in_tiles(train: Any, query: Any, dtype: torch.dtype) -> tuple[dict[str, float], dict[str, Any]]:
    """Return seconds of the stages, and what is compared."""
    times: dict[str, float] = {}
    fitted = lo.fit(KERNEL, train, rule=lo.Ridge(RIDGE), solver="tiled", tile_dtype=dtype)
    clocked(times, "kernel and inverse", lambda: fitted.factor(RIDGE))
    clocked(times, "solution", lambda: fitted.predict(query.inputs[:1]))
    clocked(times, "queries", lambda: lo.leave_one_out(fitted, query, top=20))
    some = query.select(torch.arange(COMPARED))
    compared = {
        "influence": lo.leave_one_out(fitted, some).values,
        "leverages": fitted.inverse(RIDGE).diagonal().clone().numpy(),
        "top": lo.leave_one_out(fitted, some, top=20)["helpful_train"].values,
        "steps": fitted.factor(RIDGE).steps,
    }
    return times, compared


def bare(train: Any, query: Any) -> dict[str, float]:
    """Return seconds of torch on whole matrices."""
    times: dict[str, float] = {}
    gram = lo.kernels.gram(KERNEL, train.inputs)
    cross = KERNEL.block(query.inputs, train.inputs)
    gram.diagonal().add_(RIDGE)
    lower = clocked(times, "bare Cholesky", lambda: torch.linalg.cholesky(gram))
    del gram
    inverse = clocked(times, "bare inverse", lambda: torch.cholesky_inverse(lower))
    del lower
    clocked(times, "bare product", lambda: cross @ inverse)
    return times


def stages(n: int, m: int) -> dict[str, Any]:
    """Return times, memory and differences."""
    folder = data_folder()
    if folder is None:
        raise SystemExit("no real data: set LEFTOUT_DATA to a folder with mnist/")
    train, query = lo.load(f"mnist:{folder / 'mnist'}", n_train=n, n_query=m, seed=0)
    result: dict[str, Any] = {"n": n, "m": m, "ridge": RIDGE, "threads": torch.get_num_threads()}
    found: dict[str, Any] = {}
    for dtype in (torch.float32, torch.float64):
        name = str(dtype).removeprefix("torch.")

        def run(dtype: torch.dtype = dtype, name: str = name) -> None:
            result[name], found[name] = in_tiles(train, query, dtype)

        result[f"{name} peak bytes"] = peak_bytes(run)
    result["bare"] = bare(train, query)
    tiles = sum(result["float64"][stage] for stage in ("kernel and inverse", "queries"))
    result["float64 over bare"] = tiles / sum(result["bare"].values())
    single, double = found["float32"], found["float64"]
    a, b = single["influence"].ravel(), double["influence"].ravel()
    result["float32 beside float64"] = {
        "influence: 1 - Pearson": float(1 - np.corrcoef(a, b)[0, 1]),
        "influence: relative error": float(np.linalg.norm(a - b) / np.linalg.norm(b)),
        "leverages: largest relative error": float(
            np.abs(single["leverages"] / double["leverages"] - 1).max()
        ),
        "queries with the same first 20": float((single["top"] == double["top"]).all(1).mean()),
        "steps of refinement": single["steps"],
    }
    return result


def whole(memory: str) -> dict[str, Any]:
    """Return what an audit of all of MNIST took, by the command line."""
    folder = data_folder()
    if folder is None:
        raise SystemExit("no real data: set LEFTOUT_DATA to a folder with mnist/")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as place:
        out = Path(place) / "run"
        words = ["audit", f"mnist:{folder / 'mnist'}", "--memory", memory, "--out", str(out)]
        began, loads, peak, anonymous = time.perf_counter(), [], 0, 0
        with subprocess.Popen(
            [sys.executable, "-m", "leftout", *words], stdout=subprocess.PIPE, text=True
        ) as run:
            process = psutil.Process(run.pid)
            while run.poll() is None:
                try:
                    memory_now = process.memory_full_info()
                except psutil.Error:
                    break
                peak, anonymous = max(peak, memory_now.rss), max(anonymous, memory_now.uss)
                loads.append(os.getloadavg()[0])
                time.sleep(5)
            assert run.stdout is not None
            printed = run.stdout.read()
        print(printed)
        took = time.perf_counter() - began
        kept = json.loads((out / "run.json").read_text())
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return {
        "minutes": took / 60,
        "peak resident bytes": peak,
        "peak bytes of its own": anonymous,
        "load: median, largest": [float(np.median(loads)), max(loads)],
        "bytes of the run": size,
        "ridge_choice": kept["ridge_choice"],
        "at_times": kept["at_times"],
        "certificate": kept["certificate"],
        "printed": printed.splitlines(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("stages", "whole"))
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--m", type=int, default=2_000)
    parser.add_argument("--memory", default="12GB")
    asked = parser.parse_args()
    result = stages(asked.n, asked.m) if asked.what == "stages" else whole(asked.memory)
    record(f"tiled-{asked.what}", result)


if __name__ == "__main__":
    main()

"""What does an audit of a trained ResNet-20 take, and what do its last layers miss of all?

    python benchmarks/trained_network.py                     500 images of CIFAR-10, 60 for the last layers
    python benchmarks/trained_network.py --n-train 200       fewer
    python benchmarks/trained_network.py --out FILE.json     write there instead of records/

The audit is the command, with the loss that it takes by default, in a process of its own. Wall clock depends
on what else the machine does (look at `load`); processor seconds hardly do, and with `OMP_NUM_THREADS=2` two
cores take about half of them. Phases are those of one process, each with all that it calls.

Last layers: influence on the loss (examples × queries) by kernels of some last layers beside that of all,
each at a ridge of a hundredth of its mean diagonal, as the command line takes it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from measure import data_folder, environment, record
from scipy.stats import pearsonr, spearmanr

import leftout as lo
from leftout.audit import audit as audit_module
from leftout.cli import kernel_choice
from leftout.cli import model as cli_model
from leftout.cli.main import main as leftout_command
from leftout.cli.module_file import network
from leftout.kernels import assemble

NETWORK = """
import torch
from leftout_papers.smooth_information.networks import ResNet20

class Scaled(ResNet20):
    def forward(self, x):
        mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        scale = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        return super().forward((x - mean) / scale)

def build():
    return Scaled()
"""
PHASES = {
    "load": (cli_model, "load"),
    "network and layers": (kernel_choice, "kernel_and_examples"),
    "diagonal, for the ridge": (assemble, "diagonal"),
    "kernel matrix": (assemble, "gram"),
    "queries": (assemble, "cross"),
    "scores": (audit_module, "_scores"),
    "labels": (audit_module, "label_findings"),
    "redundant": (audit_module, "redundant"),
    "certificate": (audit_module, "certify"),
    "report": (audit_module, "finish_run"),
}
"""Functions that are timed: those of an audit that take long, and what the first of them contain."""
LAST = (1, 2, 8, 14)


def timed(phases):
    """Make the functions of an audit add their wall clock and processor seconds to `phases`."""

    def wrapped(name, function):
        def run(*arguments, **options):
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                one = phases.setdefault(name, {"calls": 0, "seconds": 0.0, "processor": 0.0})
                one["calls"] += 1
                one["seconds"] += time.perf_counter() - wall
                one["processor"] += time.process_time() - cpu

        return run

    for name, (module, attribute) in PHASES.items():
        setattr(module, attribute, wrapped(name, getattr(module, attribute)))


def child(words, path):
    """Run a command in this process, and write what its phases took."""
    phases = {}
    timed(phases)
    sys.argv = ["leftout", *words]
    began, status = time.perf_counter(), 0
    try:
        leftout_command()
    except SystemExit as stop:
        status = stop.code or 0
    path.write_text(
        json.dumps(
            {
                "seconds": round(time.perf_counter() - began, 1),
                "processor": round(time.process_time(), 1),
                "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "threads": torch.get_num_threads(),
                "phases": {
                    name: {key: round(value, 1) for key, value in one.items()} for name, one in phases.items()
                },
            }
        )
    )
    sys.exit(status)


def command(words, folder):
    """Return what a command printed, and what it took."""
    path, load = folder / "took.json", os.getloadavg()[0]
    done = subprocess.run(
        [sys.executable, __file__, "--child", str(path), *words],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "1000"},
    )
    if done.returncode:
        raise SystemExit(f"leftout {' '.join(words)} failed: {done.stderr}")
    notes = [line for line in done.stdout.splitlines() if line.startswith("note:") or " take about " in line]
    return json.loads(path.read_text()) | {"load": load, "said": notes}


def influences(module, train, query, parameters):
    """Return influence on the loss by the kernel of these parameters, and their share."""
    kernel = lo.kernels.Empirical(module, parameters=parameters)
    ridge = cli_model.DIAGONAL_SHARE * float(
        assemble.diagonal(kernel, train.inputs, dtype=kernel.dtype).mean()
    )
    fitted = lo.fit(kernel, train, rule=lo.Logistic(ridge))
    return lo.leave_one_out(fitted, query).values, kernel.record["parameters"]


def compared(data, files, n, m):
    """Return how influence by last layers correlates with that by all."""
    train, query = lo.load(str(data), n_train=n, n_query=m, normalise=None, centre="none")
    module = network(*files)
    every, numbers = influences(module, train, query, None)
    result = {"n": n, "m": m, "weights": numbers}
    for count in LAST:
        some, part = influences(module, train, query, f"last:{count}")
        by_query = [spearmanr(a, b).statistic for a, b in zip(some, every, strict=True)]
        result[f"last {count}"] = {
            "weights": part,
            "pearson": round(float(pearsonr(some.ravel(), every.ravel()).statistic), 3),
            "spearman, mean over queries": round(float(sum(by_query)) / m, 3),
            "size, relative to all": round(float(abs(some).sum() / abs(every).sum()), 3),
        }
        print(count, result[f"last {count}"], file=sys.stderr, flush=True)
    return result


def main():
    """Measure, and keep the record."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[3:], Path(sys.argv[2]))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-train", type=int, default=500)
    parser.add_argument("--n-query", type=int, default=100)
    parser.add_argument("--compared", type=int, default=60, help="examples for the last layers; 0 for none")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    folder = data_folder()
    if folder is None:
        raise SystemExit("no real data: set LEFTOUT_DATA")
    data, weights = folder / "cifar10.zip", folder / "resnet20-cifar10" / "resnet20.safetensors"
    result = {}
    with tempfile.TemporaryDirectory() as name:
        built = Path(name) / "net.py"
        built.write_text(NETWORK)
        words = [str(data), "--model", f"{built}:build", "--weights", str(weights)]
        words += ["--n-train", str(asked.n_train), "--n-query", str(asked.n_query)]
        for what, more in (("plan", []), ("audit", ["--out", f"{name}/run"])):
            result[what] = command([what, *words, *more], Path(name))
            print(what, json.dumps(result[what], indent=1), file=sys.stderr, flush=True)
        if asked.compared:
            files = f"{built}:build", str(weights)
            result["last layers"] = compared(data, files, asked.compared, asked.compared // 2)
    if asked.out is None:
        record("trained-network", result)
    else:
        asked.out.write_text(json.dumps({"environment": environment(), "result": result}, indent=2) + "\n")


if __name__ == "__main__":
    main()

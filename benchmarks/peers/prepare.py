"""Truth by retraining, and what every tool is given: networks trained on all examples, and arrays.

    python benchmarks/peers/prepare.py OUT TASK...

`OUT/TASK/truth` holds the trainings, so that a run that was stopped goes on; `truth.zarr` the losses of
queries, as `referee` takes them; `network-0.pt` ... the weights; `data.npz` inputs and labels; `task.json`
what was trained, and how long it took.
"""

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tasks import NETWORKS, TASKS, data, recipe, subsets, train_with_gaps

import leftout as lo
from leftout.diagnostics.retraining.sgd_training import train_alone


def prepare(out: Path, task: str, jobs: int) -> None:
    """Train everything of one task that is not there yet."""
    folder = out / task
    folder.mkdir(parents=True, exist_ok=True)
    train, query = data(task)
    training = recipe(task)
    arrays = {"train_inputs": train.inputs, "query_inputs": query.inputs}
    labels = {"train_labels": train.labels, "query_labels": query.labels}
    np.savez(
        folder / "data.npz",
        **{name: array.float().numpy() for name, array in arrays.items()},
        **{name: array.numpy() for name, array in labels.items()},
    )
    settings = TASKS[task]
    for seed in range(NETWORKS):
        if not (folder / f"network-{seed}.pt").exists():
            module = train_alone(training, train, (torch.arange(len(train)), 1000 + seed))
            torch.save(module.state_dict(), folder / f"network-{seed}.pt")
    if not (folder / "truth.zarr").exists():
        began = time.perf_counter()
        truth = lo.retrain_subsets(
            partial(train_with_gaps, task) if settings.singles else training,
            train,
            query,
            subsets(task, len(train)),
            seeds=range(settings.seeds),
            at_once=settings.at_once,
            jobs=jobs,
            out=folder / "truth",
        )
        truth.to_zarr(folder / "truth.zarr", mode="w", zarr_format=2, consolidated=False)
        report = {
            "recipe": training.record,
            "text": settings.text,
            "steps": training.steps(int(truth.kept[-1].sum())),
            "seconds": round(time.perf_counter() - began, 1),
            "mean_loss": float(truth.loss.mean()),
            "way": truth.attrs["way"],
        }
        (folder / "task.json").write_text(json.dumps(report, indent=2) + "\n")
        print(task, json.dumps(report))


def main() -> None:
    """Prepare the tasks that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    for task in arguments.tasks:
        prepare(arguments.out, task, arguments.jobs)


if __name__ == "__main__":
    main()

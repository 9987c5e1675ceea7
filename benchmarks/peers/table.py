"""The table: every answer that is there, judged by the same truth.

python benchmarks/peers/table.py OUT            a record, with table.md beside it
python benchmarks/peers/table.py OUT --dry      prints only
"""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measure import ROOT
from tasks import RECIPES, data

import leftout as lo
from leftout.storage.provenance import environment, save_record

RESAMPLES = 200

MEANS = {
    "consensus-refits": (
        "analytic-refits",
        "tangent-refits-5",
        "consensus of refits, analytic and trained weights",
    ),
    "consensus-1": ("analytic-alo", "tangent-alo-1", "consensus of scores, analytic and trained weights"),
    "consensus-5": ("analytic-alo", "tangent-alo-5", "consensus of scores, analytic and trained weights"),
}


def answers(folder: Path, task: str) -> dict[str, dict[str, Any]]:
    """Return what each method answered, with its report; `reason` where its scores cannot be judged."""
    train, query = data(task)
    methods: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("scores/*/report.json")):
        method = json.loads(path.read_text())
        file = folder / method["file"]
        try:
            if file.name == "losses.zarr":
                method["answer"] = xr.open_zarr(file, consolidated=False).load()
            elif method["source"] == "leftout":  # our own sign needs no probe
                names = {"query": list(query.ids), "train": list(train.ids)}
                method["answer"] = xr.DataArray(np.load(file), dims=("query", "train"), coords=names)
            else:
                method["answer"] = lo.read_scores(
                    file, source=method["source"], train=train, query=query, sign=method["sign"]
                )
                method["sign_probe"] = method["answer"].attrs["sign_probe"]
        except lo.LeftoutError as error:
            method["reason"] = str(error)
        methods[path.parent.name] = method
    for name, (first, second, label) in MEANS.items():
        if all("answer" in methods.get(other, {}) for other in (first, second)):
            pair = [methods[first], methods[second]]
            methods[name] = {
                "label": label,
                "source": "leftout",
                "version": pair[0]["version"],
                "networks": pair[1]["networks"],
                "seconds": round(sum(each["seconds"] for each in pair), 1),
                "peak_MB": max(each["peak_MB"] for each in pair),
                "lines": sum(each["lines"] for each in pair) + 1,
                "answer": consensus([each["answer"] for each in pair]),
            }
    return methods


def consensus(pair: list[Any]) -> Any:
    """Return the consensus of scores, or of losses on the same subsets."""
    if isinstance(pair[0], xr.DataArray):
        return lo.consensus(pair)
    means = lo.consensus([losses.loss.transpose("query", "subset").values for losses in pair])
    return pair[0].assign(loss=(("query", "subset"), means.values))


def judge(folder: Path, task: str) -> list[dict[str, Any]]:
    """Return a row for each method, the best first."""
    truth = xr.open_zarr(folder / "truth.zarr", consolidated=False).load()
    rows = []
    for name, method in answers(folder, task).items():
        row = {"task": task, "method": name} | {key: text for key, text in method.items() if key != "answer"}
        if "answer" in method:
            verdict = lo.referee(method["answer"], truth, resamples=RESAMPLES).sel(measure="lds")
            numbers = ("estimate", "low", "high", "ceiling", "ceiling_low", "ceiling_high", "share")
            row |= {number: round(float(verdict[number]), 4) for number in numbers}
        rows.append(row)
    return sorted(rows, key=lambda row: -row.get("estimate", -np.inf))


def markdown(task: str, rows: list[dict[str, Any]]) -> str:
    """Return the table of a task."""
    ceiling = next(row for row in rows if "ceiling" in row)
    lines = [
        f"### {task}: ceiling {ceiling['ceiling']:.3f} "
        f"({ceiling['ceiling_low']:.3f} to {ceiling['ceiling_high']:.3f})",
        "",
        "| method | networks | LDS | 95 % interval | s | peak MB | lines |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        whose = "" if row["source"] == "leftout" else f"**{row['source']} {row['version']}** "
        judged = (
            f"{row['estimate']:.3f} | {row['low']:.3f} to {row['high']:.3f}" if "estimate" in row else "– | –"
        )
        cost = f"{row['seconds']:g} | {row['peak_MB']} | {row['lines']}"
        lines.append(f"| {whose}{row['label']} | {row['networks'] or '–'} | {judged} | {cost} |")
    reasons = [f"- {row['method']}: {row['reason']}" for row in rows if "reason" in row]
    return "\n".join([*lines, "", *reasons]) + "\n"


def main() -> None:
    """Judge all tasks that are there, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dry", action="store_true", help="print, and write no record")
    arguments = parser.parse_args()
    result = {"tasks": {}, "rows": []}
    tables = []
    for task in RECIPES:
        folder = arguments.out / task
        if (folder / "truth.zarr").exists() and any(folder.glob("scores/*/report.json")):
            rows = judge(folder, task)
            result["tasks"][task] = json.loads((folder / "task.json").read_text())
            result["rows"] += rows
            tables.append(markdown(task, rows))
            print(tables[-1], flush=True)
    if not arguments.dry:
        folder = ROOT / "records" / f"{datetime.now(UTC):%Y-%m-%d}-peers"
        save_record(
            folder,
            command=f"python benchmarks/peers/table.py {arguments.out.name}",
            environment=environment(),
            result=result,
        )
        (folder / "table.md").write_text("\n".join(tables))
        print(f"record: {folder.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

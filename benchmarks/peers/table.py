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
from tasks import TASKS, data

import leftout as lo
from leftout.storage.provenance import environment, save_record

RESAMPLES = 200

ADVISED = ("analytic-path-refits", "analytic-end-refits")
"""What the documentation says to take, fixed before the MLP of dattri and the ResNet were judged. Logistic
regression has one tangent kernel from start to end: there the second is the same, and the first not asked.
"""

MEANS = {
    f"consensus-{count}": (
        ADVISED[0],
        f"tangent-refits-{count}",
        "consensus of refits, the architecture's kernel and trained weights",
    )
    for count in (1, 5)
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
                scores = xr.DataArray(np.load(file), dims=("query", "train"), coords=names)
                method["answer"] = scores.dropna("train")  # NaN: not asked
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


def effects(losses: xr.Dataset) -> xr.DataArray:
    """Return how much larger each query's loss is without an example, from losses with all and without it."""
    removed = losses.train.values[np.nonzero(~losses.kept.values)[1]]
    rise = losses.loss[{"subset": slice(1, None)}] - losses.loss[{"subset": 0}].drop_vars("subset")
    rise = rise.drop_vars("subset").rename(subset="train").assign_coords(train=removed)
    return rise.transpose(..., "query", "train")


def consensus(pair: list[Any]) -> Any:
    """Return the consensus of scores, or of losses on the same subsets."""
    if isinstance(pair[0], xr.DataArray):
        return lo.consensus(pair)
    means = lo.consensus([losses.loss.transpose("query", "subset").values for losses in pair])
    return pair[0].assign(loss=(("query", "subset"), means.values))


def judge(folder: Path, task: str) -> list[dict[str, Any]]:
    """Return a row for each method, the best first."""
    truth = xr.open_zarr(folder / "truth.zarr", consolidated=False).load()
    truth, measure = (effects(truth), "leave_one_out") if TASKS[task].singles else (truth, "lds")
    rows = []
    for name, method in answers(folder, task).items():
        row = {"task": task, "method": name} | {key: text for key, text in method.items() if key != "answer"}
        if "answer" in method:
            try:
                verdict = lo.referee(method["answer"], truth, resamples=RESAMPLES).sel(measure=measure)
            except lo.LeftoutError as error:
                row["reason"] = str(error)
            else:
                numbers = ("estimate", "low", "high", "ceiling", "ceiling_low", "ceiling_high", "share")
                row |= {number: round(float(verdict[number]), 4) for number in numbers}
        rows.append(row)
    return sorted(rows, key=lambda row: -row.get("estimate", -np.inf))


def interval(row: dict[str, Any], number: str = "estimate", ends: str = "") -> str:
    """Return a number with its interval."""
    return f"{row[number]:.3f} ({row[f'{ends}low']:.3f} to {row[f'{ends}high']:.3f})"


def markdown(task: str, rows: list[dict[str, Any]]) -> str:
    """Return the table of a task."""
    ceiling = next(row for row in rows if "ceiling" in row)
    settings = TASKS[task]
    measure = "leave-one-out correlation" if settings.singles else "LDS"
    what = "single examples" if settings.singles else "halves"
    lines = [
        f"### {task}: ceiling {interval(ceiling, 'ceiling', 'ceiling_')}",
        "",
        f"{settings.text[0].upper()}{settings.text[1:]}; {settings.epochs} epochs. "
        f"Truth: {settings.subsets} {what}, {settings.seeds} seeds each.",
        "",
        f"| method | networks | {measure} | 95 % interval | s | peak MB | lines |",
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


def summary(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Return a table with a row for each task: ours, the best of all other tools, the ceiling."""
    lines = [
        "| task | advised, one training | best of ours | best of other tools | ceiling |",
        "|---|---|---|---|---|",
    ]
    for task, judged in rows.items():
        answered = [row for row in judged if "estimate" in row and not row["method"].startswith("control-")]
        ours = [row for row in answered if row["source"] == "leftout"]
        advised = next((row for name in ADVISED for row in ours if row["method"] == name), None)
        peer = next((row for row in answered if row["source"] != "leftout"), None)
        cells = [
            task,
            interval(advised) if advised else "–",
            f"{interval(ours[0])}, {ours[0]['method']}" if ours else "–",
            f"{interval(peer)}, {peer['source']} {peer['label'].partition(',')[0]}" if peer else "–",
            interval(answered[0], "ceiling", "ceiling_"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Judge the tasks that are named, and write the record of all that were judged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dry", action="store_true", help="judge and print, and write no record")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), help="none: the record alone")
    arguments = parser.parse_args()
    for task in arguments.tasks:
        folder = arguments.out / task
        if (folder / "truth.zarr").exists() and any(folder.glob("scores/*/report.json")):
            rows = judge(folder, task)
            (folder / "judged.json").write_text(json.dumps(rows, indent=2) + "\n")
            print(markdown(task, rows), flush=True)
    if not arguments.dry:
        write_record(arguments.out)


def write_record(out: Path) -> None:
    """Put together what was judged, as a record with its tables."""
    folders = {task: out / task for task in TASKS if (out / task / "judged.json").exists()}
    judged = {task: json.loads((folder / "judged.json").read_text()) for task, folder in folders.items()}
    about = {task: json.loads((folder / "task.json").read_text()) for task, folder in folders.items()}
    folder = ROOT / "records" / f"{datetime.now(UTC):%Y-%m-%d}-peers"
    save_record(
        folder,
        command=f"python benchmarks/peers/table.py {out.name}",
        environment=environment(),
        result={"tasks": about, "rows": [row for rows in judged.values() for row in rows]},
    )
    tables = [markdown(task, rows) for task, rows in judged.items()]
    (folder / "table.md").write_text("\n".join([summary(judged), *tables]))
    print(summary(judged), f"record: {folder.relative_to(ROOT)}", sep="\n")


if __name__ == "__main__":
    main()

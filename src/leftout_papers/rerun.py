"""Run an exhibit, save its record (JSON and picture) in a folder, and print it as a table."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leftout.storage import environment, read_json, save_record
from leftout_papers.drawing import STYLE
from leftout_papers.exhibit import Exhibit, Holds, Outcome, Publication
from leftout_papers.material import Material, Size

DOTS = 150
"""Resolution of the pictures, per inch."""


def rerun(publication: Publication, exhibit: Exhibit, material: Material, out: Path) -> Path:
    """Run an exhibit and return the folder of its record, NAME-DATA… under `out`."""
    described = provenance()
    began = time.perf_counter()
    with rc_context(STYLE):
        outcome = exhibit.run(material)
    seconds = time.perf_counter() - began
    folder = out / record_name(exhibit, material)
    save_record(
        folder,
        command=_command(publication, exhibit, material),
        environment=described,
        result=_result(publication, exhibit, material, outcome, seconds),
        pictures={} if outcome.figure is None else {"figure.png": _picture_writer(outcome)},
    )
    return folder


def record_name(exhibit: Exhibit, material: Material) -> str:
    """Return the name of a record's folder: exhibit, data, and size and seed unless they are the defaults."""
    words = [exhibit.name]
    if exhibit.data != "simulated":
        words.append(material.name)
    if material.size is not Size.USUAL:
        words.append({Size.QUICK: "quick", Size.PAPER: "paper-size"}[material.size])
    if material.seed:
        words.append(f"seed{material.seed}")
    return "-".join(words)


def provenance() -> dict[str, Any]:
    """Return version, commit, libraries and machine; `changed_since` covers leftout and this package."""
    return environment(Path(__file__).parent)


def find_record(publication: Publication, exhibit: Exhibit, material: Material, out: Path) -> Path | None:
    """Return the folder of a record made by the same command, version, commit and device, or None.

    Records of code with uncommitted changes are never taken, as nothing says which changes.
    """
    folder = out / record_name(exhibit, material)
    if not (folder / "result.json").exists():
        return None
    then, now = read_json(folder / "environment.json"), provenance()
    if then.get("changed_since") or now["changed_since"]:
        return None
    if any(then.get(key) != now[key] for key in ("leftout", "commit", "device")):
        return None
    command = (folder / "command.txt").read_text().strip()
    return folder if command == _command(publication, exhibit, material) else None


def print_record(console: Console, record: dict[str, Any]) -> None:
    """Print a record as a table of published and measured quantities."""
    title = f"{record['exhibit']}: {record['title']} ({record['data']})"
    table = Table("quantity", "published", "measured", "", title=title, title_justify="left", expand=True)
    for row in record["rows"]:
        table.add_row(
            Text(row["quantity"]), Text(row["published"]), Text(row["measured"]), verdict(row["holds"])
        )
    console.print(table)
    for note in record["notes"]:
        console.print(Text(note), style="dim")


def verdict(holds: Holds) -> str:
    """Return the verdict on a row, in a word or two."""
    if holds == "open":
        return "cannot tell"
    return "" if holds is None else "agrees" if holds else "differs"


def _command(publication: Publication, exhibit: Exhibit, material: Material) -> str:
    words = ["leftout papers", publication.name, exhibit.name]
    if exhibit.data != "simulated" and material.name != "digits":
        # Where the data lie differs from machine to machine.
        words.append(f"--data {material.name}:DIR")
    words += {Size.QUICK: ["--quick"], Size.USUAL: [], Size.PAPER: ["--paper-size"]}[material.size]
    if material.seed:
        words.append(f"--seed {material.seed}")
    return " ".join(words)


def _result(
    publication: Publication, exhibit: Exhibit, material: Material, outcome: Outcome, seconds: float
) -> dict[str, Any]:
    data = "simulated" if exhibit.data == "simulated" else material.name
    return {
        "publication": publication.name,
        "exhibit": exhibit.name,
        "title": exhibit.title,
        "data": data,
        "size": str(material.size),
        "seed": material.seed,
        "seconds": round(seconds, 1),
        "rows": [vars(row) for row in outcome.rows],
        "notes": list(outcome.notes),
        "result": outcome.result,
    }


def _picture_writer(outcome: Outcome) -> Callable[[Path], None]:
    assert outcome.figure is not None
    figure = outcome.figure
    return lambda path: figure.savefig(path, dpi=DOTS, metadata={"Software": None})

"""A Markdown page of all exhibits of a publication: published, measured, and the pictures."""

from pathlib import Path
from typing import Any

from leftout.core import StoreError
from leftout.storage import read_json
from leftout_papers.exhibit import Publication
from leftout_papers.rerun import verdict

SIZES = {"quick": "a quick run", "usual": "what two cores do", "paper": "the paper's size"}


def page(publication: Publication, folder: Path, *, prefix: str = "") -> str:
    """Return the page (Markdown) of all records of a publication in a folder.

    Args:
        prefix: the path from the page to `folder`, such as "../records/".
    """
    lines = [f"# {publication.title}", "", f"{publication.authors}.", ""]
    lines += [f"- {reading}" for reading in publication.readings]
    for exhibit in publication.exhibits:
        paths = sorted(folder.glob(f"{exhibit.name}-*/result.json"))
        paths += [folder / exhibit.name / "result.json"]
        for path in filter(Path.exists, paths):
            lines += _checked_section(path.parent, prefix)
    return "\n".join(lines) + "\n"


def _checked_section(folder: Path, prefix: str) -> list[str]:
    """Return the lines of a record's section, or raise one sentence that names a damaged record."""
    try:
        return _section(read_json(folder / "result.json"), folder, prefix)
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        why = str(error) if isinstance(error, StoreError) else f"{type(error).__name__}: {error}"
        raise StoreError(
            f"The record {str(folder)!r} is damaged: {why.rstrip('.')}. Remove this folder, and run "
            "its exhibit again."
        ) from None


def _section(record: dict[str, Any], folder: Path, prefix: str) -> list[str]:
    environment = read_json(folder / "environment.json")
    command = (folder / "command.txt").read_text().strip()
    lines = [
        "",
        f"## {record['exhibit']}: {record['title']} ({_data_and_size(record)})",
        "",
        "| quantity | published | measured | |",
        "|---|---|---|---|",
    ]
    for row in record["rows"]:
        cells = (row["quantity"], row["published"], row["measured"], verdict(row["holds"]))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += [line for note in record["notes"] for line in ("", note)]
    if (folder / "figure.png").exists():
        lines += ["", f"![{record['title']}]({prefix}{folder.name}/figure.png)"]
    commit = (environment.get("commit") or "none")[:10]
    lines += [
        "",
        f"`{command}`: {SIZES[record['size']]}, {record['seconds']:.0f} s on {environment['device']} "
        f"with {environment['threads']} threads, commit {commit}, "
        f"[record]({prefix}{folder.name}/result.json).",
    ]
    return lines


def _data_and_size(record: dict[str, Any]) -> str:
    """Return the data of a record, with size and seed unless they are the defaults."""
    words = [record["data"]]
    words += [SIZES[record["size"]]] if record["size"] != "usual" else []
    words += [f"seed {record['seed']}"] if record["seed"] else []
    return ", ".join(words)

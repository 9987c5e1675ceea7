"""One page for all exhibits of a publication: measured beside published, with the pictures."""

from pathlib import Path
from typing import Any

from leftout.core.errors import StoreError
from leftout.storage.json_file import read_json
from leftout_papers.exhibit import Publication
from leftout_papers.rerun import verdict

SIZES = {"quick": "a quick run", "usual": "what two cores do", "paper": "the paper's size"}


def page(publication: Publication, folder: Path, *, prefix: str = "") -> str:
    """Return the page (Markdown) of all records of a publication in a folder.

    Args:
        prefix: what leads from where the page will lie to `folder`, "../records/" say.
    """
    lines = [f"# {publication.title}", "", f"{publication.authors}.", ""]
    lines += [f"- {reading}" for reading in publication.readings]
    for exhibit in publication.exhibits:
        found = sorted(folder.glob(f"{exhibit.name}-*/result.json"))
        found += [folder / exhibit.name / "result.json"]
        for path in filter(Path.exists, found):
            lines += _read(path.parent, prefix)
    return "\n".join(lines) + "\n"


def _read(where: Path, prefix: str) -> list[str]:
    """Return the section of a record, or raise one sentence that names the damaged one."""
    try:
        return _section(read_json(where / "result.json"), where, prefix)
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        why = str(error) if isinstance(error, StoreError) else f"{type(error).__name__}: {error}"
        raise StoreError(
            f"The record {str(where)!r} is damaged: {why.rstrip('.')}. Remove this folder, and run "
            "its exhibit again."
        ) from None


def _section(record: dict[str, Any], where: Path, prefix: str) -> list[str]:
    environment = read_json(where / "environment.json")
    command = (where / "command.txt").read_text().strip()
    lines = [
        "",
        f"## {record['exhibit']}: {record['title']} ({_setting(record)})",
        "",
        "| quantity | published | measured | |",
        "|---|---|---|---|",
    ]
    for row in record["rows"]:
        cells = (row["quantity"], row["published"], row["measured"], verdict(row["holds"]))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += [line for note in record["notes"] for line in ("", note)]
    if (where / "figure.png").exists():
        lines += ["", f"![{record['title']}]({prefix}{where.name}/figure.png)"]
    commit = (environment.get("commit") or "none")[:10]
    lines += [
        "",
        f"`{command}`: {SIZES[record['size']]}, {record['seconds']:.0f} s on {environment['device']} "
        f"with {environment['threads']} threads, commit {commit}, "
        f"[record]({prefix}{where.name}/result.json).",
    ]
    return lines


def _setting(record: dict[str, Any]) -> str:
    """Return the data of a record, with size and seed where they are not the usual ones."""
    words = [record["data"]]
    words += [SIZES[record["size"]]] if record["size"] != "usual" else []
    words += [f"seed {record['seed']}"] if record["seed"] else []
    return ", ".join(words)

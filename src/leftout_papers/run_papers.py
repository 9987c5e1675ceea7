"""What `leftout papers` does: it computes published tables and figures again, by name."""

import sys
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leftout.core import OptionError
from leftout.storage import read_json, recover_records
from leftout_papers.exhibit import Exhibit, Publication
from leftout_papers.material import Material, Size
from leftout_papers.page import page
from leftout_papers.publications import PUBLICATIONS
from leftout_papers.rerun import find_record, print_record, provenance, rerun

PAGE = "index.md"
"""The page that shows all records of a folder."""


def run_papers(
    *,
    name: str | None,
    exhibits: list[str] | None,
    data: list[str] | None,
    quick: bool,
    paper_size: bool,
    out: Path | None,
    seed: int,
    jobs: int | None,
    memory: str | None,
    device: str | None,
    force: bool,
) -> None:
    """Run what the flags ask for, see `leftout_papers.command`."""
    console = Console()
    if name is None:
        _list(console)
        return
    publication = _publication(name)
    selection = _select_exhibits(publication, exhibits)
    if quick and paper_size:
        raise OptionError("--quick and --paper-size exclude each other: give one of them.")
    size = Size.QUICK if quick else Size.PAPER if paper_size else Size.USUAL
    sources = data or ["digits"]
    target = _folder(out or Path("papers") / publication.name)
    planned = [
        (exhibit, Material(source, size, seed, device, memory, jobs, target / "retrained"))
        for exhibit in selection
        for source in (sources[:1] if exhibit.data == "simulated" else sources)
    ]
    for _, material in planned:
        material.check()
    recover_records(target)
    page(publication, target)  # raises for a damaged record before the work, not after
    records = {} if force else _find_records(publication, planned, target)
    if data is None:
        console.print("No --data: the digits that ship with scikit-learn stand in for the paper's.")
    if not quick:
        _print_estimate([exhibit for place, (exhibit, _) in enumerate(planned) if place not in records])
    _make_folder(target)
    try:
        for place, (exhibit, material) in enumerate(planned):
            folder = records.get(place) or rerun(publication, exhibit, material, target)
            if place in records:
                console.print(f"{folder.name}: has a record of this command and this code; --force runs it.")
            print_record(console, read_json(folder / "result.json"))
            (target / PAGE).write_text(page(publication, target))
    except KeyboardInterrupt:
        print(f"Stopped. {_how_to_continue()}", file=sys.stderr)
        raise typer.Exit(130) from None
    print(f"page: {target / PAGE}")


def _list(console: Console) -> None:
    """Print all publications with their exhibits."""
    for publication in PUBLICATIONS:
        table = Table(
            "name",
            "shows",
            "minutes",
            title=f"{publication.title} ({publication.authors})",
            title_justify="left",
        )
        for exhibit in publication.exhibits:
            table.add_row(exhibit.name, exhibit.title, f"{exhibit.minutes:g}")
        console.print(table)
        console.print(
            Text(
                f"leftout papers {publication.name} [NAME …] [--data mnist:DIR] [--data cifar10:DIR] "
                "[--quick]"
            )
        )
    console.print("Minutes: on two cores, for each data set of the paper's size.", style="dim")


def _publication(name: str) -> Publication:
    for publication in PUBLICATIONS:
        if publication.name == name:
            return publication
    names = ", ".join(publication.name for publication in PUBLICATIONS)
    raise OptionError(f"`name` must be a publication, {names}; got {name!r}.")


def _select_exhibits(publication: Publication, names: Sequence[str] | None) -> list[Exhibit]:
    by_name = {exhibit.name: exhibit for exhibit in publication.exhibits}
    unknown = [name for name in names or () if name not in by_name]
    if unknown:
        raise OptionError(f"`exhibits` must be among {', '.join(by_name)}; got {unknown[0]!r}.")
    return [by_name[name] for name in names] if names else list(publication.exhibits)


def _folder(out: Path) -> Path:
    """Return `out` as an absolute path, or raise if it or a folder above it is a file."""
    folder = out.resolve()
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        raise OptionError(f"--out must be a folder; {str(nearest)!r} is a file.")
    return folder


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(
            f"--out must be a folder that can be written; {str(folder)!r} cannot ({error.strerror})."
        ) from None


def _find_records(
    publication: Publication, planned: Sequence[tuple[Exhibit, Material]], target: Path
) -> dict[int, Path]:
    """Return the folders of valid records, by position in `planned`."""
    folders = (find_record(publication, exhibit, material, target) for exhibit, material in planned)
    return {place: folder for place, folder in enumerate(folders) if folder is not None}


def _how_to_continue() -> str:
    """Return what the same command does next, which depends on uncommitted changes of the code."""
    if provenance()["changed_since"]:
        return "Finished records are kept, and made again next time: the code has uncommitted changes."
    return "Finished records are kept: the same command continues after them."


def _print_estimate(exhibits: Sequence[Exhibit]) -> None:
    """Print the expected minutes, if stderr is a terminal."""
    if sys.stderr.isatty():
        minutes = sum(exhibit.minutes for exhibit in exhibits)
        print(f"About {minutes:.0f} minutes on two cores at the usual sizes.", file=sys.stderr)

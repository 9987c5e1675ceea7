"""`leftout papers`: the published tables and figures, by name."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leftout.core.errors import OptionError
from leftout.storage.json_file import read_json
from leftout.storage.provenance import environment, recover_records
from leftout_papers.exhibit import Exhibit, Publication
from leftout_papers.material import Material, Size
from leftout_papers.page import page
from leftout_papers.publications import PUBLICATIONS
from leftout_papers.rerun import kept, rerun, show

PAGE = "index.md"
"""All records in a folder, on one page."""


def papers_command(
    name: Annotated[
        str | None, typer.Argument(help="A publication; all are listed if none is named.")
    ] = None,
    exhibits: Annotated[
        list[str] | None, typer.Argument(help="Its tables and figures; all if none is named.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="mnist:DIR, cifar10:DIR or digits, again for each; digits if not said."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A minute's version of each.")] = False,
    paper_size: Annotated[
        bool, typer.Option("--paper-size", help="The paper's own sizes, where two cores cannot: on a GPU.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the records; papers/NAME if not said.")] = None,
    seed: Annotated[int, typer.Option(help="Of subsets, networks and planted noise.")] = 0,
    jobs: Annotated[int | None, typer.Option(help="Processes that retrain networks.")] = None,
    memory: Annotated[str | None, typer.Option(help="Budget such as 4GB.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also what has a record of this command and this code.")
    ] = False,
) -> None:
    """Run published tables and figures again: measured beside printed, a picture and a record."""
    console = Console()
    if name is None:
        _list(console)
        return
    publication = _publication(name)
    chosen = _chosen(publication, exhibits)
    if quick and paper_size:
        raise OptionError("--quick and --paper-size exclude each other: give one of them.")
    size = Size.QUICK if quick else Size.PAPER if paper_size else Size.USUAL
    sources = data or ["digits"]
    target = _folder(out or Path("papers") / publication.name)
    planned = [
        (exhibit, Material(source, size, seed, device, memory, jobs, target / "retrained"))
        for exhibit in chosen
        for source in (sources[:1] if exhibit.data == "simulated" else sources)
    ]
    for _, material in planned:
        material.check()
    recover_records(target)
    page(publication, target)  # a damaged record is told before the work, not after
    done = {} if again else _done(publication, planned, target)
    if data is None:
        console.print("No --data: the digits that ship with scikit-learn stand in for the paper's.")
    if not quick:
        _foretell([each for place, each in enumerate(planned) if place not in done])
    _make(target)
    try:
        for place, (exhibit, material) in enumerate(planned):
            folder = done.get(place) or rerun(publication, exhibit, material, target)
            if place in done:
                console.print(f"{folder.name}: kept from before; --again runs it once more.")
            show(console, read_json(folder / "result.json"))
            (target / PAGE).write_text(page(publication, target))
    except KeyboardInterrupt:
        print(f"Stopped. {_how_to_go_on()}", file=sys.stderr)
        raise typer.Exit(130) from None
    print(f"page: {target / PAGE}")


def _list(console: Console) -> None:
    """Print what there is to run."""
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
    raise OptionError(
        f"`name` must be a publication, {', '.join(one.name for one in PUBLICATIONS)}; got {name!r}."
    )


def _chosen(publication: Publication, names: Sequence[str] | None) -> list[Exhibit]:
    by_name = {exhibit.name: exhibit for exhibit in publication.exhibits}
    unknown = [name for name in names or () if name not in by_name]
    if unknown:
        raise OptionError(f"`exhibits` must be among {', '.join(by_name)}; got {unknown[0]!r}.")
    return [by_name[name] for name in names] if names else list(publication.exhibits)


def _folder(given: Path) -> Path:
    """Return the folder of the records, once it can be one."""
    found = given.resolve()
    above = next(one for one in (found, *found.parents) if one.exists())
    if not above.is_dir():
        raise OptionError(f"--out must be a folder; {str(above)!r} is a file.")
    return found


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(
            f"--out must be a folder that can be written; {str(folder)!r} cannot ({error.strerror})."
        ) from None


def _done(
    publication: Publication, planned: Sequence[tuple[Exhibit, Material]], target: Path
) -> dict[int, Path]:
    """Return the records that are there already, by the place of what made them."""
    found = ((place, kept(publication, *each, target)) for place, each in enumerate(planned))
    return {place: folder for place, folder in found if folder is not None}


def _how_to_go_on() -> str:
    """Return what the same command does next; it depends on whether the code is known."""
    if environment()["changed_since"]:
        return "Finished records are kept, and made again next time: the code has changes."
    return "Finished records are kept: the same command goes on after them."


def _foretell(planned: Sequence[tuple[Exhibit, Any]]) -> None:
    """Say beforehand, to a person at a terminal, what this will take."""
    if sys.stderr.isatty():
        minutes = sum(exhibit.minutes for exhibit, _ in planned)
        print(f"About {minutes:.0f} minutes on two cores at the usual sizes.", file=sys.stderr)

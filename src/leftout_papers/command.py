"""The flags of `leftout papers`. What runs is loaded when it runs, so that help needs no torch."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer


def papers_command(
    name: Annotated[
        str | None, typer.Argument(help="A publication; all are listed if none is named.")
    ] = None,
    exhibits: Annotated[
        list[str] | None, typer.Argument(help="Its tables and figures; all if none is named.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="mnist:DIR, cifar10:DIR or digits, once for each data set; digits by default."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A version of each that takes about a minute.")
    ] = False,
    paper_size: Annotated[
        bool, typer.Option("--paper-size", help="The paper's own sizes, too large for two cores: on a GPU.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the records; papers/NAME by default.")] = None,
    seed: Annotated[int, typer.Option(help="Of subsets, networks and planted noise.")] = 0,
    jobs: Annotated[int | None, typer.Option(help="Processes that retrain networks.")] = None,
    memory: Annotated[str | None, typer.Option(help="Budget such as 4GB.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Run also what has a record of this command and this code.")
    ] = False,
) -> None:
    """Run published tables and figures again: measured beside printed, a picture and a record."""
    import_module("leftout_papers.run_papers").run_papers(
        name=name,
        exhibits=exhibits,
        data=data,
        quick=quick,
        paper_size=paper_size,
        out=out,
        seed=seed,
        jobs=jobs,
        memory=memory,
        device=device,
        force=force,
    )

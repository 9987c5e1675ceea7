"""`leftout check`: the self-tests of an installation as a table."""

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leftout.cli.commands import CheckArguments
from leftout.cli.self_tests import run_self_tests
from leftout.core.version import __version__
from leftout.kernels.fused.library import describe_code


def check_command(arguments: CheckArguments) -> None:
    """Print the result of every self-test; status 1 where one failed."""
    console = Console()
    table = Table("test", "found", "allowed", "", title=f"leftout {__version__}")
    tests = run_self_tests()
    for test in tests:
        verdict = "ok" if test.sound else "FAILED"
        table.add_row(Text(test.name), f"{test.measured:.2e}", f"{test.allowed:.2e}", verdict)
    console.print(table)
    console.print(Text(f"Kernels of ReLU networks are computed by {describe_code()}"))
    if not all(test.sound for test in tests):
        raise typer.Exit(1)
    console.print("Everything is sound.")

"""The command line: parse, one library call, render.

Whatever a user can put right is one sentence on stderr and exit status 2; a run stopped by hand is
status 130 and goes on when run again. Torch is loaded by the command that runs, once its flags are checked.
"""

import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from leftout.cli.commands import COMMANDS
from leftout.cli.flag_names import flags_by_name, in_flags
from leftout.cli.flags import STYLE, command_of, record_command
from leftout.cli.start import STOPPED, end_loading
from leftout.core.errors import (
    ExpansionWarning,
    LeftoutError,
    LoopWarning,
    NotConvergedWarning,
    WeightsWarning,
)
from leftout.core.version import __version__
from leftout.core.wording import plain


@cache
def extra_commands() -> dict[str, EntryPoint]:
    """Return the commands that other packages add, by name; loaded when they are asked for."""
    return {extra.name: extra for extra in entry_points(group="leftout.commands")}


class Commands(Mapping[str, Any]):
    """The parser's commands by name, each made when it is asked for."""

    def __iter__(self) -> Iterator[str]:
        return iter([*COMMANDS, *extra_commands()])

    def __len__(self) -> int:
        return len(COMMANDS) + len(extra_commands())

    def __getitem__(self, name: str) -> Any:
        if name in COMMANDS:
            return record_command(name, COMMANDS[name])
        command = extra_commands()[name].load()
        end_loading()
        return command_of(name, command)


class CommandGroup(TyperGroup):
    """The command line with its commands made lazily."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = Commands()  # type: ignore[assignment]

    def invoke(self, ctx: Any) -> Any:
        """Run a command; one that is stopped by hand ends with one line and status 130."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("Stopped.", file=sys.stderr)
            raise typer.Exit(STOPPED) from None


app = typer.Typer(
    name="leftout",
    help="What would your network say if this training example had been left out?",
    cls=CommandGroup,
    no_args_is_help=True,
    **STYLE | {"add_completion": True},
)


def _show_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"leftout {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; errors that a user can put right become one sentence and status 2."""
    warnings.showwarning = _warn
    try:
        app(standalone_mode=True)
    except LeftoutError as error:
        _fail(str(error))
    except MemoryError as error:
        size = f" ({error})" if str(error) else ""
        _fail(f"there is not enough memory{size}. Take fewer examples (--n-train, --n-query), or free some.")
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        _fail(f"{error.strerror or error}{place}")


SHOW_WARNING = warnings.showwarning


def _warn(message: Warning | str, category: type[Warning], *position: Any, **options: Any) -> None:
    """Print a warning of this package as a sentence; others with the place where they arose."""
    if not issubclass(category, (ExpansionWarning, LoopWarning, NotConvergedWarning, WeightsWarning)):
        SHOW_WARNING(message, category, *position, **options)
        return
    print(f"leftout: take care: {plain(_in_flags(str(message)), 2000)}", file=sys.stderr)


def _fail(message: str) -> None:
    # On one line, and without what a name in it could do to a terminal.
    print(f"leftout: {plain(_in_flags(message), 2000)}", file=sys.stderr)
    sys.exit(2)


def _in_flags(message: str) -> str:
    """Return a message of the library with the flags of the command that was typed."""
    words = sys.argv[1:]
    command = Commands().get(next((word for word in words if not word.startswith("-")), ""))
    if command is None:
        return message
    return in_flags(message, flags_by_name(command), {part for word in words for part in word.split("=")})

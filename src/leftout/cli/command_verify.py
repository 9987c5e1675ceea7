"""`leftout verify`: the files of a finished run that are not as they were made, one on a line."""

import sys

import typer

from leftout.audit.run_folder import damaged_files
from leftout.cli.commands import VerifyArguments
from leftout.core.wording import count, plain


def verify_command(arguments: VerifyArguments) -> None:
    """Print every damaged file of a run; status 1 where there is one."""
    damage = damaged_files(arguments.run)
    for name, difference in damage.items():
        print(f"{plain(name, 400)}: {difference}")
    run = plain(arguments.run, 400)
    if damage:
        print(f"leftout: {run} was changed after it was made: {count(len(damage), 'file')}.", file=sys.stderr)
        raise typer.Exit(1)
    print(f"{run}: every file is as it was made.")

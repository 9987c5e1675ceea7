"""Options as frozen records: the default, type and help text of a flag are written once, in a field.

    @dataclass(frozen=True, kw_only=True)
    class WideOptions(OptionRecord):
        panel = "Kernel: fully connected networks"

        depth: int = option(2, "Hidden layers.")

The record of a family of kernels or rules lies beside it. These files load no torch: the command line reads
them before anything heavy is imported, and makes its flags, its help and the record in `run.json` from them.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True)
class OptionRecord:
    """The base of all records of options; `panel` is their heading in `--help`."""

    panel: ClassVar[str] = "Options"


def option(default: Any, help: str, *, common: bool = False, recorded: bool = True) -> Any:
    """Return a field of a record.

    Args:
        default: used where the flag is not given.
        help: text of the flag in `--help`.
        common: shown before all panels, with what most people need first.
        recorded: whether `run.json` keeps it, as everything that decides the numbers.
    """
    return field(default=default, metadata={"help": help, "common": common, "recorded": recorded})

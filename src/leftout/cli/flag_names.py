"""Messages of the library in the words of the command line: what is `n_train` there is --n-train here."""

import re
from collections.abc import Collection, Mapping
from typing import Any

OBJECTS = ("kernel",)
"""Names that are flags, and mean an object in the library: --model makes a kernel as well."""

NAMED = re.compile(r"`(?P<name>\w+)`(?:(?:: \w+)? \((?P<flag>--[^()]*)\))?")
"""A name in backquotes, alone or as in "`resize` (--resize 64)" and "`header`: False (--header no)"."""


def flags_by_name(command: Any) -> dict[str, str]:
    """Return the flag of each option of a command, by the name that the library has for it.

    What may be given again, as --share, is several there: `shares`.
    """
    flags = {}
    for parameter in command.params:
        flag = next((word for word in parameter.opts if word.startswith("--")), None)
        if flag is not None and parameter.name not in OBJECTS:
            flags[parameter.name] = flag
            if parameter.multiple:
                flags.setdefault(f"{parameter.name}s", flag)
    return flags


def in_flags(message: str, flags: Mapping[str, str], typed: Collection[str] = ()) -> str:
    """Return a message with flags in place of the names of a command's options.

    Args:
        flags: by name, as from `flags_by_name`.
        typed: words of the command line. A name among them may be that of a file, and stays as it is.

    Example:
        >>> flags = {"n_train": "--n-train", "task": "--task"}
        >>> in_flags("`n_train` must be at most 9. For numbers use `task` (--task regression).", flags)
        '--n-train must be at most 9. For numbers use --task regression.'
        >>> in_flags("`inputs` must be finite.", flags)
        '`inputs` must be finite.'
    """

    def as_flag(named: re.Match[str]) -> str:
        name, written = named["name"], named["flag"]
        if name not in flags or name in typed:
            return named[0]
        if written is None:
            return flags[name]
        if written.split()[0] == flags[name]:
            return written
        return named[0].replace(f"`{name}`", flags[name], 1)

    return NAMED.sub(as_flag, message)

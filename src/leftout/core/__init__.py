"""Shared by all layers: errors, checks, memory budgets, progress, fingerprints, files, wording."""

from typing import TYPE_CHECKING

from leftout.core.exports import exports

if TYPE_CHECKING:
    from leftout.core.atomic_files import atomic_write as atomic_write
    from leftout.core.blocks import memory_budget as memory_budget
    from leftout.core.device import usable_device as usable_device
    from leftout.core.errors import DataError as DataError
    from leftout.core.errors import NotPositiveError as NotPositiveError
    from leftout.core.errors import OptionError as OptionError
    from leftout.core.errors import StoreError as StoreError
    from leftout.core.progress import with_progress as with_progress
else:
    __all__, __getattr__, __dir__ = exports(__spec__)

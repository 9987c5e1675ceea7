"""Options of the kernel of a module's architecture. Loads no torch."""

from dataclasses import dataclass
from typing import Literal

from leftout.core.options import OptionRecord, option

Initialisation = Literal["he", "xavier", "pytorch", "measured"]


@dataclass(frozen=True, kw_only=True)
class ModuleOptions(OptionRecord):
    """Options of `lo.kernels.of`."""

    panel = "Kernel: of-model"

    initialisation: Initialisation = option(
        "he", "From which variances weights are taken to be drawn; measured: those that --weights have."
    )

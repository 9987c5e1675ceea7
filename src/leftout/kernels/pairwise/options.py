"""Options of kernels that see labels. Loads no torch."""

from dataclasses import dataclass
from typing import Literal

from leftout.core.options import OptionRecord, option

Estimator = Literal["kr-v1", "kr-v2", "fjlt-v1", "fjlt-v2"]
AUTO = "auto"
"""A strength that exact leave-one-out chooses."""


@dataclass(frozen=True, kw_only=True)
class FrozenLabelOptions(OptionRecord):
    """An option of every kernel that sees labels."""

    panel = "Kernel: with labels"

    labels_frozen: bool = option(
        False, "Keep that kernel as all labels made it when an example is left out: faster, not the same."
    )


@dataclass(frozen=True, kw_only=True)
class LabelAwareOptions(OptionRecord):
    """Options of `LabelAware`, a kernel built on another one."""

    panel = "Kernel: with labels"

    label_aware: Estimator | None = option(
        None,
        "A kernel that sees labels, built on the chosen one: estimator of whether two inputs share a label.",
    )
    strength: str = option(AUTO, "How much the labels say beside the kernel; auto: by exact leave-one-out.")

"""Options of the neural tangent hierarchy. Loads no torch."""

from dataclasses import dataclass

from leftout.core.options import OptionRecord, option
from leftout.kernels.wide.options import Activation


@dataclass(frozen=True, kw_only=True)
class HierarchyOptions(OptionRecord):
    """Options of `NeuralTangentHierarchy`, the kernel of a two-layer network once it is trained."""

    panel = "Kernel: hierarchy"

    activation: Activation = option("gelu", "Of the two-layer network.")
    units: int = option(1024, "Neurons of that network.")
    time: float | None = option(
        None, "Training that the kernel has seen, in 1/eigenvalue of the kernel before; all of it by default."
    )

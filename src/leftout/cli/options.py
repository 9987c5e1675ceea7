"""Options of the command line itself: a kernel by name, evidence, where examples come from, the machine."""

from dataclasses import dataclass
from typing import Literal

from leftout.core.options import OptionRecord, option
from leftout.kernels.hierarchy.options import HierarchyOptions
from leftout.kernels.module.options import ModuleOptions
from leftout.kernels.pairwise.options import FrozenLabelOptions
from leftout.kernels.wide.options import ConvolutionOptions, DeepOptions

KernelName = Literal["two-layer-relu", "relu", "erf", "tanh", "conv-relu", "hierarchy", "of-model", "auto"]
OF_MODEL = "of-model"


@dataclass(frozen=True, kw_only=True)
class KernelOptions(OptionRecord):
    """The option that names the kernel."""

    panel = "Kernel"

    kernel: KernelName | None = option(
        None,
        "Which infinitely wide network; by default a ReLU network with 2 hidden layers and biases, of "
        "standardised inputs, at the ridge of least left-out loss. auto: the best of several; of-model: the "
        "architecture of --model, infinitely wide.",
        common=True,
    )


@dataclass(frozen=True, kw_only=True)
class SearchOptions(OptionRecord):
    """An option of `--kernel auto`."""

    panel = "Kernel: auto"

    minutes: float = option(5.0, "Longest that --kernel auto spends on a kernel.")


FAMILIES_BY_KERNEL: dict[str, tuple[type[OptionRecord], ...]] = {
    "two-layer-relu": (),
    "relu": (DeepOptions,),
    "erf": (DeepOptions,),
    "tanh": (DeepOptions,),
    "conv-relu": (DeepOptions, ConvolutionOptions),
    "hierarchy": (HierarchyOptions, FrozenLabelOptions),
    OF_MODEL: (ModuleOptions,),
    "auto": (SearchOptions,),
}
"""The options that each kernel has."""


@dataclass(frozen=True, kw_only=True)
class EvidenceOptions(OptionRecord):
    """How much of an audit is checked by fitting again."""

    panel = "Evidence"

    refit_examples: int = option(3, "Examples really left out by fitting again, as evidence.")


@dataclass(frozen=True, kw_only=True)
class RetrainingOptions(OptionRecord):
    """How much of an audit is checked by training a network again."""

    panel = "Evidence"

    retrain_examples: int = option(
        0, "Examples without which a --model is really trained again, as evidence."
    )
    retrain_subsets: int = option(
        0, "Random halves on which trained --weights are really trained again, in two seeds each."
    )
    batch_size: int | None = option(
        None,
        "Examples of a step, where trained --weights are trained again; with --learning-rate and --steps.",
    )


@dataclass(frozen=True, kw_only=True)
class ProvenanceOptions(OptionRecord):
    """Where training examples come from."""

    panel = "Data"

    provenance: str | None = option(
        None,
        "Compare where examples come from: a column of the table, or FILE.csv with columns id and source.",
    )


@dataclass(frozen=True, kw_only=True)
class MachineOptions(OptionRecord):
    """What the computation may use; it decides no number."""

    panel = "Machine"

    memory: str | None = option(None, "Budget such as 4GB; 60 % of what is free by default.", recorded=False)
    device: str | None = option(None, "cpu, cuda, …", recorded=False)

"""What the user asked for, as one frozen record: read from the command line or from `run.json`, and checked.

This module loads no torch: a misspelt source, or a flag that would have to be ignored, is refused at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from leftout.cli.options import FAMILIES_BY_KERNEL, OF_MODEL, KernelOptions, MachineOptions, SearchOptions
from leftout.core.errors import OptionError
from leftout.core.options import OptionRecord
from leftout.data.data_name import parse_data_name
from leftout.data.options import DataOptions
from leftout.dynamics.options import RateOptions, RuleOptions, TrainingRunOptions
from leftout.kernels.hierarchy.options import HierarchyOptions
from leftout.kernels.module.options import ModuleOptions
from leftout.kernels.network.options import NetworkOptions, Weights
from leftout.kernels.pairwise.options import AUTO, FrozenLabelOptions, LabelAwareOptions
from leftout.kernels.wide.options import ConvolutionOptions, DeepOptions
from leftout.storage.csv_table import check_free

Record = TypeVar("Record", bound="CommandRecord")
Recorded = TypeVar("Recorded", bound="Arguments")


def flag_of(name: str) -> str:
    """Return the flag of an option."""
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True, kw_only=True)
class CommandRecord(OptionRecord):
    """The base of what a command is given.

    `home` is "MODULE:FUNCTION", loaded when the command runs; `example` stands below its help.
    """

    home: ClassVar[str]
    example: ClassVar[str] = ""

    explicit: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    """Names of the options that the user gave, also where they have their default's value."""

    @classmethod
    def from_options(cls: type[Record], **options: Any) -> Record:
        """Return a record in which exactly these options are given."""
        return cls(**options, explicit=frozenset(options))

    def check(self) -> None:
        """Raise where options do not go together."""


@dataclass(frozen=True, kw_only=True)
class Arguments(
    CommandRecord,
    MachineOptions,
    RateOptions,
    RuleOptions,
    NetworkOptions,
    LabelAwareOptions,
    FrozenLabelOptions,
    HierarchyOptions,
    ModuleOptions,
    ConvolutionOptions,
    DeepOptions,
    SearchOptions,
    KernelOptions,
    DataOptions,
):
    """Everything that decides what is computed, for commands that fit a kernel to data."""

    kernel_use: ClassVar[Literal["chosen", "named", "fixed"]] = "named"
    """Whether `auto` may choose the kernel, and whether one that sees labels must be kept as it is."""
    refused: ClassVar[Mapping[str, str]] = {}
    """Options that mean nothing to this command, and the sentence that says so."""
    unseen: ClassVar[str] = ""
    """What this command measures, where only a kernel that has not seen the labels can tell."""
    suffixes: ClassVar[tuple[str, ...]] = (".csv",)
    """Kinds of files that `--out` writes."""

    out: Path | None = None

    @classmethod
    def from_record(cls: type[Recorded], record: Any) -> Recorded:
        """Return arguments from a record; an unknown name or a value of another type is an error."""
        if not isinstance(record, dict):
            raise OptionError(f"`command` must hold options by name; got {record!r}.")
        types = get_type_hints(cls)
        recorded = recorded_names(cls)
        for name, value in record.items():
            if name not in recorded:
                raise OptionError(f"`command` holds {name!r}, which this version does not know.")
            if not _holds(types[name], value):
                raise OptionError(
                    f"`command` must hold {_type_in_words(types[name])} for {name!r}; got {value!r}."
                )
        tuples = {
            "at": tuple(float(time) for time in record.get("at", ())),
            "parameters": tuple(record.get("parameters", ())),
        }
        arguments = cls(**record | tuples)
        plain = cls()
        differing = {name for name in recorded if getattr(arguments, name) != getattr(plain, name)}
        return replace(arguments, explicit=frozenset(differing))

    @property
    def record(self) -> dict[str, Any]:
        """Return the options that decide the numbers, JSON-like."""
        return {name: getattr(self, name) for name in recorded_names(type(self))}

    def options_of(self, *families: type[OptionRecord]) -> dict[str, Any]:
        """Return the values of families of options, by name."""
        return {option.name: getattr(self, option.name) for family in families for option in fields(family)}

    @property
    def rule_name(self) -> str:
        """Return the rule that is named, or flow where a training time is asked for, or ridge."""
        return self.rule or ("flow" if self.at else "ridge")

    @property
    def takes_defaults(self) -> bool:
        """Return whether kernel, scaling and ridge are the defaults, as far as none of them is given.

        Rates and times are in units of a kernel: where they are given without one, it is `kernel_name`.
        """
        named = self.kernel is not None or self.model is not None or self.label_aware is not None
        return not named and not self.retrains and self.rule_name == "ridge"

    @property
    def kernel_name(self) -> str:
        """Return the kernel that is named, or the one that labels, times or a trained network go with."""
        return self.kernel or "two-layer-relu"

    @property
    def times(self) -> list[float | None]:
        """Return the training times asked for; the end where none was."""
        return list(self.at) or [None]

    @property
    def network_weights(self) -> Weights:
        """Return what the weights of `--model` are; a file of them is taken as trained.

        A command that refuses to be told asks about the kernel, or trains from the weights as given.
        """
        if "linearised_at" in self.refused:
            return "initial"
        return self.linearised_at or ("initial" if self.weights is None else "trained")

    @property
    def is_network(self) -> bool:
        """Return whether the model is a network of finitely many weights, and not its architecture alone."""
        return self.model is not None and self.kernel != OF_MODEL

    @property
    def is_trained(self) -> bool:
        """Return whether the model is a network as it was trained on the data."""
        return self.is_network and self.network_weights == "trained"

    def yes_no(self, name: str) -> bool | None:
        """Return an option that is "yes" or "no" as a truth value; None where it was not given."""
        answer = getattr(self, name)
        return None if answer is None else answer == "yes"

    @property
    def strength_number(self) -> float | None:
        """Return the strength of labels; None where it is to be chosen."""
        if self.strength == AUTO:
            return None
        try:
            return float(self.strength)
        except ValueError:
            raise OptionError(f"--strength must be a number ≥ 0, or {AUTO}; got {self.strength!r}.") from None

    @property
    def ridge_number(self) -> float | None:
        """Return the ridge; None where it is to be chosen, or nothing is said of it."""
        return None if isinstance(self.ridge, str) else self.ridge

    def check(self) -> None:
        """Raise where the source is none, or an option would have to be ignored."""
        for name, sentence in self.refused.items():
            if name in self.explicit:
                raise OptionError(sentence)
        self.check_kernel()
        self.check_rule()
        parse_data_name(self.data)
        if self.out is not None and self.suffixes:
            check_free(self.out, *self.suffixes)

    def check_kernel(self) -> None:
        """Raise where an option is none of this kernel's, or the kernel none for this command."""
        if self.kernel == AUTO and self.kernel_use != "chosen":
            raise OptionError("--kernel auto is for leftout audit, influence and curve; name one here.")
        families = self._kernel_families()
        of_model = ("model", "weights") if self.kernel == OF_MODEL else ()
        for family in KERNEL_FAMILIES:
            for name in (option.name for option in fields(family) if option.name in self.explicit):
                if family not in families and name not in of_model:
                    raise OptionError(self._refusal(name, family))
        self._check_of_model()
        if self.is_trained and self.label_aware is not None:
            raise OptionError(
                "--label-aware starts from a kernel that has seen no labels, and trained weights have: add "
                "--linearised-at initial if training starts from these weights, or leave it out."
            )
        if self.is_trained and self.unseen:
            raise OptionError(
                f"{self.unseen.capitalize()} is of a kernel that has not seen the labels, and trained "
                "weights have: add --linearised-at initial if training starts from them, or leave --model "
                "out."
            )
        strength = self.strength_number
        if self.kernel_use != "fixed" or not (self.label_aware or self.kernel == "hierarchy"):
            return
        if not self.labels_frozen and not (self.label_aware and strength == 0):
            raise OptionError(
                "This command takes the kernel as it is, and one that sees labels changes when an example is "
                "left out: add --labels-frozen, or ask leftout influence or audit."
            )
        if self.label_aware and strength is None:
            raise OptionError(
                "--strength must be a number here; leftout influence and audit choose it by leave-one-out."
            )

    def _check_of_model(self) -> None:
        """Raise where the kernel of an architecture is asked for without one, or with what it has not."""
        if self.kernel != OF_MODEL:
            return
        if self.model is None:
            raise OptionError(
                "--kernel of-model needs --model FILE.py:FUNCTION, whose architecture it is of."
            )
        if self.weights is not None and self.initialisation != "measured":
            raise OptionError(
                "--weights must be left out with --kernel of-model, which sees the architecture alone; or "
                "add --initialisation measured, which takes their variances."
            )
        given = ", ".join(flag_of(name) for name in self.training_run)
        if given:
            raise OptionError(
                f"{given} must be left out with --kernel of-model: they give the ridge of a network of so "
                "many weights. Pass --ridge."
            )
        if self.retrains:
            raise OptionError(
                "A network is trained again from its own weights, and --kernel of-model has none: leave the "
                "training out, or --kernel."
            )

    @property
    def training_run(self) -> dict[str, Any]:
        """Return what was said of the run that trained the network, by name."""
        names = [run.name for run in fields(TrainingRunOptions)] if self.takes_cross_entropy else []
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def retrains(self) -> bool:
        """Return whether a network is trained again: from initial weights by squared loss."""
        return False

    @property
    def takes_cross_entropy(self) -> bool:
        """Return whether this command answers under cross-entropy."""
        return isinstance(self, TrainingRunOptions)

    def is_cross_entropy(self, has_classes: bool) -> bool:
        """Return whether the loss is cross-entropy: as asked, or for a network of one's own and classes."""
        if self.loss is not None:
            return self.loss == "cross-entropy"
        asked_otherwise = self.rule is not None or self.rule_name != "ridge" or self.label_aware is not None
        asked_otherwise = asked_otherwise or (self.retrains and not self.is_trained)
        asked_otherwise = asked_otherwise or self.ridge == AUTO  # of squared loss
        return self.takes_cross_entropy and self.model is not None and has_classes and not asked_otherwise

    def check_loss(self) -> None:
        """Raise where options of the loss, or of a training run, do not go together."""
        self.check_retraining()
        if self.loss == "cross-entropy":
            self._check_cross_entropy()
        run = self.training_run
        if not run:
            return
        given = ", ".join(flag_of(name) for name in run)
        if self.ridge is not None:
            raise OptionError(f"--ridge must be left out with {given}, which give it; or leave those out.")
        if self.model is None:
            raise OptionError(f"{given} tell how the network of --model was trained; give it, or --ridge.")
        if self.loss == "squared" or self.rule is not None or self.at:
            raise OptionError(
                f"{given} give the ridge of --loss cross-entropy; pass --ridge for another loss."
            )
        if "learning_rate" not in run or "steps" not in run:
            raise OptionError(
                f"--learning-rate and --steps are needed with {given}: the time that training took."
            )

    def check_retraining(self) -> None:
        """Raise where a network is trained again that cannot be."""
        if self.retrains and self.is_trained:
            raise OptionError(
                "A network is trained again from its initial weights, by squared loss, and --weights are "
                "read as trained: leave the training out, or add --linearised-at initial if it starts there. "
                "leftout referee judges answers against networks trained as you do."
            )

    def _check_cross_entropy(self) -> None:
        """Raise where cross-entropy is asked for, and there is no answer."""
        if not self.takes_cross_entropy:
            raise OptionError(
                "--loss cross-entropy must be left out here: this answer is a theorem about squared loss."
            )
        if self.retrains and not self.is_trained:
            raise OptionError(
                "--loss cross-entropy must be left out where a network is trained from these weights: that "
                "is by squared loss. leftout referee judges answers against networks trained as you do."
            )
        if self.rule_name != "ridge":
            raise OptionError(
                f"--loss cross-entropy asks about the end of training, and --rule {self.rule_name} follows "
                "squared loss over its time: leave one of them out, and --at."
            )
        if self.kernel == AUTO:
            raise OptionError("--kernel auto compares squared losses; name one with --loss cross-entropy.")
        if self.label_aware is not None and self.strength_number is None:
            raise OptionError(
                "--strength must be a number with --loss cross-entropy; auto compares squared losses."
            )

    def check_rule(self) -> None:
        """Raise where the rule has no rate, or needs one."""
        self.check_loss()
        if self.ridge == AUTO:
            self._check_ridge_choosable()
        if self.rule_name == "ridge" and self.rate is not None:
            raise OptionError("--rate belongs to --rule flow or descent; ridge has no rate.")
        if self.rule_name == "descent" and self.rate is None:
            raise OptionError("--rule descent needs --rate, below 2 / (s_max + ridge).")
        if self.rule_name != "ridge" and self.is_trained:
            raise OptionError(
                f"--rule {self.rule_name} trains a network from its initial weights, and these are read as "
                "trained: add --linearised-at initial if training starts from them, or take --rule ridge "
                "without --at."
            )

    def _check_ridge_choosable(self) -> None:
        """Raise where no left-out squared loss of one kernel can choose the ridge."""
        reason = ""
        if self.is_trained:
            reason = (
                "these weights have seen every label, so what they predict of an example left out chooses "
                "nothing: give --learning-rate and --steps of the training run, or a number"
            )
        elif self.loss == "cross-entropy":
            reason = "it is of least squared loss, and --loss is cross-entropy"
        elif self.rule_name != "ridge":
            reason = f"--rule {self.rule_name} is stopped at a time instead"
        elif self.label_aware is not None or self.kernel == "hierarchy":
            reason = "a kernel that sees labels is another one without an example"
        if reason:
            raise OptionError(f"--ridge must be a number here, and not auto: {reason}.")

    def _kernel_families(self) -> set[type[OptionRecord]]:
        """Return the families of options that the kernel asked for has."""
        if self.is_network and self.kernel != AUTO:
            families: set[type[OptionRecord]] = {NetworkOptions}
        else:
            families = {KernelOptions, *FAMILIES_BY_KERNEL[self.kernel_name]}
        if self.label_aware is not None and self.kernel not in (AUTO, "hierarchy"):
            families.update((LabelAwareOptions, FrozenLabelOptions))
        return families

    def _refusal(self, name: str, family: type[OptionRecord]) -> str:
        """Return why an option is none of this kernel's."""
        flag = flag_of(name)
        if self.kernel == AUTO:
            return (
                f"{flag} must be left out with --kernel auto, which tries several kernels; name one to say "
                "more of it."
            )
        if family is SearchOptions:
            return f"{flag} belongs to --kernel auto; leave it out here."
        if self.kernel == "hierarchy" and self.model is None:
            return f"{flag} must be left out with --kernel hierarchy."
        if family in (LabelAwareOptions, FrozenLabelOptions):
            return f"{flag} belongs to --label-aware; give the estimator with it."
        if family is NetworkOptions and self.kernel == OF_MODEL:
            return f"{flag} is of a network's own weights; leave it out with --kernel of-model."
        if family is NetworkOptions:
            return f"{flag} belongs to --model; give the network with it."
        if self.is_network:
            return f"{flag} chooses an infinitely wide network; leave it out with --model."
        *owners, last = (kernel for kernel, families in FAMILIES_BY_KERNEL.items() if family in families)
        names = f"{', '.join(owners)} or {last}" if owners else last
        if self.kernel is None:
            return f"{flag} belongs to --kernel {names}; name one with it."
        return f"{flag} belongs to --kernel {names}; {self.kernel} has none."


KERNEL_FAMILIES: tuple[type[OptionRecord], ...] = (
    KernelOptions,
    SearchOptions,
    DeepOptions,
    ConvolutionOptions,
    HierarchyOptions,
    ModuleOptions,
    FrozenLabelOptions,
    LabelAwareOptions,
    NetworkOptions,
)
"""All that say something of the kernel."""


def recorded_names(record: type[OptionRecord]) -> list[str]:
    """Return the names of the options that `run.json` keeps."""
    return [option.name for option in fields(record) if option.metadata.get("recorded")]


def _holds(expected: Any, value: Any) -> bool:
    """Return whether a value read from JSON is what a field of this type holds."""
    if get_origin(expected) in (Union, UnionType):
        return any(_holds(member, value) for member in get_args(expected))
    if get_origin(expected) is Literal:
        return value in get_args(expected)
    if get_origin(expected) is tuple:  # of times, where infinity, which JSON has not, is there as text
        inside = get_args(expected)[0]
        return isinstance(value, list | tuple) and all(
            _holds(inside, number) or (inside is float and number == "inf") for number in value
        )
    if expected is bool:
        return isinstance(value, bool)
    # True is a whole number to Python, and a whole number is as good as any.
    return isinstance(value, int | float if expected is float else expected) and not isinstance(value, bool)


TYPES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    tuple[float, ...]: "a list of numbers",
    tuple[str, ...]: "a list of texts",
}


def _type_in_words(expected: Any) -> str:
    """Return what a field of this type holds, in words."""
    if get_origin(expected) in (Union, UnionType):
        return " or ".join(map(_type_in_words, get_args(expected)))
    if get_origin(expected) is Literal:
        return "one of " + ", ".join(map(repr, get_args(expected)))
    return TYPES[expected]

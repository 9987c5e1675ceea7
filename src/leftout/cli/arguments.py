"""What did the user choose? Words of the command line to kernels, rules and data."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from leftout.cli.module_file import network
from leftout.cli.source_labels import columns_beside
from leftout.core.checks import check_choice
from leftout.core.errors import OptionError
from leftout.data.encoding import Centre
from leftout.data.examples import Examples
from leftout.data.load import load
from leftout.dynamics.rules import GradientDescent, GradientFlow, Loss, Ridge, Rule
from leftout.kernels.base import Kernel, Normalise
from leftout.kernels.convolution.convolutional import ConvReLU, Pooling
from leftout.kernels.convolution.windows import Padding
from leftout.kernels.hierarchy.hierarchy import NeuralTangentHierarchy
from leftout.kernels.label_dependent import LabelDependentKernel
from leftout.kernels.network.empirical import Empirical
from leftout.kernels.network.projection import Gaussian, Projection, Rademacher, RandomCoordinates, Sparse
from leftout.kernels.pairwise.estimates import Estimator
from leftout.kernels.pairwise.label_aware import LabelAware
from leftout.kernels.wide.activations import Activation
from leftout.kernels.wide.erf import Erf
from leftout.kernels.wide.relu import ReLU
from leftout.kernels.wide.tanh import Tanh
from leftout.kernels.wide.two_layer_relu import TwoLayerReLU

AUTO = "auto"
"""Left to exact leave-one-out."""


class KernelName(StrEnum):
    """Kernels by the words of the command line."""

    TWO_LAYER_RELU = "two-layer-relu"
    RELU = "relu"
    ERF = "erf"
    TANH = "tanh"
    CONV_RELU = "conv-relu"
    HIERARCHY = "hierarchy"
    AUTO = "auto"


DEEP = ("depth", "weight_variance", "bias_variance", "kind")
CONVOLUTIONAL = ("kernel_size", "stride", "padding", "pooling")
TRAINED = ("activation", "units", "time")
UNTRAINED = ("model", "weights", "parameters", "outputs", "projection", "label_aware", "strength")
LABELS = ("label_aware", "strength", "labels_frozen")


class RuleName(StrEnum):
    """Rules by the words of the command line."""

    RIDGE = "ridge"
    FLOW = "flow"
    DESCENT = "descent"


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Everything that decides what is computed; saved in `run.json` and read back from it."""

    data: str = "digits"
    classes: str | None = None
    n_train: int | None = None
    n_query: int | None = None
    seed: int = 0
    normalise: Normalise | Literal["none"] | None = None
    centre: Centre | None = None
    target: str | None = None
    kernel: str = KernelName.TWO_LAYER_RELU
    depth: int = 2
    weight_variance: float = 2.0
    bias_variance: float = 0.0
    kind: Literal["ntk", "nngp"] = "ntk"
    kernel_size: int = 3
    stride: int = 1
    padding: Padding = "same"
    pooling: Pooling = "flatten"
    activation: Activation = "gelu"
    units: int = 1024
    time: float | None = None
    label_aware: Estimator | None = None
    strength: str = AUTO
    labels_frozen: bool = False
    minutes: float = 5.0
    rule: str | None = None
    ridge: float | None = None
    rate: float | None = None
    loss: Loss = "sum"
    at: tuple[float, ...] = ()
    model: str | None = None
    weights: str | None = None
    parameters: tuple[str, ...] = ()
    outputs: Literal["full", "sum", "trace"] = "full"
    projection: str | None = None
    source: str | None = None

    @classmethod
    def of(cls, record: Any) -> "Choices":
        """Return choices from a record; an unknown word or a value of another kind is an error."""
        if not isinstance(record, dict):
            raise OptionError(f"`asked` must hold choices by name; got {record!r}.")
        kinds = get_type_hints(cls)
        for name, value in record.items():
            if name not in kinds:
                raise OptionError(f"`asked` holds {name!r}, which this version does not know.")
            if not _is_one(value, kinds[name]):
                raise OptionError(f"`asked` holds {value!r} for `{name}`, which it cannot be.")
        given = record | {
            "at": tuple(float(time) for time in record.get("at", ())),
            "parameters": tuple(record.get("parameters", ())),
        }
        return cls(**given)

    @property
    def record(self) -> dict[str, Any]:
        """Return the choices, JSON-like."""
        return dataclasses.asdict(self)

    def examples(self, kernel: Kernel | LabelDependentKernel) -> tuple[Examples, Examples]:
        """Return training examples and queries, scaled for the kernel unless said otherwise.

        A network of the user's own speaks in the units of its targets: they are not centred unless
        asked, and two classes get two columns where it has two outputs.
        """
        normalise = self.normalise if self.normalise is not None else kernel.normalise
        classes = None if self.classes is None else [c.strip() for c in self.classes.split(",")]
        centre = self.centre
        if centre is None and self.model is not None:
            centre = "none"
        train, query = load(
            self.data,
            classes=classes,
            n_train=self.n_train,
            n_query=self.n_query,
            seed=self.seed,
            normalise=None if normalise == "none" else normalise,
            centre=centre,
            target=self.target,
            columns=columns_beside(self.source, self.data, self.target),
        )
        network = kernel.base if isinstance(kernel, LabelAware) else kernel
        if not isinstance(network, Empirical):
            return train, query
        network.check("inputs", train.inputs)
        train = train.in_columns(network.width)
        return train, query.coded_as(train.encoding)

    def fixed_kernel(self) -> Kernel | LabelDependentKernel:
        """Return the kernel for a command that takes it as it is, whatever is left out.

        Raises:
            OptionError: one that sees labels, without --labels-frozen and a number for its strength.
        """
        self.check_limit_unsaid()
        kernel = self.made_kernel()
        blind = isinstance(kernel, LabelAware) and kernel.strength == 0
        if isinstance(kernel, LabelDependentKernel) and not (kernel.frozen or blind):
            raise OptionError(
                "This command takes the kernel as it is, and one that sees labels changes when an example is "
                "left out: add --labels-frozen, or ask leftout influence or audit."
            )
        if isinstance(kernel, LabelAware) and kernel.strength is None:
            raise OptionError(
                "--strength must be a number here; leftout influence and audit choose it by leave-one-out."
            )
        return kernel

    def made_kernel(self) -> Kernel | LabelDependentKernel:
        """Return the kernel; of one that sees labels the strength is None where it is to be chosen.

        Raises:
            OptionError, DataError: flags that do not go together, a network or weights that cannot be
                read.
        """
        check_choice("kernel", self.kernel, [str(name) for name in KernelName])
        if self.kernel == KernelName.AUTO:
            raise OptionError("--kernel auto is for leftout audit, influence and curve; name one here.")
        if self.kernel == KernelName.HIERARCHY:
            self._check_unsaid(*DEEP, *CONVOLUTIONAL, *UNTRAINED)
            return NeuralTangentHierarchy(
                width=self.units, activation=self.activation, time=self.time, frozen=self.labels_frozen
            )
        self._check_unsaid(*TRAINED)
        base = self._made_base()
        if self.label_aware is None:
            self._check_unsaid("strength", "labels_frozen")
            return base
        return LabelAware(base, self.label_aware, self._made_strength(), self.labels_frozen)

    def check_limit_unsaid(self) -> None:
        """Raise where a limit is given to a choice that nobody asked for."""
        if self.minutes != Choices.minutes:
            raise OptionError("--minutes belongs to --kernel auto; leave it out here.")

    def _made_strength(self) -> float | None:
        if self.strength == AUTO:
            return None
        try:
            return float(self.strength)
        except ValueError:
            raise OptionError(f"--strength must be a number ≥ 0, or {AUTO}; got {self.strength!r}.") from None

    def _made_base(self) -> Kernel:
        """Return the kernel that sees no labels."""
        if self.model is not None:
            self._check_unsaid("kernel", *DEEP, *CONVOLUTIONAL)
            return Empirical(
                network(self.model, self.weights),
                self.outputs,
                parameters=self.parameters or None,
                projection=_projection(self.projection),
            )
        self._check_unsaid("weights", "parameters", "outputs", "projection")
        if self.kernel != KernelName.CONV_RELU:
            self._check_unsaid(*CONVOLUTIONAL)
        if self.kernel == KernelName.TWO_LAYER_RELU:
            self._check_unsaid(*DEEP)
            return TwoLayerReLU()
        families: dict[str, Callable[..., Kernel]] = {
            "relu": ReLU,
            "erf": Erf,
            "tanh": Tanh,
            "conv-relu": ConvReLU,
        }
        names = (*DEEP, *(CONVOLUTIONAL if self.kernel == KernelName.CONV_RELU else ()))
        return families[self.kernel](**{name: getattr(self, name) for name in names})

    def _check_unsaid(self, *names: str) -> None:
        """Raise where a flag is given that the kernel would have to ignore."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name in names:
            if getattr(self, name) != defaults[name]:
                flag = f"--{name.replace('_', '-')}"
                if name in ("strength", "labels_frozen"):
                    raise OptionError(f"{flag} belongs to --label-aware; give the estimator with it.")
                if name in ("weights", "parameters", "outputs", "projection"):
                    raise OptionError(f"{flag} belongs to --model; give the network with it.")
                if self.model is not None:
                    raise OptionError(
                        f"{flag} chooses an infinitely wide network; leave it out with --model."
                    )
                if name in TRAINED:
                    raise OptionError(f"{flag} belongs to --kernel hierarchy; {self.kernel} has none.")
                if self.kernel == KernelName.HIERARCHY:
                    raise OptionError(f"{flag} must be left out with --kernel hierarchy.")
                owners = "conv-relu" if name in CONVOLUTIONAL else "relu, erf, tanh or conv-relu"
                raise OptionError(f"{flag} belongs to --kernel {owners}; {self.kernel} has none.")

    def made_rule(self) -> Rule:
        """Return the rule: ridge, or flow where a training time is asked for."""
        name = self.rule or (RuleName.FLOW if self.at else RuleName.RIDGE)
        check_choice("rule", str(name), [str(name) for name in RuleName])
        if name == RuleName.RIDGE:
            if self.rate is not None:
                raise OptionError("--rate belongs to --rule flow or descent; ridge has no rate.")
            return Ridge(1.0 if self.ridge is None else self.ridge, loss=self.loss)
        ridge = 0.0 if self.ridge is None else self.ridge
        if name == RuleName.FLOW:
            return GradientFlow(1.0 if self.rate is None else self.rate, ridge, loss=self.loss)
        if self.rate is None:
            raise OptionError("--rule descent needs --rate, below 2 / (s_max + ridge).")
        return GradientDescent(self.rate, ridge, loss=self.loss)

    def times(self) -> list[float | None]:
        """Return the training times asked for; the end where none was."""
        return list(self.at) or [None]


def _projection(text: str | None) -> Projection | None:
    """Return the projection that NAME or NAME:SIZE stands for."""
    if text is None:
        return None
    name, _, size = text.partition(":")
    kinds: dict[str, Callable[..., Projection]] = {
        "coordinates": RandomCoordinates,
        "gaussian": Gaussian,
        "rademacher": Rademacher,
        "sparse": Sparse,
    }
    if name not in kinds or (size and not size.isdecimal()) or not (size or name == "coordinates"):
        raise OptionError(
            f"--projection must be coordinates[:SIZE] or one of gaussian, rademacher, sparse with "
            f":SIZE, the numbers that are kept; got {text!r}."
        )
    return kinds[name](size=int(size)) if size else RandomCoordinates()


def _is_one(value: Any, kind: Any) -> bool:
    """Return whether a value read from JSON is what a field of this type holds."""
    if get_origin(kind) in (Union, UnionType):
        return any(_is_one(value, part) for part in get_args(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:  # of times, where infinity, which JSON has not, is there as text
        inside = get_args(kind)[0]
        return isinstance(value, list | tuple) and all(
            _is_one(entry, inside) or (inside is float and entry == "inf") for entry in value
        )
    if kind is bool:
        return isinstance(value, bool)
    # True is a whole number to Python, and a whole number is as good as any.
    return isinstance(value, int | float if kind is float else kind) and not isinstance(value, bool)

"""How alike are two inputs to a network of finite width that has learned? The neural tangent hierarchy.

The tangent kernel of a network moves while it is trained, along a kernel of third order, which moves along
one of fourth order, and so on (Huang & Yau). Cut there, and averaged over the start of a two-layer network of
width m with f_0 = 0, the third order drops out and

    K̂_t(x, x') = E K₂(x, x') + Σ_ij C_ij(t) E K₄(x, x', x_i, x_j),       E K₄ = O(1/m),

C of `pull`: quadratic in the targets. At t = ∞ that is K^(NTH), eq. 5 of Chen, He & Su.

For smooth activations this is what the kernel of a trained network is on the mean, up to O(1/m²). For ReLU it
is **not**: neurons whose kink crosses an example move the kernel by O(m^-1/2), and of that nothing is in K₄.
It is the kernel that the paper proposes all the same.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, final, get_args

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from leftout.core.checks import (
    check_at_least,
    check_choice,
    check_count,
    check_finite,
    check_rows,
    check_seed,
)
from leftout.core.errors import OptionError
from leftout.core.fingerprint import fingerprint
from leftout.kernels import assemble
from leftout.kernels.base import Comparison, Normalise
from leftout.kernels.distortion import Distortion, distortion
from leftout.kernels.hierarchy.changes import Changes, change_of
from leftout.kernels.hierarchy.pull import pull
from leftout.kernels.hierarchy.refit_hierarchy import Queries, RefitHierarchy, RefittableHierarchy
from leftout.kernels.hierarchy.sampled import Draw, SampledMean
from leftout.kernels.label_dependent import LabelDependentKernel
from leftout.kernels.rows import flat_rows
from leftout.kernels.tiles import Tile, TileWork, check_matrix_fits
from leftout.kernels.wide.options import Activation
from leftout.kernels.wide.two_layer import TwoLayer

Expectation = Literal["neurons", "orthants"]


LONGEST = 1e100
"""Training time up to which its square is a number."""

LARGEST = 0.5
"""Change of the kernel, relative to it, beyond which what is of second order in it is not small."""

SAMPLE = 200
"""Inputs on which the mean over neurons is compared with another."""

SEEDS = 2**31


@final
@dataclass(frozen=True, kw_only=True)
class NeuralTangentHierarchy(LabelDependentKernel):
    """The kernel of a trained two-layer network of finite width, to the first order in 1 / width.

    f(x) = width^-1/2 Σ a σ(w·x), both layers drawn from N(0, 1) and trained by gradient flow on ½ Σ (f − y)²
    from f_0 = 0. One output: two classes, or one number.

    Args:
        width: m; the label-aware part is proportional to 1 / m.
        activation: "relu", "tanh", "erf" or "gelu".
        time: of training, in 1/eigenvalue of the kernel at the start (the paper's time over n); None for
            its end.
        expectation: "neurons", a mean over drawn neurons with a standard error; "orthants", exact, for
            ReLU and some dozens of examples.
        neurons: drawn.
        seed: of the drawn neurons.
        frozen: keep the kernel when an example is left out; see `LabelDependentKernel`. Fitted again without
            each of n examples it costs n times what it costs once.

    Raises:
        OptionError: an option that is none of these.

    Cost:
        Never the n⁴ numbers of K₄: for each neuron 4n² + 4nN + 10N² flops for all pairs of N inputs (smooth:
        6n² + 6nN + 12N²), see `fourth_order`. 65 536 neurons, n = N = 200: 3 to 4 s on two cores.

    Accuracy:
        `FittedHierarchy.change` gives the standard error of every entry. The kernel may be indefinite.

    Source:
        Chen, He & Su 2020, "Label-aware neural tangent kernel", eqs. 3 to 5, with h_t = (I − e^{−tK}) y +
        e^{−tK} h_0 where the paper drops the last exponential; Huang & Yau 2019, "Dynamics of deep neural
        networks and neural tangent hierarchy".

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> x = torch.tensor([[0.6, 0.8], [0.8, 0.6], [0.8, -0.6], [0.6, -0.8]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> kernel = lo.kernels.NeuralTangentHierarchy(width=100, expectation="orthants")
        >>> kernel.fit_labels(x, labels).gram[0]
        tensor([1.0347, 0.9495, 0.1536, 0.0327], dtype=torch.float64)
    """

    width: int
    activation: Activation = "relu"
    time: float | None = None
    expectation: Expectation = "neurons"
    neurons: int = 2**16
    seed: int = 0
    frozen: bool = False
    by_classes = False

    base: TwoLayer = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_count("width", self.width)
        check_choice("activation", self.activation, get_args(Activation))
        object.__setattr__(self, "base", TwoLayer(self.activation))  # at the start
        check_choice("expectation", self.expectation, get_args(Expectation))
        check_count("neurons", self.neurons)
        check_seed(self.seed)
        if self.time is not None:
            check_at_least("time", self.time, 0)
            if self.time > LONGEST:
                raise OptionError(
                    f"`time` must be at most {LONGEST:g}, or None for the end of training; got {self.time!r}."
                )
        if self.expectation == "orthants" and self.activation != "relu":
            raise OptionError(
                '`expectation` must be "neurons" for smooth activations: orthants are the expectation of '
                f"ReLU's; got activation={self.activation!r}."
            )

    @property
    def normalise(self) -> Normalise | None:
        """Return how loading should scale inputs when the user does not say."""
        return self.base.normalise

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless every input is a vector that the network does not send to 0."""
        self.base.check(name, inputs)

    def fit_labels(
        self,
        inputs: Tensor,
        labels: Int64[Tensor, " n"] | None,
        targets: Float64[Tensor, "n c"] | None = None,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
        memory: int | float | str | None = None,
    ) -> "FittedHierarchy":
        """Return the kernel after training on these examples.

        Args:
            labels: the class of each input; two classes are learned as −1 and 1 where no targets are given.
            targets: y, one column.
            dtype: not followed; everything is computed in float64.

        Raises:
            OptionError: targets of several columns, or none and not two classes: a network with several
                outputs has a kernel for every two of them.
            NotPositiveError: no end of training, as inputs coincide.
        """
        self.check("inputs", inputs)
        if targets is None:
            assert labels is not None, "labels or targets"
            targets = _two_classes(labels)
        check_rows("targets", targets, len(inputs), of="`inputs`")
        check_finite("targets", targets)
        if targets.shape[1] != 1:
            raise OptionError(
                "`targets` must have one column for NeuralTangentHierarchy, a network with one output; got "
                f"{targets.shape[1]}. Load two classes."
            )
        where = inputs.device if device is None else torch.device(device)
        return FittedHierarchy(self, inputs.to(where), targets.to(where), memory=memory)

    @property
    def record(self) -> dict[str, Any]:
        """Return name and parameters."""
        drawn = {"neurons": int(self.neurons), "seed": int(self.seed)}
        return {
            "name": "neural-tangent-hierarchy",
            "activation": self.activation,
            "width": int(self.width),
            "time": None if self.time is None else float(self.time),
            "expectation": self.expectation,
            **(drawn if self.expectation == "neurons" else {}),
            "frozen": self.frozen,
        }


@final
class FittedHierarchy(RefittableHierarchy):
    """The kernel of a network trained on examples.

    Attributes:
        inputs: of the training examples.
        targets: y.
        start: the kernel at the start between the training inputs, H.
    """

    normalise = TwoLayer.normalise
    options: NeuralTangentHierarchy

    def __init__(
        self,
        options: NeuralTangentHierarchy,
        inputs: Tensor,
        targets: Float64[Tensor, "n 1"],
        *,
        memory: int | float | str | None = None,
        start: Float64[Tensor, "n n"] | None = None,
    ) -> None:
        self.options = options
        self.inputs, self.targets = inputs, targets
        self.memory = memory
        self.start = self._start(inputs) if start is None else start

    @property
    def dtype(self) -> torch.dtype:
        """Return float64: C grows like the square of a condition number."""
        return torch.float64

    @property
    def gram_before_labels(self) -> Float64[Tensor, "n n"]:
        """Return the kernel at the start."""
        return self.start

    @cached_property
    def gram(self) -> Float64[Tensor, "n n"]:
        """Return the kernel between the training inputs."""
        return assemble.gram(self, self.inputs, memory=self.memory)

    @property
    def doubt(self) -> str:
        """Return how large the change is, where the next order of the expansion cannot be small."""
        size = self.start.abs().max()
        moved = float(((self.gram - self.start) / size).norm() / (self.start / size).norm())
        if moved <= LARGEST:
            return ""
        if not math.isfinite(moved):
            return "`kernel` is beyond what numbers reach. Scale the inputs, to norm 1 for instance."
        wide = math.ceil(self.options.width * moved / 0.1)
        return (
            f"`kernel` is an expansion in 1/width, and at width {self.options.width} training changes it by "
            f"{moved:.3g} times its size: what it leaves out is not small. At width {wide:,} that is a "
            "tenth; or take a shorter `time`."
        )

    def distortion(self, inputs: Tensor) -> Distortion | None:
        """Return how far the mean over neurons is from the expectation; None of orthants, which are exact.

        As many other neurons are drawn: two independent means differ by √2 standard errors.
        """
        if self.options.expectation == "orthants":
            return None
        generator = torch.Generator().manual_seed(self.options.seed)
        some = inputs[
            torch.randperm(len(inputs), generator=generator, device="cpu")[:SAMPLE].to(inputs.device)
        ]
        some = some.to(self.inputs)
        redrawn = replace(self.options, seed=(self.options.seed + 1) % SEEDS)
        other = FittedHierarchy(redrawn, self.inputs, self.targets, memory=self.memory, start=self.start)
        ours, theirs = (one.block(some, some).double() for one in (self, other))
        apart = (theirs - ours) / math.sqrt(2)
        return distortion(ours + apart, ours, examples=len(some), seed=self.options.seed)

    def change(self, queries: Tensor, inputs: Tensor | None = None) -> SampledMean:
        """Return by how much training has changed the kernel, with standard errors, (m, n).

        Args:
            inputs: those of the queries if None.
        """
        found = self._changes.between(_rows(queries), None if inputs is None else _rows(inputs))
        return self._per_width(found)

    def block(self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "m n"]:
        """Return the kernel of every pair."""
        left = _rows(queries)
        right = left if queries is inputs else _rows(inputs)
        change = self.change(left, None if queries is inputs else right)
        return self.options.base.block(left, right).add_(change.value).to(inputs)

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return the kernel of every input with itself."""
        rows = _rows(inputs).to(self.inputs.device)
        change = self._per_width(self._changes.own(rows))
        return self.options.base.diagonal(rows).add(change.value).to(inputs)

    def tiles(self, queries: Tensor, inputs: Tensor | None, work: TileWork) -> Iterator[Tile]:
        """Return one tile: the neurons are drawn, and meet the examples, once for all pairs.

        Raises:
            MemoryBudgetError: matrix, factors and responses do not fit; nothing was allocated.
        """
        # Not in the dtype asked for: rounded inputs would be other inputs than it is fitted to.
        left = queries.to(work.device)
        right = left if inputs is None else inputs.to(work.device)
        needed = work.result + self._changes.bytes(len(left), len(right))
        check_matrix_fits(len(left), len(right), needed, work.budget)
        yield slice(0, len(left)), slice(0, len(right)), self.block(left, right)

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless every input is a vector that the network does not send to 0."""
        self.options.check(name, inputs)

    @property
    def record(self) -> dict[str, Any]:
        """Return the options, and fingerprints of what it is fitted to."""
        inputs, targets = self._fingerprints
        return self.options.record | {"inputs": inputs, "targets": targets}

    @cached_property
    def _fingerprints(self) -> tuple[str, str]:
        return fingerprint(self.inputs), fingerprint(self.targets)

    def freeze_labels(self) -> "FittedHierarchy":
        """Return the same kernel, which says of itself that it stays as it is."""
        same = self.without_caches()
        same.options = replace(self.options, frozen=True)
        same.__dict__["gram"] = self.gram  # what it is does not change with what it says of itself
        return same

    def compare(self, queries: Tensor) -> Comparison:
        """Return the kernel between queries and training inputs; a refit looks at the queries themselves."""
        self.check("queries", queries)
        queries = queries.to(self.inputs)
        return Comparison(assemble.cross(self, queries, self.inputs, memory=self.memory), Queries(queries))

    def compare_training(self, rows: slice) -> Comparison:
        """Return some of the training inputs compared with all of them; nothing is evaluated."""
        return Comparison(self.gram[rows], Queries(self.inputs[rows]))

    def refit_labels(
        self,
        keep: Int64[Tensor, " k"],
        labels: Int64[Tensor, " k"] | None = None,
        targets: Float64[Tensor, "k c"] | None = None,
    ) -> RefitHierarchy:
        """Return the kernel fitted to some of the training examples, with these targets.

        Args:
            labels: not looked at.
            targets: those that it was fitted to if None.
        """
        del labels
        targets = self.targets[keep] if targets is None else targets.to(self.targets)
        return RefitHierarchy(self, keep, targets)

    def fitted_to(self, keep: Int64[Tensor, " k"], targets: Float64[Tensor, "k 1"]) -> "FittedHierarchy":
        """Return the kernel of a network trained on some of the inputs, with these targets."""
        return FittedHierarchy(
            self.options, self.inputs[keep], targets, memory=self.memory, start=self.start[keep][:, keep]
        )

    def without_caches(self) -> "FittedHierarchy":
        """Return the same kernel without what it has found so far, but for its start."""
        return FittedHierarchy(self.options, self.inputs, self.targets, memory=self.memory, start=self.start)

    def __repr__(self) -> str:
        return f"{self.options!r} fitted to {len(self.inputs)} examples"

    @cached_property
    def _changes(self) -> Changes:
        options = self.options
        time = math.inf if options.time is None else options.time
        pulled = pull(self.start, self.targets[:, 0], time=time)
        draw = Draw(activation=options.activation, neurons=options.neurons, seed=options.seed)
        exact = options.expectation == "orthants"
        return change_of(_rows(self.inputs), pulled, draw=None if exact else draw, memory=self.memory)

    def _start(self, inputs: Tensor) -> Float64[Tensor, "n n"]:
        return assemble.gram(self.options.base, inputs, memory=self.memory)

    def _per_width(self, found: SampledMean) -> SampledMean:
        width = self.options.width
        return SampledMean(found.value / width, found.standard_error / width)


def _two_classes(labels: Int64[Tensor, " n"]) -> Float64[Tensor, "n 1"]:
    """Return −1 and 1 for the lower and the higher of two classes."""
    classes, place = torch.unique(labels, return_inverse=True)
    if len(classes) != 2:
        raise OptionError(
            "`labels` must be of two classes for NeuralTangentHierarchy where there are no `targets`; got "
            f"{len(classes)}."
        )
    targets: Tensor = (2 * place - 1).double()[:, None]
    return targets


def _rows(inputs: Tensor) -> Float64[Tensor, "n d"]:
    return flat_rows(inputs).double()

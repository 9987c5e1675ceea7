"""What if a kernel knew which training examples share a label? The higher-order regression kernel.

    k'(x, x') = k(x, x') + λ Z(x, x'),    λ = strength · mean |H| / mean |Z|

k is a label-blind kernel, H its matrix on the training inputs, and Z estimates from all pairs of training
examples whether two inputs share a label (`regression`, `features`); both means are over training
pairs. Z needs no label of the inputs it is asked about. It is symmetric but need not be positive
semi-definite, so neither is k': what factors it must allow for that.

Z has seen every training label. Without an example it is another kernel: `FittedLabelAware.refit` fits it
again to the others, out of matrices that are there already.

Source:
    Chen, He & Su 2020, "Label-aware neural tangent kernel", equation 2 and section 3.1; what its text
    leaves open (features, bandwidth, λ) as in the released program.
"""

from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from leftout.core.blocks import check_fits, memory_budget
from leftout.core.checks import check_at_least, check_choice, check_kind
from leftout.core.errors import OptionError, ShapeError
from leftout.core.fingerprint import fingerprint
from leftout.kernels.base import Comparison, Kernel, Normalise, RefitKernel
from leftout.kernels.label_dependent import FittedLabelKernel, LabelDependentKernel
from leftout.kernels.pairwise.estimates import (
    ESTIMATORS,
    Estimate,
    check_labels,
    fit_estimate,
    looks_at_pixels,
    strengthened_kernel,
)
from leftout.kernels.pairwise.features import FeatureRegression
from leftout.kernels.pairwise.options import Estimator
from leftout.kernels.pairwise.pairs import (
    Pairs,
    check_inputs_have_pixels,
    looked_at,
    pairs_among,
    pairs_between,
    pixels_of,
)
from leftout.kernels.pairwise.regression import KernelRegression
from leftout.kernels.pairwise.sketch import Sketch


@final
@dataclass(frozen=True)
class LabelAware(LabelDependentKernel):
    """A kernel that is fitted to labels; `fit_labels` does.

    Args:
        base: the label-blind kernel, with one value for all outputs.
        estimator: of whether two inputs share a label: kernel regression on k(x, x') ("kr-v1"; "kr-v2"
            with H⁻¹ L H⁻¹ for the labels of pairs), or least squares on ten features of a pair
            ("fjlt-v1") or twenty ("fjlt-v2").
        strength: mean |λ Z| over mean |H|; None where it is still to be chosen.
        frozen: leave examples out of the model but not of the kernel: faster, and another question.
        sketch: of the equations of the two "fjlt" estimators; None solves all of them.

    Raises:
        OptionError: an option that is none, or a base that has seen labels itself.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> x = torch.tensor([[0.6, 0.8], [0.8, 0.6], [0.8, -0.6], [0.6, -0.8]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> kernel = lo.kernels.LabelAware(lo.kernels.ReLU(1), "kr-v1", strength=0.5)
        >>> kernel.fit_labels(x, labels).gram[0]
        tensor([ 2.6422,  2.3051, -0.2370, -0.8149], dtype=torch.float64)
    """

    base: Kernel
    estimator: Estimator = "fjlt-v1"
    strength: float | None = 0.1
    frozen: bool = False
    sketch: Sketch | None = None

    def __post_init__(self) -> None:
        check_kind("base", self.base, Kernel, what="a label-blind kernel, such as kernels.ReLU(1)")
        if isinstance(self.base, FittedLabelAware):
            raise OptionError("`base` must not have seen labels; got a kernel that is fitted to some.")
        if self.base.is_trained:
            raise OptionError(
                "`base` must not have seen labels, and trained weights have; got "
                f'{self.base!r}. Pass weights="initial" if training starts from these weights.'
            )
        check_choice("estimator", self.estimator, ESTIMATORS)
        check_choice("frozen", self.frozen, (True, False))
        if self.strength is not None:
            check_at_least("strength", self.strength, 0)
        if self.sketch is not None:
            check_kind("sketch", self.sketch, Sketch, what="None or a Sketch(…)")
            if not self.looks_at_pixels:
                raise OptionError(
                    '`sketch` must be None but for the estimators "fjlt-v1" and "fjlt-v2"; '
                    f'"{self.estimator}" solves no equations.'
                )

    @property
    def looks_at_pixels(self) -> bool:
        """Return whether the estimator compares inputs, and not only their kernel."""
        return looks_at_pixels(self.estimator)

    @property
    def normalise(self) -> Normalise | None:
        """Return how loading should scale inputs when the user does not say: as for the base."""
        return self.base.normalise

    @property
    def dtype(self) -> torch.dtype | None:
        """Return the dtype that the base is evaluated in whatever was options."""
        return self.base.dtype

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless base and estimator are defined on `inputs`, and the base serves all outputs."""
        self.base.check(name, inputs)
        # Asked here, not when made: a module's kernel knows its outputs once it has seen inputs.
        if self.base.outputs is not None:
            raise OptionError(
                f"`base` must have one value for all outputs; {self.base!r} tells {self.base.outputs} "
                'apart. Pass outputs="trace".'
            )
        if self.looks_at_pixels:
            check_inputs_have_pixels(name, inputs)

    @property
    def record(self) -> dict[str, Any]:
        """Return base and options."""
        return {
            "name": "label-aware",
            "base": self.base.record,
            "estimator": self.estimator,
            "strength": None if self.strength is None else float(self.strength),
            "frozen": bool(self.frozen),
            "sketch": None if self.sketch is None else self.sketch.record,
        }

    def fit_labels(
        self,
        inputs: Float[Tensor, "n ..."],
        labels: Int64[Tensor, " n"] | None,
        targets: Float64[Tensor, "n c"] | None = None,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
        memory: int | float | str | None = None,
    ) -> "FittedLabelAware":
        """Return the kernel that these training examples make of it.

        Args:
            labels: the class of each input.
            targets: not looked at.
            dtype: in which the base and l1 distances are evaluated.
            device: where everything is computed and kept; that of the inputs if None.
            memory: budget, in bytes or as "4GB"; 60 % of what is free if None.

        Raises:
            OptionError: the strength is still to be chosen.
            ShapeError, DataError: not one label an input, fewer than two classes, or what the
                estimator says of inputs it cannot learn from.
            MemoryBudgetError: the matrices of pairs do not fit.

        Cost:
            the base of n²/2 pairs and, for "fjlt", their products and l1 distances; then O(n²). Three
            (five) matrices of n² numbers are kept, and one more is held on the way; a sketch holds ten.
        """
        del targets
        self.check_has_classes(labels)
        assert labels is not None
        if self.strength is None:
            raise OptionError(
                "`strength` must be a number when the kernel is fitted; it is None, to be chosen. Choose it "
                "by leave-one-out, or pass one such as LabelAware(base, strength=0.1)."
            )
        self.check("inputs", inputs)
        check_labels(labels, len(inputs))
        where = torch.device(device) if device is not None else inputs.device
        budget, n = memory_budget(memory, device=where), len(inputs)
        matrices = 15 if self.sketch is not None else 6 if self.looks_at_pixels else 4
        check_fits(
            f"A label-aware kernel of {n} examples",
            matrices * 8 * n * n,
            budget,
            advice="Take fewer examples (`n_train`), or raise `memory`.",
        )
        pairs = pairs_among(
            self.base, inputs, pixels=self.looks_at_pixels, dtype=dtype, device=where, memory=budget
        )
        labels = labels.to(where)
        estimate, estimate_values = fit_estimate(self.estimator, pairs, labels, sketch=self.sketch)
        return FittedLabelAware(self, pairs, inputs.to(where), labels, estimate, estimate_values, dtype=dtype)

    def pairs_of(
        self,
        kernel: Float[Tensor, "m n"],
        queries: Float[Tensor, "m ..."],
        inputs: Float[Tensor, "n ..."],
        *,
        dtype: torch.dtype = torch.float64,
    ) -> Pairs:
        """Return what the estimator must know of pairs, the base kernel of which is known already.

        Args:
            kernel: the base kernel of the queries and the inputs.
            dtype: in which l1 distances are evaluated.
        """
        return looked_at(kernel, queries, inputs, pixels=self.looks_at_pixels, dtype=dtype)

    def fit_pairs(self, pairs: Pairs, labels: Int64[Tensor, " n"]) -> "RefitLabelAware":
        """Return the kernel fitted to labels of inputs given by all pairs of them; nothing is evaluated.

        `pairs.of(rows, rows)` fits it to some of the inputs; `cross_of` then takes pairs with these.

        Raises:
            ShapeError, DataError: as `fit_labels`.
        """
        return RefitLabelAware(self, pairs, labels, None)


@final
class RefitLabelAware(RefitKernel):
    """The kernel as other examples or labels make it, out of matrices of all training inputs.

    Attributes:
        keep: rows of the training inputs that it is fitted to; None for all.
        estimate: of whether two inputs share a label.
        strength_used: λ.
    """

    def __init__(
        self,
        options: LabelAware,
        pairs: Pairs,
        labels: Int64[Tensor, " s"],
        keep: Int64[Tensor, " s"] | None,
        *,
        inputs: Float[Tensor, "n ..."] | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        check_labels(labels, len(pairs.kernel))
        self.options, self.pairs, self.labels, self.keep = options, pairs, labels, keep
        self.inputs, self.dtype = inputs, dtype
        self.estimate, self._higher = fit_estimate(options.estimator, pairs, labels, sketch=options.sketch)
        self.strength_used, self._gram = strengthened_kernel(options.strength, pairs.kernel, self._higher)

    @property
    def definite(self) -> bool:
        """Return whether it is the label-blind kernel."""
        return bool(self.strength_used == 0)

    @property
    def gram(self) -> Float64[Tensor, "s s"]:
        """Return the kernel of the inputs that it is fitted to, symmetric to the last bit."""
        assert len(self._gram) == len(self.labels), "it was dropped"
        return self._gram

    @property
    def kernel(self) -> "FittedLabelAware":
        """Return it as a kernel between any inputs; nothing is evaluated or fitted again."""
        assert self.inputs is not None, "it was made of matrices alone"
        inputs = self.inputs if self.keep is None else self.inputs[self.keep]
        return FittedLabelAware(
            self.options, self.pairs, inputs, self.labels, self.estimate, self._higher, dtype=self.dtype
        )

    def without_gram(self) -> "RefitLabelAware":
        """Return the same without its matrices, for `cross` only."""
        lean = copy(self)
        lean._higher = lean._gram = self._gram.new_empty(0, 0)
        lean.pairs = Pairs(lean._gram)
        return lean

    def cross(self, comparison: Comparison) -> Float64[Tensor, "m s"]:
        """Return the kernel of queries and these inputs, from pairs of queries and all training inputs."""
        return self.cross_of(comparison.pairs)

    def cross_of(self, pairs: Pairs) -> Float64[Tensor, "m s"]:
        """Return `cross` from the pairs themselves, as `LabelAware.pairs_of` gives them."""
        pairs = pairs if self.keep is None else pairs.of(None, self.keep)
        return pairs.kernel + self.strength_used * self.estimate.on(pairs)

    def at_strength(self, strength: float) -> "RefitLabelAware":
        """Return the same with another relative strength; nothing is fitted again."""
        check_at_least("strength", strength, 0)
        stronger = copy(self)
        stronger.options = replace(self.options, strength=strength)
        stronger.strength_used, stronger._gram = strengthened_kernel(
            strength, self.pairs.kernel, self._higher
        )
        return stronger


@final
class FittedLabelAware(FittedLabelKernel):
    """The kernel fitted to labels: symmetric, and not necessarily positive semi-definite.

    Attributes:
        options: that it was made with.
        pairs: of the training inputs.
        inputs, labels: that it is fitted to.
        estimate: of whether two inputs share a label.
        strength_used: λ itself.
    """

    options: LabelAware
    pairs: Pairs

    def __init__(
        self,
        options: LabelAware,
        pairs: Pairs,
        inputs: Float[Tensor, "n ..."],
        labels: Int64[Tensor, " n"],
        estimate: Estimate,
        estimate_values: Float64[Tensor, "n n"],
        *,
        dtype: torch.dtype,
    ) -> None:
        self.options = options
        self.pairs = pairs
        self.inputs = inputs
        self.labels = labels
        self.estimate = estimate
        self._higher = estimate_values
        self._dtype = dtype
        self.strength_used, self._gram = strengthened_kernel(options.strength, pairs.kernel, estimate_values)
        self.normalise = options.normalise
        self.definite = self.ignores_labels

    @property
    def ignores_labels(self) -> bool:
        """Return whether it is the base, of strength 0."""
        return bool(self.strength_used == 0)

    @property
    def gram_before_labels(self) -> Float64[Tensor, "n n"]:
        """Return the base of the training inputs."""
        return self.pairs.kernel

    @property
    def gram(self) -> Float64[Tensor, "n n"]:
        """Return the kernel of the training inputs, symmetric to the last bit."""
        return self._gram

    @property
    def dtype(self) -> torch.dtype | None:
        """Return the dtype that the base is evaluated in whatever was options."""
        return self.options.dtype

    def block(self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "m n"]:
        """Return the kernel of every pair, Z evaluated in float64.

        Raises:
            DataError: a pair about which the estimator has nothing to say.
        """
        base = self.options.base.block(queries, inputs)
        if isinstance(self.estimate, KernelRegression):
            return (base.double() + self.strength_used * self.estimate.at(base.double())).to(base)
        pairs = looked_at(base, queries, inputs, pixels=True, dtype=inputs.dtype)
        scores = None
        if self.estimate.axes is not None:
            scores = self._scores(queries), self._scores(inputs)
        estimate_values = self.estimate.between(pairs, scores)
        return (pairs.kernel + self.strength_used * estimate_values).to(base)

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return k'(x, x) for every input."""
        base = self.options.base.diagonal(inputs)
        if isinstance(self.estimate, KernelRegression):
            return (base.double() + self.strength_used * self.estimate.at(base.double())).to(base)
        scores = None if self.estimate.axes is None else self._scores(inputs)
        estimate_values = self.estimate.of_each(base.double(), pixels_of(inputs), scores)
        return (base.double() + self.strength_used * estimate_values).to(base)

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless the base is defined on `inputs`, and they have the features of the training ones."""
        self.options.check(name, inputs)
        if inputs.shape[1:] != self.inputs.shape[1:]:
            raise ShapeError(
                f"`{name}` must have the features of the inputs that the kernel is fitted to, "
                f"{tuple(self.inputs.shape[1:])}; got {tuple(inputs.shape[1:])}."
            )

    @property
    def record(self) -> dict[str, Any]:
        """Return what was options, λ, what was learned, and fingerprints of what it was learned from."""
        return {
            **self.options.record,
            "strength_used": self.strength_used,
            "estimate": self.estimate.record,
            "inputs": self._fingerprints[0],
            "labels": self._fingerprints[1],
        }

    def compare(
        self, queries: Float[Tensor, "m ..."], *, memory: int | float | str | None = None
    ) -> Comparison:
        """Return queries compared with the training inputs; the pairs serve every refit."""
        self.check("queries", queries)
        pairs = pairs_between(
            self.options.base,
            queries,
            self.inputs,
            pixels=self.options.looks_at_pixels,
            dtype=self._dtype,
            device=self.inputs.device,
            memory=memory,
        )
        return Comparison(pairs.kernel + self.strength_used * self.estimate.on(pairs), pairs)

    def compare_training(self, rows: slice) -> Comparison:
        """Return some of the training inputs compared with all of them; nothing is evaluated."""
        return Comparison(self.gram[rows], self.pairs.of(rows, slice(None)))

    def freeze_labels(self) -> "FittedLabelAware":
        """Return the same kernel, which says of itself that it stays as it is."""
        return self._with_options(replace(self.options, frozen=True))

    def refit_labels(
        self,
        keep: Int64[Tensor, " s"],
        labels: Int64[Tensor, " s"] | None = None,
        targets: Float64[Tensor, "s c"] | None = None,
    ) -> RefitLabelAware:
        """Return the kernel that some of the training examples, with these labels, make of it, exactly.

        Nothing is evaluated again but features of pairs: labels, bandwidth, scales, components and λ are
        those of the part.

        Args:
            labels: those that it was fitted to if None.
            targets: not looked at.

        Raises:
            DataError: the part has one class, or the estimator cannot learn from it.

        Cost:
            "kr-v1" some passes over n² numbers, "kr-v2" n³/3 more; "fjlt" as `learn_features`.
        """
        del targets
        keep = keep.to(self.inputs.device)
        labels = self.labels[keep] if labels is None else labels.to(self.inputs.device)
        every = len(keep) == len(self.inputs) and bool((keep[1:] > keep[:-1]).all())
        return RefitLabelAware(
            self.options,
            self.pairs if every else self.pairs.of(keep, keep),
            labels,
            None if every else keep,
            inputs=self.inputs,
            dtype=self._dtype,
        )

    def at_strength(self, strength: float) -> "FittedLabelAware":
        """Return the same with another relative strength; nothing is learned again."""
        return self._with_options(replace(self.options, strength=strength))

    def _with_options(self, options: LabelAware) -> "FittedLabelAware":
        return FittedLabelAware(
            options, self.pairs, self.inputs, self.labels, self.estimate, self._higher, dtype=self._dtype
        )

    @cached_property
    def _fingerprints(self) -> tuple[str, str]:
        return fingerprint(self.inputs), fingerprint(self.labels)

    @cached_property
    def _directions(self) -> Float64[Tensor, "d c"]:
        """Return the principal components as directions of inputs."""
        assert isinstance(self.estimate, FeatureRegression)
        assert self.estimate.axes is not None
        return self.inputs.flatten(1).double().T @ self.estimate.axes.loadings

    def _scores(self, inputs: Tensor) -> Float64[Tensor, "n c"]:
        assert isinstance(self.estimate, FeatureRegression)
        assert self.estimate.axes is not None
        return inputs.flatten(1).double() @ self._directions - self.estimate.axes.offsets

    def __repr__(self) -> str:
        return f"{self.options!r} fitted to {len(self.inputs)} examples"

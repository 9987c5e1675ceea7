"""The fitted model: a kernel, training examples and a rule; every prediction follows from them.

    f_t(x) = f_0(x) + K(x, X) g_t(K) (Y − f_0(X))

The end of training needs one factorisation, finite times one eigendecomposition; each is made when
first asked for and kept.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import Any, TypeVar, final

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.card import Card
from leftout.core.checks import check_kind
from leftout.core.errors import NotPositiveError, OptionError, ShapeError
from leftout.core.fingerprint import fingerprint
from leftout.core.product_matrix import ProductMatrix
from leftout.core.progress import spinner
from leftout.core.structured_matrix import StructuredMatrix
from leftout.core.wording import dtype_name
from leftout.core.work import NO_WORK, WorkCount, allocation, thin_product
from leftout.data.examples import Examples
from leftout.data.pairs import inputs_of
from leftout.dynamics.factorisations import Factorisations
from leftout.dynamics.kernel_rows import KernelRows
from leftout.dynamics.ridge_choice import RidgeChoice
from leftout.dynamics.rules import At, Logistic, Rule, SpectralRule
from leftout.dynamics.scales import check_kernel_scale, check_residual_scale
from leftout.dynamics.solver_choice import MATRICES
from leftout.kernels.base import Kernel
from leftout.kernels.evaluated_matrix import EvaluatedMatrix
from leftout.solvers.cholesky import CholeskyFactor
from leftout.solvers.cross_entropy import probabilities
from leftout.solvers.factor import Factor
from leftout.solvers.logistic import LogisticFit, fit_logistic, refit_logistic
from leftout.solvers.newton_equation import LogisticProblem
from leftout.solvers.resolvent import apply_filter
from leftout.solvers.spectrum import Spectrum

T = TypeVar("T")

PREDICTED = 32
"""The kernel between points and training inputs takes one of so many parts of the memory at a time."""

KEPT = 16
"""Things derived from a model that are kept with it, the last ones used."""


@final
class Fitted:
    """A kernel fitted to examples. Made by `fit`; nothing in it changes afterwards but caches.

    Where the kernel has k outputs, every example has k rows in the Gram matrix, side by side, and duals
    have one column; else one row, and k columns. `outputs_per_example` is k or 1.

    Attributes:
        rows: the kernel over the training inputs.
        factorisations: of its Gram matrix.
        train: the examples, with targets as the loss of the rule takes them.
        targets: Y.
        initial_at_train: f_0 at the training inputs.
        ridge_choice: what the ridge was chosen from by left-out loss; None where it was given.
        tilt: of a network as it was trained (`Kernel.is_trained`), a change of the dual that keeps it
            where it is: the ridge is centred where the trained weights are the minimum. None of other models.
    """

    def __init__(
        self,
        rows: KernelRows,
        train: Examples,
        rule: Rule,
        factorisations: Factorisations | None = None,
        ridge_choice: RidgeChoice | None = None,
    ) -> None:
        self.rows = rows
        self.rule = rule
        self.ridge_choice = ridge_choice
        self.train = rule.example_loss.coded(train, rows.kernel.network_outputs(train.inputs), "train")
        if self.train.encoding.as_probabilities and not isinstance(rule, Logistic):
            raise OptionError(
                f"{rule!r} is a rule of squared loss, and the targets of these examples are probabilities: "
                "fit the data again as they were loaded."
            )
        self.outputs = self.train.encoding.outputs
        self.factorisations = factorisations or Factorisations(
            rows.gram,
            definite=rows.kernel.definite,
            made_in=rows.dtype,
            train=train,
            tile_dtype=rows.tile_dtype,
        )
        self.targets: Float64[Tensor, "n k"] = self.train.targets.to(self.device)
        self.initial_at_train: Float64[Tensor, "n k"] = self.initial(train.inputs)
        check_kernel_scale(rows.gram.diagonal())
        check_residual_scale(self.targets - self.initial_at_train)
        rule.check_scales()
        self.tilt: Float64[Tensor, "rows c"] | None = self._tilt() if rows.kernel.is_trained else None
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self.train)

    def __repr__(self) -> str:
        return f"Fitted({self.kernel!r}, {len(self)} examples, rule={self.rule!r})"

    def _repr_html_(self) -> str:
        lines = [
            ("kernel", repr(self.kernel)),
            ("rule", repr(self.rule)),
            ("loss", self.rule.example_loss.formula),
        ]
        if self.ridge_choice is not None:
            lines.append(("ridge", self.ridge_choice.text))
        if self.kept_as:
            lines.append(("kept as", self.kept_as))
        return Card(f"Model of {len(self):,} examples", tuple(lines)).html()

    @property
    def kept_as(self) -> str:
        """Return what is kept in place of the kernel matrix, and why; empty where that is kept itself."""
        gram = self.gram
        if not isinstance(gram, ProductMatrix):
            return gram.kept_as if isinstance(gram, StructuredMatrix) else ""
        (n, d), exact = gram.left.shape, self.kernel.distortion(self.train.inputs[:2]) is None
        what = f"{n} rows of {d} features, in n d² instead of n³"
        return what if exact else f"{what}; they approximate the kernel"

    @property
    def kernel(self) -> Kernel:
        return self.rows.kernel

    def start_at(
        self, inputs: Float[Tensor, "m ..."], cross: Float64[Tensor, "mr r"]
    ) -> Float64[Tensor, "m k"]:
        """Return where training starts from at the inputs, whose kernel to the training inputs is `cross`."""
        if self.tilt is None:
            return self.initial(inputs)
        return self.initial(inputs) + self.by_example(cross @ self.tilt)

    @property
    def start(self) -> Float64[Tensor, "n k"]:
        """Return where training starts from at the training inputs: f_0, tilted if the network is trained."""
        if self.tilt is None:
            return self.initial_at_train
        return self.initial_at_train + self.by_example(self.gram @ self.tilt)

    @cached_property
    def residual(self) -> Float64[Tensor, "rows c"]:
        """Return Y − f_0, as it meets the rows of the Gram matrix: what squared loss has to learn.

        Raises:
            OptionError: the rule is not one of squared loss.
        """
        self.check_squared_loss()
        return self.by_row(self.targets - self.start)

    @property
    def spectral_rule(self) -> SpectralRule:
        """Return the rule, where what is learned is a function of the kernel's eigenvalues.

        Raises:
            OptionError: it is none.
        """
        self.check_squared_loss()
        assert isinstance(self.rule, SpectralRule)
        return self.rule

    def check_squared_loss(self) -> None:
        """Raise where an answer is a function of the kernel's spectrum, and the rule is not."""
        if not isinstance(self.rule, SpectralRule):
            raise OptionError(
                f"This answer is a theorem about squared loss, and `fitted` has {self.rule!r}: fit with "
                "Ridge for it. leave_one_out, leave_out, out_of_sample, relabel, reweight, add and "
                f"information answer under {self.rule.example_loss.name}."
            )

    def _tilt(self) -> Float64[Tensor, "rows c"]:
        """Return the change of the dual, −(what the minimum's would be), that makes f_0 stationary."""
        if self.rule.has_time or not self.rule.ridge:
            raise OptionError(
                "A network at its trained weights is the minimum of a ridge around them: `rule` must be "
                f"Logistic or Ridge with a ridge > 0, such as `training_ridge` gives; got {self.rule!r}. "
                'Of training from initial weights ask Empirical(module, weights="initial").'
            )
        ridge = self.rule.effective_ridge(len(self))
        # At the minimum λ u is minus the slope of the loss; the tilt takes it back.
        return self.by_row(self.rule.example_loss.slope(self.initial_at_train, self.targets)) / ridge

    @property
    def gram(self) -> Float64[Tensor, "rows rows"]:
        """Return K(training inputs, training inputs), without ridge."""
        return self.rows.gram

    @property
    def outputs_per_example(self) -> int:
        return self.rows.outputs_per_example

    @property
    def kernel_dtype(self) -> torch.dtype:
        """Return the dtype that the kernel is evaluated in."""
        return self.rows.dtype

    @property
    def memory(self) -> int:
        """Return the budget in bytes."""
        return self.rows.memory

    @property
    def device(self) -> torch.device:
        """Return where the Gram matrix lives."""
        return self.gram.device

    def subset(self, examples: Int64[Tensor, " e"]) -> "Fitted":
        """Return the model of some of the examples, given by their rows in the training data.

        No kernel is evaluated again; one that depends on labels is fitted to those of the subset.

        Example:
            >>> import leftout as lo, torch
            >>> train, _ = lo.load("digits", n_train=40, n_query=10)
            >>> fitted = lo.fit(lo.kernels.ReLU(1), train)
            >>> len(fitted.subset(torch.arange(30)))
            30
        """
        if self.tilt is not None:
            raise OptionError(
                "A trained network is the model of all its examples: a part of them is an edit of it. Ask "
                'leave_out, or pass Empirical(module, weights="initial").'
            )
        train = self.train.select(examples.cpu())
        refit = self.rows.refit(examples.to(self.device), train.labels, train.targets)
        gram = refit.gram
        if isinstance(gram, EvaluatedMatrix) and MATRICES * 8 * len(gram) ** 2 <= self.memory:
            gram = gram.make_numbers()
        rows = KernelRows(
            refit.kernel,
            train.inputs,
            gram,
            dtype=self.kernel_dtype,
            memory=self.memory,
            tile_dtype=self.rows.tile_dtype,
        )
        return Fitted(rows, train, self.rule)

    def with_rule(self, rule: Rule) -> "Fitted":
        """Return the same kernel and examples under another rule; matrix and spectrum are shared."""
        return Fitted(self.rows, self.train, rule, self.factorisations)

    def with_kernel(self, kernel: Kernel, gram: Float64[Tensor, "rows rows"] | None = None) -> "Fitted":
        """Return the same examples and rule with another kernel, of the same matrix if none is given."""
        return Fitted(self.rows.with_kernel(kernel, gram), self.train, self.rule)

    @property
    def is_tiled(self) -> bool:
        """Return whether K + λI is inverted in tiles, and the kernel matrix is not kept."""
        return isinstance(self.gram, EvaluatedMatrix)

    @property
    def solved_in(self) -> str:
        """Return the precision of factor and inverse."""
        if not self.is_tiled or self.rows.tile_dtype == torch.float64:
            return "float64"
        return "tiles in float32, solutions refined in float64"

    @property
    def depends_on_labels(self) -> bool:
        """Return whether the kernel is fitted to labels, and another one without an example."""
        return self.kernel.depends_on_labels

    def freeze_labels(self) -> "Fitted":
        """Return the same model with its kernel as it is now, whatever is left out or relabelled."""
        return self._frozen if self.depends_on_labels else self

    @cached_property
    def _frozen(self) -> "Fitted":
        return self.with_kernel(self.kernel.freeze_labels())

    def check_kernel_fixed(self) -> None:
        """Raise where an answer takes the kernel as it is, and it is another without an example."""
        if self.depends_on_labels:
            raise OptionError(
                "`fitted` has a kernel that sees labels and changes without an example; this answer takes "
                "it as it is. Say so: pass fitted.freeze_labels(), or fit the kernel with frozen=True. "
                "leave_one_out, leave_out, out_of_sample and relabel fit it again instead."
            )

    @property
    def spectrum(self) -> Spectrum:
        """Return all eigenpairs of the Gram matrix; 9n³ flops, once."""
        self.check_kernel_fixed()
        return self.factorisations.spectrum

    @property
    def largest(self) -> float:
        """Return s_max."""
        return self.factorisations.largest

    def factor(self, ridge: float) -> Factor:
        """Return a factorisation of K + ridge·I; the last one is kept.

        Raises:
            NotPositiveError: the matrix is singular; repeated inputs are named if they are why.
        """
        self.check_kernel_fixed()
        return self.factorisations.factor(ridge)

    def cholesky(self, ridge: float) -> CholeskyFactor:
        """Return the Cholesky factor of K + ridge·I; the last one is kept.

        Raises:
            NotPositiveError: the matrix is singular or, of a kernel that sees labels, not positive.
        """
        self.check_kernel_fixed()
        return self.factorisations.cholesky(ridge)

    def inverse(self, ridge: float) -> Float64[Tensor, "r r"]:
        """Return (K + ridge·I)⁻¹; the last one is kept."""
        self.check_kernel_fixed()
        return self.factorisations.inverse(ridge)

    def memo(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` gives, made once for a key; the last few are kept with the model.

        What is made must not hold the model, which could then never be let go.
        """
        if key not in self._kept:
            self._kept[key] = make()
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        made: T = self._kept[key]
        return made

    def times(self, at: At | Sequence[At]) -> tuple[float, ...]:
        """Return training times as numbers, inf for the end; raise if one is none of the rule's."""
        return self.rule.times(at)

    def check_trainable(
        self,
        times: Sequence[float],
        *,
        total: float,
        beyond: float = 0.0,
        largest: float | None = None,
        smallest: float | None = None,
    ) -> None:
        """Raise where training diverges, or goes on beyond what double precision resolves.

        Args:
            total: sum of the examples' weights, of the data as edited.
            beyond: how far an edit can raise the spectrum above that of `gram`.
            largest, smallest: eigenvalues of the data as edited, where they are known.
        """
        if self.rule.can_diverge:
            high = self.largest + beyond if largest is None else largest
            self.rule.check_converges(high, total)
        finite = [time for time in times if 0 < time < math.inf]
        if not finite:
            return
        low = self.factorisations.spectrum.smallest if smallest is None else smallest
        low += self.rule.effective_ridge(total)
        learned = self.spectral_rule.effective_time(max(finite), total)
        if low * learned < -0.05:
            raise NotPositiveError(
                f"`at` = {max(finite):g} is beyond what double precision resolves: the Gram matrix "
                f"is singular to rounding (smallest eigenvalue {low:.2g}), and training would "
                f"amplify that. Ask for at ≤ {max(finite) * 0.045 / (-low * learned):.2g}, or pass a "
                "`ridge` > 0."
            )

    def by_example(self, rows: Float64[Tensor, "r c"]) -> Float64[Tensor, "n k"]:
        """Return numbers by row of a kernel matrix as numbers by example and output."""
        return rows.reshape(-1, self.outputs)

    def by_row(self, examples: Float64[Tensor, "n k"]) -> Float64[Tensor, "r c"]:
        """Return numbers by example and output as they meet the rows of a kernel matrix."""
        return examples.reshape(len(examples) * self.outputs_per_example, -1)

    def dual(self, time: float, *, total: float | None = None) -> Float64[Tensor, "r c"]:
        """Return g(K) (Y − f_0): f_t(x) = f_0(x) + K(x, X) dual, by rows of the kernel."""
        total = len(self) if total is None else total
        if self.tilt is not None and self.rule.effective_ridge(total) == self.rule.effective_ridge(len(self)):
            return -self.tilt
        if isinstance(self.rule, Logistic):
            return self.logistic_dual(total)
        if time == math.inf:
            ridge = self.rule.effective_ridge(total)
            return self.memo(("dual", ridge), lambda: self.factorisations.factor(ridge).solve(self.residual))
        if time == 0:
            return torch.zeros_like(self.residual)
        spectrum = self.factorisations.spectrum
        return apply_filter(spectrum, self.residual, self.spectral_rule.filter(time, total))

    @cached_property
    def logistic(self) -> LogisticFit:
        """Return the minimum of cross-entropy, and what refits next to it start from."""
        self.check_definite()
        ridge = self.rule.effective_ridge(len(self))
        problem = LogisticProblem(self.gram, self.start, self.targets, ridge, self.outputs_per_example)
        if self.tilt is None:
            with spinner(f"cross-entropy of {len(self)} examples"):
                return fit_logistic(problem)
        return LogisticFit(problem, self.by_example(-self.tilt), self.initial_at_train, 0.0, 0, 0)

    def logistic_dual(self, total: float) -> Float64[Tensor, "rows c"]:
        """Return the dual of the minimum of cross-entropy."""
        if self.rule.effective_ridge(total) == self.rule.effective_ridge(len(self)):
            return self.by_row(self.logistic.dual)
        weights = torch.ones_like(self.targets[:, :1])
        dual = refit_logistic(self.logistic, weights=weights, ridge=self.rule.effective_ridge(total))
        return self.by_row(dual[:, 0])

    def check_definite(self) -> None:
        """Raise where labels made the kernel indefinite: cross-entropy may then have no minimum."""
        if self.kernel.definite:
            return
        low, high = float(self.factorisations.eigenvalues[0]), float(self.factorisations.eigenvalues[-1])
        if low < -len(self.gram) * torch.finfo(torch.float64).eps * high:
            raise NotPositiveError(
                f"Labels have made the kernel indefinite: eigenvalues reach from {high:.3g} down to "
                f"{low:.3g}. Cross-entropy needs a positive one: take a smaller `strength`, or Ridge."
            )

    def cross(self, inputs: Float[Tensor, "m ..."]) -> Float64[Tensor, "mr r"]:
        """Return K(inputs, training inputs)."""
        return self.rows.compare(inputs).cross

    @property
    def output_names(self) -> list[str]:
        """Return a name per output: classes where each has a column, else numbers."""
        classes, outputs = self.train.classes, self.outputs
        if classes is None:
            return [str(c) for c in range(outputs)]
        return list(classes) if len(classes) == outputs else [classes[-1]]

    def initial(self, inputs: Tensor) -> Float64[Tensor, "m k"]:
        """Return f_0 at the inputs; a network's outputs are taken in the units of `train.targets`."""
        value = self.kernel.initial(inputs)
        if value is None:
            return self.gram.new_zeros(len(inputs), self.outputs)
        check_outputs("the network has", value.shape[1], self.train)
        return value.to(self.gram)

    def predict(self, inputs: Any, at: At = None) -> Float64[Tensor, "m k"]:
        """Return f_t at the inputs, in centred target units; under Logistic the logits of the classes.

        Args:
            inputs: Examples, or an array or tensor prepared like the training inputs.
            at: training time; None for the end.

        Cost:
            one factorisation, once; then mnk and the cross kernel.
        """
        points = inputs_of(inputs, name="inputs")
        self.kernel.check("inputs", points)
        time = self.rule.time(at)
        self.check_trainable([time], total=len(self))
        dual, row = self.dual(time), 8 * self.gram.shape[1] * self.rows.outputs_per_example
        learned = [
            self.learned(self.cross(points[rows]), dual)
            for rows in blocks(len(points), max(1, self.memory // (PREDICTED * row)))
        ]
        return self.initial(points) + torch.cat([dual.new_zeros(0, self.outputs), *learned])

    def learned(self, cross: Float64[Tensor, "mr r"], dual: Float64[Tensor, "r c"]) -> Float64[Tensor, "m k"]:
        """Return f − f_0 of a dual, where the kernel to the training inputs is `cross`."""
        return self.by_example(cross @ (dual if self.tilt is None else dual + self.tilt))

    def probabilities(self, inputs: Any) -> Float64[Tensor, "m classes"]:
        """Return the probability of each class at the inputs, under Logistic; two columns for two classes.

        Args:
            inputs: as for `predict`.
        """
        if not isinstance(self.rule, Logistic):
            raise OptionError(
                f"`probabilities` are those of Logistic, which trains them; `fitted` has {self.rule!r}, "
                "whose predictions are numbers. Fit with rule=Logistic(ridge)."
            )
        p = probabilities(self.predict(inputs))
        return torch.cat([1 - p, p], dim=1) if p.shape[1] == 1 else p

    @cached_property
    def record(self) -> dict[str, Any]:
        """Return what this model is: kernel, rule, types and fingerprints, JSON-like."""
        record = model_record(
            self.kernel, self.rule, self.train, kernel_dtype=self.kernel_dtype, device=self.device
        )
        return record | {"dtype": self.solved_in}


def model_record(
    kernel: Kernel, rule: Rule, train: Examples, *, kernel_dtype: torch.dtype, device: torch.device
) -> dict[str, Any]:
    """Return what a model is: kernel, rule, types and fingerprints, JSON-like.

    Args:
        kernel_dtype: in which the kernel is evaluated.
        device: where its matrix lives.
    """
    return {
        "kernel": kernel.record,
        "rule": rule.record,
        "dtype": "float64",
        "kernel_dtype": dtype_name(kernel_dtype),
        "device": device.type,
        "train": train.fingerprint,
        "weights": fingerprint(kernel.record, rule.record, train.fingerprint),
    }


def check_fitted(fitted: object) -> None:
    """Raise unless `fitted` is a model, not the kernel or the examples that one is made of."""
    check_kind("fitted", fitted, Fitted, what="a model, from `fit`")


def check_outputs(what: str, outputs: int | None, train: Examples) -> None:
    """Raise unless there are as many outputs as columns of targets."""
    columns = train.encoding.outputs
    if outputs in (None, columns):
        return
    two = (
        " Two classes are one column of ∓1; `load(…, outputs=2)` gives each its own."
        if train.classes is not None and len(train.classes) == 2 and outputs == 2
        else ""
    )
    raise ShapeError(
        f"`train` must have a column of targets for each output: {what} {outputs} outputs, the "
        f"targets have {columns}.{two}"
    )


def dual_work(n: int, time: float) -> WorkCount:
    """Return the work of `Fitted.dual` for n rows, once the factor or the spectrum is there."""
    if time == 0:
        return NO_WORK
    # A solve copies the factor.
    return 2 * thin_product(n) + (allocation(n * n) if time == math.inf else NO_WORK)

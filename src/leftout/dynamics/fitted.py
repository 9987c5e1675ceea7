"""What does the network predict? A kernel, training data and a rule; everything else follows.

    f_t(x) = f_0(x) + K(x, X) g_t(K) (Y − f_0(X))

The end of training needs one factorisation, finite times one eigendecomposition; each is made when
first asked for and kept.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, TypeVar, final, overload

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from leftout.core.errors import NotPositiveError, OptionError, ShapeError
from leftout.core.fingerprint import fingerprint
from leftout.core.progress import spinner
from leftout.core.views import rows_within
from leftout.data.examples import Examples
from leftout.data.identical import identical_inputs
from leftout.data.pairs import inputs_of
from leftout.dynamics.rules import At, Rule
from leftout.kernels import assemble
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import FittedLabelKernel
from leftout.solvers.cholesky import CholeskyFactor, factor_cholesky
from leftout.solvers.factor import Factor
from leftout.solvers.indefinite import IndefiniteFactor, factor_indefinite
from leftout.solvers.krylov import largest_eigenvalue
from leftout.solvers.resolvent import filtered_coordinates
from leftout.solvers.spectrum import Spectrum, spectrum_of

F = TypeVar("F", bound=Factor)


@final
class Fitted:
    """A kernel fitted to examples. Made by `fit`; nothing in it changes afterwards but caches.

    Where the kernel tells k outputs apart, every example has k rows in the Gram matrix, side by
    side, and duals have one column; else one row, and k columns. `outputs_per_example` is k or 1.
    """

    def __init__(
        self,
        kernel: Kernel,
        train: Examples,
        rule: Rule,
        gram: Float64[Tensor, "r r"],
        *,
        kernel_dtype: torch.dtype,
        memory: int,
    ) -> None:
        self.kernel = kernel
        self.train = train
        self.rule = rule
        self.gram = gram
        self.kernel_dtype = kernel_dtype
        self.memory = memory
        self.outputs_per_example = kernel.outputs or 1
        self.outputs = train.encoding.outputs
        targets = train.targets.to(gram.device)
        self.residual = self.by_row(targets - self.initial(train.inputs))
        self._factor: Factor | None = None
        self._inverse: tuple[float, Tensor] | None = None
        # A taught kernel knows its own examples by their pairs; between others it is a kernel like any.
        self._by_pairs = isinstance(kernel, FittedLabelKernel) and kernel.fitted_on(train.inputs)
        self._known: tuple[Tensor, Any] | None = None

    def __len__(self) -> int:
        return len(self.train)

    def __repr__(self) -> str:
        return f"Fitted({self.kernel!r}, {len(self)} examples, rule={self.rule!r})"

    @property
    def device(self) -> torch.device:
        """Return where the Gram matrix lives."""
        return self.gram.device

    @property
    def depends_on_labels(self) -> bool:
        """Return whether the kernel saw labels, and is another without an example."""
        kernel = self.kernel
        return isinstance(kernel, FittedLabelKernel) and not (kernel.asked.frozen or kernel.ignores_labels)

    def freeze_labels(self) -> "Fitted":
        """Return the same model with its kernel as it is now, whatever is left out or relabelled."""
        return self._frozen if self.depends_on_labels else self

    @cached_property
    def _frozen(self) -> "Fitted":
        assert isinstance(self.kernel, FittedLabelKernel)
        found = Fitted(
            self.kernel.freeze_labels(),
            self.train,
            self.rule,
            self.gram,
            kernel_dtype=self.kernel_dtype,
            memory=self.memory,
        )
        found._known = self._known
        return found

    def check_kernel_fixed(self) -> None:
        """Raise where an answer takes the kernel as it is, and it is another without an example."""
        if self.depends_on_labels:
            raise OptionError(
                "`fitted` has a kernel that sees labels and changes without an example; this answer takes "
                "it as it is. Say so: pass fitted.freeze_labels(), or fit the kernel with frozen=True. "
                "leave_one_out, leave_out, out_of_sample and relabel teach it again instead."
            )

    @property
    def spectrum(self) -> Spectrum:
        """Return all eigenpairs of the Gram matrix; 9n³ flops, once."""
        self.check_kernel_fixed()
        return self._spectrum

    @property
    def has_spectrum(self) -> bool:
        """Return whether the eigenpairs were asked for already."""
        return "_spectrum" in self.__dict__

    @cached_property
    def _spectrum(self) -> Spectrum:
        with spinner(f"eigendecomposition of {len(self.gram)} × {len(self.gram)}"):
            try:
                return spectrum_of(self.gram, made_in=self.kernel_dtype)
            except NotPositiveError as error:
                if self.kernel.definite:
                    raise
                low, high = float(self.eigenvalues[0]), float(self.eigenvalues[-1])
                raise NotPositiveError(
                    f"Labels have made the kernel indefinite: eigenvalues reach from {high:.3g} down to "
                    f"{low:.3g}. Training times and learning curves need a positive one: take a smaller "
                    "`strength`."
                ) from error

    @cached_property
    def eigenvalues(self) -> Float64[Tensor, " r"]:
        """Return all eigenvalues of the Gram matrix, ascending: of an indefinite one too; 4n³/3 flops."""
        with spinner(f"eigenvalues of {len(self.gram)} × {len(self.gram)}"):
            found: Tensor = torch.linalg.eigvalsh(self.gram)
        return found

    @cached_property
    def largest(self) -> float:
        """Return s_max: from the spectrum if it is known, else by Lanczos."""
        if self.has_spectrum:
            return self._spectrum.largest
        generator = torch.Generator().manual_seed(0)
        return largest_eigenvalue(
            lambda x: self.gram @ x, len(self.gram), generator=generator, device=self.device
        )

    def factor(self, ridge: float) -> Factor:
        """Return a factorisation of K + ridge·I; the last one is kept.

        Raises:
            NotPositiveError: the matrix is singular; repeated inputs are named if they are why.
        """
        self.check_kernel_fixed()
        return self._factorised(ridge)

    def cholesky(self, ridge: float) -> CholeskyFactor:
        """Return the Cholesky factor of K + ridge·I; the last one is kept.

        Raises:
            NotPositiveError: the matrix is singular or, of a kernel that sees labels, not positive.
        """
        self.check_kernel_fixed()
        return self._made(CholeskyFactor, factor_cholesky, ridge)

    def _factorised(self, ridge: float) -> Factor:
        if self.kernel.definite:
            return self._made(CholeskyFactor, factor_cholesky, ridge)
        return self._made(IndefiniteFactor, factor_indefinite, ridge)

    def _made(self, kind: type[F], factorise: Callable[..., F], ridge: float) -> F:
        """Return the factorisation of this kind, the last one if it is."""
        if isinstance(self._factor, kind) and self._factor.ridge == ridge:
            return self._factor
        self._factor = None
        try:
            with spinner(f"factorisation of {len(self.gram)} × {len(self.gram)}"):
                made = factorise(self.gram, ridge=ridge)
        except NotPositiveError as error:
            raise NotPositiveError(f"{error}{repeated(self.train)}") from None
        self._factor = made
        return made

    def inverse(self, ridge: float) -> Float64[Tensor, "r r"]:
        """Return (K + ridge·I)⁻¹; the last one is kept."""
        if self._inverse is None or self._inverse[0] != ridge:
            self._inverse = None
            factor = self.factor(ridge)
            with spinner(f"inverse of {len(self.gram)} × {len(self.gram)}"):
                self._inverse = (ridge, factor.inverse())
        return self._inverse[1]

    def times(self, at: At | Sequence[At]) -> tuple[float, ...]:
        """Return training times as numbers, inf for the end; raise if one is none of the rule's."""
        values = at.tolist() if isinstance(at, np.ndarray | np.generic | Tensor) else at
        asked = list(values) if isinstance(values, Iterable) else [values]
        if not asked:
            raise OptionError("`at` must hold at least one training time; got none.")
        return tuple(self.rule.time(one) for one in asked)

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
        low = (self._spectrum.smallest if smallest is None else smallest) + self.rule.effective_ridge(total)
        pace = self.rule.effective_time(max(finite), total)
        if low * pace < -0.05:
            raise NotPositiveError(
                f"`at` = {max(finite):g} is beyond what double precision resolves: the Gram matrix "
                f"is singular to rounding (smallest eigenvalue {low:.2g}), and training would "
                f"amplify that. Ask for at ≤ {max(finite) * 0.045 / (-low * pace):.2g}, or pass a "
                "`ridge` > 0."
            )

    @overload
    def kernel_rows(self, examples: slice) -> slice: ...

    @overload
    def kernel_rows(self, examples: Int64[Tensor, " e"]) -> Int64[Tensor, " rows"]: ...

    def kernel_rows(self, examples: slice | Int64[Tensor, " e"]) -> slice | Int64[Tensor, " rows"]:
        """Return the rows of the Gram matrix that belong to some examples, example by example."""
        each = self.outputs_per_example
        if each == 1:
            return examples
        if isinstance(examples, slice):
            return slice(examples.start * each, examples.stop * each)
        return (examples[:, None] * each + torch.arange(each, device=examples.device)).flatten()

    def by_example(self, rows: Float64[Tensor, "r c"]) -> Float64[Tensor, "n k"]:
        """Return numbers by row of a kernel matrix as numbers by example and output."""
        return rows.reshape(-1, self.outputs)

    def by_row(self, examples: Float64[Tensor, "n k"]) -> Float64[Tensor, "r c"]:
        """Return numbers by example and output as they meet the rows of a kernel matrix."""
        return examples.reshape(len(examples) * self.outputs_per_example, -1)

    def likeness(self, examples: slice) -> Float64[Tensor, "e n"]:
        """Return the kernel between some examples and all, summed over outputs told apart."""
        each = self.outputs_per_example
        rows = self.gram[self.kernel_rows(examples)]
        if each == 1:
            return rows.clone()
        blocks = torch.unflatten(torch.unflatten(rows, 1, (-1, each)), 0, (-1, each))  # (e, b, n, b)
        return blocks.diagonal(dim1=1, dim2=3).sum(2)

    def dual(self, time: float, *, total: float | None = None) -> Float64[Tensor, "r c"]:
        """Return g(K) (Y − f_0): f_t(x) = f_0(x) + K(x, X) dual, by rows of the kernel."""
        total = len(self) if total is None else total
        if time == math.inf:
            return self._factorised(self.rule.effective_ridge(total)).solve(self.residual)
        if time == 0:
            return torch.zeros_like(self.residual)
        inside = filtered_coordinates(self._spectrum, self.residual, self.rule.filter(time, total))
        return self._spectrum.vectors @ inside

    def remember(self, inputs: Float[Tensor, "m ..."]) -> None:
        """Compute what `compared` gives of these inputs once, and keep it for them and slices of them.

        Nothing is kept where an eighth of the memory would not hold it.
        """
        matrices = 3 if self._by_pairs else 1
        needed = 8 * matrices * len(inputs) * self.outputs_per_example * len(self.gram)
        if needed <= self.memory // 8:
            self._known = (inputs, self.compared(inputs))

    def cross(self, inputs: Float[Tensor, "m ..."]) -> Float64[Tensor, "mr r"]:
        """Return K(inputs, training inputs)."""
        found = self.compared(inputs)
        if self._by_pairs:
            assert isinstance(self.kernel, FittedLabelKernel)
            return self.kernel.cross(found)
        return found

    def compared(self, inputs: Float[Tensor, "m ..."]) -> Any:
        """Return what the kernel says of inputs and training inputs before it looks at labels.

        That is K(inputs, training inputs), or the pairs of a kernel that sees labels.
        """
        known = None if self._known is None else rows_within(inputs, self._known[0])
        if known is not None:
            assert self._known is not None
            whole = self._known[1]
            return whole.of(known, slice(None)) if self._by_pairs else whole[self.kernel_rows(known)]
        if self._by_pairs:
            assert isinstance(self.kernel, FittedLabelKernel)
            return self.kernel.pairs_with(inputs)
        return self.kernel_between(inputs, self.train.inputs)

    def kernel_between(
        self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "a ..."]
    ) -> Float64[Tensor, "mr ar"]:
        """Return the kernel between any two batches; nothing that is known of the training inputs is used."""
        return assemble.cross(
            self.kernel, queries, inputs, dtype=self.kernel_dtype, device=self.device, memory=self.memory
        )

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
        """Return f_t at the inputs, in centred target units.

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
        return self.initial(points) + self.by_example(self.cross(points) @ self.dual(time))

    @cached_property
    def record(self) -> dict[str, Any]:
        """Return what this model is: kernel, rule, types and fingerprints, JSON-like."""
        return {
            "kernel": self.kernel.record,
            "rule": self.rule.record,
            "dtype": "float64",
            "kernel_dtype": str(self.kernel_dtype).removeprefix("torch."),
            "device": self.device.type,
            "train": self.train.fingerprint,
            "weights": fingerprint(self.kernel.record, self.rule.record, self.train.fingerprint),
        }


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


def repeated(train: Examples) -> str:
    """Return a sentence that names two identical inputs, or nothing."""
    same = identical_inputs(train.inputs)
    if not same:
        return ""
    one, other = same[0][:2]
    alike = bool(torch.equal(train.targets[one], train.targets[other]))
    return (
        f" Examples {train.ids[one]!r} and {train.ids[other]!r} have identical inputs and "
        f"{'the same target' if alike else 'different targets'}."
    )

"""What an audit is asked for, and the decisions that follow from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from leftout.attribution.engine.edit_engines import finite_times
from leftout.attribution.engine.group_removal import refit_is_cheaper
from leftout.attribution.trajectory import has_training_curve
from leftout.curation.redundant import most_removed_of_tiles, redundant_groups
from leftout.data.examples import Examples
from leftout.diagnostics.learning_curve.subsamples import takes_half
from leftout.diagnostics.trust.architecture_model import has_verdict
from leftout.dynamics.fit import is_kept_as_rows
from leftout.dynamics.fitted import check_outputs
from leftout.dynamics.kernel_rows import comparison_is_kept
from leftout.dynamics.ridge_choice import check_choosable, is_auto
from leftout.dynamics.rules import At, Logistic, Ridge, Rule
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import LabelDependentKernel
from leftout.kernels.network.panels import KEPT
from leftout.kernels.tiles import FeatureBytes


@dataclass(frozen=True)
class PlannedAudit:
    """What an audit is asked for, and the decisions that follow from it.

    Attributes:
        n, m: rows of the kernel matrix of training examples and queries.
        k: columns of a dual.
        times: ascending, inf for the end.
        refit_examples: examples really left out, for the certificate.
        budget: bytes, which set the size of some blocks.
        outputs_per_example: rows of an example.
        on_disk: whether scores go to a folder, and not into memory.
        has_label_model: whether labels are doubted by another model, as trained weights have seen them.
        has_verdict: whether the kernel of a trained network's architecture is asked too, for a verdict.
        chooses_ridge: whether the ridge is chosen, from the spectrum; `rule` then has any ridge.
        features: what the kernel makes of single inputs, in bytes; None where that is nothing.
        row_numbers: numbers of a row of the Jacobian, where rows are kept and not their products; else None.
        tile_dtype: of the tiles of the inverse, where that is how it is kept; else None.
        largest_class: examples of the largest class, of all where there are no classes.
        why: it is solved in this way, to stand after what is kept; "" where nothing had to be chosen.
    """

    n: int
    m: int
    k: int
    rule: Rule
    times: tuple[float, ...]
    refit_examples: int
    budget: int
    outputs_per_example: int = 1
    on_disk: bool = True
    features: FeatureBytes | None = None
    has_label_model: bool = False
    has_verdict: bool = False
    row_numbers: int | None = None
    tile_dtype: torch.dtype | None = None
    largest_class: int = 0
    why: str = ""

    @property
    def matrix_bytes(self) -> int:
        """Return the bytes of the kernel matrix, or of the rows that it is a product of."""
        return 8 * self.n * (self.n if self.row_numbers is None else self.row_numbers)

    chooses_ridge: bool = False

    @property
    def label_rows(self) -> int:
        """Return the rows of the kernel matrix of that other model, one an example; 0 without it."""
        return self.n // self.outputs_per_example if self.has_label_model else 0

    @property
    def architecture_sizes(self) -> tuple[int, int, int]:
        """Return examples, queries and outputs of the kernel of a network's architecture."""
        outputs = self.outputs_per_example
        return self.n // outputs, self.m // outputs, self.k * outputs

    @property
    def last_time(self) -> float:
        """Return the time at which the lists are made."""
        return self.times[-1]

    @cached_property
    def finite_times(self) -> tuple[float, ...]:
        """Return the times that need the spectrum."""
        return finite_times(self.times)

    @property
    def reaches_end(self) -> bool:
        """Return whether the end of training is among the times."""
        return self.last_time == math.inf

    @property
    def keeps_comparison(self) -> bool:
        """Return whether the kernel between queries and examples is kept."""
        return comparison_is_kept(8 * self.m * self.n, self.budget)

    @property
    def has_training_curve(self) -> bool:
        """Return whether training is followed over its time, which takes the spectrum too."""
        return has_training_curve(self.rule, self.last_time)

    @property
    def takes_spectrum(self) -> bool:
        """Return whether the eigendecomposition is made, and kept with the model."""
        return self.has_training_curve or (self.chooses_ridge and self.tile_dtype is None)

    @property
    def is_cross_entropy(self) -> bool:
        """Return whether cross-entropy is minimised: no factorisation, but a fit and further Newton steps."""
        return isinstance(self.rule, Logistic)

    @property
    def examples(self) -> int:
        """Return the number of training examples."""
        return self.n // self.outputs_per_example

    @property
    def ridge_changes(self) -> bool:
        """Return whether the ridge on K changes with the number of examples."""
        return self.rule.effective_ridge(self.n) != self.rule.effective_ridge(self.n - 1)

    @property
    def groups(self) -> tuple[int, ...]:
        """Return the rows of each group whose joint removal is tried."""
        outputs = self.outputs_per_example
        sizes = redundant_groups(self.n // outputs)
        if self.tile_dtype is not None:
            sizes = tuple(size for size in sizes if size <= most_removed_of_tiles(self.budget))
        return tuple(outputs * size for size in sizes)

    @property
    def refitted_groups(self) -> int:
        """Return how many of these groups are removed by a fit of what remains."""
        if self.tile_dtype is not None:
            return 0
        times = (self.last_time,)
        return sum(refit_is_cheaper(self.rule, times, self.n, size) for size in self.groups)

    @property
    def learning_curve_rows(self) -> int:
        """Return the rows of the examples from which the learning curve is foretold."""
        outputs = self.outputs_per_example
        if self.tile_dtype is not None:
            return 0
        return (self.n + outputs) // 2 if takes_half(self.rule) else self.n

    @property
    def further_node_sets(self) -> list[tuple[float, ...]]:
        """Return the times whose resolvents are made beside those of all together: each by itself."""
        times = self.finite_times
        return [(time,) for time in times] if len(times) > 1 else []

    @property
    def feature_bytes(self) -> int:
        """Return the bytes of what the kernel makes of single inputs."""
        outputs = self.outputs_per_example
        if self.features is None:
            return 0
        return self.features.held(self.n // outputs, self.m // outputs, self.budget)

    @property
    def passes(self) -> tuple[int, int]:
        """Return how many rows pass through a network for the kernel matrix, and for that of the queries."""
        if self.features is None:
            return self.n, self.m
        examples, kept = self.n // self.outputs_per_example, self.features.kept
        panels = max(1, math.ceil(examples * kept / self.features.share(self.budget)))
        # A panel is held while those behind it pass; small features of all examples are kept for the queries.
        again = 0 if examples * kept <= self.budget // KEPT else self.n
        return self.n * (panels + 1) // 2, self.m + again

    @property
    def removals(self) -> tuple[int, int, int, Rule, float, tuple[int, ...]]:
        """Return the arguments of `redundant_work` and `redundant_bytes`."""
        return self.m, self.n, self.k, self.rule, self.last_time, self.groups

    @property
    def sizes_text(self) -> str:
        """Return how many examples and queries there are, as a person says it."""
        outputs = self.outputs_per_example
        return f"{self.n // outputs} training examples and {self.m // outputs} queries"


def planned_audit(
    kernel: Kernel | LabelDependentKernel,
    train: Examples,
    query: Examples,
    *,
    rule: Rule,
    at: At | Sequence[At],
    refit_examples: int,
    budget: int,
    on_disk: bool = True,
) -> PlannedAudit:
    """Return what is asked of a kernel; of one that is fitted to labels, of the one it builds on.

    Raises:
        OptionError: a ridge that left-out losses cannot choose.
        ShapeError: the kernel tells apart more or fewer outputs than there are columns of targets.
    """
    check_choosable(kernel, rule)
    chooses_ridge = is_auto(rule)
    if chooses_ridge:
        assert isinstance(rule, Ridge)
        rule = replace(rule, ridge=1.0)  # any: all take the same work and memory
    base = kernel.base if isinstance(kernel, LabelDependentKernel) else kernel
    if base is kernel:
        check_outputs("`kernel` tells apart", base.outputs, train)
    outputs = base.outputs or 1
    return PlannedAudit(
        n=len(train) * outputs,
        m=len(query) * outputs,
        k=train.encoding.outputs // outputs,
        outputs_per_example=outputs,
        rule=rule,
        times=tuple(sorted(set(rule.times(at)))),
        refit_examples=refit_examples,
        budget=budget,
        on_disk=on_disk,
        has_label_model=base.is_trained,
        has_verdict=has_verdict(base, rule, train),
        chooses_ridge=chooses_ridge,
        features=base.feature_bytes(train.inputs),
        largest_class=len(train) if train.labels is None else int(train.labels.bincount().max()),
        row_numbers=base.row_numbers(train.inputs)
        if is_kept_as_rows(kernel, train.inputs, rule, budget)
        else None,
    )

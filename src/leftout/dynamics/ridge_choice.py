"""Which ridge predicts best what it has not seen? The one of least exact left-out squared loss.

    1/n Σ_i ½ ‖f_without_i(x_i) − y_i‖²      at ridges from 1e-5 to 10 times the mean of the kernel's diagonal

in half decades. One eigendecomposition serves all of them (`solvers.left_out_path`). The ridges are multiples
of the diagonal, so a kernel that is multiplied by a number chooses the same model.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from jaxtyping import Float64
from torch import Tensor

from leftout.core.errors import OptionError
from leftout.dynamics.options import AUTO, Loss
from leftout.dynamics.rules import Ridge, Rule
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import AnyKernel, FittedLabelKernel, LabelDependentKernel
from leftout.solvers.left_out_path import left_out_residuals
from leftout.solvers.spectrum import Spectrum

SHARES = tuple(10 ** (half / 2) for half in range(-10, 3))
"""Ridges that are tried, as multiples of the mean of the kernel's diagonal."""

DIGITS = 4
"""Digits of a ridge that is tried: a mean that another number of threads rounds otherwise gives the same."""


@dataclass(frozen=True)
class RidgeChoice:
    """Ridges that were tried, and what each predicts of the examples that it has not seen.

    Attributes:
        ridge: the chosen one, in the units of `Ridge(ridge, loss)`.
        ridges: those tried, ascending, in the same units.
        losses: mean over the training examples of ½ Σ (f_without_i(x_i) − y_i)², for each ridge.
        diagonal: mean of the kernel's diagonal.
        loss: whether losses are added up or averaged, "sum" or "mean".
        sample: number of examples, drawn at random, that the losses are of; None where they are of all.
    """

    ridge: float
    ridges: tuple[float, ...]
    losses: tuple[float, ...]
    diagonal: float
    loss: Loss = "sum"
    sample: int | None = None

    def for_examples(self, n: int, *, of: int) -> "RidgeChoice":
        """Return the same choice for n examples, where the losses are of some of them."""
        # Under a mean the ridge on K is n times the number: it stays what it is among fewer.
        unit = of / n if self.loss == "mean" else 1.0
        return replace(
            self,
            ridge=unit * self.ridge,
            ridges=tuple(unit * ridge for ridge in self.ridges),
            sample=of if of < n else None,
        )

    @property
    def rule(self) -> Ridge:
        """Return the rule with the chosen ridge."""
        return Ridge(self.ridge, self.loss)

    @property
    def edge(self) -> str:
        """Return the sentence that the best ridge is the first or the last that was tried, or ""."""
        if self.ridge == self.ridges[-1]:
            return (
                "It is the largest ridge that was tried, as where the examples tell next to nothing of the "
                "targets."
            )
        if self.ridge == self.ridges[0]:
            return "It is the smallest ridge that was tried: a smaller one may predict still better."
        return ""

    @property
    def text(self) -> str:
        """Return the choice in a sentence or two."""
        best = self.losses[self.ridges.index(self.ridge)]
        chosen = (
            f"The ridge is {self.ridge:.4g}, of least exact left-out loss ({best:.4g}) among "
            f"{len(self.ridges)} from {self.ridges[0]:.3g} to {self.ridges[-1]:.3g}"
            + (f", in {self.sample} examples drawn at random." if self.sample else ".")
        )
        return f"{chosen} {self.edge}".rstrip()

    @property
    def record(self) -> dict[str, Any]:
        """Return everything, JSON-like."""
        return {**asdict(self), "edge": self.edge}


def best_ridge(
    spectrum: Spectrum, residual: Float64[Tensor, "rows c"], *, examples: int, diagonal: float, rule: Ridge
) -> RidgeChoice:
    """Return ridges with their exact left-out losses, and the best.

    Ridges at which K + λI is not positive are not tried: of a kernel that is evaluated in float32, rounding
    may outweigh the smallest.

    Args:
        residual: Y − f_0 by rows of the kernel.
        diagonal: mean of the kernel's diagonal.
        rule: says whether losses are added up or averaged; under a mean, a model without an example has
            (n − 1) λ on its diagonal.

    Raises:
        OptionError: the kernel is zero everywhere, so that no ridge differs from another.

    Cost:
        4nr flops for each ridge and row of the kernel, 2r²c for each ridge.
    """
    unit = examples if rule.loss == "mean" else 1
    remaining = (examples - 1) / examples if rule.loss == "mean" else 1.0
    tried = [float(f"{share * diagonal:.{DIGITS}g}") for share in SHARES]
    # Of a mean over one example nothing remains, and neither does a ridge.
    tried = [ridge for ridge in tried if ridge * remaining + spectrum.smallest > 0]
    if not tried:
        raise OptionError(
            f'`ridge` cannot be "auto" for this kernel: its mean diagonal is {diagonal:.3g} and its '
            f"smallest eigenvalue {spectrum.smallest:.3g}, so no multiple of the diagonal from 1e-5 to 10 "
            "makes K + ridge·I positive. Pass a number."
        )
    rows_per_example = len(spectrum.vectors) // examples
    residuals = left_out_residuals(
        spectrum, residual, [ridge * remaining for ridge in tried], rows_per_example
    )
    losses = [float(left_out.square().sum() / (2 * examples)) for left_out in residuals]
    best = min(range(len(tried)), key=losses.__getitem__)
    ridges = tuple(ridge / unit for ridge in tried)
    return RidgeChoice(ridges[best], ridges, tuple(losses), diagonal, rule.loss)


def is_auto(rule: Rule) -> bool:
    """Return whether the ridge of a rule is to be chosen."""
    return isinstance(rule, Ridge) and rule.is_auto


def check_choosable(kernel: AnyKernel, rule: Rule) -> None:
    """Raise where a ridge is to be chosen, and left-out losses of this kernel choose none.

    Raises:
        OptionError: trained weights, or a kernel that sees labels.
    """
    if not is_auto(rule):
        return
    if isinstance(kernel, Kernel) and kernel.is_trained:
        raise OptionError(
            "`ridge` must be a number for a network at its trained weights: they have seen every label, so "
            "what they predict of an example left out tells nothing of the ridge. Pass `training_ridge(…)` "
            "of the run (--learning-rate, --steps), or a number."
        )
    if isinstance(kernel, LabelDependentKernel | FittedLabelKernel):
        raise OptionError(
            "`ridge` must be a number for a kernel that sees labels, which is another one without an "
            f"example; got {AUTO!r}. Pass `choose_ridge(base, train).ridge` of the kernel that it builds on."
        )

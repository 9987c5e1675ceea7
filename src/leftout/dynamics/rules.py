"""How does training use the spectrum? f_t(x) = f_0(x) + K(x, X) g_t(K) (Y − f_0(X)).

With σ = s + λ, s an eigenvalue of K, sum loss ½ Σ (f − y)² + ½ λ ‖w − w_0‖²:

    Ridge              g = 1 / σ                         the minimiser
    GradientFlow       g = (1 − e^{−ηtσ}) / σ            t ≥ 0
    GradientDescent    g = (1 − (1 − ησ)^t) / σ          t = 0, 1, 2, …

`Logistic` minimises cross-entropy instead of squares: Σ ce(f, y) + ½ λ ‖w − w_0‖². It has no filter; its
duals come from Newton's method (`solvers.logistic`).

`loss="mean"` divides the data term by the number of examples: rate η/n and ridge nλ in the formulas
above. Without one example that is η/(n − 1) and (n − 1)λ: the filter itself changes on removal.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, SupportsFloat, final

import torch
from torch import Tensor

from leftout.core.checks import as_list, check_at_least, check_choice, check_positive, shown
from leftout.core.errors import DivergenceError, OptionError
from leftout.dynamics.losses import CROSS_ENTROPY, SQUARED, ExampleLoss
from leftout.dynamics.options import AUTO, Loss, RidgeNumber
from leftout.dynamics.scales import check_rate_scale, check_ridge_scale, check_time_scale
from leftout.solvers.quadrature import (
    FEW_STEPS,
    Quadrature,
    circle_quadrature,
    descent_quadrature,
    flow_quadrature,
    windows,
)

LOSSES: tuple[Loss, ...] = ("sum", "mean")

At = SupportsFloat | None
"""A training time: flow time, number of steps, or None (and inf) for the end of training."""

Filter = Callable[[Tensor], Tensor]


class Rule(ABC):
    """A way of training: a loss, a ridge, and when to stop.

    Methods take `total`, the sum of the examples' weights: n, n − 1 without one of them, and so on.
    It matters for `loss="mean"` only.
    """

    can_diverge: ClassVar[bool] = False
    example_loss: ClassVar[ExampleLoss] = SQUARED
    has_time: ClassVar[bool]
    """Whether training can be looked at before its end."""

    ridge: float
    loss: Loss

    @property
    def is_auto(self) -> bool:
        """Return whether the ridge is still to be chosen, by `fit`."""
        return False

    def effective_ridge(self, total: float) -> float:
        """Return λ as it is added to K.

        Raises:
            OptionError: it is still to be chosen.
        """
        return self.ridge_number * total if self.loss == "mean" else self.ridge_number

    @property
    def ridge_number(self) -> float:
        """Return the ridge as a number.

        Raises:
            OptionError: it is "auto", which `fit` replaces by a number.
        """
        if self.is_auto:
            raise OptionError(
                '`ridge` must be a number here; got "auto". `choose_ridge(kernel, train).rule` is the rule '
                "with the ridge of least left-out loss, and `fit` chooses it itself."
            )
        return self.ridge

    @abstractmethod
    def time(self, at: At) -> float:
        """Return a training time as a number, inf for the end; raise if it is none of this rule's."""

    def times(self, at: At | Sequence[At]) -> tuple[float, ...]:
        """Return training times as numbers, inf for the end; raise if one is none of this rule's."""
        values = as_list("at", at)
        sequence = list(values) if isinstance(values, Iterable) else [values]
        if not sequence:
            raise OptionError("`at` must hold at least one training time; got none.")
        return tuple(self.time(time) for time in sequence)

    def check_converges(self, high: float, total: float) -> None:
        """Raise if training diverges on a spectrum that reaches up to `high`."""
        assert not self.can_diverge, "a rule that can diverge says when"

    def check_scales(self) -> None:
        """Raise unless ridge and rate are of a size that can be computed with."""
        check_ridge_scale(self.ridge)

    @property
    def record(self) -> dict[str, Any]:
        """Return name and parameters, JSON-like."""
        return {"rule": type(self).__name__, **vars(self)}


class SpectralRule(Rule):
    """A rule of squared loss: what is learned is a function of the kernel's eigenvalues."""

    @abstractmethod
    def filter(self, time: float, total: float) -> Filter:
        """Return g at a finite time, a function of the eigenvalues of K."""

    @abstractmethod
    def quadratures(
        self, times: Sequence[float], *, total: float, high: float
    ) -> list[tuple[list[int], Quadrature]]:
        """Return positions in `times` and the quadrature that serves them; finite times above 0."""

    @abstractmethod
    def effective_time(self, time: float, total: float) -> float:
        """Return τ, the time in 1/eigenvalue of K: modes with s + λ ≫ 1/τ are learned."""

    def filter_sensitivity(self, time: float, total: float, high: float) -> float:
        """Return how far what is learned of the mode at `high` can move, as |d(σg) / d log σ|.

        Nothing to speak of where modes settle; just below the critical rate of descent they do not.
        """
        return 0.0


class _AtTheEnd(Rule):
    """A rule that asks for the minimiser alone."""

    has_time = False

    def time(self, at: At) -> float:
        if at is not None and _number(at) != math.inf:
            raise OptionError(
                f"`at` must be None under {self!r}, which has no training time; got {shown(at)}. "
                "Use GradientFlow or GradientDescent."
            )
        return math.inf


@final
@dataclass(frozen=True)
class Ridge(_AtTheEnd, SpectralRule):
    """The minimiser of ½ Σ (f − y)² + ½ ridge ‖w − w_0‖², the end of training.

    Args:
        ridge: λ ≥ 0, in the units of K, added to it as given; or "auto": `fit` takes the one of least exact
            left-out squared loss, see `choose_ridge`.
        loss: "sum", or "mean" for 1/(2n) Σ (f − y)² + ½ ridge ‖w − w_0‖², that is nλ added to K.

    Example:
        >>> import leftout as lo
        >>> train, _ = lo.load("digits", n_train=60, n_query=10)
        >>> lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge("auto")).rule
        Ridge(ridge=5e-06, loss='sum')
    """

    # A fitted model has a number: only the caller's rule may say "auto".
    ridge: RidgeNumber = 1.0  # type: ignore[assignment]
    loss: Loss = "sum"

    def __post_init__(self) -> None:
        if not self.is_auto:
            if isinstance(self.ridge, str):
                raise OptionError(f'`ridge` must be a number ≥ 0, or "auto"; got {shown(self.ridge)}.')
            check_at_least("ridge", self.ridge, 0)
        check_choice("loss", self.loss, LOSSES)

    @property
    def is_auto(self) -> bool:
        return isinstance(self.ridge, str) and self.ridge == AUTO

    def check_scales(self) -> None:
        check_ridge_scale(self.ridge_number)

    def filter(self, time: float, total: float) -> Filter:
        return lambda values: 1 / (values + self.effective_ridge(total))

    def quadratures(
        self, times: Sequence[float], *, total: float, high: float
    ) -> list[tuple[list[int], Quadrature]]:
        assert not times, "Ridge has no finite times"
        return []

    def effective_time(self, time: float, total: float) -> float:
        return math.inf


@final
@dataclass(frozen=True)
class Logistic(_AtTheEnd):
    """The minimiser of Σ ce(f, y) + ½ ridge ‖w − w_0‖²: cross-entropy, as classifiers are trained.

    Softmax over the k outputs of a network (two as well), or over three or more classes; the logistic loss
    where there is one output. Targets are classes, or soft labels, whose rows sum to 1.

    Args:
        ridge: λ > 0, in the units of K: without one, separable classes have no minimiser. `training_ridge`
            gives the one that stands for a training run.
        loss: "sum", or "mean" for (1/n) Σ ce(f, y) + ½ ridge ‖w − w_0‖².

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=40, n_query=10)
        >>> fitted = lo.fit(lo.kernels.ReLU(1), train, rule=lo.Logistic(0.01))
        >>> fitted.probabilities(query).sum(1).round(decimals=9).unique().tolist()
        [1.0]
    """

    example_loss: ClassVar[ExampleLoss] = CROSS_ENTROPY

    ridge: float
    loss: Loss = "sum"

    def __post_init__(self) -> None:
        if isinstance(self.ridge, str):
            raise OptionError(
                "`ridge` must be a number > 0 under cross-entropy, where no one decomposition serves all "
                f"ridges; got {shown(self.ridge)}. Pass `training_ridge(…)` of the training run, or compare "
                "`out_of_sample` at a few ridges."
            )
        check_positive("ridge", self.ridge)
        check_choice("loss", self.loss, LOSSES)


@final
@dataclass(frozen=True)
class GradientFlow(SpectralRule):
    """Gradient descent with infinitesimal steps, from f_0.

    Args:
        rate: η > 0; time t enters as ηt, in 1/eigenvalue of K.
        ridge: λ ≥ 0, decay towards the initial weights.
        loss: "sum", or "mean": η/n for η and nλ for λ.

    Source:
        Rethinking influence functions, eqs. 3 and 20 (there time is 2t/n); smooth unique
        information, eqs. 10 and 11.
    """

    has_time = True

    rate: float = 1.0
    ridge: float = 0.0
    loss: Loss = "sum"

    def __post_init__(self) -> None:
        check_positive("rate", self.rate)
        _check_number(self.ridge, type(self).__name__)
        check_at_least("ridge", self.ridge, 0)
        check_choice("loss", self.loss, LOSSES)

    def time(self, at: At) -> float:
        if at is None:
            return math.inf
        time = _number(at)
        if not time >= 0:
            raise OptionError(f"`at` must be a time ≥ 0, or None for the end; got {shown(at)}.")
        check_time_scale(self.rate, time)
        return time

    def check_scales(self) -> None:
        super().check_scales()
        check_rate_scale(self.rate)

    def effective_time(self, time: float, total: float) -> float:
        return time * self.rate / (total if self.loss == "mean" else 1)

    def filter(self, time: float, total: float) -> Filter:
        pace, ridge = self.effective_time(time, total), self.effective_ridge(total)

        def flow(values: Tensor) -> Tensor:
            sigma = values + ridge
            # expm1: the slow modes, τσ ≪ 1, are the ones that a finite time is asked about.
            learned = -torch.expm1(-pace * sigma)
            return torch.where(sigma == 0, torch.full_like(sigma, pace), learned / sigma)

        return flow

    def quadratures(
        self, times: Sequence[float], *, total: float, high: float
    ) -> list[tuple[list[int], Quadrature]]:
        ridge = self.effective_ridge(total)
        return [
            (group, flow_quadrature([self.effective_time(times[j], total) for j in group], ridge=ridge))
            for group in windows(times)
        ]


@final
@dataclass(frozen=True)
class GradientDescent(SpectralRule):
    """Full-batch gradient descent with a fixed rate, from f_0.

    Args:
        rate: η > 0; converges while η (s_max + λ) < 2.
        ridge: λ ≥ 0, weight decay towards the initial weights.
        loss: "sum", or "mean": η/n for η and nλ for λ.

    Source:
        Smooth unique information, section 4, in discrete time: (I − η(K + λI))^t.
    """

    can_diverge: ClassVar[bool] = True
    has_time = True

    rate: float
    ridge: float = 0.0
    loss: Loss = "sum"

    def __post_init__(self) -> None:
        check_positive("rate", self.rate)
        _check_number(self.ridge, type(self).__name__)
        check_at_least("ridge", self.ridge, 0)
        check_choice("loss", self.loss, LOSSES)

    def time(self, at: At) -> float:
        if at is None:
            return math.inf
        steps = _number(at)
        if steps >= 0 and (steps == math.inf or steps.is_integer()):
            check_time_scale(self.rate, steps)
            return steps
        raise OptionError(f"`at` must be a whole number of steps ≥ 0, or None for the end; got {shown(at)}.")

    def step(self, total: float) -> float:
        """Return η as it multiplies the gradient of the sum."""
        return self.rate / (total if self.loss == "mean" else 1)

    def check_scales(self) -> None:
        super().check_scales()
        check_rate_scale(self.rate)

    def effective_time(self, time: float, total: float) -> float:
        return time * self.step(total)

    def check_converges(self, high: float, total: float) -> None:
        reach = self.step(total) * (high + self.effective_ridge(total))
        if reach >= 2:
            # The largest rate that the user may pass: both readings are linear in it.
            critical = 2 * self.rate / reach
            raise DivergenceError(
                f"`rate` must be below the critical rate 2 / (s_max + ridge) = {critical:.6g}, or "
                f"gradient descent diverges; got {self.rate:g}."
            )

    def filter_sensitivity(self, time: float, total: float, high: float) -> float:
        x = self.step(total) * (high + self.effective_ridge(total))
        # t·x·|1 − x|^(t − 1), at the worst time up to this one.
        return x * min(time, 1 / (2 - x)) if x > 1 else 0.0

    def filter(self, time: float, total: float) -> Filter:
        step, ridge = self.step(total), self.effective_ridge(total)

        def descent(values: Tensor) -> Tensor:
            sigma = values + ridge
            if time < FEW_STEPS:
                # η Σ_j (1 − ησ)^j: no difference of nearly equal numbers, complex σ too.
                term = torch.full_like(sigma, step)
                result = torch.zeros_like(sigma)
                for _ in range(int(time)):
                    result, term = result + term, term * (1 - step * sigma)
                return result
            x = step * sigma
            slow = -torch.expm1(time * torch.log1p(-x.clamp(max=0.5)))
            learned = torch.where(x < 0.5, slow, 1 - (1 - x) ** time)
            return torch.where(sigma == 0, torch.full_like(sigma, step * time), learned / sigma)

        return descent

    def quadratures(
        self, times: Sequence[float], *, total: float, high: float
    ) -> list[tuple[list[int], Quadrature]]:
        first_steps = [j for j, time in enumerate(times) if time < FEW_STEPS]
        many = [j for j, time in enumerate(times) if time >= FEW_STEPS]
        quadratures = []
        if first_steps:
            functions = [self.filter(times[j], total) for j in first_steps]
            quadratures.append((first_steps, circle_quadrature(functions, high=high)))
        for group in windows([times[j] for j in many]):
            positions = [many[j] for j in group]
            steps = [times[j] for j in positions]
            nodes = descent_quadrature(
                steps, rate=self.step(total), ridge=self.effective_ridge(total), high=high
            )
            quadratures.append((positions, nodes))
        return quadratures


def _check_number(ridge: object, rule: str) -> None:
    """Raise where the ridge of training over time is a text."""
    if isinstance(ridge, str):
        raise OptionError(
            f"`ridge` must be a number ≥ 0 for {rule}, which can be stopped early instead; got "
            f'{shown(ridge)}. Ridge takes "auto".'
        )


def _number(at: object) -> float:
    """Return a training time as a number, NaN where it is none."""
    if not isinstance(at, Real) or isinstance(at, bool):
        return math.nan
    try:
        return float(at)
    except OverflowError:  # a whole number beyond 1e308
        return math.nan

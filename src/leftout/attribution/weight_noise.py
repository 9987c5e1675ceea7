"""How finely are weights told apart? By the covariance Σ of a smoothing: ½ dwᵀ Σ⁻¹ dw is then in nats.

Leaving an example out changes the dual by Δ and the weights by dw = Jᵀ Δ, where K = J Jᵀ = V diag(s) Vᵀ.
Weights move in the range of Jᵀ alone, Σ is asked about nothing else, and Δ says it all:

    Isotropic       Σ = σ² I                   dwᵀ Σ⁻¹ dw = Δᵀ K Δ / σ²
    InverseFisher   Σ = σ² F⁻¹, F = JᵀJ / n    Δᵀ K² Δ / (n σ²)
    Langevin        H Σ + Σ H = c σ² I         2 Δᵀ K (K + λ) Δ / (c σ²)
    SteadyState     H Σ + Σ H = c Λ            (VᵀΔ)ᵀ P⁻¹ (VᵀΔ),    P_kl = c M_kl / (h_k + h_l)

H = JᵀJ + λ, h = s + λ, and Λ is the covariance of the examples' gradients at the end of training; SGD
draws `batch` examples with replacement. Under the mean loss (λ = n·ridge) c = n·rate / batch, that is
(H/n) Σ + Σ (H/n) = (rate / batch) Λ. Under the sum loss a batch's gradient is scaled up by n / batch, and
c = n²·rate / batch: at rate/n, where the steps are the same, so is Σ. (Eq. 14 as printed, with the H of
a sum and with rate/n, is too small by n².)

An example's gradient is J_iᵀ (f(x_i) − y_i); a penalty adds the same to all, and nothing to Λ. Mode by mode
in units of √s it is V_iᵀ (f(x_i) − y_i), and M is the covariance of that: the root of a small s is never
taken. So every mode counts alike, however small its s, unless it is zero to rounding (`modes`).
Where one kernel serves k outputs the weights are k copies, and P goes by mode and output.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.nonzero_modes import (
    EPS,
    Modes,
    errors_at_the_end,
    moving_modes,
    moving_outputs,
)
from leftout.core.blocks import check_fits
from leftout.core.checks import check_count, check_positive
from leftout.core.errors import DivergenceError, NotPositiveError
from leftout.dynamics.fitted import Fitted
from leftout.solvers.cholesky import factor_cholesky
from leftout.solvers.lyapunov import lyapunov

Form = Callable[[Float64[Tensor, "rows e c"], Float64[Tensor, "rows e c"]], Float64[Tensor, " e"]]
"""Δ and K Δ to dwᵀ Σ⁻¹ dw, both in the dual or both in the modes."""


class Smoothing(ABC):
    """A covariance Σ of the weights, for the information ½ dwᵀ Σ⁻¹ dw."""

    in_modes: ClassVar[bool] = False
    """Whether changes must come in the modes of K; else the dual does, and no spectrum is needed."""

    @abstractmethod
    def form(self, fitted: Fitted) -> Form:
        """Return dwᵀ Σ⁻¹ dw as a function of Δ and K Δ."""

    @property
    def record(self) -> dict[str, Any]:
        """Return name and parameters, JSON-like."""
        return {"smoothing": type(self).__name__, **vars(self)}


@final
@dataclass(frozen=True)
class Isotropic(Smoothing):
    """Σ = σ² I: how far the weights move.

    Args:
        sigma: σ > 0, in the units of the weights.
    """

    sigma: float = 1.0

    def __post_init__(self) -> None:
        check_positive("sigma", self.sigma)

    def form(self, fitted: Fitted) -> Form:
        return lambda change, image: _sum(change * image) / self.sigma**2


@final
@dataclass(frozen=True)
class InverseFisher(Smoothing):
    """Σ = σ² F⁻¹, F = mean over training inputs of J(x)ᵀJ(x): weights that no output uses do not count.

    It is the information in the function at the training inputs, exactly; with the Fisher matrix of
    the queries it is the variable `function`.

    Args:
        sigma: σ > 0, the noise of an output, in target units.

    Source:
        Smooth unique information, eq. 9 and section 5: exact for a linearised network.
    """

    sigma: float = 1.0

    def __post_init__(self) -> None:
        check_positive("sigma", self.sigma)

    def form(self, fitted: Fitted) -> Form:
        return lambda change, image: _sum(image.square()) / (len(fitted) * self.sigma**2)


@final
@dataclass(frozen=True)
class Langevin(Smoothing):
    """The steady state of SGD whose gradient noise is isotropic, Λ = σ² I.

    Args:
        rate: SGD's, in the reading of the loss that the fitted rule has.
        batch: examples in a batch.
        sigma: σ > 0, the standard deviation of an example's gradient in any direction.

    Source:
        Smooth unique information, eq. 15: (batch / (rate σ²)) dwᵀ H dw for the mean loss, H of the mean.
    """

    rate: float
    batch: int = field(kw_only=True)
    sigma: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        check_positive("rate", self.rate)
        check_count("batch", self.batch)
        check_positive("sigma", self.sigma)

    def form(self, fitted: Fitted) -> Form:
        _check_settles(fitted, self.rate)
        ridge = fitted.rule.effective_ridge(len(fitted))
        factor = 2 / (_noise(fitted, self.rate, self.batch) * self.sigma**2)
        return lambda change, image: factor * _sum(image * (image + ridge * change))


@final
@dataclass(frozen=True)
class SteadyState(Smoothing):
    """The steady state of SGD about the end of training, its gradient noise as it is there.

    The covariance is that with all examples; what removing one does to it is not counted
    (proposition 5.1 assumes so).

    Args:
        rate: SGD's, in the reading of the loss that the fitted rule has; Σ is that of small rates.
        batch: examples in a batch, drawn with replacement.

    Source:
        Smooth unique information, eqs. 13 and 14, appendix C, in the scale above.
    """

    in_modes: ClassVar[bool] = True

    rate: float
    batch: int = field(kw_only=True)

    def __post_init__(self) -> None:
        check_positive("rate", self.rate)
        check_count("batch", self.batch)

    def form(self, fitted: Fitted) -> Form:
        _check_settles(fitted, self.rate)
        modes = moving_modes(fitted.spectrum)
        turn = moving_outputs(fitted.residual)  # (c, o)
        side = len(modes.values) * turn.shape[1]
        check_fits(
            f"The covariance of SGD in {side} directions",
            4 * 8 * side**2,
            fitted.memory,
            advice="Pass Isotropic() or Langevin(…), which need none, or raise `memory`.",
        )
        gradients = self._gradients(fitted, modes, turn)  # (n, r·o)
        centred = gradients - gradients.mean(0)
        shifted = modes.values + fitted.rule.effective_ridge(len(fitted))
        every = shifted[:, None].expand(-1, turn.shape[1]).flatten()
        scale = _noise(fitted, self.rate, self.batch) / len(fitted)
        covariance = lyapunov(every, scale * (centred.T @ centred))
        lower, unit = self._factor(covariance, len(fitted))

        def form(change: Tensor, image: Tensor) -> Tensor:
            inside = torch.einsum("rec,co->roe", change, turn).flatten(0, 1) / unit[:, None]
            return torch.linalg.solve_triangular(lower, inside, upper=False).square().sum(0)

        return form

    def _gradients(
        self, fitted: Fitted, modes: Modes, turn: Float64[Tensor, "c o"]
    ) -> Float64[Tensor, "n ro"]:
        """Return V_iᵀ (f(x_i) − y_i) of every example at the end of training."""
        error = errors_at_the_end(fitted, modes)
        largest, noise = float(error.abs().max()), float(fitted.residual.abs().max())
        if largest <= len(error) * EPS * noise:
            raise NotPositiveError(
                f"`smoothing` = {self!r} needs gradient noise at the end of training, and there is "
                f"none: the model passes through all targets (largest error {largest:.2g}), and "
                "SGD stands still. Fit with a `ridge` > 0, or pass Isotropic() or Langevin(…)."
            )
        n, each = len(fitted), fitted.outputs_per_example
        by_example = modes.vectors.reshape(n, each, -1)  # (n, b, r)
        turned = (error @ turn).view(n, each, -1)  # (n, b, o)
        return torch.einsum("nbr,nbo->nro", by_example, turned).flatten(1)

    def _factor(
        self, covariance: Float64[Tensor, "a a"], examples: int
    ) -> tuple[Float64[Tensor, "a a"], Float64[Tensor, " a"]]:
        """Return L and u with covariance = diag(u) L Lᵀ diag(u), or say where it is singular."""
        unit = covariance.diagonal().sqrt()
        # Not `== 0`: scaled to a unit diagonal, rounding would pass for noise.
        still = int((unit <= examples * EPS * unit.max()).sum())
        if not still:
            # Scaled to a unit diagonal, which changes no answer: how far its noise reaches in each
            # direction is no reason to call it singular.
            correlation = covariance / unit[:, None] / unit
            try:
                return factor_cholesky(correlation, ridge=0.0).lower, unit
            except NotPositiveError:
                ends = torch.linalg.eigvalsh(correlation)[[-1, 0]].tolist()
                why = f"as a correlation its eigenvalues reach from {ends[0]:.2g} to {ends[1]:.1g}"
        else:
            why = f"it is zero in {still} of them"
        raise NotPositiveError(
            f"`smoothing` = {self!r}: the covariance of SGD is singular to rounding in the "
            f"{len(unit)} directions in which weights move: {why}. The gradients of {examples} "
            f"examples spread in {examples - 1} directions at most. Pass Isotropic() or Langevin(…), "
            "or fit one output at a time. No jitter was added."
        )


SMOOTHINGS: tuple[type[Smoothing], ...] = (Isotropic, InverseFisher, Langevin, SteadyState)


def _noise(fitted: Fitted, rate: float, batch: int) -> float:
    """Return c of H Σ + Σ H = c Λ, H = JᵀJ + λ."""
    n = len(fitted)
    return rate * n / batch if fitted.rule.loss == "mean" else rate * n**2 / batch


def _check_settles(fitted: Fitted, rate: float) -> None:
    """Raise unless SGD has a steady state at this rate."""
    n = len(fitted)
    high = fitted.largest + fitted.rule.effective_ridge(n)
    high = high / n if fitted.rule.loss == "mean" else high
    if rate * high >= 2:
        raise DivergenceError(
            f"`rate` of the smoothing must be below the critical rate {2 / high:.6g} of the "
            f"{fitted.rule.loss} loss, or SGD has no steady state; got {rate:g}."
        )


def _sum(values: Float64[Tensor, "rows e c"]) -> Float64[Tensor, " e"]:
    """Return the sum over all but the examples: below 0 a quadratic form is rounding."""
    return values.sum((0, 2)).clamp_min(0)

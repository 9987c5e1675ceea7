"""Any activation, by a series with an error that is known. `leftout.kernels.layers.hermite` has the formulas.

Coefficients come from the trapezoid rule, whose error for functions that are analytic near the real line
falls exponentially with the step, faster than that of Gauss and Hermite's nodes. How much the terms left out
can add up to follows from E[φ'²]; what the step adds is the difference to a rule of half as many points. Both
are looked at for the very variances that inputs have, and refused where they are more than a tolerance.
Functions with kinks have slowly falling series: those with a layer of their own (Relu, LeakyRelu, Abs) have
closed forms instead.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from leftout.core.checks import check_positive
from leftout.core.errors import DataError, OptionError
from leftout.core.wording import exception_text
from leftout.kernels.layers.hermite import SeriesActivation, in_chunks, terms_on_grid, trapezoid

TERMS = 400
"""Terms of the series at most."""

STEP = 0.05
"""Of the trapezoid rule: the oscillations of h_400 are 0.3 long."""

ROUNDING = 3e-15
"""Of E[φ'²]: terms that add up to less are left out."""

SAMPLED = 257
"""Variances at which the error is looked at, evenly among those of the inputs, and the largest."""


@final
@dataclass(frozen=True)
class Activation(SeriesActivation):
    """Any function of one number, applied to every unit.

    Args:
        function: takes and returns a tensor, one number for one number; its derivative is that of autograd.
        name: in records and messages; that of the function if None.
        tolerance: largest error of E[φ' φ'], relative to E[φ'²], that passes.

    Cost:
        Some hundreds of multiplications and additions a pair, as many as the series needs for this error.

    Raises:
        OptionError: what is no function of numbers. When inputs are looked at, DataError: an error of more
            than the tolerance, which it names.

    Source:
        Mehler's series; Daniely, Frostig & Singer 2016, "Toward deeper understanding of neural networks", for
        dual activations.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> from leftout.kernels.layers import Activation, Dense
        >>> kernel = lo.kernels.serial(Dense(), Activation(torch.nn.functional.silu), Dense())
        >>> kernel.block(torch.eye(2), torch.eye(2))
        tensor([[1.4705, 0.0854],
                [0.0854, 1.4705]])
    """

    function: Callable[[Tensor], Tensor]
    name: str | None = None  # type: ignore[assignment]
    tolerance: float = 1e-6

    limited = True
    keeps_zero = False
    numbers_kept = 2 + TERMS

    def __post_init__(self) -> None:
        check_positive("tolerance", self.tolerance)
        if self.tolerance >= 1:
            raise OptionError(f"`tolerance` must be less than 1, all of E[φ'²]; got {self.tolerance}.")
        if self.name is None:
            word = getattr(self.function, "__name__", type(self.function).__name__)
            object.__setattr__(self, "name", word)
        probe = torch.linspace(-2, 2, 6, dtype=torch.float64, device="cpu").reshape(2, 3)
        values = self._values(probe)
        if values.shape != probe.shape or not bool(values.isfinite().all()):
            raise OptionError(
                f"`function` must return one finite number for each number; {self.name} of (2, 3) numbers is "
                f"{tuple(values.shape)}{'' if values.shape != probe.shape else ', with NaN or infinity'}."
            )
        alone = torch.stack([self._values(number[None])[0] for number in probe.flatten()]).reshape(2, 3)
        if not torch.allclose(alone, values, rtol=1e-12, atol=1e-12):
            raise OptionError(
                f"`function` must be of one number; what {self.name} makes of a number depends on the others "
                "that it is given."
            )

    def expand(self, variances: Tensor, least: int) -> Tensor:
        """Return s, E[φ], and b_p for p = 0, 1, 2, …, as many as the series needs."""
        sizes = variances.double()
        if not sizes.numel():
            return sizes.new_zeros(2 + terms_on_grid(1, least), *sizes.shape)
        _, _, rest = self._coefficients(_sample(sizes), TERMS)
        enough = (rest.reshape(-1, TERMS).amax(0) <= ROUNDING).nonzero().flatten()
        terms = min(TERMS, terms_on_grid(int(enough[0]) + 1 if len(enough) else TERMS, least))

        def coefficients(some: Tensor) -> Tensor:
            slopes, mean, _ = self._coefficients(some, terms)
            return torch.cat([some[:, None], mean[:, None], slopes], dim=1)

        return in_chunks(coefficients, sizes)

    def error(self, variances: Tensor) -> Tensor:
        """Return the largest error of E[φ' φ'] at each of these variances, relative to E[φ'²].

        Or that of E[φ²], relative to it, beyond what the terms left out explain: a function that jumps is no
        integral of its derivative.
        """
        fine, mean, rest = self._coefficients(variances, TERMS)
        coarse, _, _ = self._coefficients(variances, TERMS, step=2 * STEP)
        size = fine.square().sum(-1) / (1 - rest[..., -1].clamp(max=0.5))
        of_slopes = rest[..., -1] + 2 * ((fine - coarse).square().sum(-1) / size.clamp_min(1e-300)).sqrt()
        points, density = _rule(STEP, variances.device)
        square = self._values(variances.double().sqrt()[..., None] * points).square() @ density
        over = torch.arange(1, TERMS + 1, dtype=torch.float64, device=variances.device)
        series = mean.square() + variances * (fine.square() / over).sum(-1)
        return torch.maximum(of_slopes, (square - series).abs() / square.clamp_min(1e-300))

    def check(self, name: str, variances: Tensor, first: int) -> None:
        """Raise if the series is not right enough at the variances of these inputs.

        Raises:
            DataError: names the variance and the error.
        """
        sizes = _sample(variances.detach().double())
        errors = self.error(sizes)
        worst = int(errors.argmax())
        if not float(errors[worst]) <= self.tolerance:
            raise DataError(
                f"`{name}` must have variances of pre-activations where the series of {self.name} is right "
                f"to tolerance={self.tolerance:g}; at {float(sizes[worst]):.3g} its error is up to "
                f"{float(errors[worst]):.2g}. A function with kinks has slowly falling terms: pass a larger "
                "`tolerance` to take that error, or a smooth function; one that jumps has no tangent kernel."
            )

    @property
    def words(self) -> str:
        return str(self.name)

    @property
    def record(self) -> dict[str, Any]:
        return {"name": "Activation", "function": self.name, "tolerance": float(self.tolerance)}

    def _values(self, numbers: Tensor) -> Tensor:
        try:
            values = self.function(numbers)
        except Exception as error:
            raise OptionError(
                f"`function` must take a tensor of numbers; {self.name} raised {exception_text(error)}"
            ) from error
        if not isinstance(values, Tensor):
            raise OptionError(
                f"`function` must return a tensor; {self.name} returned {type(values).__name__}."
            )
        return values

    def _slopes(self, numbers: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            recorded = numbers.requires_grad  # for derivatives of the kernel itself
            at = numbers.clone() if recorded else numbers.clone().requires_grad_()
            values = self._values(at)
            if not values.requires_grad:
                return torch.zeros_like(numbers)
            slopes: Tensor = torch.autograd.grad(values.sum(), at, create_graph=recorded)[0]
            return slopes

    def _coefficients(
        self, variance: Tensor, terms: int, step: float = STEP
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return b_p (… t), E[φ] (…), and what terms beyond each add up to, relative to E[φ'²] (… t)."""
        half, basis = trapezoid(step, terms, variance.device)
        points = torch.cat([half, -half])
        signs = 1 - 2 * (torch.arange(terms, device=basis.device) % 2)  # h_p is odd where p is
        basis = torch.cat([basis, basis * signs[:, None]], dim=1)
        density = basis[0]
        at = variance.double().sqrt()[..., None] * points
        slopes = self._slopes(at)
        b = slopes @ basis.T
        mean = self._values(at) @ density
        size = slopes.square() @ density
        rest = (size[..., None] - b.square().cumsum(-1)).clamp_min_(0)
        return b, mean, rest / size.clamp_min(1e-300)[..., None]


def _rule(step: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return points of the trapezoid rule, and their weights for expectations of a normal number."""
    half, basis = trapezoid(step, 1, device)
    return torch.cat([half, -half]), torch.cat([basis[0], basis[0]])


def _sample(variances: Tensor) -> Tensor:
    """Return some of the variances, evenly among all, and the largest."""
    sizes = torch.unique(variances)
    return torch.cat([sizes[:: -(-len(sizes) // SAMPLED) or 1], sizes[-1:]])

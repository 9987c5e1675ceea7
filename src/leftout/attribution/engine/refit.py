"""What does a fit of fewer examples say, made from nothing? Factor or spectrum of what remains."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.dynamics.fitted import Fitted
from leftout.solvers.cholesky import factor_cholesky
from leftout.solvers.indefinite import factor_indefinite
from leftout.solvers.krylov import largest_eigenvalue
from leftout.solvers.resolvent import filtered_coordinates
from leftout.solvers.spectrum import Spectrum, spectrum_of


def duals_afresh(
    fitted: Fitted,
    gram: Float64[Tensor, "r r"],
    residual: Float64[Tensor, "r c"],
    times: Sequence[float],
    *,
    total: float,
    definite: bool,
) -> Float64[Tensor, "t r c"]:
    """Return the duals at each time of the rule of `fitted` on another Gram matrix.

    Args:
        residual: Y − f_0 of the examples there.
        total: the sum of their weights.
        definite: whether `gram` has no negative eigenvalue.

    Raises:
        DivergenceError, NotPositiveError: where training would not converge or be resolved.

    Cost:
        r³/3 at the end of training, 9r³ for finite times.
    """
    finite = any(0 < time < math.inf for time in times)
    spectrum = spectrum_of(gram, made_in=fitted.kernel_dtype) if finite else None
    high = _largest(gram, spectrum) if fitted.rule.can_diverge else None
    low = None if spectrum is None else spectrum.smallest
    fitted.check_trainable(times, total=total, largest=high, smallest=low)
    found = []
    for time in times:
        if time == math.inf:
            factorise = factor_cholesky if definite else factor_indefinite
            found.append(factorise(gram, ridge=fitted.rule.effective_ridge(total)).solve(residual))
        elif time > 0:
            assert spectrum is not None
            learned = fitted.rule.filter(time, total)
            inside = filtered_coordinates(spectrum, residual, learned)
            found.append(spectrum.vectors @ inside)
        else:
            found.append(torch.zeros_like(residual))
    return torch.stack(found)


def _largest(gram: Float64[Tensor, "r r"], spectrum: Spectrum | None) -> float:
    """Return the largest eigenvalue, from the spectrum if it is known."""
    if spectrum is not None:
        return spectrum.largest
    return largest_eigenvalue(
        lambda x: gram @ x, len(gram), generator=torch.Generator().manual_seed(0), device=gram.device
    )

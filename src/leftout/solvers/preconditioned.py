"""(K + λI) x = b from products with K, in few steps: conjugate gradients that know its leading directions.

With K ≈ V diag(s) Vᵀ of r directions and s_r the least of them,

    P = V diag((s + λ) / (s_r + λ)) Vᵀ + (I − V Vᵀ)

makes P^−½ (K + λI) P^−½ nearly (s_r + λ) I where the approximation sees K, and leaves the rest as it is: its
condition is about (s_r + λ + ‖K − V diag(s) Vᵀ‖) / λ in place of ‖K‖ / λ.

Source: Frangella, Tropp & Udell 2023, "Randomized Nyström preconditioning".
"""

from dataclasses import replace

from jaxtyping import Float64
from torch import Tensor

from leftout.core.errors import SolveError
from leftout.solvers.conjugate_gradients import ConjugateGradients
from leftout.solvers.solution import Apply, Solution, Status, relative_residual
from leftout.solvers.spectrum import Spectrum

MARGIN = 0.1
"""The residual of the preconditioned system is asked to be that part of what the system's own may be."""


def solve_preconditioned(
    apply: Apply,
    rhs: Float64[Tensor, "n b"],
    near: Spectrum,
    *,
    ridge: float,
    rtol: float = 1e-8,
    max_steps: int = 200,
) -> Solution:
    """Return (K + λI)⁻¹ rhs, every column with its true residual and its steps.

    Args:
        apply: x ↦ K x.
        near: leading eigenpairs of a matrix near K.
        ridge: λ > 0.
        rtol: |b − (K + λI) x| / |b| of each column.

    Raises:
        SolveError: a column was not solved to `rtol`.

    Cost:
        a product with K a step for all columns, and 8nr flops a column.

    Example:
        >>> import torch
        >>> from leftout.solvers.spectrum import spectrum_of
        >>> matrix = torch.diag(torch.tensor([100.0, 10.0, 1.0], dtype=torch.float64))
        >>> ones = torch.ones(3, 1, dtype=torch.float64)
        >>> solve_preconditioned(lambda x: matrix @ x, ones, spectrum_of(matrix), ridge=1.0).steps.tolist()
        [1]
    """
    least = near.values[-1] + ridge
    shrink = (least / (near.values + ridge)).sqrt() - 1

    def half(x: Tensor) -> Tensor:
        return x + near.vectors @ (shrink[:, None] * (near.vectors.T @ x))

    def between(x: Tensor) -> Tensor:
        inner = half(x)
        return half(apply(inner) + ridge * inner)

    solution = ConjugateGradients(rtol=MARGIN * rtol, max_steps=max_steps).solve(between, half(rhs))
    value = half(solution.value)
    residual = relative_residual(rhs - apply(value) - ridge * value, rhs)
    worst = int(residual.argmax())
    if float(residual[worst]) > rtol:
        raise SolveError(
            f"(K + {ridge:g}·I) x = b was not solved to {rtol:g}: column {worst} of {rhs.shape[1]} "
            f"{solution.status[worst]}, with relative residual {float(residual[worst]):.2g} after "
            f"{int(solution.steps[worst])} steps. Take a larger `rank`, or a larger `ridge`."
        )
    return replace(solution, value=value, residual=residual, status=(Status.SOLVED,) * rhs.shape[1])

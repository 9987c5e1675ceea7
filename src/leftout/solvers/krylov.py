"""g(K) b and the largest eigenvalue of K from products with K alone, by Lanczos's algorithm.

Lanczos: K Q ≈ Q T with T tridiagonal, so g(K) b ≈ ‖b‖ Q g(T) e_1. Every new direction is made
orthogonal to all before it (twice), so no accuracy is lost to the short recurrence. Nothing is shared
with factorisations, downdates and quadrature, so these results check those independently.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.errors import LeftoutError
from leftout.core.work import Operation, WorkCount, calls, operations, passes

Apply = Callable[[Tensor], Tensor]


class Lanczos:
    """An orthonormal basis Q of span{b, Kb, K²b, …} and T = QᵀKQ, grown a step at a time."""

    def __init__(self, apply: Apply, start: Float64[Tensor, " n"]) -> None:
        self.apply = apply
        self.norm = float(start.norm())
        self.basis = [start / self.norm]
        self.diagonal: list[float] = []
        self.off_diagonal: list[float] = []
        self.exhausted = False

    def step(self) -> None:
        """Add one direction; `exhausted` is set where the space is invariant, and so complete."""
        last = self.basis[-1]
        image = self.apply(last)
        self.diagonal.append(float(last @ image))
        space = torch.stack(self.basis)  # (j, n)
        # Twice is enough (Kahan): the second sweep removes what rounding left of the first.
        for _ in range(2):
            image = image - space.T @ (space @ image)
        size = float(image.norm())
        scale = max(map(abs, self.diagonal))
        if len(self.basis) == len(last) or size <= len(last) * torch.finfo(last.dtype).eps * scale:
            self.exhausted = True
            return
        self.off_diagonal.append(size)
        self.basis.append(image / size)

    @property
    def tridiagonal(self) -> Float64[Tensor, "j j"]:
        """Return T on the CPU."""
        steps = len(self.diagonal)
        matrix = torch.diag(torch.tensor(self.diagonal, dtype=torch.float64, device="cpu"))
        beside = torch.tensor(self.off_diagonal[: steps - 1], dtype=torch.float64, device="cpu")
        if steps > 1:
            matrix += torch.diag(beside, 1) + torch.diag(beside, -1)
        return matrix


def filtered_vector(
    apply: Apply, vector: Float64[Tensor, " n"], function: Callable[[Tensor], Tensor], *, rtol: float = 1e-12
) -> Float64[Tensor, " n"]:
    """Return g(K) b.

    Args:
        apply: x ↦ Kx, K symmetric and positive semi-definite.
        function: g, from eigenvalues to numbers.
        rtol: change of the result over the last eighth of the steps, relative, at which to stop.

    Raises:
        LeftoutError: n steps were not enough, which rounding alone cannot cause.

    Cost:
        one product and 4nj flops at step j; n·j numbers.
    """
    if float(vector.norm()) == 0:
        return torch.zeros_like(vector)
    space = Lanczos(apply, vector)
    before: Tensor | None = None
    while not space.exhausted:
        for _ in range(max(8, len(space.basis) // 8)):
            space.step()
            if space.exhausted:
                break
        values, vectors = torch.linalg.eigh(space.tridiagonal)
        now = space.norm * (vectors @ (function(values) * vectors[0]))  # (j,)
        if not bool(torch.isfinite(now).all()):
            raise LeftoutError("g(K) b is not finite: g has a pole at an eigenvalue of `gram`.")
        if before is not None:
            change = now.clone()
            change[: len(before)] -= before
            if float(change.norm()) <= rtol * float(now.norm()):
                break
        before = now
    return torch.stack(space.basis[: len(now)]).T @ now.to(vector.device)


def norm_by_powers(apply: Apply, like: Float64[Tensor, "n n"], *, powers: int) -> float:
    """Return ‖A x‖ / ‖x‖ after powers of A on a random vector: ‖A‖ from below.

    Args:
        like: gives the side, dtype and device of A.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(len(like), generator=generator, dtype=like.dtype, device="cpu").to(like.device)
    for _ in range(powers):
        x = apply(x / x.norm().clamp_min(torch.finfo(x.dtype).tiny))
    return float(x.norm())


def largest_eigenvalue(
    apply: Apply, n: int, *, generator: torch.Generator, device: torch.device, rtol: float = 1e-10
) -> float:
    """Return the largest eigenvalue of a symmetric positive semi-definite operator.

    Args:
        rtol: relative change over the last eighth of the steps at which to stop.

    Cost:
        one product a step; typically 10 to 60 steps.

    Accuracy:
        a Ritz value: never above the true one but for rounding, and converging with the square of
        the angle to the eigenvector. A random start is orthogonal to it with probability 0.
    """
    start = torch.randn(n, generator=generator, dtype=torch.float64, device="cpu").to(device)
    space = Lanczos(apply, start)
    before = 0.0
    while not space.exhausted:
        for _ in range(max(8, len(space.basis) // 8)):
            space.step()
            if space.exhausted:
                break
        now = float(torch.linalg.eigvalsh(space.tridiagonal)[-1])
        if now - before <= rtol * now:
            return now
        before = now
    return float(torch.linalg.eigvalsh(space.tridiagonal)[-1])


FILTER_STEPS = 100
"""Products with K until `filtered_vector` has converged: 50 to 160 on pictures, whatever the ridge."""

EIGENVALUE_STEPS = 50
"""Products with K until `largest_eigenvalue` has converged, at the most of the usual."""


def filtered_vector_work(n: int) -> WorkCount:
    """Return the work of `filtered_vector` of n numbers, where it takes the usual number of steps."""
    steps = min(FILTER_STEPS, n)
    step = passes(n * n) + calls(40) + passes(n * steps / 2, 6)
    # T is decomposed again after every eighth of the steps, so that all together are as four of the last.
    return steps * step + 4 * operations(Operation.EIGENPAIRS, side=steps)


def largest_eigenvalue_work(n: int) -> WorkCount:
    """Return the work of `largest_eigenvalue` of an n × n matrix."""
    return EIGENVALUE_STEPS * (passes(n * n) + calls(1))

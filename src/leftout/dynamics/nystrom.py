"""Many examples at a small price: the kernel seen from some of them, and what that costs an answer.

Predictions, training times, spectra and learning curves of K̃ ≈ K are close wherever what K̃ misses is small
beside the ridge. What single examples do is another matter: (K̃ + λI)⁻¹ sees an example that is no landmark
through its neighbours. So single effects are compared with exact ones, at the n of the model: columns of (K +
λI)⁻¹ for a few examples drawn at random, by conjugate gradients on K, against those of (K̃ + λI)⁻¹.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.checks import check_between, check_count, check_seed
from leftout.core.errors import ApproximationError, OptionError
from leftout.core.product_matrix import ProductMatrix
from leftout.core.progress import spinner
from leftout.dynamics.fit_features import ROOM
from leftout.dynamics.fitted import Fitted
from leftout.kernels import assemble
from leftout.kernels.base import Kernel
from leftout.kernels.evaluated_matrix import EvaluatedMatrix
from leftout.kernels.label_dependent import AnyKernel
from leftout.kernels.nystrom import NystromKernel
from leftout.solvers.block_local import alike_blocks, block_local_inverse_diagonal
from leftout.solvers.pivoted_cholesky import pivoted_cholesky
from leftout.solvers.preconditioned import solve_preconditioned

BLOCK = 1000
"""Examples at most in a block within which left-out predictions see the kernel itself."""

COLUMNS = 8
"""Exact columns that single effects are compared with."""


@dataclass(frozen=True, kw_only=True)
class Nystrom:
    """A model of the kernel as it is seen from some training examples, drawn by randomly pivoted Cholesky.

    Args:
        rank: how many examples it is seen from.
        seed: of the draw.
        agreement: least correlation of single effects with exact ones at which they are given; less is
            refused.

    Raises:
        OptionError: a number that is not allowed.

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=400, n_query=10)
        >>> fitted = lo.fit(lo.kernels.ReLU(1), train, rule=lo.Ridge(1.0), solver=lo.Nystrom(rank=100))
        >>> fitted.gram
        ProductMatrix(400 × 400, 100 numbers a row)
    """

    rank: int = 1000
    seed: int = 0
    agreement: float = 0.99

    def __post_init__(self) -> None:
        check_count("rank", self.rank)
        check_seed(self.seed)
        check_between("agreement", self.agreement, -1, 1)


def nystrom_matrix(
    kernel: AnyKernel,
    inputs: Tensor,
    options: Nystrom,
    *,
    dtype: torch.dtype,
    device: torch.device,
    budget: int,
) -> tuple[NystromKernel, ProductMatrix]:
    """Return the kernel as it is seen from some of the inputs, and its matrix of all of them.

    Raises:
        OptionError: the kernel sees labels, tells outputs apart, or is that of a trained network.

    Cost:
        rank · n evaluations of the kernel and n rank² flops; n rank numbers.
    """
    if not isinstance(kernel, Kernel) or kernel.depends_on_labels or kernel.outputs or kernel.is_trained:
        raise OptionError(
            f'`solver` cannot be "nystrom" for {kernel!r}: it takes kernels with one value for each pair of '
            'inputs that see no labels. Fit with solver="auto".'
        )
    made_in = kernel.dtype or dtype
    near: dict[str, Any] = {"dtype": made_in, "device": device}
    there = inputs.to(device)
    with spinner(f"{options.rank} of {len(inputs)} columns of the kernel"):
        drawn = pivoted_cholesky(
            assemble.diagonal(kernel, there, **near),
            lambda columns: assemble.cross(kernel, there, there[columns], memory=budget, **near),
            rank=options.rank,
            generator=torch.Generator().manual_seed(options.seed),
        )
    seen = NystromKernel(
        kernel,
        there[drawn.pivots],
        drawn.lower,
        agreement=options.agreement,
        missed=drawn.missed,
        dtype=made_in,
        memory=budget,
    )
    return seen, ProductMatrix(drawn.factor, drawn.factor, room=budget // ROOM)


def exact_matrix(fitted: Fitted) -> EvaluatedMatrix:
    """Return K itself, evaluated whenever it is multiplied."""
    assert isinstance(fitted.kernel, NystromKernel)
    inputs = fitted.train.inputs.to(fitted.device)
    share = fitted.memory // ROOM
    return EvaluatedMatrix(fitted.kernel.base, inputs, dtype=fitted.kernel_dtype, memory=share, room=share)


def exact_columns(
    fitted: Fitted, rhs: Float64[Tensor, "n b"], ridge: float, *, rtol: float = 1e-8
) -> Float64[Tensor, "n b"]:
    """Return (K + ridge·I)⁻¹ rhs for the kernel itself.

    Raises:
        OptionError: there is no ridge.

    Cost:
        n²/2 evaluations of the kernel a step, whatever the columns; about a dozen steps where what the
        approximation misses is of the size of the ridge.
    """
    if ridge <= 0:
        raise OptionError(
            f"Exact columns of the kernel need a ridge > 0, and `fitted` has {fitted.rule!r}: of a Nyström "
            "model without one ask predictions and training times, not single examples."
        )
    matrix = exact_matrix(fitted)
    with spinner(f"{rhs.shape[1]} exact columns of {len(fitted)} examples"):
        return solve_preconditioned(lambda x: matrix @ x, rhs, fitted.spectrum, ridge=ridge, rtol=rtol).value


def left_out_residuals(fitted: Fitted, ridge: float) -> Float64[Tensor, "n k"]:
    """Return y − f of every example by the model without it: α_i / G_ii.

    α is exact, by conjugate gradients on K; G_ii is that of K within blocks of examples that are alike, and
    of the approximation between them (`solvers.block_local`).

    Cost:
        that of `exact_columns`, and 4nr² flops.

    Accuracy:
        correlations with those of the kernel's own matrix of .9999 at n = 8,000 are in `records`.
    """
    kernel, gram = fitted.kernel, fitted.gram
    assert isinstance(kernel, NystromKernel)
    assert isinstance(gram, ProductMatrix)
    factor = gram.left
    dual = exact_columns(fitted, fitted.residual, ridge)
    near: dict[str, Any] = {"dtype": kernel.evaluated_in, "device": fitted.device, "memory": fitted.memory}
    inputs = fitted.train.inputs.to(fitted.device)
    diagonal = block_local_inverse_diagonal(
        factor,
        alike_blocks(factor, BLOCK),
        lambda rows: assemble.gram(kernel.base, inputs[rows], **near),
        ridge=ridge,
    )
    return dual / diagonal[:, None]


def column_agreement(fitted: Fitted) -> float:
    """Return the median correlation of single effects with exact ones, over examples drawn at random.

    The effect of example i on the prediction at j is G_ji α_i / G_ii: columns i of G are compared over all j
    ≠ i. Measured once for a model.

    Cost:
        that of `exact_columns`.
    """
    return fitted.memo(("column agreement",), lambda: _column_agreement(fitted))


def _column_agreement(fitted: Fitted) -> float:
    n = len(fitted)
    drawn = torch.randperm(n, generator=torch.Generator().manual_seed(0), device="cpu")[:COLUMNS]
    unit = torch.zeros(n, len(drawn), dtype=torch.float64, device=fitted.device)
    unit[drawn, torch.arange(len(drawn), device="cpu")] = 1
    ridge = fitted.rule.effective_ridge(n)
    exact = exact_columns(fitted, unit, ridge)
    near = fitted.factor(ridge).solve(unit)
    correlations = []
    for j, row in enumerate(drawn.tolist()):
        others = torch.arange(n, device=fitted.device) != row
        pair = torch.stack([exact[others, j], near[others, j]])
        correlations.append(float(torch.corrcoef(pair)[0, 1]))
    return float(torch.tensor(correlations, dtype=torch.float64, device="cpu").median())


def check_agreement(fitted: Fitted) -> dict[str, float]:
    """Return what is said of the accuracy of single effects: nothing of a model of the kernel itself.

    Raises:
        ApproximationError: they agree less with exact ones than was asked for.
    """
    if not isinstance(fitted.kernel, NystromKernel):
        return {}
    measured = column_agreement(fitted)
    least = fitted.kernel.agreement
    if measured < least:
        raise ApproximationError(
            f"Effects of single examples from {len(fitted.kernel.lower)} columns of the kernel correlate "
            f"by {measured:.3f} with exact ones at n = {len(fitted)}, less than {least:g}: they are not "
            "given as exact. Take a larger `rank` or the matrix itself; or say lo.Nystrom(agreement=…) to "
            "have them with this number."
        )
    return {"nystrom_agreement": measured}

"""The ridge of least exact left-out loss, and the losses of all that were tried."""

import math
from dataclasses import replace

import torch

from leftout.data.pairs import Data
from leftout.dynamics.fit import fit
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.options import Loss, SolverName
from leftout.dynamics.ridge_choice import RidgeChoice
from leftout.dynamics.rules import Ridge
from leftout.kernels.label_dependent import AnyKernel


def choose_ridge(
    kernel: AnyKernel,
    train: Data,
    *,
    loss: Loss = "sum",
    solver: SolverName = "auto",
    tile_dtype: torch.dtype | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    memory: int | float | str | None = None,
) -> RidgeChoice:
    """Return the ridge of least exact left-out squared loss, for classes and for numbers alike.

    Thirteen ridges are tried, in half decades from 1e-5 to 10 times the mean of the kernel's diagonal. `fit`
    does the same where the rule is Ridge("auto"). In tiles, where there is no spectrum, they are tried one
    after the other: from the best of a sample of the examples, which is what `fit` takes, as long as the loss
    of all examples falls.

    Args:
        kernel, train, solver, tile_dtype, dtype, device, memory: as for `fit`.
        loss: "sum" or "mean", as for `Ridge`.

    Raises:
        OptionError: a network at its trained weights, or a kernel that sees labels.
        LeftoutError: whatever `fit` refuses.

    Cost:
        the kernel and one eigendecomposition, 9n³; 4n² flops for each ridge. In tiles n³ for each ridge that
        is tried, of which there are three or more.

    Source:
        Rifkin & Lippert 2007, "Notes on Regularized Least Squares".

    Example:
        >>> import leftout as lo
        >>> train, _ = lo.load("digits", n_train=60, n_query=10)
        >>> choice = lo.choose_ridge(lo.kernels.TwoLayerReLU(), train)
        >>> choice.rule, len(choice.ridges)
        (Ridge(ridge=5e-06, loss='sum'), 13)
        >>> choice.edge  # clean digits ask for next to none
        'It is the smallest ridge that was tried: a smaller one may predict still better.'
    """
    fitted = fit(
        kernel,
        train,
        rule=Ridge("auto", loss),
        solver=solver,
        tile_dtype=tile_dtype,
        dtype=dtype,
        device=device,
        memory=memory,
    )
    choice = fitted.ridge_choice
    assert choice is not None
    return choice if choice.sample is None else _choice_of_all(fitted, choice)


def _choice_of_all(fitted: Fitted, start: RidgeChoice) -> RidgeChoice:
    """Return the best ridge of all examples, from the best of a sample on as long as the loss falls."""
    ridges, losses = start.ridges, {}

    def loss_at(place: int) -> float:
        if not 0 <= place < len(ridges):
            return math.inf
        if place not in losses:
            losses[place] = _left_out_loss(fitted.with_rule(Ridge(ridges[place], start.loss)))
        return losses[place]

    best = ridges.index(start.ridge)
    while loss_at(beside := min((best - 1, best + 1), key=loss_at)) < loss_at(best):
        best = beside
    tried = sorted(losses)
    return replace(
        start,
        ridge=ridges[best],
        ridges=tuple(ridges[place] for place in tried),
        losses=tuple(losses[place] for place in tried),
        sample=None,
    )


def _left_out_loss(fitted: Fitted) -> float:
    """Return the mean of ½ Σ (f_without_i(x_i) − y_i)², from one inverse."""
    factor = fitted.factor(fitted.rule.effective_ridge(len(fitted) - 1))
    left_out = factor.solve(fitted.residual) / factor.inverse().diagonal()[:, None]
    return float(left_out.square().sum() / (2 * len(fitted)))

"""The ridge of least exact left-out loss, and the losses of all that were tried."""

import torch

from leftout.data.pairs import Data
from leftout.dynamics.fit import fit
from leftout.dynamics.options import Loss
from leftout.dynamics.ridge_choice import RidgeChoice
from leftout.dynamics.rules import Ridge
from leftout.kernels.label_dependent import AnyKernel


def choose_ridge(
    kernel: AnyKernel,
    train: Data,
    *,
    loss: Loss = "sum",
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    memory: int | float | str | None = None,
) -> RidgeChoice:
    """Return the ridge of least exact left-out squared loss, for classes and for numbers alike.

    Thirteen ridges are tried, in half decades from 1e-5 to 10 times the mean of the kernel's diagonal. `fit`
    does the same where the rule is Ridge("auto").

    Args:
        kernel, train, dtype, device, memory: as for `fit`.
        loss: "sum" or "mean", as for `Ridge`.

    Raises:
        OptionError: a network at its trained weights, or a kernel that sees labels.
        LeftoutError: whatever `fit` refuses.

    Cost:
        the kernel and one eigendecomposition, 9n³; 4n² flops for each ridge.

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
    fitted = fit(kernel, train, rule=Ridge("auto", loss), dtype=dtype, device=device, memory=memory)
    assert fitted.ridge_choice is not None
    return fitted.ridge_choice

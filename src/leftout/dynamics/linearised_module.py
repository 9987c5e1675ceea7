"""Which weights does training give the linearised network, at any time?

    w_t = w_0 + J(X)ᵀ g_t(K) (Y − f_0(X)),        K = J(X) J(X)ᵀ

Gradient descent, flow or the ridge on f_0(x) + J(x) (w − w_0), without a step taken: the dual of the
kernel model, pulled back to the weights once.
"""

import torch
from torch import nn

from leftout.core.errors import OptionError
from leftout.core.module_call import copy_module, in_any_mode
from leftout.core.modules import Parameters
from leftout.dynamics.fitted import Fitted, check_fitted
from leftout.dynamics.rules import At
from leftout.dynamics.weights_check import check_starts_here
from leftout.kernels.network.empirical import Empirical


@in_any_mode
def linearised_module(fitted: Fitted, at: At = None) -> nn.Module:
    """Return the network at the weights that its linearised training ends with.

    It predicts f(x; w_t), and not the f_0(x) + J(x) (w_t − w_0) of `fitted.predict`: what the two differ
    by is what linearising leaves out (`linearisation_gap` measures it).

    Args:
        fitted: of an Empirical kernel with outputs="full" (or one output), not projected.
        at: training time; None for the end.

    Returns:
        A copy of the module; the fitted one is not written to.

    Raises:
        OptionError: another kernel: of an approximation there are no weights; or trained weights.

    Cost:
        one factorisation, once; a forward and a backward pass over the training examples.

    Example:
        >>> import leftout as lo, torch
        >>> module = torch.nn.Linear(2, 1).double()
        >>> data = (torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double(), torch.tensor([1.0, -1.0]).double())
        >>> fitted = lo.fit(lo.kernels.Empirical(module, weights="initial"), data, rule=lo.Ridge(0.1))
        >>> type(lo.linearised_module(fitted)).__name__
        'Linear'

    Source:
        Smooth unique information, eq. 10 with w_0 added and its sign put right, appendix F.
    """
    check_fitted(fitted)
    module = copy_module(linear_kernel(fitted).module)
    weights = dict(module.named_parameters())
    with torch.no_grad():
        for name, change in weight_change(fitted, at).items():
            weights[name].add_(change.to(weights[name]))
    return module


def weight_change(fitted: Fitted, at: At = None) -> Parameters:
    """Return w_t − w_0 of the linearised network by parameter, in float64.

    Raises:
        OptionError: as for `linearised_module`.
    """
    kernel, time = linear_kernel(fitted), fitted.rule.time(at)
    fitted.check_trainable([time], total=len(fitted))
    return kernel.pull_back(fitted.train.inputs, fitted.by_example(fitted.dual(time)))


def linear_kernel(fitted: Fitted) -> Empirical:
    """Return the kernel, if there is a linearised network with just this kernel."""
    kernel = fitted.kernel
    if has_network(fitted) and isinstance(kernel, Empirical):
        check_starts_here(kernel, "its linearised training")
        return kernel
    raise OptionError(
        "`fitted` must have a kernel Empirical(module, outputs='full') without projection: only that is "
        f"the kernel of a linearised network; got {kernel!r}."
    )


def has_network(fitted: Fitted) -> bool:
    """Return whether there is a linearised network with just this kernel."""
    kernel = fitted.kernel
    if not isinstance(kernel, Empirical) or kernel.projection is not None:
        return False
    return kernel.reading == "full" or kernel.width == 1

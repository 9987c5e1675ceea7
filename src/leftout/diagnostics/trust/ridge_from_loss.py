"""Which ridge stands for a training of which only the result is known? One with the same training loss.

The kernel of the network's architecture fits the training examples closer the smaller its ridge is. The
ridge at which it has the cross-entropy that the network has on them stands for how long, and how freely, that
was trained; as a share of the mean diagonal it is carried over to the tangent kernel at the trained weights.

    ce(f_λ(X), y) = ce(network(X), y),        f_λ the minimiser of Σ ce + ½ λ ‖w‖²

A network that changes its kernel fits closer than any of these, and its ridge would be underrated: it is a
hundredth of the mean diagonal at least.
"""

import math

import torch
from scipy.optimize import brentq

from leftout.core.errors import OptionError
from leftout.core.wording import number
from leftout.data.pairs import Data, examples_of
from leftout.diagnostics.trust.architecture_model import architecture_kernel
from leftout.dynamics.fit import check_kernel, coded_for, fit
from leftout.dynamics.rules import Logistic
from leftout.kernels import assemble
from leftout.kernels.network.empirical import Empirical

LEAST_SHARE = 0.01
"""Of the mean diagonal: the smallest ridge, also where the network fits closer than the kernel does at it."""

POWERS = (math.log10(LEAST_SHARE), 3.0)
"""Powers of ten between which the share is sought."""

DIGITS = 0.02
"""How well the power is found: 5 % of the ridge."""


def ridge_from_loss(
    kernel: Empirical,
    train: Data,
    *,
    device: torch.device | str | None = None,
    memory: int | str | None = None,
) -> float:
    """Return a ridge for a classifier at its trained weights, where nothing else is known of its training.

    On the 38 networks of docs/networks.md its answers were as good as those at the ridge of `training_ridge`,
    which needs the training, and better than those at a fixed share of the diagonal.

    Args:
        kernel: `Empirical(module)` at its trained weights, of an architecture that `lo.kernels.of` knows.
        train: the examples that it was trained on.
        device, memory: as for `fit`.

    Returns:
        λ for `Logistic(λ)` with that kernel, in the units of its diagonal, for a loss that is a sum.

    Raises:
        OptionError: no trained network, an architecture without a kernel, or a network that has learned
            nothing from the examples.

    Cost:
        some ten fits of an n × n kernel by cross-entropy.

    Example:
        >>> import leftout as lo, torch
        >>> train, _ = lo.load("digits", n_train=60, n_query=10, normalise="sphere")
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU(),
        ...                               torch.nn.Linear(16, 10))
        >>> optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
        >>> for step in range(60):
        ...     optimiser.zero_grad()
        ...     torch.nn.functional.cross_entropy(network(train.inputs.float()), train.labels).backward()
        ...     optimiser.step()
        >>> 0.1 < lo.ridge_from_loss(lo.kernels.Empirical(network), train) < 1000
        True
    """
    check_kernel(kernel)
    rule = Logistic(1.0)
    examples = coded_for(kernel, rule, examples_of(train, name="train"))
    wide = architecture_kernel(kernel, rule, examples)
    target = rule.example_loss.mean(kernel.initial(examples.inputs).cpu(), examples.targets.cpu())
    fitted = fit(wide, examples, rule=rule, device=device, memory=memory)
    diagonal = float(fitted.gram.diagonal().mean())

    def excess(power: float) -> float:
        logits = fitted.with_rule(Logistic(10**power * diagonal)).logistic.logits.cpu()
        return rule.example_loss.mean(logits, examples.targets.cpu()) - target

    own = float(assemble.diagonal(kernel, examples.inputs, dtype=kernel.dtype).mean())
    least, largest = POWERS
    if excess(least) >= 0:
        return LEAST_SHARE * own
    if (high := excess(largest)) < 0:
        raise OptionError(
            "`kernel` must be of a network that has learned from `train`; its mean loss on them is "
            f"{number(target)}, and the kernel of its architecture has {number(high + target)} at a ridge of "
            "1000 times its mean diagonal, which learns next to nothing."
        )
    return own * 10 ** float(brentq(excess, least, largest, xtol=DIGITS))

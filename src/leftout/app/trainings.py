"""Which network is really trained, beside the model that speaks for it? The one that its kernel is of."""

import math
import warnings
from pathlib import Path

import torch
from torch import nn

from leftout.core.errors import NotConvergedWarning, OptionError
from leftout.curation.prune import Pruned
from leftout.curation.prune_check import PruneCheck, prune_check
from leftout.data.examples import Examples
from leftout.diagnostics.linearisation import TOLERANCE
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import GradientDescent, Ridge
from leftout.dynamics.train import train
from leftout.dynamics.two_layer import TwoLayerNetwork
from leftout.kernels.empirical import Empirical
from leftout.kernels.two_layer_relu import TwoLayerReLU


def pruned_again(
    fitted: Fitted,
    query: Examples,
    found: Pruned,
    module: nn.Module,
    *,
    most: int | None = None,
    jobs: int | None = None,
    out: Path | None = None,
) -> PruneCheck:
    """Return a removal curve beside that of a network trained again on what remains.

    Args:
        found: of the fitted model, at the queries.
        module: as it is before training.
        most: trainings without examples, spread over the counts; at all of them if not said.
        jobs, out: as for `retrain`.

    Raises:
        OptionError: a rule that a network cannot follow, or no step to take.
    """
    rule = fitted.rule
    if not isinstance(rule, Ridge | GradientDescent):
        raise OptionError(
            "A network is trained again under Ridge or GradientDescent, which it can follow (--rule "
            f"ridge or descent); got {rule!r}. A flow is descent at a small rate."
        )
    steps = None if found.time == math.inf else int(found.time)
    if steps == 0:
        raise OptionError("A network is trained again for at least one step; got at = 0.")
    with warnings.catch_warnings():
        if steps is not None:  # so many steps were asked for, not convergence
            warnings.simplefilter("ignore", NotConvergedWarning)
        trained = train(
            module, fitted.train, rule=rule, steps=steps, memory=fitted.memory,
            tolerance=TOLERANCE if steps is None else None,
        )  # fmt: skip
        return prune_check(
            found, trained, query, counts=_spread(found.counts, most), jobs=jobs, out=out
        )


def network_of(fitted: Fitted, *, width: int, seed: int) -> nn.Module:
    """Return the network of a kernel as it is before training; of a two-layer kernel one of a width.

    That one starts from f_0 = 0, as the kernel model does, at a scale at which few gates switch.

    Raises:
        OptionError: the kernel of another infinitely wide network.
    """
    if isinstance(fitted.kernel, Empirical):
        return fitted.kernel.module
    if not isinstance(fitted.kernel, TwoLayerReLU):
        raise OptionError(
            "--retrain needs --model, or --kernel two-layer-relu, whose network it can make itself."
        )
    return TwoLayerNetwork(
        width, fitted.train.inputs[0].numel(), fitted.outputs,
        scale=1.0, antisymmetric=True, generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip


def _spread(counts: tuple[int, ...], most: int | None) -> list[int]:
    """Return 0 and at most so many of the other counts, the last among them."""
    first, *others = counts
    if most is not None and most < len(others):
        others = [others[-1 - round(j * len(others) / most)] for j in reversed(range(most))]
    return [first, *others]

"""The removal curve of the network itself, trained again on what remains, beside that of its kernel model."""

from pathlib import Path

import torch
from torch import nn

from leftout.core.errors import OptionError
from leftout.curation.prune import Pruned
from leftout.curation.prune_check import PruneCheck, prune_check
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.follow import follow
from leftout.dynamics.two_layer import TwoLayerNetwork
from leftout.dynamics.weights_check import check_starts_here
from leftout.kernels.network.empirical import Empirical
from leftout.kernels.wide.two_layer_relu import TwoLayerReLU


def retrained_removal_curve(
    fitted: Fitted,
    query: Examples,
    removal: Pruned,
    module: nn.Module,
    *,
    most: int | None = None,
    jobs: int | None = None,
    out: Path | None = None,
) -> PruneCheck:
    """Return a removal curve beside that of a network trained again on what remains.

    Args:
        removal: of the fitted model, at the queries.
        module: as it is before training.
        most: trainings without examples, spread over the counts; at all of them if None.
        jobs, out: as for `retrain`.

    Raises:
        OptionError: a rule that a network cannot follow, or no step to take.
    """
    trained = follow(fitted, module, removal.time)
    counts = _spread_counts(removal.counts, most)
    return prune_check(removal, trained, query, counts=counts, jobs=jobs, out=out)


def initial_network(fitted: Fitted, *, width: int, seed: int) -> nn.Module:
    """Return the network of a kernel before training; of the two-layer kernel, one of this width.

    That one starts from f_0 = 0, as the kernel model does, at a scale at which few gates switch.

    Raises:
        OptionError: the kernel of another infinitely wide network, or of trained weights.
    """
    check_starts_here(fitted.kernel, "training it again")
    if isinstance(fitted.kernel, Empirical):
        return fitted.kernel.module
    if not isinstance(fitted.kernel, TwoLayerReLU):
        raise OptionError(
            "--retrain needs --model, or --kernel two-layer-relu, whose network it can make itself."
        )
    return TwoLayerNetwork(
        width,
        fitted.train.inputs[0].numel(),
        fitted.outputs,
        scale=1.0,
        antisymmetric=True,
        generator=torch.Generator().manual_seed(seed),
    )


def _spread_counts(counts: tuple[int, ...], most: int | None) -> list[int]:
    """Return 0 and at most so many of the other counts, the last among them."""
    zero, *removals = counts
    if most is not None and most < len(removals):
        removals = [removals[-1 - round(j * len(removals) / most)] for j in reversed(range(most))]
    return [zero, *removals]

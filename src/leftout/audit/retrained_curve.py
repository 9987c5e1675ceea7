"""Which network is really trained, beside the model that speaks for it? The one that its kernel is of."""

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
from leftout.kernels.network.empirical import Empirical
from leftout.kernels.wide.two_layer_relu import TwoLayerReLU


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
    trained = follow(fitted, module, found.time)
    counts = _spread(found.counts, most)
    return prune_check(found, trained, query, counts=counts, jobs=jobs, out=out)


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
        width,
        fitted.train.inputs[0].numel(),
        fitted.outputs,
        scale=1.0,
        antisymmetric=True,
        generator=torch.Generator().manual_seed(seed),
    )


def _spread(counts: tuple[int, ...], most: int | None) -> list[int]:
    """Return 0 and at most so many of the other counts, the last among them."""
    first, *others = counts
    if most is not None and most < len(others):
        others = [others[-1 - round(j * len(others) / most)] for j in reversed(range(most))]
    return [first, *others]

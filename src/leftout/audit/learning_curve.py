"""The learning curve of an audit: error and accuracy up to four times the examples.

A rule with training time has the spectrum already, and the curve is that of all examples. Under ridge there
is none: half of the examples then tell the shape of the curve, an eighth of the work, and the exact left-out
error of all, which an audit has anyway, says where it starts.
"""

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.errors import NotPositiveError
from leftout.diagnostics.learning_curve.learning_curve import FEWEST, learning_curve
from leftout.diagnostics.learning_curve.record import LearningCurve
from leftout.diagnostics.learning_curve.subsamples import takes_half
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import SpectralRule

STEPS = 4
"""Sizes asked for, each a root of two more: up to four times the examples."""


def audit_learning_curve(
    fitted: Fitted, out_of_sample: Float64[Tensor, "n k"], *, seed: int
) -> tuple[LearningCurve | None, str]:
    """Return the learning curve up to four times the examples, at the end of training.

    Args:
        out_of_sample: predictions of the training examples, each by the model without it; under ridge, where
            there is one time of training, the curve starts there.

    Returns:
        None and the reason where there is none: too few examples, nothing to learn, or no end of training
        to be left out of, as of a matrix that is singular without ridge, or that labels made indefinite.

    Cost:
        under ridge the spectrum of half of the examples, 18 (r/2)³ in all; else 9r³ beside the spectrum.
    """
    if not isinstance(fitted.rule, SpectralRule):
        return None, f"It is a theorem about squared loss; this is {fitted.rule.example_loss.name}."
    if fitted.tilt is not None:
        return (
            None,
            "Trained weights have seen all examples: there is no model of fewer of them to start from.",
        )
    n = len(fitted)
    if fitted.is_tiled:
        return None, "It takes the spectrum of half of the examples, which does not fit the memory."
    halved = takes_half(fitted.rule)
    fewest = FEWEST * (2 if halved else 1)
    if n < fewest or not bool(fitted.residual.any()):
        return None, f"It takes {fewest} examples or more that are not all alike."
    sizes = [round(n * 2 ** (step / 2)) for step in range(1, STEPS + 1)]
    try:
        if not halved:
            return learning_curve(fitted, sizes, seed=seed), ""
        curve = learning_curve(_half(fitted, seed), [n, *sizes], seed=seed)
    except NotPositiveError as error:
        return None, str(error)
    return curve.rescale_to(out_of_sample, fitted.train), ""


def _half(fitted: Fitted, seed: int) -> Fitted:
    """Return the model of half of the examples; no kernel is evaluated again."""
    n = len(fitted)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed), device="cpu")
    held = order[: (n + 1) // 2].sort().values
    return fitted.subset(held)

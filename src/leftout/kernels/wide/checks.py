"""Checks of the options that kernels of deep networks share."""

import operator
from typing import get_args

from leftout.core.checks import check_choice
from leftout.core.errors import OptionError
from leftout.kernels.layers.dense import check_variances_given
from leftout.kernels.wide.options import Kind


def check_network(depth: int, weight_variance: float, bias_variance: float, kind: str) -> None:
    """Raise unless these describe a network: layers to count, variances, a known kind."""
    try:
        layers = operator.index(depth)
    except TypeError:
        layers = 0
    if layers < 1 or isinstance(depth, bool):
        raise OptionError(
            f"`depth` must be a whole number of hidden layers, at least 1; got {depth!r}. "
            "The readout is not counted."
        )
    check_variances_given(weight_variance, bias_variance)
    check_choice("kind", kind, get_args(Kind))

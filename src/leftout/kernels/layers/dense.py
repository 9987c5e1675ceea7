"""A fully connected layer, z' = √(w / fan-in) W z + √b β with standard normal W and β, all of them trained.

    K' = w K + b,        T' = w T + K'

In gap and total a bias is a part of covariance b (`leftout.kernels.layers.covariance`): D' = w D + e and
S' = w S + 2 b + e. No digit of a small gap is lost.
"""

from dataclasses import dataclass, replace
from typing import final

from torch import Tensor

from leftout.core.checks import check_at_least, check_positive
from leftout.kernels.layers.covariance import Covariance, sum_excess
from leftout.kernels.layers.layer import WeightedLayer
from leftout.kernels.layers.state import State, Variances


@final
@dataclass(frozen=True)
class Dense(WeightedLayer):
    """A fully connected layer of random weights, with infinitely many units.

    Args:
        weight_variance: times fan-in; 2 is He's.
        bias_variance: 0 for no biases.

    Raises:
        OptionError: a variance that is negative, or no weights.

    Source:
        Jacot, Gabriel & Hongler 2018, "Neural tangent kernel".

    Example:
        >>> import leftout as lo
        >>> from leftout.kernels.layers import Dense, Relu
        >>> lo.kernels.serial(Dense(), Relu(), Dense()) == lo.kernels.ReLU(1).architecture
        True
    """

    weight_variance: float = 2.0
    bias_variance: float = 0.0

    axes = "rows"

    def __post_init__(self) -> None:
        check_variances_given(self.weight_variance, self.bias_variance)

    def __call__(self, state: State, variances: Variances, *, pairs_later: bool = False) -> State:
        w, b = self.weight_variance, self.bias_variance
        before = state.covariance
        if not before.keeps_gap or b == 0:
            return behind_weights(state, _plus(before.times(w), b), state.tangent, w)
        x, z = (w * side for side in variances.over_pairs(before))
        gap, total = before.times(w).held_gap
        both = (gap + total).div_(2).add_(b)
        excess = sum_excess((x, z), (x.new_full((), b), z.new_full((), b)), both)
        after = before.with_gap(gap.add_(excess), total.add_(excess).add_(2 * b))
        return behind_weights(state, after, state.tangent, w)


def check_variances_given(weight_variance: float, bias_variance: float) -> None:
    """Raise unless these are variances of a layer's weights and biases."""
    check_positive("weight_variance", weight_variance)
    check_at_least("bias_variance", bias_variance, 0)


def behind_weights(state: State, covariance: Covariance, tangent: Tensor | None, factor: float) -> State:
    """Return the state behind weights that are trained: T' = factor · T + K'."""
    if not state.trained:
        return replace(state, covariance=covariance)
    after = covariance.k12 if tangent is None else (tangent * factor).add_(covariance.k12)
    return replace(state, covariance=covariance, tangent=after)


def _plus(covariance: Covariance, bias_variance: float) -> Covariance:
    """Return covariances held as K12, or without a bias."""
    if bias_variance == 0:
        return covariance
    return covariance.with_value(covariance.k12.add_(bias_variance))

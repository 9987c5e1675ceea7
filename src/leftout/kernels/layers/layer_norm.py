"""Division of all channels by their standard deviation: K' = K12 / √((K11 + ε)(K22 + ε)), T' likewise.

In the limit the standard deviation over channels is no random number but √K11, and the mean that is taken
away is 0, as sums over random weights have it. Weights that multiply channels afterwards stay 1, and biases
0: they are not trained.
"""

from dataclasses import dataclass
from typing import Literal, final

from leftout.core.checks import check_at_least, check_choice
from leftout.kernels.layers.layer import Layer
from leftout.kernels.layers.state import State, Variances


@final
@dataclass(frozen=True)
class LayerNorm(Layer):
    """Normalisation of every input by the standard deviation of its own units.

    Args:
        epsilon: added to variances.
        over: "channels", at every position by itself, or "all", channels and positions together.

    Source:
        Yang et al. 2019, "A mean field theory of batch normalization", for normalisation in the limit; as in
        neural-tangents.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> from leftout.kernels.layers import Dense, LayerNorm
        >>> lo.kernels.serial(Dense(), LayerNorm(0.0), kind="nngp").block(torch.eye(2), torch.ones(1, 2))
        tensor([[0.7071],
                [0.7071]])
    """

    epsilon: float = 1e-5
    over: Literal["channels", "all"] = "channels"

    asks_variances = True
    needs_gaussian = True
    homogeneous = False

    def __post_init__(self) -> None:
        check_at_least("epsilon", self.epsilon, 0)
        check_choice("over", self.over, ("channels", "all"))

    def __call__(self, state: State, variances: Variances, *, pairs_later: bool = False) -> State:
        x, z = variances.over_pairs(state.covariance)
        if self.over == "all" and state.covariance.positions != "none":
            # The axes of positions of each side: of x the first two, of z the last two of pairs of positions.
            x = x.mean((0, 1), keepdim=True)
            z = z.mean((2, 3) if state.covariance.positions == "pairs" else (0, 1), keepdim=True)
        factor = (x + self.epsilon).rsqrt() * (z + self.epsilon).rsqrt()
        return state.after(state.covariance.times(factor), factor)

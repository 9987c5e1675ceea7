"""The kernels of infinitely wide networks of tanh units, by a series: there is no closed form."""

from dataclasses import dataclass
from typing import final

from leftout.core.errors import OptionError
from leftout.kernels.layers.tanh import LARGEST
from leftout.kernels.layers.tanh import Tanh as TanhLayer
from leftout.kernels.wide.deep import Deep


@final
@dataclass(frozen=True)
class Tanh(Deep):
    """The kernel of an infinitely wide fully connected tanh network, in neural-tangents' conventions.

    Args, errors:
        as of `Deep`; weight_variance + bias_variance at most 32.

    Cost:
        One product, and for each hidden layer 81 s multiply-adds a pair, twice that for "ntk", s the
        largest variance of a pre-activation: 160 where inputs have norm √d and the weights variance 2.

    Accuracy:
        In units of sqrt(k(x, x) k(z, z)): what is cut off is below 1e-15 for "nngp" and 1e-13 for
        "ntk"; rounding adds 4 (depth + 1)(1 + √p) ε, p the degree, with ε of the dtype. Both are
        smooth in ρ at 1, so nearly equal inputs lose nothing.

    Source:
        Neal 1996, "Bayesian learning for neural networks", chapter 2 (the limit of one hidden layer);
        the series is Mehler's; truncation and step are derived here.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> x = torch.tensor([[0.6, 0.8], [0.8, -0.6]])
        >>> lo.kernels.Tanh(depth=1, bias_variance=0.1).block(x, x)
        tensor([[1.9079, 0.2386],
                [0.2386, 1.9079]])
    """

    name = "tanh"
    activation = TanhLayer()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight_variance + self.bias_variance > LARGEST:
            raise OptionError(
                f"`weight_variance` + `bias_variance` must be at most {LARGEST:g}, the largest variance "
                f"that the series of tanh is made for; got {self.weight_variance:g} + "
                f"{self.bias_variance:g}."
            )

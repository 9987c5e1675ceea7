"""From which variances are the weights of a layer drawn? Those of He, of Xavier, of PyTorch, or those it has.

Of a layer with fan-in n weights to a unit and fan-out m, times fan-in:

    he          2, biases 0
    xavier      2 n / (n + m), biases 0
    pytorch     1/3, biases 1 / 3n         uniform between ±1/√n, the default of Linear and Conv2d
    measured    n times the mean square of the weights, the mean square of the biases

A layer without biases has none.
"""

from dataclasses import dataclass

from torch import nn

from leftout.core.checks import check_at_least, check_positive
from leftout.core.errors import OptionError
from leftout.kernels.module.options import Initialisation

NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class Variances:
    """Variances of weights, times fan-in, and of biases.

    Attributes:
        weight, bias: of all layers, whatever the initialisation says; None for what that says.
    """

    initialisation: Initialisation
    weight: float | None
    bias: float | None

    def __post_init__(self) -> None:
        if self.weight is not None:
            check_positive("weight_variance", self.weight)
        if self.bias is not None:
            check_at_least("bias_variance", self.bias, 0)

    def of(self, layer: nn.Linear | nn.Conv2d, name: str) -> tuple[float, float]:
        """Return the variances of a layer, called `name` in messages."""
        weight, bias = self._of_initialisation(layer)
        weight = weight if self.weight is None else self.weight
        bias = bias if self.bias is None else self.bias
        if weight == 0:
            raise OptionError(f"`module` must have weights that are not all 0; those of {name} are.")
        return weight, 0.0 if layer.bias is None else bias

    def check_normalisation(self, layer: nn.Module, name: str) -> None:
        """Raise if weights are those measured, and a normalisation is not as it was before training."""
        if self.initialisation != "measured" or not isinstance(layer, NORMALISATIONS):
            return
        for key, number in (("running_mean", 0), ("running_var", 1), ("weight", 1), ("bias", 0)):
            values = getattr(layer, key, None)
            if values is not None and bool((values != number).any()):
                raise OptionError(
                    f'`module` must have normalisations as they are before training, with "measured": {key} '
                    f"of {name} is not {number}, and the kernel would not have it. Take another "
                    "initialisation, or Empirical(module), which takes any network as it is."
                )

    def _of_initialisation(self, layer: nn.Linear | nn.Conv2d) -> tuple[float, float]:
        outputs, fan_in = layer.weight.shape[0], layer.weight[0].numel()
        if self.initialisation == "he":
            return 2.0, 0.0
        if self.initialisation == "pytorch":
            return 1 / 3, 1 / (3 * fan_in)
        if self.initialisation == "xavier":
            fan_out = outputs * layer.weight[0, 0].numel()
            return 2 * fan_in / (fan_in + fan_out), 0.0
        weight = float(layer.weight.detach().double().square().mean()) * fan_in
        bias = 0.0 if layer.bias is None else float(layer.bias.detach().double().square().mean())
        return weight, bias

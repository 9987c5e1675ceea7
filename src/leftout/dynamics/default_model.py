"""What goes with a kernel where nothing else is said: scaling of inputs, columns to leave out, and ridge.

`lo.audit(data)` and every command take their defaults from here:

    no kernel            ReLU(2, bias_variance=0.3) of inputs standardised column by column, columns of one
                         value left out, at the ridge of least exact left-out loss
    no kernel, a time    TwoLayerReLU() of inputs of norm 1: rates and times are in units of a kernel
    a kernel             inputs scaled as it asks, and a ridge of 1
    a time               gradient flow in place of a ridge
"""

from dataclasses import dataclass
from typing import Any

from leftout.data.examples import Examples
from leftout.data.load import load
from leftout.dynamics.options import AUTO, Loss
from leftout.dynamics.rules import GradientFlow, Ridge, Rule
from leftout.kernels.base import Normalise
from leftout.kernels.label_dependent import AnyKernel
from leftout.kernels.wide.default import DEFAULT_KERNEL, DEFAULT_NORMALISE
from leftout.kernels.wide.two_layer_relu import TwoLayerReLU


@dataclass(frozen=True)
class ModelDefaults:
    """A kernel with what goes with it.

    Attributes:
        kernel: the one that was named, or the default.
        normalise: scaling of inputs.
        drop_constant: whether columns of one value are left out.
        rule: the one that is taken where none is given.
    """

    kernel: AnyKernel
    normalise: Normalise | None
    drop_constant: bool
    rule: Rule

    def load(self, data: Any, **options: Any) -> tuple[Examples, Examples]:
        """Return training examples and queries, scaled for the kernel unless an option says otherwise."""
        return load(data, **{"normalise": self.normalise, "drop_constant": self.drop_constant} | options)


def defaults_for(kernel: AnyKernel | None, *, over_time: bool = False, loss: Loss = "sum") -> ModelDefaults:
    """Return what goes with a kernel; None takes the default kernel.

    Args:
        loss: of the rule, "sum" or "mean".
        over_time: whether training is followed over its time, by a rule that has one or a time asked for.
    """
    if kernel is None and not over_time:
        return ModelDefaults(DEFAULT_KERNEL, DEFAULT_NORMALISE, drop_constant=True, rule=Ridge(AUTO, loss))
    kernel = TwoLayerReLU() if kernel is None else kernel
    rule = GradientFlow(loss=loss) if over_time else Ridge(loss=loss)
    return ModelDefaults(kernel, kernel.normalise, drop_constant=False, rule=rule)

"""Layers of infinitely wide networks: what each does to the covariance of two inputs and to the tangent
kernel.

`leftout.kernels.serial` puts them behind each other and makes the kernel of the network. Conventions are
those of neural-tangents: a weight is drawn with `weight_variance` over fan-in, a bias with `bias_variance`,
and in training each parameter moves in proportion to its initial variance.
"""

from typing import TYPE_CHECKING

from leftout.core.exports import exports

if TYPE_CHECKING:
    from leftout.kernels.layers.activation import Activation as Activation
    from leftout.kernels.layers.batch_norm import BatchNorm as BatchNorm
    from leftout.kernels.layers.conv import Conv as Conv
    from leftout.kernels.layers.dense import Dense as Dense
    from leftout.kernels.layers.erf import Erf as Erf
    from leftout.kernels.layers.flatten import Flatten as Flatten
    from leftout.kernels.layers.gelu import Gelu as Gelu
    from leftout.kernels.layers.layer_norm import LayerNorm as LayerNorm
    from leftout.kernels.layers.pool import AveragePool as AveragePool
    from leftout.kernels.layers.pool import GlobalAveragePool as GlobalAveragePool
    from leftout.kernels.layers.relu import Abs as Abs
    from leftout.kernels.layers.relu import LeakyRelu as LeakyRelu
    from leftout.kernels.layers.relu import Relu as Relu
    from leftout.kernels.layers.residual import Residual as Residual
    from leftout.kernels.layers.scale import Scale as Scale
    from leftout.kernels.layers.sine import Cosine as Cosine
    from leftout.kernels.layers.sine import Sine as Sine
    from leftout.kernels.layers.tanh import Tanh as Tanh
else:
    __all__, __getattr__, __dir__ = exports(__spec__)

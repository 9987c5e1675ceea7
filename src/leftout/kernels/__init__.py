"""How alike are two inputs to a network? Kernels, and the matrices made of them."""

from leftout.kernels.base import Kernel as Kernel
from leftout.kernels.callable import From as From
from leftout.kernels.erf import Erf as Erf
from leftout.kernels.precomputed import Precomputed as Precomputed
from leftout.kernels.relu import ReLU as ReLU
from leftout.kernels.two_layer_relu import TwoLayerReLU as TwoLayerReLU

"""How alike are two inputs to a network? Kernels, and the matrices made of them."""

from leftout.kernels.arc_cosine import ArcCosine as ArcCosine
from leftout.kernels.base import Kernel as Kernel
from leftout.kernels.callable import From as From
from leftout.kernels.convolutional import ConvReLU as ConvReLU
from leftout.kernels.empirical import Empirical as Empirical
from leftout.kernels.erf import Erf as Erf
from leftout.kernels.hierarchy import NeuralTangentHierarchy as NeuralTangentHierarchy
from leftout.kernels.label_aware import LabelAware as LabelAware
from leftout.kernels.pair_sketch import Sketch as Sketch
from leftout.kernels.precomputed import Precomputed as Precomputed
from leftout.kernels.projection import Gaussian as Gaussian
from leftout.kernels.projection import Rademacher as Rademacher
from leftout.kernels.projection import RandomCoordinates as RandomCoordinates
from leftout.kernels.projection import Sparse as Sparse
from leftout.kernels.relu import ReLU as ReLU
from leftout.kernels.tanh import Tanh as Tanh
from leftout.kernels.two_layer import TwoLayer as TwoLayer
from leftout.kernels.two_layer_relu import TwoLayerReLU as TwoLayerReLU

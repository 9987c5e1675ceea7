"""How alike are two inputs to a network? Kernels, and the matrices made of them."""

from typing import TYPE_CHECKING

from leftout.core.exports import exports

if TYPE_CHECKING:
    from leftout.kernels import layers as layers
    from leftout.kernels.assemble import cross as cross
    from leftout.kernels.assemble import gram as gram
    from leftout.kernels.base import Kernel as Kernel
    from leftout.kernels.callable import From as From
    from leftout.kernels.fused.library import use_code as use_code
    from leftout.kernels.hierarchy.hierarchy import NeuralTangentHierarchy as NeuralTangentHierarchy
    from leftout.kernels.hierarchy.one_network import network_hierarchy as network_hierarchy
    from leftout.kernels.layers.residual import residual as residual
    from leftout.kernels.linear_features import LinearFeatures as LinearFeatures
    from leftout.kernels.matrix_folder import MatrixPlan as MatrixPlan
    from leftout.kernels.matrix_folder import compute as compute
    from leftout.kernels.matrix_folder import open_matrix as open_matrix
    from leftout.kernels.matrix_folder import plan_matrix as plan_matrix
    from leftout.kernels.module.of_module import of as of
    from leftout.kernels.network.empirical import Empirical as Empirical
    from leftout.kernels.network.projection import Gaussian as Gaussian
    from leftout.kernels.network.projection import Rademacher as Rademacher
    from leftout.kernels.network.projection import RandomCoordinates as RandomCoordinates
    from leftout.kernels.network.projection import Sparse as Sparse
    from leftout.kernels.pairwise.label_aware import LabelAware as LabelAware
    from leftout.kernels.pairwise.sketch import Sketch as Sketch
    from leftout.kernels.precomputed import Precomputed as Precomputed
    from leftout.kernels.wide.arc_cosine import ArcCosine as ArcCosine
    from leftout.kernels.wide.architecture import Architecture as Architecture
    from leftout.kernels.wide.architecture import serial as serial
    from leftout.kernels.wide.conv_relu import ConvReLU as ConvReLU
    from leftout.kernels.wide.erf import Erf as Erf
    from leftout.kernels.wide.relu import ReLU as ReLU
    from leftout.kernels.wide.tanh import Tanh as Tanh
    from leftout.kernels.wide.two_layer import TwoLayer as TwoLayer
    from leftout.kernels.wide.two_layer_relu import TwoLayerReLU as TwoLayerReLU
else:
    __all__, __getattr__, __dir__ = exports(__spec__)

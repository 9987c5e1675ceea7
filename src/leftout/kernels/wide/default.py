"""The kernel that is taken where none is named, and the scaling of inputs that goes with it.

A wide ReLU network with two hidden layers and biases, of inputs standardised column by column, pictures by
one number for all: right for columns in different units, for rows of any norm, and for zero. Measured by
`benchmarks/defaults.py`.
"""

from leftout.kernels.base import Normalise
from leftout.kernels.wide.relu import ReLU

DEFAULT_KERNEL = ReLU(2, bias_variance=0.3)

DEFAULT_NORMALISE: Normalise = "standard"

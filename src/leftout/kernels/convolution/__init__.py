"""The kernels of convolutional ReLU networks with as many channels as can be."""

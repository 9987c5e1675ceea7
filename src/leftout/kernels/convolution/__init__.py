"""The kernels of convolutional ReLU networks with infinitely many channels."""

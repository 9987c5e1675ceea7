"""The kernels of infinitely wide fully connected networks."""

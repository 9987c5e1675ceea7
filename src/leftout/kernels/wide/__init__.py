"""The kernels of fully connected networks as wide as can be."""

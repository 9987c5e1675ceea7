"""Kernels of wide (leaky) ReLU networks in C: all layers of a pair while its numbers are in a cache."""

"""Kernels that see labels, by regression on pairs of training examples."""

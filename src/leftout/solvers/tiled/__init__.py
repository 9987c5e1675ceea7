"""Exact solutions of more examples than a matrix of them fits the memory: one triangle of it, in tiles."""

"""Rethinking Influence Functions of Neural Networks in the Over-parameterized Regime, run again."""

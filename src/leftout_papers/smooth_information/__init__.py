"""Estimating Informativeness of Samples with Smooth Unique Information, run again."""

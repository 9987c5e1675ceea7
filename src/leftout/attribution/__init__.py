"""What was left out? Exact effects of removing, relabelling, reweighting and adding examples."""

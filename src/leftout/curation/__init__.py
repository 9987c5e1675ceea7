"""Training examples worth inspecting, and why: suspects, outliers, redundant examples, sources."""

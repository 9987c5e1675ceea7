"""The tangent kernel of a PyTorch network at its present weights, exact or projected."""

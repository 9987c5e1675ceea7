"""The tangent kernel of a PyTorch network as it is, exact or projected."""

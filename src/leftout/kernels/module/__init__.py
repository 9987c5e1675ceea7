"""Reading a PyTorch module as layers of an infinitely wide network."""

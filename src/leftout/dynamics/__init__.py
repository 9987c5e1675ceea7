"""Training as a function of the spectrum: rules, and the model they fit."""

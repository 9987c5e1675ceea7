"""Ground truth by retraining, and the agreement of scores with it."""

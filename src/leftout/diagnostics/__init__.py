"""What can be trusted, and what can be known about it: bounds, complexity, retraining, agreement."""

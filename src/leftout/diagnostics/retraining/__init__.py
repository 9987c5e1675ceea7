"""Really training again, and agreement with it."""

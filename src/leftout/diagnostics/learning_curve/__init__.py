"""Error and accuracy to be expected of more examples."""

"""Results on disk: scores, tables, records of what made them."""

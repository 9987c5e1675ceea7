"""How far classical influence is from exact influence: bounds and measured errors."""

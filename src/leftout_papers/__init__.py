"""The published tables and figures, run again: measured beside printed."""

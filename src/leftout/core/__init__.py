"""Shared by all layers: errors, checks, memory budgets, progress, fingerprints, files, wording."""

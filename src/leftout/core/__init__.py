"""What every layer shares: errors, checks, blocks under a memory budget, progress, fingerprints."""

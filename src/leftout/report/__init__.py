"""The report: findings as one self-contained HTML page."""

"""Is one method better than another, over draws of images that share nothing?

A paired t-test over draws: what all methods share of a draw, its difficulty, is no difference between them.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import ttest_1samp

from leftout_papers.exhibit import Holds
from leftout_papers.verdicts import SURE

DRAWS = 5
"""Below this many, nothing is said."""


def higher(differences: Sequence[float] | np.ndarray) -> Holds:
    """Return whether differences are above 0: True or False where chance would rarely have it so."""
    found = np.asarray(differences, dtype=float)
    if len(found) < DRAWS or not np.isfinite(found).all() or not np.ptp(found) > 0:
        return "open"
    if ttest_1samp(found, 0.0, alternative="greater").pvalue < SURE:
        return True
    return False if ttest_1samp(found, 0.0, alternative="less").pvalue < SURE else "open"


def said(values: Sequence[float] | np.ndarray, *, sign: bool = False) -> str:
    """Return mean ± standard error over draws."""
    found = np.asarray(values, dtype=float)
    error = found.std(ddof=1) / len(found) ** 0.5 if len(found) > 1 else float("nan")
    return f"{found.mean():{'+' if sign else ''}.2f} ± {error:.2f}"

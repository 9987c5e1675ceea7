"""A paired t-test over disjoint draws of images: is one method better than another?

Pairing removes the difficulty of a draw, which all methods share.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import ttest_1samp

from leftout_papers.exhibit import Holds
from leftout_papers.verdicts import SURE

DRAWS = 5
"""Below this many draws a comparison is "open"."""


def is_higher(differences: Sequence[float] | np.ndarray) -> Holds:
    """Return whether differences are significantly above 0 (True), below it (False), or neither ("open")."""
    gaps = np.asarray(differences, dtype=float)
    if len(gaps) < DRAWS or not np.isfinite(gaps).all() or not np.ptp(gaps) > 0:
        return "open"
    if ttest_1samp(gaps, 0.0, alternative="greater").pvalue < SURE:
        return True
    return False if ttest_1samp(gaps, 0.0, alternative="less").pvalue < SURE else "open"


def format_mean(values: Sequence[float] | np.ndarray, *, sign: bool = False) -> str:
    """Return mean ± standard error over draws."""
    numbers = np.asarray(values, dtype=float)
    error = numbers.std(ddof=1) / len(numbers) ** 0.5 if len(numbers) > 1 else float("nan")
    return f"{numbers.mean():{'+' if sign else ''}.2f} ± {error:.2f}"

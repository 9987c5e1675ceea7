"""Wording that only reports and tables of results need: rules of sign, times, labels, cells, intervals."""

import math

from leftout.core.wording import plain, target_number
from leftout.data.examples import Examples

SIGN_RULE = "positive = the example helped (loss without it minus loss with it)"
MARGIN_RULE = "positive = the left-out model agrees with the given label"


def wilson_interval(share: float, trials: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share seen in so many independent trials."""
    z = 1.959964
    middle = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def short_time(at: float | None, unit: str) -> str:
    """Return a training time as it stands beside a number; None is "never"."""
    if at is None:
        return "never"
    if math.isinf(at):
        return "the end"
    return (f"step {at:g}" if unit == "step" else f"t = {at:g}").replace(" ", "\u00a0")


def label_text(examples: Examples, row: int) -> str:
    """Return the class of an example, or its target numbers, in the units they came in."""
    if examples.classes is not None and examples.labels is not None:
        return plain(examples.classes[int(examples.labels[row])])
    numbers = examples.encoding.in_target_units(examples.targets[row : row + 1])[0].tolist()
    texts = (target_number(target, examples.target_digits) for target in numbers[:4])
    shown = ", ".join(text.replace("-", "−") for text in texts)
    return shown + (f", … ({len(numbers)} outputs)" if len(numbers) > 4 else "")

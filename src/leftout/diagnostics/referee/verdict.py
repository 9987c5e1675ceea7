"""What does an interval say against a number? A sentence: beside chance, and beside the ceiling."""

from collections.abc import Mapping

import numpy as np

from leftout.core.wording import number, number_with_interval, percent

ACCURACY = 0.01
"""How well a ceiling is known beside its interval: it takes ranks for those of normal numbers."""

CHANCE = {"lds": 0.0, "leave_one_out": 0.0, "top_overlap": float("nan"), "wrong_labels_auc": 0.5}
"""What a measure is of scores that know nothing; NaN where that depends on the data."""


def verdict_sentence(measure: str, row: Mapping[str, float]) -> str:
    """Return what an interval says about chance and the ceiling."""
    text = f"{measure.replace('_', ' ')} {number_with_interval(row['estimate'], row['low'], row['high'])}"
    chance = CHANCE[measure]
    if row["low"] <= chance <= row["high"]:
        return f"{text}: not told from chance, {chance:g}."
    if row["high"] < chance:
        return f"{text}: worse than chance, {chance:g}; is the sign turned?"
    if np.isnan(row["ceiling"]):
        return f"{text}; how much noise of training allows is not known from one seed."
    ceiling = number(row["ceiling"])
    if row["share_low"] > 1 + ACCURACY:
        return f"{text}: above {ceiling}, the most that knowledge without this truth allows; was it used?"
    if row["share_high"] >= 1 - ACCURACY:
        return f"{text}: as good as the truth can tell, at most {ceiling}."
    return f"{text}: {percent(row['share'], 0)} of what the truth allows, {ceiling}."

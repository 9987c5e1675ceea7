"""The distributions in a report: mean influence and left-out margins over the training examples."""

from typing import Any

import numpy as np

from leftout.core.wording import signed_number
from leftout.report.example_lists import example
from leftout.report.findings import Findings
from leftout.report.plots import influence_histogram, margin_histogram
from leftout.report.ranking import Ranking
from leftout.report.wording import MARGIN_RULE

AVERAGE = 5
"""Examples shown on either side of the mean influence."""


def distributions(findings: Findings, ranking: Ranking) -> dict[str, Any]:
    """Return the two histograms, and the most helpful and most harmful examples on average."""
    doubted = np.zeros(len(findings.train), bool)
    doubted[[suspect.row for suspect in findings.suspects]] = True
    mean = ranking.mean[-1]
    margins, axis = margins_of(findings)
    margin_plot = margin_histogram(margins, doubted, axis) if findings.doubts_labels else None
    return {
        "margin_rule": MARGIN_RULE,
        "influence_plot": influence_histogram(mean),
        "margin_plot": margin_plot,
        "average": [
            [example(findings, row) | {"mean": signed_number(float(mean[row]), 2)} for row in side]
            for side in _extreme_rows(mean)
        ],
    }


def _extreme_rows(mean: np.ndarray) -> tuple[list[int], list[int]]:
    """Return the rows of largest and of smallest mean influence, where they have that sign."""
    order = np.argsort(-mean, kind="stable")
    helped = [int(row) for row in order[:AVERAGE] if mean[row] > 0]
    harmed = [int(row) for row in order[::-1][:AVERAGE] if mean[row] < 0]
    return helped, harmed


def margins_of(findings: Findings) -> tuple[np.ndarray, str]:
    """Return one left-out margin per training example, and the name of the axis.

    Classes: score of the given class minus the best other. Numbers: target minus prediction, or its
    length where there are several outputs.
    """
    train = findings.train
    if train.classes is not None:
        units = "target units" if findings.label_note else findings.loss.prediction_units
        return findings.margins.numpy(), f"left-out margin: given class minus best other ({units})"
    left_out = findings.at_last_time.out_of_sample.cpu()
    predicted = left_out if findings.label_note else findings.loss.expected(left_out)
    residual = (train.targets - predicted).numpy()
    if residual.shape[1] == 1:
        return residual[:, 0], "left-out residual: target minus prediction (target units)"
    return np.linalg.norm(residual, axis=1), "length of the left-out residual (target units)"

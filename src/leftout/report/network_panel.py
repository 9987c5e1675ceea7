"""Whether the model speaks for the user's own network, in plain words: their gap, or what agrees with it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from leftout.core.wording import count, number, percent
from leftout.diagnostics.linearity.linearisation_gap import LARGE, SMALL, LinearisationGap, RetrainingCheck
from leftout.diagnostics.trust.retrained_answers import Measured
from leftout.report.findings import Findings


def panel(findings: Findings) -> dict[str, Any] | None:
    """Return verdict and numbers; None where no network of the user's own was linearised."""
    if findings.trust is not None or findings.measured:
        return {
            "verdict": "",  # it stands at the top of the page
            "trained": True,
            "rows": [*_trust_rows(findings.trust), *_measured_rows(findings.measured)],
        }
    gap = findings.linearisation_gap
    if gap is None:
        return None
    return {
        "verdict": network_verdict(gap),
        "trained": False,
        "rows": [*_gap_rows(gap), *_class_rows(gap), *_retrained_rows(findings, gap.retraining)],
    }


def network_verdict(gap: LinearisationGap) -> str:
    """Return in a sentence or two how far the model is from the network."""
    if gap.moved == 0:
        return "Training has not moved the predictions yet: the model is the network as it was given."
    share = gap.relative_gap
    if share <= SMALL:
        sentence = (
            "The linearised model speaks for the network: at the weights that it ends with, the network "
            f"itself predicts the same but for {percent(share)} of what training moved."
        )
    elif share <= LARGE:
        sentence = (
            "Take care: at the weights that the linearised model ends with, the network itself differs "
            f"from it by {percent(share)} of what training moved."
        )
    else:
        sentence = (
            "The linearised model does not speak for the network here: at the weights that it ends "
            f"with, the network itself differs from it by {number(share)} times what training moved. "
            "Train less long, with a larger ridge, or fewer of the parameters."
        )
    retrained = gap.retraining
    if retrained is None:
        return (
            f"{sentence} The network was not trained; --retrain-examples N does that, without N examples in "
            "turn."
        )
    return (
        f"{sentence} Trained again without {count(len(retrained.left_out), 'example')}, the network agrees "
        f"with the influence in this report at a correlation of {number(retrained.pearson)}, slope "
        f"{number(retrained.slope)}."
    )


def _gap_rows(gap: LinearisationGap) -> list[tuple[str, str, str]]:
    share = number(gap.relative_gap) if math.isfinite(gap.relative_gap) else "∞"
    return [
        (
            "How far training moves predictions",
            number(gap.moved),
            "Root mean square over queries, in target units: linearised model minus the network as it "
            "was given.",
        ),
        (
            "Gap to the network",
            number(gap.gap),
            "The same, of linearised model minus the network itself at the weights that the model "
            "ends with: what linearising leaves out.",
        ),
        (
            "Gap relative to the move",
            share,
            "0 where the network is linear on its way; 1 where it differs by as much as it moved.",
        ),
    ]


def _trust_rows(trust: xr.Dataset | None) -> list[tuple[str, str, str]]:
    """Return how far two models agree about the queries, and what that was worth on other networks."""
    if trust is None:
        return []
    trusted = int(trust.trusted.sum())
    agreement = trust.agreement.values
    return [
        (
            "Answers to trust",
            f"{trusted} of {trust.sizes['query']}",
            f"Queries of which two models agree by {number(trust.attrs['threshold'], 2)} or more. "
            f"{trust.attrs['per_query']}",
        ),
        (
            "Agreement of two models",
            number(float(np.nanmedian(agreement))) if np.isfinite(agreement).any() else "none",
            "Median over queries of the correlation, over training examples, of leave-one-out by the network "
            f"linearised at its weights and by {trust.attrs['kernel']}, which knows no weight.",
        ),
    ]


def _measured_rows(measured: Sequence[Measured]) -> list[tuple[str, str, str]]:
    """Return what networks said that were trained again."""
    names = {
        "lds": "Groups, by training on halves",
        "leave_one_out": "Single examples, by training without each",
    }
    return [
        (names[each.measure], number(each.estimate), f"{each.sentence.capitalize()} Mean over queries.")
        for each in measured
    ]


def _class_rows(gap: LinearisationGap) -> list[tuple[str, str, str]]:
    if gap.agreement is None:
        return []
    assert gap.accuracy_before is not None
    assert gap.accuracy_linearised is not None
    assert gap.accuracy_network is not None
    return [
        (
            "Same class",
            percent(gap.agreement),
            "Share of queries to which linearised model and network give the same class.",
        ),
        (
            "Accuracy",
            f"{percent(gap.accuracy_linearised)}, {percent(gap.accuracy_network)}",
            "On the queries: of the linearised model, and of the network at its weights; of the "
            f"network as it was given {percent(gap.accuracy_before)}.",
        ),
    ]


def _retrained_rows(findings: Findings, retrained: RetrainingCheck | None) -> list[tuple[str, str, str]]:
    if retrained is None:
        return []
    examples = count(len(retrained.left_out), "example")
    queries = count(len(findings.query), "query", "queries")
    same = "" if retrained.agreement is None else f"; {percent(retrained.agreement)} of queries same class"
    warning = "" if retrained.converged else f" Beware, training fell short: {retrained.trained}"
    return [
        (
            "Gap to the network really trained",
            number(retrained.gap),
            f"Root mean square over queries, in target units{same}.{warning}",
        ),
        (
            "Leave-one-out against retraining",
            f"{number(retrained.pearson)}, {number(retrained.slope)}",
            "Pearson correlation and slope of the influence in this report against that of really "
            f"training again without each of {examples} drawn at random, on {queries}; 1 and 1 are perfect.",
        ),
    ]

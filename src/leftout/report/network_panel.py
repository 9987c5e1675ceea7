"""Does the report speak for the user's own network? The linearised model beside it, in plain words."""

import math
from typing import Any

from leftout.diagnostics.linearity.linearisation_gap import LARGE, SMALL, LinearisationGap, RetrainingCheck
from leftout.report.findings import Findings
from leftout.report.wording import count, number, percent


def panel(findings: Findings) -> dict[str, Any] | None:
    """Return verdict and numbers; None where no network of the user's own was linearised."""
    found = findings.linearisation
    if found is None:
        return None
    return {
        "verdict": verdict(found),
        "rows": [*_gap(found), *_classes(found), *_retrained(findings, found.retraining)],
    }


def verdict(found: LinearisationGap) -> str:
    """Return in a sentence or two how far the model is from the network."""
    if found.moved == 0:
        return "Training has not moved the predictions yet: the model is the network as it was given."
    share = found.relative_gap
    if share <= SMALL:
        said = (
            "The linearised model speaks for the network: at the weights that it ends with, the network "
            f"itself predicts the same but for {percent(share)} of what training moved."
        )
    elif share <= LARGE:
        said = (
            "Take care: at the weights that the linearised model ends with, the network itself differs "
            f"from it by {percent(share)} of what training moved."
        )
    else:
        said = (
            "The linearised model does not speak for the network here: at the weights that it ends "
            f"with, the network itself differs from it by {number(share)} times what training moved. "
            "Train less long, with a larger ridge, or fewer of the parameters."
        )
    again = found.retraining
    if again is None:
        return f"{said} The network was not trained; --verify N does that, without N examples in turn."
    return (
        f"{said} Trained again without {count(len(again.left_out), 'example')}, the network agrees with "
        f"the influence in this report at a correlation of {number(again.pearson)}, slope "
        f"{number(again.slope)}."
    )


def _gap(found: LinearisationGap) -> list[tuple[str, str, str]]:
    share = number(found.relative_gap) if math.isfinite(found.relative_gap) else "∞"
    return [
        (
            "How far training moves predictions",
            number(found.moved),
            "Root mean square over queries, in target units: linearised model minus the network as it "
            "was given.",
        ),
        (
            "Gap to the network",
            number(found.gap),
            "The same, of linearised model minus the network itself at the weights that the model "
            "ends with: what linearising leaves out.",
        ),
        (
            "Gap relative to the move",
            share,
            "0 where the network is linear on its way; 1 where it differs by as much as it moved.",
        ),
    ]


def _classes(found: LinearisationGap) -> list[tuple[str, str, str]]:
    if found.agreement is None:
        return []
    assert found.accuracy_before is not None
    assert found.accuracy_linearised is not None
    assert found.accuracy_network is not None
    return [
        (
            "Same class",
            percent(found.agreement),
            "Share of queries to which linearised model and network give the same class.",
        ),
        (
            "Accuracy",
            f"{percent(found.accuracy_linearised)}, {percent(found.accuracy_network)}",
            "On the queries: of the linearised model, and of the network at its weights; of the "
            f"network as it was given {percent(found.accuracy_before)}.",
        ),
    ]


def _retrained(findings: Findings, again: RetrainingCheck | None) -> list[tuple[str, str, str]]:
    if again is None:
        return []
    left = count(len(again.left_out), "example")
    queries = count(len(findings.query), "query", "queries")
    same = "" if again.agreement is None else f"; {percent(again.agreement)} of queries same class"
    how = "" if again.converged else f" Beware, training fell short: {again.trained}"
    return [
        (
            "Gap to the network really trained",
            number(again.gap),
            f"Root mean square over queries, in target units{same}.{how}",
        ),
        (
            "Leave-one-out against retraining",
            f"{number(again.pearson)}, {number(again.slope)}",
            "Pearson correlation and slope of the influence in this report against that of really "
            f"training again without each of {left} drawn at random, on {queries}; 1 and 1 are perfect.",
        ),
    ]

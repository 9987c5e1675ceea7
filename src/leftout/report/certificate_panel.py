"""How far the numbers of a report can be trusted, and what they do not say: the certificate in plain words.

Every number stands beside a sentence on how to read it; the limits are the same for every audit.
"""

import math
from typing import Any

from leftout.core.wording import count, number, percent, plain, time_phrase
from leftout.report.findings import Findings


def panel(findings: Findings) -> dict[str, Any]:
    """Return the certificate, its refits and the limits of the numbers."""
    return {
        "when": time_phrase(findings.certificate.at, findings.time_unit),
        "rows": [*_errors(findings), *_problem(findings)],
        "refits": refit_rows(findings),
        "limits": limits(findings),
    }


def _errors(findings: Findings) -> list[tuple[str, str, str]]:
    """Return how far the numbers can be from the exact ones."""
    c, units = findings.certificate, findings.loss.prediction_units
    scale = c.scale if c.scale > 0 else math.nan
    return [
        ("Difference from refits", number(c.refit_difference, 2), _refits_reading(findings)),
        (
            "Quadrature bound",
            number(c.quadrature, 2),
            f"Proved: no change of a prediction is further from exact arithmetic because of it, in {units}. "
            + (
                f"Relative to the size of predictions: {number(c.quadrature / scale, 2)}."
                if c.quadrature
                else "0: none was needed."
            ),
        ),
        (
            "Rounding",
            number(c.rounding, 2),
            f"{_rounding_reading(c.dtype, units)} "
            f"Relative to the size of predictions: {number(c.rounding / scale, 2)}.",
        ),
        ("Size of predictions", number(c.scale), f"No prediction can be larger, in {units}."),
    ]


def _rounding_reading(solved_in: str, units: str) -> str:
    if "tiles" in solved_in:
        return f"Measured on the refits: what tiles of few digits changed, in {units}."
    return f"Estimated: what finite precision adds, in {units}."


def _problem(findings: Findings) -> list[tuple[str, str, str]]:
    """Return how hard the problem was, and on what it was solved."""
    c = findings.certificate
    return [
        (
            "Residual of the fit",
            number(c.residual, 2),
            "How well the model solves its own equations; 10⁻¹⁵ is as good as it gets.",
        ),
        (
            "Condition number",
            number(c.condition),
            "About as many digits are lost as this number has zeros; ∞: something is undetermined.",
        ),
        *_smallest(c.smallest),
        (
            "Condition number at this time",
            number(c.effective_condition),
            "The same, counting only what training had reached by then.",
        ),
        (
            "Effective rank",
            number(c.effective_rank),
            f"Directions that the kernel uses, of {len(findings.train)}; few where examples look alike.",
        ),
        *_approximation(findings),
        ("Precision", plain(c.dtype), f"The kernel in {plain(c.kernel_dtype)}, on {plain(c.device)}."),
    ]


def _smallest(eigenvalue: float) -> list[tuple[str, str, str]]:
    """Return the smallest eigenvalue of the kernel matrix, where the answer depends on it."""
    if math.isnan(eigenvalue):
        return []
    reading = "Of the kernel matrix. Negative: a kernel fitted to labels, or rounding."
    return [("Smallest eigenvalue", number(eigenvalue), reading)]


def _approximation(findings: Findings) -> list[tuple[str, str, str]]:
    """Return how far an approximate kernel is from the exact one."""
    measured = findings.certificate.approximation
    if measured is None:
        return []
    sample = count(int(measured["examples"]), "training example")
    return [
        (
            "Approximation of the kernel",
            f"{number(measured['frobenius'], 2)}, {number(measured['spectral'], 2)}",
            f"Relative difference from the exact kernel of all outputs, measured on {sample}: of a "
            "typical entry, and of the largest change of an eigenvalue.",
        )
    ]


def _refits_reading(findings: Findings) -> str:
    difference = findings.certificate.refit_difference
    if math.isnan(difference):
        return "No example was really left out, so nothing here was compared with a refit."
    examples = count(len(findings.certificate.refits), "example was", "examples were")
    text = f"{examples} really left out, and the model fitted again."
    if difference == 0:
        return f"{text} They agree in every digit."
    if findings.one_step:
        return f"{text} One Newton step is within {percent(difference, 1)} of the largest change there."
    digits = math.floor(-math.log10(difference))
    if digits < 3:
        return f"{text} They agree to fewer than 3 digits: read the condition number, and be careful."
    return f"{text} They agree to about {count(digits, 'digit')}."


def refit_rows(findings: Findings) -> list[tuple[str, ...]]:
    """Return the refits as a table; changes with so many digits that agreement can be seen."""
    train, query = findings.train.ids, findings.query.ids
    return [
        (
            plain(train[refit.train]),
            plain(query[refit.query]),
            number(refit.engine, 12),
            number(refit.refit, 12),
            number(refit.difference, 2),
        )
        for refit in findings.certificate.refits
    ]


def limits(findings: Findings) -> tuple[tuple[str, str], ...]:
    """Return the limits of the numbers: each in a few words, and in full."""
    wide = (
        "The model is a kernel model.",
        "It behaves as a very wide network of its kind; a finite one of your own may differ.",
    )
    linear = (
        "The model is your network, linearised.",
        "It bends where the network bends only at the weights it was given. How far the two are apart "
        "is measured where the kernel is exact; how an approximate kernel differs is in the certificate.",
    )
    trained = (
        "The model is your network at its trained weights.",
        "Removals, changes and additions move it as they move the network linearised there. The weights have "
        "seen every label: what they answer for a training example is not what they would without it. "
        + findings.label_note,
    )
    labels = (FITTED_TO_LABELS,) if findings.depends_on_labels else ()
    reason = plain(findings.no_learning_curve, 600)
    no_curve = (("What more data would bring is not said here.", reason),) if reason else ()
    network = trained if findings.is_trained else linear
    first, *others = LIMITS
    first = ONE_STEP if findings.one_step else first
    return (network if findings.of_network else wide, *labels, *no_curve, first, *others)


FITTED_TO_LABELS = (
    "The kernel was fitted to the labels.",
    "Without an example it is another kernel: influence, doubted labels, under-sampled examples and left-out "
    "predictions come from fitting it again without each. What many removals change, kinds within classes, "
    "sources, the time at which examples were learned and the curve of more data keep it as all labels made "
    "it, and may look better than they are.",
)


ONE_STEP = (
    "A removal of one example is one step of Newton's method.",
    "Cross-entropy has no closed form: the difference from refits, above, says how far that is. Groups, "
    "other labels and new examples are fitted until nothing changes.",
)


LIMITS = (
    (
        "Exact means exact for this model.",
        "Another kernel, rule, training time or data set has other numbers.",
    ),
    (
        "Effects do not add up.",
        "Each influence is of one example alone: of two copies each looks dispensable. The removal curve is "
        "computed jointly.",
    ),
    ("A doubted label is a suspicion.", "Often it is wrong, sometimes correct but unusual: look first."),
    (
        "What could go could go for these queries.",
        "New data, or a small group among the queries, may miss it.",
    ),
    (
        "The queries are taken as right.",
        "An example that contradicts a wrongly labelled query looks harmful.",
    ),
    (
        "Preparation is not repeated.",
        "Scaling and centring are not computed again when an example is left out.",
    ),
    ("Influence is not causation in the world.", "It says what this model makes of an example, and not why."),
)

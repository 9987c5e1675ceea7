"""What was audited and how: label and value, in the order in which a report shows them."""

import math
from typing import Any

from leftout.core.version import __version__
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted
from leftout.kernels.label_dependent import FittedLabelKernel
from leftout.storage.action_files import given_label

FITTED_AGAIN = "seen by the kernel, which is fitted again without each example"

FITTED_VALUES = {"name", "estimate", "strength_used", "inputs", "labels", "targets"}
"""What a kernel's record holds of its fit to labels: for machines."""


def audit_settings(fitted: Fitted, query: Examples, times: list[float]) -> dict[str, Any]:
    """Return what was audited and how, in reading order."""
    train = fitted.train
    rule = fitted.rule.record
    choice = fitted.ridge_choice
    doubt = fitted.kernel.doubt if isinstance(fitted.kernel, FittedLabelKernel) else ""
    parameters = ", ".join(f"{k} {v}" for k, v in rule.items() if k not in ("rule", "loss"))
    return {
        "data": train.preparation.get("data", "arrays"),
        "training examples": len(train),
        "queries": len(query),
        "classes": "none (regression)" if train.classes is None else ", ".join(train.classes),
        "inputs": f"{tuple(train.inputs.shape[1:])}, normalise {train.preparation.get('normalise')}",
        "targets": f"centre {train.encoding.centre}",
        **corrections_row(train),
        "kernel": describe_kernel(fitted.kernel.record),
        **({"weights that move": fitted.kernel.part} if fitted.kernel.part else {}),
        **({"labels": FITTED_AGAIN} if fitted.depends_on_labels else {}),
        **({"take care": doubt} if doubt else {}),
        "rule": f"{rule['rule']} ({parameters})",
        **({} if choice is None else {"ridge chosen": choice.text}),
        "loss": f"{rule['loss']} over examples of {fitted.rule.example_loss.formula}",
        "training times": ", ".join("end" if t == math.inf else f"{t:g}" for t in times),
        "precision": f"float64, kernel evaluated in {fitted.record['kernel_dtype']}",
        "device": fitted.device.type,
        "version": f"leftout {__version__}",
    }


CORRECTIONS_SHOWN = 5
"""Corrected labels that the settings name."""


def corrections_row(train: Examples) -> dict[str, str]:
    """Return how many labels were corrected before this audit, and the first of them; nothing without any."""
    corrected = train.preparation.get("corrected")
    if corrected is None:
        return {}
    row_of = {name: row for row, name in enumerate(train.ids)}
    changes = [
        f"{name} from {before} to {given_label(train, row_of[name])}"
        for name, before in list(corrected["before"].items())[:CORRECTIONS_SHOWN]
    ]
    more = ", …" if corrected["changed"] > CORRECTIONS_SHOWN else ""
    listed = f": {', '.join(changes)}{more}" if changes else ""
    return {"corrected labels": f"{corrected['changed']} by {corrected['file']}{listed}"}


def describe_kernel(record: dict[str, Any]) -> str:
    """Return name and parameters of a kernel; of one that builds on another, that one too."""
    parameters = ", ".join(
        f"{name} {_parameter(parameter)}"
        for name, parameter in record.items()
        if name not in FITTED_VALUES and parameter is not None
    )
    return f"{record['name']} ({parameters})" if parameters else str(record["name"])


def _parameter(parameter: Any) -> str:
    if isinstance(parameter, dict) and "name" in parameter:
        return describe_kernel(parameter)
    return f"{parameter:.6g}" if isinstance(parameter, float) else str(parameter)

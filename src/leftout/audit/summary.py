"""What was audited, and how? Label and value, in the order in which a report shows them."""

import math
from typing import Any

from leftout.core.version import __version__
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted
from leftout.kernels.label_dependent import FittedLabelKernel

TAUGHT_AGAIN = "seen by the kernel, which is taught again without each example"


def settings(fitted: Fitted, query: Examples, times: list[float]) -> dict[str, Any]:
    """Return what was audited and how, in reading order."""
    train = fitted.train
    rule = fitted.rule.record
    doubt = fitted.kernel.doubt if isinstance(fitted.kernel, FittedLabelKernel) else ""
    of_rule = ", ".join(f"{k} {v}" for k, v in rule.items() if k not in ("rule", "loss"))
    said = {
        "data": train.preparation.get("data", "arrays"),
        "training examples": len(train),
        "queries": len(query),
        "classes": "none (regression)" if train.classes is None else ", ".join(train.classes),
        "inputs": f"{tuple(train.inputs.shape[1:])}, normalise {train.preparation.get('normalise')}",
        "targets": f"centre {train.encoding.centre}",
        "kernel": kernel_said(fitted.kernel.record),
        **({"labels": TAUGHT_AGAIN} if fitted.depends_on_labels else {}),
        **({"take care": doubt} if doubt else {}),
        "rule": f"{rule['rule']} ({of_rule})",
        "loss": f"{rule['loss']} over examples of ½ Σ (prediction − target)²",
        "training times": ", ".join("end" if t == math.inf else f"{t:g}" for t in times),
        "precision": f"float64, kernel evaluated in {fitted.record['kernel_dtype']}",
        "device": fitted.device.type,
        "version": f"leftout {__version__}",
    }
    return said


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


HIDDEN = {"name", "estimate", "strength_used", "inputs", "labels", "targets"}
"""What a kernel's record holds of what it learned: for machines."""


def kernel_said(record: dict[str, Any]) -> str:
    """Return name and parameters; of a kernel that builds on another, that one too."""
    shown = {k: v for k, v in record.items() if k not in HIDDEN}
    said = ", ".join(
        f"{k} {kernel_said(v) if isinstance(v, dict) and 'name' in v else _short(v)}"
        for k, v in shown.items()
        if v is not None
    )
    return f"{record['name']} ({said})" if said else str(record["name"])

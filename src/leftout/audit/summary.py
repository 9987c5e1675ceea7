"""What was audited and how: label and value, in the order in which a report shows them."""

import math
from pathlib import Path
from typing import Any

from leftout.core.card import Card
from leftout.core.version import __version__
from leftout.core.wording import plain
from leftout.curation.redundant import most_removed
from leftout.curation.subclasses import compared_bytes
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted
from leftout.kernels.label_dependent import FittedLabelKernel
from leftout.kernels.wide.default import DEFAULT_KERNEL
from leftout.report.findings import Findings, ModelAtTime
from leftout.storage.action_files import given_label

FITTED_AGAIN = "seen by the kernel, which is fitted again without each example"

DEFAULT_IN_WORDS = "a wide ReLU network with 2 hidden layers and biases"

FITTED_VALUES = {"name", "estimate", "strength_used", "inputs", "labels", "targets"}
"""What a kernel's record holds of its fit to labels: for machines."""


def audit_settings(fitted: Fitted, query: Examples, times: list[float]) -> dict[str, Any]:
    """Return what was audited and how, in reading order."""
    train = fitted.train
    rule = fitted.rule.record
    choice = fitted.ridge_choice
    doubt = fitted.kernel.doubt if isinstance(fitted.kernel, FittedLabelKernel) else ""
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
        "rule": describe_rule(rule),
        **({} if choice is None else {"ridge chosen": choice.text}),
        "loss": f"{rule['loss']} over examples of {fitted.rule.example_loss.formula}",
        "training times": ", ".join("end" if t == math.inf else f"{t:g}" for t in times),
        "precision": f"{fitted.solved_in}, kernel evaluated in {fitted.record['kernel_dtype']}",
        **_left_out_of_tiles(fitted),
        "device": fitted.device.type,
        "version": f"leftout {__version__}",
    }


def _left_out_of_tiles(fitted: Fitted) -> dict[str, str]:
    """Return what was not looked for in a model that is solved in tiles, as it does not fit the memory."""
    if not fitted.is_tiled:
        return {}
    said = {
        "removal": f"tried of up to {most_removed(fitted):,} examples together: more do not fit the memory"
    }
    labels = fitted.train.labels
    largest = len(fitted) if labels is None else int(labels.bincount().max())
    if compared_bytes(largest) > fitted.memory:
        what = "examples" if labels is None else "examples of the largest class"
        said["small kinds"] = (
            f"not looked for among {largest:,} {what}: comparing them does not fit the memory"
        )
    return said


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


def describe_rule(record: dict[str, Any]) -> str:
    """Return name and parameters of a rule."""
    parameters = ", ".join(f"{k} {v}" for k, v in record.items() if k not in ("rule", "loss"))
    return f"{record['rule']} ({parameters})"


def audit_card(findings: Findings, fitted: Fitted, run: Path | None) -> Card:
    """Return what is shown of an audit: what to know first, the model, what to do, where the report is."""
    last = findings.at_last_time
    lines = []
    if findings.refusal or findings.verdict:
        lines.append(("take care", findings.refusal or findings.verdict))
    if findings.dominant:
        lines.append(("take care", findings.dominant))
    # Python prints nothing by itself: what was taken for granted is said where the audit is shown.
    lines += [("note", note) for note in findings.train.preparation.get("notes", ())]
    record = fitted.record
    lines.append(
        ("model", model_text(record["kernel"], record["rule"], chosen=fitted.ridge_choice is not None))
    )
    lines.append(("how good", _accuracy_text(last.left_out_accuracy, last.query_accuracy, last)))
    if not findings.refusal:
        issues, stop = len(findings.suspects), findings.redundant.stop
        lines.append(
            ("to do", to_do_text(issues if findings.doubts_labels else None, stop, len(findings.train)))
        )
    lines.append(("report", 'audit.report("report.html")' if run is None else str(run / "report.html")))
    return Card(
        data_text("Audit", findings.train.preparation, len(findings.train), len(findings.query)), tuple(lines)
    )


def data_text(what: str, preparation: dict[str, Any], train: int, query: int) -> str:
    """Return the data of an audit, and who drew the queries."""
    drawn = f" drawn by seed {preparation['seed']}" if preparation.get("split") == "by seed" else ""
    name = plain(preparation.get("data", "arrays"))
    return f"{what} of {name}: {train:,} training examples, {query:,} queries{drawn}"


def to_do_text(issues: int | None, removable: int, n: int) -> str:
    """Return how many labels to check, None where none was asked about, and how many examples could go."""
    labels = (
        "labels not asked about"
        if issues is None
        else f"{issues:,} {'label' if issues == 1 else 'labels'} to check ({issues / n:.1%})"
    )
    return f"{labels}; {removable:,} examples could go ({removable / n:.1%})"


def model_text(kernel: dict[str, Any], rule: dict[str, Any], *, chosen: bool) -> str:
    """Return what the model is, from the records of its kernel and rule.

    Args:
        chosen: whether the ridge is the one of least left-out loss.
    """
    network = DEFAULT_IN_WORDS if kernel == DEFAULT_KERNEL.record else describe_kernel(kernel)
    return f"{network}; {describe_rule(rule)}{', of least left-out loss' if chosen else ''}"


def _accuracy_text(left_out: float | None, on_queries: float | None, last: ModelAtTime) -> str:
    if on_queries is None:
        return f"left-out loss {last.left_out_loss:.4g}, on queries {last.query_loss:.4g}"
    before = "" if left_out is None else f"left-out accuracy {left_out:.1%}, "
    return f"{before}on queries {on_queries:.1%}"


def describe_kernel(record: dict[str, Any]) -> str:
    """Return name and parameters of a kernel; of one that builds on another, that one too."""
    parameters = ", ".join(
        f"{name} {_parameter(parameter)}"
        for name, parameter in record.items()
        if name not in FITTED_VALUES and parameter is not None and not _is_list_of_records(parameter)
    )
    return f"{record['name']} ({parameters})" if parameters else str(record["name"])


def _is_list_of_records(parameter: Any) -> bool:
    """Return whether it is a list of layers, which the words of a network stand for."""
    return isinstance(parameter, list) and bool(parameter) and isinstance(parameter[0], dict)


def _parameter(parameter: Any) -> str:
    if isinstance(parameter, dict) and "name" in parameter:
        return describe_kernel(parameter)
    return f"{parameter:.6g}" if isinstance(parameter, float) else str(parameter)

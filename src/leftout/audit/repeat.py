"""What changed since a run was made that is made again: its data, the kernel, the code, the threads."""

import json
from typing import Any

import torch

from leftout.audit.request import AuditRequest
from leftout.core.json_file import strict
from leftout.core.version import __version__, code_fingerprint


def changes_since(record: dict[str, Any], request: AuditRequest) -> list[str]:
    """Return in words what is not as a run's record says; nothing where it is the same computation.

    Args:
        record: `run.json`, which need not hold everything: what it lacks counts as changed.
        request: the audit that repeats it.
    """
    computation = record.get("computation")
    before: dict[str, Any] = computation if isinstance(computation, dict) else {}
    now = json.loads(json.dumps(strict(request.identity)))  # as it would be read back
    fitted = before.get("fitted")
    fitted = fitted if isinstance(fitted, dict) else {}
    changes = []
    if fitted.get("train") != now["fitted"]["train"]:
        changes.append("the training data")
    if before.get("query") != now["query"]:
        changes.append("the queries")
    if before.get("provenance") != now["provenance"]:
        changes.append("where the examples come from")
    if fitted.get("kernel") != now["fitted"]["kernel"]:
        changes.append("the kernel or the network")
    if not changes and before.get("values") != now["values"]:
        changes.append("the values of the kernel")
    for name, current in (
        ("leftout", __version__),
        ("torch", torch.__version__),
        ("threads", torch.get_num_threads()),
    ):
        if record.get(name) != current:
            changes.append(f"{name} ({record.get(name)}, now {current})")
    if record.get("leftout") == __version__ and record.get("code") != code_fingerprint():
        changes.append("the code of leftout")
    return changes

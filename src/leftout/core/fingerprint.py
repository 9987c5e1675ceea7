"""A short hash of values, shapes and types, equal for equal data, kernels or settings."""

import hashlib
import json
from typing import Any

import numpy as np
import torch

LENGTH = 16
"""Hex digits of a fingerprint: 64 bits, so that collisions are negligible."""


def fingerprint(*objects: Any) -> str:
    """Return a hash of tensors, arrays and JSON-like values, equal when and only when they are."""
    digest = hashlib.sha256()
    for hashed in objects:
        array = hashed.detach().cpu().numpy() if isinstance(hashed, torch.Tensor) else hashed
        if isinstance(array, np.ndarray):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)  # no copy of its bytes
        else:
            digest.update(json.dumps(array, sort_keys=True, default=str).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:LENGTH]

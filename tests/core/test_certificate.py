import dataclasses
import math

import pytest

from leftout.core.certificate import Certificate, Refit


def certificate(*differences):
    return Certificate(
        at=math.inf,
        condition=10.0,
        effective_condition=10.0,
        effective_rank=3.0,
        residual=1e-16,
        quadrature=0.0,
        rounding=1e-14,
        scale=1.0,
        dtype="float64",
        kernel_dtype="float64",
        device="cpu",
        refits=tuple(Refit(0, 0, 1.0, 1.0, value) for value in differences),
        smallest=1.0,
    )


def test_the_worst_refit_is_what_counts() -> None:
    assert certificate(1e-12, 3e-10, 2e-16).refit_difference == 3e-10
    assert math.isnan(certificate().refit_difference), "no refit is no evidence"


def test_evidence_cannot_be_edited() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        certificate().condition = 1.0

"""Public names load their module when first used, in an interpreter that has loaded nothing else."""

import subprocess
import sys

import pytest

import leftout as lo

USES = """
import leftout as lo
from leftout.data import mixture
import leftout.data.mixtures
assert lo.kernels.ReLU.__name__ == "ReLU"
assert lo.bounds.upper.__name__ == "upper"
assert callable(lo.audit) and callable(lo.learning_curve) and callable(mixture)
"""


def test_public_names_are_found_first_thing() -> None:
    subprocess.run([sys.executable, "-c", USES], check=True, capture_output=True, timeout=120)


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["kernels.ReLU", "bounds.limit", "weight_noise", "load"])
def test_a_public_name_or_module_is_loaded_when_it_is_first_used(name) -> None:
    subprocess.run([sys.executable, "-c", f"import leftout as lo; lo.{name}"], check=True)


def test_a_name_that_is_not_public_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'leftout' has no attribute 'leave_on_out'"):
        _ = lo.leave_on_out

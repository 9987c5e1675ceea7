import subprocess
import sys

import pytest

import leftout as lo


@pytest.mark.parametrize("name", ["kernels.ReLU", "bounds.limit", "weight_noise", "load"])
def test_a_public_name_or_module_is_loaded_when_it_is_first_used(name) -> None:
    subprocess.run([sys.executable, "-c", f"import leftout as lo; lo.{name}"], check=True)


def test_a_name_that_is_not_public_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'leftout' has no attribute 'leave_on_out'"):
        _ = lo.leave_on_out

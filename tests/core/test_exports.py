"""Public names load their module when first used, in an interpreter that has loaded nothing else."""

import subprocess
import sys

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

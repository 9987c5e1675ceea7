"""Does a trial say what a pair of a large kernel matrix takes, whatever a kernel makes of each input?"""

import pytest

from leftout.kernels.trial import LONG, tried_inputs


@pytest.mark.parametrize("per_input", [0.0, 1e-5, 1e-3])
@pytest.mark.parametrize("at_once", [0.0, 0.03, 0.1])
@pytest.mark.parametrize("per_pair", [1e-7, 1e-6, 1e-4])
def test_seconds_of_a_pair_are_not_those_of_few_inputs(at_once, per_input, per_pair):
    spent = []

    def seconds(n):
        spent.append(at_once + per_input * n + per_pair * n**2)
        return spent[-1]

    tried, took = tried_inputs(seconds, 2, 512)
    tile = at_once + per_input * 512 + per_pair * 512**2  # pairs of large matrices are computed in tiles
    assert took == spent[-1]
    assert 0.99 < took / tried**2 / (tile / 512**2) < 4
    assert sum(spent) < 8 * LONG


def test_a_slow_kernel_is_tried_once():
    assert tried_inputs(lambda n: 2.0, 2, 512) == (2, 2.0)
    assert tried_inputs(lambda n: 0.0, 8, 3) == (3, 0.0)

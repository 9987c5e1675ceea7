"""Do random combinations of equations say what all of them say, up to 1/√size?"""

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard

from laws import assert_same
from leftout.core.errors import OptionError
from leftout.kernels import ReLU
from leftout.kernels.pairwise.features import learn_features
from leftout.kernels.pairwise.label_aware import LabelAware
from leftout.kernels.pairwise.pairs import pairs_among
from leftout.kernels.pairwise.sketch import Sketch, walsh_hadamard


def column(length, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(length))


@pytest.mark.parametrize(("length", "padded"), [(1, 1), (2, 2), (7, 8), (32, 32), (33, 64)])
def test_the_transform_is_that_of_the_matrix(length, padded) -> None:
    given = column(length)
    expected = hadamard(padded)[:, :length] @ given.numpy() / np.sqrt(padded)
    assert_same(walsh_hadamard(given, padded), expected, 1e-14)


def test_products_of_columns_are_kept_on_average() -> None:
    columns = [column(700, seed) for seed in range(3)]
    size, seeds = 400, 60
    found = [Sketch(size=size, seed=seed).of(columns, length=700, features=2) for seed in range(seeds)]
    mean = torch.stack([one @ one.T for one in found]).mean(0)
    rows = torch.stack(columns)
    exact = rows @ rows.T
    # A product's relative variance is some 2 + 3/(places a combination has) over size: 3 at the most.
    error = 5 * (3 / (size * seeds)) ** 0.5
    assert_same(mean, exact, error)
    assert float((mean - exact).abs().max()) > 0


def test_spikes_are_spread() -> None:
    spike = torch.zeros(1024, dtype=torch.float64)
    spike[77] = 1
    found = Sketch(size=3000, seed=1).of([spike, column(1024)], length=1024, features=1)
    # Without signs and transform, of most combinations none would see it, and few all of it.
    assert float((found[0] != 0).double().mean()) > 0.3
    assert_same(found[0].norm(), 1.0, 0.2)


def test_the_error_falls_as_the_root_of_the_size() -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((40, 8)))
    pairs, labels = pairs_among(ReLU(1), x, pixels=True), torch.arange(40) % 2
    _, exact = learn_features(pairs, labels, components=False, sketch=None)

    def error(size):
        squares = []
        for seed in range(12):
            sketch = Sketch(size=size, seed=seed)
            _, found = learn_features(pairs, labels, components=False, sketch=sketch)
            squares.append(float((found - exact).square().mean()))
        return np.mean(squares) ** 0.5

    few, many = error(1000), error(16_000)
    # √16 = 4; squares of 12 draws of 10 coefficients have a relative deviation of √(2/120) = 13 %.
    assert 4 * 0.6 < few / many < 4 * 1.5
    assert many < 0.2 * float(exact.square().mean().sqrt())


def test_the_same_seed_makes_the_same_kernel() -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((15, 6)))
    labels = torch.arange(15) % 3
    made = [
        LabelAware(ReLU(1), "fjlt-v2", sketch=Sketch(size=500, seed=seed)).fit_labels(x, labels)
        for seed in (1, 1, 2)
    ]
    assert torch.equal(made[0].gram, made[1].gram)
    assert not torch.equal(made[0].gram, made[2].gram)
    keep = torch.arange(14)
    fresh = made[0].options.fit_labels(x[keep], labels[keep])
    assert_same(made[0].refit_labels(keep).gram, fresh.gram, 1e-10)


def test_its_size_is_that_of_the_released_program() -> None:
    for features, size in ((10, 23_978), (20, 30_445)):
        columns = [column(5) for _ in range(features + 1)]
        found = Sketch().of(columns, length=5, features=features)
        assert found.shape == (features + 1, size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "`size` must be a whole number ≥ 1"),
        ({"error": 0.0}, r"`error` must lie in \(0, 1\)"),
        ({"seed": -1}, "`seed` must be a whole number ≥ 0"),
    ],
)
def test_options_that_are_none_are_refused(options, message) -> None:
    with pytest.raises(OptionError, match=message):
        Sketch(**options)


def test_fewer_combinations_than_columns_are_refused() -> None:
    with pytest.raises(OptionError, match="`size` must be at least 3, the number of features and the"):
        Sketch(size=2).of([column(9)] * 3, length=9, features=2)

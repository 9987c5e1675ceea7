import math

import pytest
import torch

from leftout.core.errors import DataError, ShapeError
from leftout.kernels import ReLU, TwoLayerReLU
from leftout.kernels.assemble import cross, gram
from leftout.kernels.layers.angles import NEAR
from oracles.kernels import ANGLES, EPS, exact_two_layer_relu, pair_at_angle

KERNEL = TwoLayerReLU()


def unit(n: int, d: int, *, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return rows / rows.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("d", [2, 784])
@pytest.mark.parametrize("angle", ANGLES)
def test_the_kernel_keeps_its_digits_at_every_angle(angle: float, d: int) -> None:
    x, z = pair_at_angle(angle, d, seed=2)
    truth = exact_two_layer_relu(x, z)
    rows = torch.from_numpy(x)[None], torch.from_numpy(z)[None]
    # The docstring's bound, with δ = √d roundings for the product and two for the norms.
    near = 1 - abs(math.cos(angle)) < NEAR
    bound = 4 * EPS if near else (4.2 * (2 + math.sqrt(d)) + 4) * EPS
    assert abs(float(KERNEL.block(*rows)) - truth) <= bound


def test_the_diagonal_is_one_half() -> None:
    rows = unit(50, 30)
    # A norm of d = 30 squares is off by d/2 + 1 half ulps at the most. So |x|² of a row that was divided by
    # one is off by d + 4 of them; of the norm that the kernel takes once more, by another d + 3.
    torch.testing.assert_close(
        gram(KERNEL, rows).diagonal(), torch.full((50,), 0.5).double(), rtol=(30 + 4) * EPS, atol=0
    )


def test_the_diagonal_and_the_gram_agree() -> None:
    rows = unit(50, 30)
    told = KERNEL.diagonal(rows)
    # Of the same rows at once, and so of the same norms, to the last bit.
    assert torch.equal(KERNEL.block(rows, rows).diagonal(), told)
    # Norms of a tile of rows may be rounded otherwise: two norms of d squares, each off by d/2 + 1 half ulps.
    torch.testing.assert_close(gram(KERNEL, rows).diagonal(), told, rtol=(30 + 3) * EPS, atol=0)


def test_known_values_at_right_and_straight_angles() -> None:
    rows = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0.5, math.sqrt(0.75)]], dtype=torch.float64)
    expected = torch.tensor([1 / 2, 0, 0, 1 / 6], dtype=torch.float64)  # 1/2 · (π − π/3) / 2π
    torch.testing.assert_close(gram(KERNEL, rows)[0], expected, rtol=8 * EPS, atol=EPS)


@pytest.mark.parametrize("weight_variance", [0.5, 2.0, 3.0])
def test_it_is_what_the_first_layer_adds_to_the_deep_kernel(weight_variance: float) -> None:
    # One hidden layer, all trained: T = K' + w² / d · x·z (π − θ) / 2π, K' the readout's part.
    rows = unit(20, 6)
    ntk = gram(ReLU(1, weight_variance, 0.0, "ntk"), rows)
    readout = gram(ReLU(1, weight_variance, 0.0, "nngp"), rows)
    first = (ntk - readout) * 6 / weight_variance**2
    # The difference of numbers ≤ (w + w²)/12 is multiplied by 6/w²: 3 (1 + 1/w) roundings or so.
    torch.testing.assert_close(gram(KERNEL, rows), first, rtol=0, atol=100 * EPS)


def test_images_are_flattened() -> None:
    rows = unit(7, 12)
    images = rows.reshape(7, 3, 2, 2)
    assert torch.equal(gram(KERNEL, images), gram(KERNEL, rows))
    assert torch.equal(cross(KERNEL, images[:2], images), cross(KERNEL, rows[:2], rows))


def test_rows_normalised_in_float32_are_welcome() -> None:
    rows = torch.rand(200, 3073, generator=torch.Generator().manual_seed(5))
    KERNEL.check("inputs", (rows / rows.norm(dim=1, keepdim=True)).double())


def test_a_row_of_another_norm_is_refused_and_named() -> None:
    rows = unit(5, 4)
    rows[3] *= 1.5
    message = r"`inputs` must have rows of norm 1; row 3 has norm 1\.5 \(1 of 5 rows are off\)\. "
    with pytest.raises(DataError, match=message + r'Load them with normalise="unit"'):
        gram(KERNEL, rows)
    with pytest.raises(DataError, match=r"`queries` must have rows of norm 1; row 3"):
        cross(KERNEL, rows, unit(2, 4))


def test_a_zero_vector_is_refused_with_its_own_words() -> None:
    rows = unit(5, 4)
    rows[2] = 0
    message = r"`inputs` must not hold a zero vector; row 2 has norm 0 .* cannot be scaled to norm 1"
    with pytest.raises(DataError, match=message):
        gram(KERNEL, rows)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_are_refused(value: float) -> None:
    rows = unit(5, 4)
    rows[1, 2] = value
    with pytest.raises(DataError, match=r"`inputs` must be finite; row 1 holds NaN or infinity"):
        gram(KERNEL, rows)


def test_inputs_without_a_feature_axis_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"`inputs` must have shape \(rows, features…\).*got \(5,\)"):
        KERNEL.check("inputs", torch.ones(5, dtype=torch.float64))
    with pytest.raises(ShapeError, match=r"at least one feature; got \(5, 0\)"):
        KERNEL.check("inputs", torch.ones(5, 0, dtype=torch.float64))


def test_whole_numbers_are_refused() -> None:
    with pytest.raises(DataError, match=r"`inputs` must be floating-point numbers; got torch\.int64"):
        KERNEL.check("inputs", torch.ones(5, 1, dtype=torch.int64))


def test_the_record_and_the_repr_say_which_kernel_it_is() -> None:
    assert KERNEL.record == {"name": "two-layer-relu"}
    assert repr(KERNEL) == "TwoLayerReLU()"
    assert KERNEL.normalise == "unit"

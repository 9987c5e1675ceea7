"""ReLU and Erf against their formulas in 60 digits, their limits, and what both refuse."""

import itertools
import math

import numpy as np
import pytest
import torch

from laws import assert_same
from leftout.core.errors import DataError, OptionError
from leftout.kernels import Erf, ReLU
from leftout.kernels.assemble import gram
from leftout.kernels.layers.angles import NEAR
from oracles.kernels import ANGLES, EPS, exact_deep, pair_at_angle

DEEP = {"relu": ReLU, "erf": Erf}
KINDS = ["ntk", "nngp"]


def numbers(n: int, d: int, *, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def errors(name: str, x: np.ndarray, z: np.ndarray, *, depth: int, w: float, b: float) -> list[float]:
    """Return the error of nngp and ntk in units of ε sqrt(k(x, x) k(z, z))."""
    cross, left, right = (exact_deep(name, *pair, depth=depth, w=w, b=b) for pair in ((x, z), (x, x), (z, z)))
    rows = torch.from_numpy(x)[None], torch.from_numpy(z)[None]
    return [
        float(abs(float(DEEP[name](depth, w, b, kind).block(*rows)) - cross[kind]))
        / float(left[kind] * right[kind]) ** 0.5
        / EPS
        for kind in KINDS
    ]


def allowed(name: str, angle: float, d: int, *, depth: int, w: float, b: float) -> float:
    """Return the bound in the docstrings, in units of ε; δ is √d roundings and two of the norms."""
    near = 1 - abs(math.cos(angle)) < NEAR
    delta = 0 if near else 2 + math.sqrt(d)
    if name == "relu":
        return 4 * (depth + 1) + 7.3 * depth * delta
    kappa = w + b
    return 8 * (depth + 1) * (1 + kappa) + 4 * kappa * delta


@pytest.mark.sample(6)
@pytest.mark.parametrize(("w", "b"), [(2.0, 0.0), (2.0, 0.1), (1.5, 3.0)])
@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("name", DEEP)
def test_a_deep_kernel_keeps_its_digits_at_every_angle(name: str, depth: int, w: float, b: float) -> None:
    for angle, d in itertools.product(ANGLES, (2, 50)):
        x, z = pair_at_angle(angle, d, seed=3)
        x, z = x * d**0.5, z * d**0.5
        worst = max(errors(name, x, z, depth=depth, w=w, b=b))
        bound = allowed(name, angle, d, depth=depth, w=w, b=b)
        assert worst <= bound, f"angle {angle}, d {d}: {worst:.3g} > {bound:.3g} roundings"


@pytest.mark.parametrize(("w", "b"), [(2.0, 0.0), (2.0, 0.5)])
@pytest.mark.parametrize("name", DEEP)
def test_rows_of_different_norms_keep_their_digits_too(name: str, w: float, b: float) -> None:
    for angle, ratio in itertools.product(ANGLES, (1 + 1e-9, 1.7, 30.0)):
        x, z = pair_at_angle(angle, 4, seed=4)
        worst = max(errors(name, 2 * x, 2 * ratio * z, depth=3, w=w, b=b))
        bound = allowed(name, angle, 4, depth=3, w=w, b=b)
        assert worst <= bound, f"angle {angle}, ratio {ratio}: {worst:.3g} > {bound:.3g} roundings"


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("scale", [10.0, 1e3])
def test_erf_of_large_inputs_keeps_its_digits_at_the_diagonal(scale: float, depth: int) -> None:
    # K11 = 1e6 here: the determinant from squares would lose 6 digits, and 12 at the diagonal.
    for angle in (0.0, 1e-9, 1e-5, 1e-3):
        x, z = pair_at_angle(angle, 6, seed=5)
        worst = max(errors("erf", scale * x, scale * z, depth=depth, w=2.0, b=0.0))
        assert worst <= allowed("erf", angle, 6, depth=depth, w=2.0, b=0.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias_variance", [0.0, 0.3])
@pytest.mark.parametrize("depth", [1, 2, 3, 20])
@pytest.mark.parametrize("name", DEEP)
def test_the_diagonal_and_the_gram_agree(name, depth, bias_variance, kind) -> None:
    rows = numbers(37, 9)
    kernel = DEEP[name](depth, 2.0, bias_variance, kind)
    block, told = kernel.block(rows, rows).diagonal(), kernel.diagonal(rows)
    if name == "relu":  # halves and products only: from the same norms the same roundings on both ways
        assert torch.equal(block, told)
    # Norms of tiles and arctangents of a vector may be rounded otherwise: both are within the docstring's
    # bound for equal inputs.
    bound = 2 * allowed(name, 0.0, 9, depth=depth, w=2.0, b=bias_variance) * EPS
    torch.testing.assert_close(block, told, rtol=bound, atol=0)
    torch.testing.assert_close(gram(kernel, rows).diagonal(), told, rtol=bound, atol=0)


@pytest.mark.parametrize("depth", [1, 2, 7])
def test_the_relu_diagonal_has_its_closed_form(depth: int) -> None:
    rows = numbers(11, 5)
    square = rows.square().sum(1) / 5
    # w = 2 keeps the variance 2|x|²/d through every layer; each of depth + 1 layers adds it to T.
    nngp = ReLU(depth, kind="nngp").diagonal(rows)
    torch.testing.assert_close(nngp, 2 * square, rtol=8 * EPS, atol=0)
    ntk = ReLU(depth).diagonal(rows)
    torch.testing.assert_close(ntk, 2 * (depth + 1) * square, rtol=8 * depth * EPS, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_relu_without_bias_is_homogeneous(kind: str) -> None:
    rows = numbers(12, 5)
    scales = torch.tensor([0.01, 3.0, 1e4] * 4, dtype=torch.float64)
    kernel = ReLU(3, kind=kind)
    scaled, plain = gram(kernel, scales[:, None] * rows), gram(kernel, rows)
    # Scaling rounds each component once more, which turns a row by at most ε.
    torch.testing.assert_close(scaled, torch.outer(scales, scales) * plain, rtol=200 * EPS, atol=0)


def test_relu_with_bias_is_not_homogeneous() -> None:
    rows = numbers(4, 5)
    kernel = ReLU(2, bias_variance=0.5)
    assert float((gram(kernel, 2 * rows) / gram(kernel, rows)).max()) < 3.9


@pytest.mark.parametrize("depth", [1, 3])
def test_erf_with_small_weights_is_linear(depth: int) -> None:
    # erf(u) = 2u/√π + O(u³): a hidden layer multiplies by 4w/π, and T gets depth + 1 equal terms.
    rows, w = numbers(10, 6), 1e-5
    linear = w * (4 * w / math.pi) ** depth * (rows @ rows.T) / 6
    # The cubic term is relatively |u|² ≤ w max |x|²/d, a few times over.
    rtol = 10 * depth * w * float(rows.square().sum(1).max()) / 6
    scale = float(linear.diagonal().max())
    nngp = gram(Erf(depth, w, 0.0, "nngp"), rows)
    torch.testing.assert_close(nngp, linear, rtol=rtol, atol=rtol * scale)
    ntk = gram(Erf(depth, w, 0.0, "ntk"), rows)
    torch.testing.assert_close(ntk, (depth + 1) * linear, rtol=rtol, atol=(depth + 1) * rtol * scale)


def test_erf_with_huge_weights_is_the_sign_function() -> None:
    rows = numbers(10, 6)
    cosine = (rows @ rows.T) / torch.outer(rows.norm(dim=1), rows.norm(dim=1))
    readout = gram(Erf(1, 1e16, 0.0, "nngp"), rows) / 1e16
    # E[sign sign] = (2/π) arcsin cos θ, approached as 1/√w; arcsin near 1 wants the clamp.
    expected = torch.asin(cosine.clamp(-1, 1)) * 2 / math.pi
    torch.testing.assert_close(readout, expected, rtol=0, atol=1e-7)


def test_very_deep_relu_kernels_forget_the_inputs() -> None:
    rows = numbers(6, 4)
    nngp = gram(ReLU(2000, kind="nngp"), rows)
    scales = nngp.diagonal().sqrt()
    # θ falls as 3π / depth, so 1 − cos θ is about 1.1e-5 at depth 2000; the gap is not lost.
    gap = 1 - nngp / torch.outer(scales, scales)
    away = ~torch.eye(6, dtype=torch.bool)
    expected = 1 - math.cos(3 * math.pi / 2000)
    assert 0.9 * expected < float(gap[away].min())
    assert float(gap[away].max()) < 1.1 * expected


@pytest.mark.parametrize("name", DEEP)
def test_angles_below_all_rounding_are_an_angle_of_zero(name: str) -> None:
    # θ = 1e-15 … 1e-30: what a ReLU takes from such a gap is rounded more coarsely than the gap.
    tilts = 10.0 ** -torch.arange(15, 30.25, 0.25, dtype=torch.float64)
    rows = torch.stack([torch.ones_like(tilts), tilts], dim=1)
    kernel = DEEP[name](4)
    found = kernel.block(rows[-1:], rows)[0]
    torch.testing.assert_close(found, kernel.diagonal(rows), rtol=4 * 5 * 3 * EPS, atol=0)


@pytest.mark.parametrize("name", DEEP)
def test_a_zero_vector_has_a_kernel_where_there_is_a_bias(name: str) -> None:
    rows = numbers(4, 3)
    rows[1] = 0
    found = gram(DEEP[name](2, 2.0, 0.5), rows)
    for j in range(4):
        exact = exact_deep(name, np.full(3, 1e-200), rows[j].numpy(), depth=2, w=2.0, b=0.5)["ntk"]
        assert abs(float(found[1, j]) - exact) < 100 * EPS


@pytest.mark.parametrize("name", DEEP)
def test_without_a_bias_a_zero_vector_is_refused(name: str) -> None:
    rows = numbers(4, 3)
    rows[1] = 0
    message = r"`inputs` must not hold a zero vector; row 1 .* positive `bias_variance`"
    with pytest.raises(DataError, match=message):
        gram(DEEP[name](2), rows)


@pytest.mark.parametrize("kernel", DEEP.values(), ids=DEEP)
class TestOptions:
    @pytest.mark.usefixtures("as_users_run_it")
    @pytest.mark.parametrize("depth", [0, -1, 2.5, "3", True])
    def test_depth_must_be_a_positive_whole_number(self, kernel, depth) -> None:
        message = rf"`depth` must be a whole number of hidden layers, at least 1; got {depth!r}\."
        with pytest.raises(OptionError, match=message):
            kernel(depth)

    @pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
    def test_weight_variance_must_be_positive(self, kernel, value) -> None:
        with pytest.raises(OptionError, match=r"`weight_variance` must be a finite number > 0; got"):
            kernel(1, weight_variance=value)

    @pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
    def test_bias_variance_must_not_be_negative(self, kernel, value) -> None:
        with pytest.raises(OptionError, match=r"`bias_variance` must be a finite number ≥ 0; got"):
            kernel(1, bias_variance=value)

    @pytest.mark.usefixtures("as_users_run_it")
    def test_kind_must_be_known(self, kernel) -> None:
        with pytest.raises(OptionError, match=r"`kind` must be one of 'ntk', 'nngp'; got 'gp'"):
            kernel(1, kind="gp")

    @pytest.mark.usefixtures("as_users_run_it")
    def test_numpy_whole_numbers_are_whole_numbers(self, kernel) -> None:
        assert kernel(np.int64(2)).record["depth"] == 2


def test_records_and_reprs_say_every_parameter() -> None:
    assert ReLU(3, 1.5, 0.1, "nngp").record == {
        "name": "relu",
        "depth": 3,
        "weight_variance": 1.5,
        "bias_variance": 0.1,
        "kind": "nngp",
    }
    assert Erf(2).record["name"] == "erf"
    assert repr(Erf(2, 1, 0.1)) == "Erf(depth=2, weight_variance=1, bias_variance=0.1, kind='ntk')"
    assert ReLU(1).normalise == Erf(1).normalise == "sphere"


@pytest.mark.parametrize(
    ("dtype", "sizes"), [(torch.float32, (1e-15, 1e15)), (torch.float64, (1e-120, 1e120))]
)
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_a_deep_relu_kernel_scales_with_its_inputs_as_far_as_numbers_reach(dtype, sizes, kind) -> None:
    """Without biases it is homogeneous; a product of gap and total would over- or underflow on the way."""
    x = torch.eye(3, 4, dtype=dtype)
    x[2, 0] = 1
    for size in sizes:
        found = ReLU(2, kind=kind).block(x * size, x) / size
        expected = ReLU(2, kind=kind).block(x, x)
        # A few roundings a layer.
        assert_same(found.double(), expected.double(), rtol=50 * torch.finfo(dtype).eps)
        both = ReLU(2, kind=kind).block(x * size**0.5, x * size**0.5) / size
        assert_same(both.double(), expected.double(), rtol=50 * torch.finfo(dtype).eps)

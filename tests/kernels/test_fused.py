"""Does compiled code give what torch gives, and the recursion written out, with all instructions it has?"""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad

import leftout as lo
from laws import assert_same, difference
from leftout.core.errors import OptionError, ShapeError
from leftout.kernels.convolution.convolutional import ConvReLU
from leftout.kernels.fused import build, images, library
from leftout.kernels.fused.images import image_means
from leftout.kernels.fused.library import (
    SETS,
    available_sets,
    chosen_code,
    compiled_set,
    describe_code,
    use_code,
)
from leftout.kernels.fused.program import Convolution, Factor, ImageProgram, Rectifier, Residual
from leftout.kernels.fused.stack import Stack, stack_diagonal, stack_kernel
from leftout.kernels.rows import lengths
from leftout.kernels.wide.angles import unit_rows
from leftout.kernels.wide.relu import ReLU
from leftout.kernels.wide.two_layer_relu import TwoLayerReLU
from oracles import image_programs as oracle

EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23}

pytestmark = pytest.mark.skipif(not available_sets(), reason="fused.c was not built here: no C compiler")
every_set = pytest.mark.parametrize("code", SETS)
dtypes = pytest.mark.parametrize("dtype", EPS, ids=["float64", "float32"])


@pytest.fixture(autouse=True)
def _processor_has(request) -> None:
    code = request.node.callspec.params.get("code") if hasattr(request.node, "callspec") else None
    if code in SETS and code not in available_sets():
        pytest.skip(f"this processor has no {code}")


def convolution(sides, size=(3, 3), stride=(1, 1), padding="same", w=2.0, b=0.0):
    """Return a convolution of images of these sides: padded as "same" or "valid", or with so many zeros."""
    counts, before = [], []
    for length, window, step in zip(sides, size, stride, strict=True):
        if padding == "same":
            counts.append(-(-length // step))
            before.append(max((counts[-1] - 1) * step + window - length, 0) // 2)
        else:
            zeros = 0 if padding == "valid" else padding
            counts.append((length + 2 * zeros - window) // step + 1)
            before.append(zeros)
    return Convolution(size, stride, tuple(before), tuple(counts), w, b)


SIDES = (5, 4)
SAME = convolution(SIDES)
HALF = convolution(SIDES, stride=(2, 2), b=0.1)
RESIDUAL = (
    Residual((HALF, Rectifier(), convolution((3, 2), w=1.5)), (convolution(SIDES, (1, 1), (2, 2)),)),
    Rectifier(),
)
PROGRAMS = {
    "one convolution": (SAME, Rectifier()),
    "without a rectifier": (SAME, Rectifier(), convolution(SIDES, w=1.0)),
    "biases": (convolution(SIDES, b=0.3), Rectifier(), convolution(SIDES, b=0.1), Rectifier()),
    "strides": (HALF, Rectifier(), convolution((3, 2), (2, 1), (1, 2)), Rectifier()),
    "even windows": (convolution(SIDES, (2, 4)), Rectifier(), convolution(SIDES, (4, 2)), Rectifier()),
    "wide windows": (convolution(SIDES, (5, 5), b=0.2), Rectifier(), convolution(SIDES, (7, 1)), Rectifier()),
    "valid": (convolution(SIDES, (2, 3), padding="valid"), Rectifier()),
    "explicit zeros": (
        convolution(SIDES, padding=2, b=0.1),
        Rectifier(),
        convolution((7, 6), (2, 2), padding=1),
    ),
    "zeros beyond the window": (convolution(SIDES, (1, 2), padding=2, b=0.1), Rectifier()),
    "strides beyond windows": (convolution(SIDES, (2, 1), (3, 2)), Rectifier()),
    "windows of one": (
        convolution(SIDES, (1, 1)),
        Rectifier(),
        convolution(SIDES, (1, 1), (2, 1)),
        Rectifier(),
    ),
    "leaky": (SAME, Rectifier(0.2), convolution(SIDES), Rectifier(-1.0), convolution(SIDES), Rectifier(1.0)),
    "factor": (SAME, Factor(0.25), Rectifier(), Factor(3.0), convolution(SIDES), Rectifier(0.1)),
    "residual": RESIDUAL,
    "identity shortcuts, nested": (
        SAME,
        Residual((Rectifier(), Residual((SAME, Rectifier()), (convolution(SIDES, (1, 1)),)), Factor(0.5))),
        Rectifier(),
    ),
    "a shortcut from the pixels": (Residual((SAME,)), Rectifier(), SAME),
    "nothing": (),
}


def pictures(n, channels=2, sides=SIDES, dtype=torch.float64, seed=0):
    draw = np.random.default_rng(seed).standard_normal((n, channels, *sides))
    draw[-1] = draw[0] + 0.2 * draw[-1]
    return torch.from_numpy(draw).float().to(dtype)


def matrix(program, x, z, code):
    """Return K and T, and check that they do not depend on which side fills the lanes."""
    found = image_means(program, x, z, code)
    assert torch.equal(found, image_means(program, z, x, code).transpose(1, 2))
    return found


@cache
def written_out(name):
    """Return K and T of two images at all pairs of positions; they are exact in either type of number."""
    x, z = pictures(2)
    return oracle.last_layer(PROGRAMS[name], x.numpy(), z.numpy())


@every_set
@dtypes
@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is_the_recursion_written_out(name, dtype, code) -> None:
    x, z = pictures(2, dtype=dtype)[:, None]
    for mean in (False, True):
        expected = [oracle.readout(values, mean) for values in written_out(name)]
        program = ImageProgram(PROGRAMS[name], 2, SIDES, mean, tangent=True)
        found = matrix(program, x, z, code)[:, 0, 0]
        # Angles are at least 0.05; sums of at most 35 products in each of three layers.
        assert difference(found, expected) <= 100 * EPS[dtype]
        kernel_only = ImageProgram(PROGRAMS[name], 2, SIDES, mean, tangent=False)
        found = image_means(kernel_only, x, z, code)[:, 0, 0]
        assert difference(found[:1], expected[:1]) <= 100 * EPS[dtype]
        assert found[1] == 0


NETWORKS = {
    "flattened": {"depth": 4, "bias_variance": 0.1},
    "mean": {"depth": 3, "pooling": "mean"},
    "strides": {"depth": 3, "stride": (1, 2, 1), "pooling": "mean"},
    "nngp": {"depth": 3, "kind": "nngp", "last_relu": False, "padding": "valid"},
}


@every_set
@dtypes
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_convolutional_kernels_are_what_torch_computes(options, dtype, code) -> None:
    """Of more images than lanes, and of one."""
    kernel, x = ConvReLU(**options), pictures(37, 3, (9, 11), dtype)
    with use_code("torch"):
        expected = kernel.block(x, x[:3]), kernel.diagonal(x)
    with use_code(code):
        found = kernel.block(x, x[:3]), kernel.diagonal(x)
        assert torch.equal(kernel.block(x[5:6], x[:1]), found[0][5:6, :1])
    assert found[0].dtype == dtype
    for values, want in zip(found, expected, strict=True):
        assert difference(values, want) <= 60 * EPS[dtype]


@every_set
@dtypes
@pytest.mark.parametrize("steps", PROGRAMS.values(), ids=PROGRAMS)
def test_equal_images_have_no_angle_in_any_layer(steps, dtype, code) -> None:
    """Not a bit is different, wherever they stand among the lanes of a vector; so of their own diagonal."""
    x = pictures(19, dtype=dtype)
    x[17] = x[3]
    for mean in (False, True):
        program = ImageProgram(steps, 2, SIDES, mean, tangent=True)
        found, own = matrix(program, x, x, code), image_means(program, x, None, code)
        assert torch.equal(found, found.transpose(1, 2))
        assert torch.equal(found[:, 3], found[:, 17])
        assert torch.equal(found[:, 3, 17], own[:, 3])
        assert torch.equal(found.diagonal(0, 1, 2), own)


@every_set
@dtypes
def test_powers_of_two_scale_exactly(dtype, code) -> None:
    x = pictures(5, dtype=dtype)
    program = ImageProgram((SAME, Rectifier(), SAME, Rectifier(0.2)), 2, SIDES, True, tangent=True)
    expected = image_means(program, x, x, code)
    for power in (-20, 3, 15):
        assert torch.equal(image_means(program, 2.0**power * x, x / 4, code), 2.0 ** (power - 2) * expected)


@every_set
def test_channels_may_be_exchanged(code) -> None:
    x = pictures(5, 4)
    program = ImageProgram(RESIDUAL, 4, SIDES, True, tangent=True)
    moved = x[:, [2, 0, 3, 1]]
    assert_same(
        image_means(program, moved, moved, code), image_means(program, x, x, code), 20 * EPS[torch.float64]
    )


@every_set
@dtypes
def test_black_images_and_black_corners_are_zero(dtype, code) -> None:
    x = pictures(4, dtype=dtype)
    x[1], x[2, :, :, 2:] = 0, 0
    program = ImageProgram((SAME, Rectifier(), SAME, Rectifier()), 2, SIDES, False, tangent=True)
    found = image_means(program, x, x, code)
    assert not found[:, 1].any()
    assert found.isfinite().all()
    want = [oracle.readout(values, False) for values in oracle.last_layer(program.steps, x[2], x[3])]
    assert difference(found[:, 2, 3], want) <= 100 * EPS[dtype]


@pytest.mark.parametrize("slope", [0.0, 0.3, -1.0])
@pytest.mark.parametrize("angle", [0.0, 1e-6, 0.7, 1.5707, 2.2, 3.1415, np.pi])
@every_set
def test_a_rectifier_is_its_integral(slope, angle, code) -> None:
    """E[φ(u) φ(v)] and E[φ'(u) φ'(v)] in polar coordinates, where the mean of a squared radius is 2."""
    x = torch.tensor([[1.0, 0.0], [np.cos(angle), np.sin(angle)]], dtype=torch.float64).reshape(2, 2, 1, 1)
    program = ImageProgram(
        (convolution((1, 1), (1, 1), w=2.0), Rectifier(slope)), 2, (1, 1), False, tangent=True
    )
    found = image_means(program, x[:1], x[1:], code)[:, 0, 0]

    def leaky(u):
        return u if u > 0 else slope * u

    def gate(u):
        return 1.0 if u > 0 else slope

    kinks = sorted({(at + by) % (2 * np.pi) for at in (np.pi / 2, 3 * np.pi / 2) for by in (0, angle)})
    covariance, tangent = 0.0, 0.0
    for start, stop in zip([0, *kinks], [*kinks, 2 * np.pi], strict=True):
        if stop - start > 1e-12:
            covariance += quad(lambda t: 2 * leaky(np.cos(t)) * leaky(np.cos(t - angle)), start, stop)[0]
            tangent += quad(lambda t: gate(np.cos(t)) * gate(np.cos(t - angle)), start, stop)[0]
    assert abs(found[0] - covariance / (2 * np.pi)) < 1e-14
    # A cosine rounded at an angle of 1e-6 turns that by ε / 1e-6, here where it is not exact.
    turned = min(2.0**-52 / max(min(angle, np.pi - angle), 1e-8), 2.0**-26)
    assert abs(found[1] - np.cos(angle) * tangent / (2 * np.pi)) < 1e-14 + turned


def test_branches_that_do_not_meet_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"must have the same strides; got \(2, 2\) and \(1, 1\)"):
        _ = ImageProgram((Residual((HALF,)),), 2, SIDES, False, tangent=True).instructions
    valid = convolution(SIDES, (2, 3), padding="valid")
    with pytest.raises(ShapeError, match=r"images of the same sides; got \(4, 2\) and \(5, 4\)"):
        _ = ImageProgram((Residual((valid,)),), 2, SIDES, False, tangent=True).instructions


@pytest.mark.parametrize("mean", [False, True], ids=["flattened", "mean"])
def test_how_work_is_cut_changes_nothing_beyond_the_order_of_sums(mean, monkeypatch) -> None:
    x, code = pictures(21), available_sets()[-1]
    program = ImageProgram((SAME, Rectifier(), HALF, Rectifier()), 2, SIDES, mean, tangent=True)
    expected = image_means(program, x, x[:20], code), image_means(program, x, None, code)
    monkeypatch.setattr(images, "TASK", 1)
    monkeypatch.setattr(images, "HELD", 1)
    found = image_means(program, x, x[:20], code), image_means(program, x, None, code)
    for values, want in zip(found, expected, strict=True):
        assert_same(values, want, 10 * EPS[torch.float64])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(image_means(program, x, x[:20], code), found[0])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_no_images_are_no_numbers() -> None:
    program = ImageProgram((SAME, Rectifier()), 2, SIDES, True, tangent=True)
    x, code = pictures(2), available_sets()[-1]
    assert image_means(program, x[:0], x, code).shape == (2, 0, 2)
    assert image_means(program, x, x[:0], code).shape == (2, 2, 0)
    assert image_means(program, x[:0], None, code).shape == (2, 0)


STACKS = {
    "relu": ReLU(3),
    "biases": ReLU(3, 1.5, 0.3),
    "nngp": ReLU(2, 2.0, 0.1, "nngp"),
    "one layer": ReLU(1),
    "twenty": ReLU(20, bias_variance=0.1),
    "two layers": TwoLayerReLU(),
}


def near_and_far(dtype, features):
    """Return rows of which some are equal, opposite, or nearly so."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(45, features, dtype=torch.float64, generator=draw)
    z = torch.randn(75, features, dtype=torch.float64, generator=draw)
    for row, turn in enumerate((0, 1e-9, 1e-4, 1e-2, 0.05)):
        z[row] = x[row] + turn * z[row]
        z[70 + row] = -x[row] + turn * z[70 + row]
    return (rows / lengths(rows)[:, None] for rows in (x.to(dtype), z.to(dtype)))


@every_set
@dtypes
@pytest.mark.parametrize("features", [3, 91])
@pytest.mark.parametrize("kernel", STACKS.values(), ids=STACKS)
def test_fully_connected_kernels_are_what_torch_computes(kernel, features, dtype, code) -> None:
    x, z = near_and_far(dtype, features)
    with use_code("torch"):
        expected = kernel.block(x, z), kernel.diagonal(x)
    with use_code(code):
        found = kernel.block(x, z), kernel.diagonal(x)
        assert torch.equal(kernel.block(x, x).diagonal(), found[1])
    depth = kernel.record.get("depth", 1)
    # What the kernels promise for either: 7.3 δ a layer, δ the error of a product of these rows.
    allowed = (16 + 7.3 * (2 + features**0.5)) * (depth + 1) * EPS[dtype]
    for values, want in zip(found, expected, strict=True):
        assert difference(values, want) <= allowed


@every_set
def test_gaps_of_near_rows_keep_their_digits(code) -> None:
    """At angles down to 1e-7, where an arccos has lost half of them."""
    angles = torch.logspace(-7, -2, 33, dtype=torch.float64)
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    z = torch.stack([angles.cos(), angles.sin()], 1)
    with use_code(code):
        found = TwoLayerReLU().block(x, z)[0]
    expected = angles.cos() * (torch.pi - angles) / (2 * torch.pi)
    assert (found - expected).abs().max() <= 2.0**-52


@every_set
def test_leaky_rows_are_images_of_one_pixel(code) -> None:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(9, 7, dtype=torch.float64, generator=draw)
    variances, slopes = ((1.5, 0.2), (2.0, 0.0), (0.7, 0.1)), (0.2, -0.5)
    steps = []
    for (w, b), slope in zip(variances, (*slopes, None), strict=True):
        steps += [convolution((1, 1), (1, 1), w=w, b=b)] + ([] if slope is None else [Rectifier(slope)])
    as_images = ImageProgram(tuple(steps), 7, (1, 1), False, tangent=True)
    expected = image_means(as_images, x[:, :, None, None], x[:, :, None, None], code)
    units, deviations = unit_rows(x), lengths(x) / 7**0.5
    covariance, tangent = (
        stack_kernel(Stack(variances, slopes, wanted), units, units, deviations, deviations, code)
        for wanted in (False, True)
    )
    assert_same(covariance, expected[0], 40 * EPS[torch.float64])
    assert_same(tangent, expected[0] + expected[1] - expected[0], 40 * EPS[torch.float64])
    own = stack_diagonal(Stack(variances, slopes, True), units, deviations, code)
    assert torch.equal(own, tangent.diagonal())


@every_set
def test_rows_far_from_one_change_nothing(code) -> None:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(9, 7, dtype=torch.float64, generator=draw)
    with use_code(code):
        expected = ReLU(3).block(x, x)
        assert torch.equal(ReLU(3).block(2.0**400 * x, 2.0**-400 * x), expected)


def test_torch_computes_what_c_does_not() -> None:
    x = torch.ones(2, 3, dtype=torch.float64)
    assert compiled_set(x) == available_sets()[-1]
    assert compiled_set(x, x.half()) is None
    assert compiled_set(x.clone().requires_grad_()) is None
    with torch.no_grad():
        assert compiled_set(x.clone().requires_grad_()) is not None
    assert compiled_set(x.to("meta")) is None
    with use_code("torch"):
        assert compiled_set(x) is None
        assert describe_code() == "torch, as was asked."
    assert describe_code() == f"C ({available_sets()[-1]}), on GPUs by torch."


def test_an_unknown_code_is_refused() -> None:
    with pytest.raises(
        OptionError, match="`code` must be one of 'torch', 'baseline', 'avx2', 'avx512'; got 'neon'"
    ):
        use_code("neon").__enter__()


@pytest.fixture
def _library_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "LIBRARY", tmp_path / "libfused.so")
    library.load_library.cache_clear()
    yield
    monkeypatch.undo()
    library.load_library.cache_clear()


@pytest.mark.usefixtures("_library_elsewhere")
def test_without_a_library_torch_computes_and_says_so() -> None:
    assert chosen_code() == "torch"
    x = pictures(3)
    found = ConvReLU(2).block(x, x)
    with use_code("torch"):
        assert torch.equal(ConvReLU(2).block(x, x), found)
    assert describe_code().startswith("torch. C would be faster; no C compiler was found at installation")
    with pytest.raises(OptionError, match="`code` 'avx2' cannot run here: no C compiler was found"):
        use_code("avx2").__enter__()
    build.LIBRARY.write_bytes(b"not a library")
    library.load_library.cache_clear()
    assert describe_code().startswith("torch. C would be faster; libfused.so does not load")


@pytest.mark.slow
@pytest.mark.usefixtures("_library_elsewhere")
def test_it_compiles_and_a_library_of_another_source_is_not_used(monkeypatch) -> None:
    if not build._compiler():
        pytest.skip("no C compiler")
    assert build.compile_library(build.LIBRARY) == ""
    assert available_sets()
    monkeypatch.setattr(build, "source_digest", lambda: "of a newer one")
    library.load_library.cache_clear()
    assert not available_sets()
    monkeypatch.setenv("CC", "no-such-compiler")
    assert "no-such-compiler does not start" in build.compile_library(build.LIBRARY)


@pytest.mark.slow
def test_nothing_is_read_or_written_outside(tmp_path) -> None:
    """The tests of this file once more, compiled with bounds checks."""
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    checked = tmp_path / "libfused.so"
    assert build.compile_library(checked, "-fsanitize=address", "-g") == ""
    sanitizer = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    script = (
        "import sys, pathlib, pytest\n"
        "from leftout.kernels.fused import build\n"
        f"build.LIBRARY = pathlib.Path({str(checked)!r})\n"
        "chosen = ['-q', '-p', 'no:cacheprovider', '-n', '0', '-m', 'not slow', '-k', 'not library']\n"
        f"sys.exit(pytest.main([*chosen, {__file__!r}]))"
    )
    settings = {"LD_PRELOAD": sanitizer, "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | settings,
        cwd=Path(lo.__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

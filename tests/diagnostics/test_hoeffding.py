"""Are the parts of a label-aware kernel those of the definition, orthogonal, and known as well as is said?"""

import itertools
import math

import numpy as np
import pytest
import torch

from allocated import peak_memory
from laws import assert_same
from leftout import kernels
from leftout.core.errors import DataError, MemoryBudgetError, OptionError, ShapeError
from leftout.diagnostics.locality.hoeffding import _parts_at_labels, _squares, hoeffding
from leftout.diagnostics.locality.relabellings import Relabellings
from oracles import hoeffding as oracle

HALVES = np.full((5, 2), 0.5)
UNEVEN = np.array([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1], [0.35, 0.65], [0.6, 0.4]])
THREE = np.random.default_rng(2).dirichlet([2, 2, 2], size=4)
LAWS = {"halves": HALVES, "uneven": UNEVEN, "three classes": THREE}


def table(law, shape=(2, 3), seed=0):
    """Return any function of the labels: a matrix drawn for each labelling."""
    n, classes = law.shape
    drawn = np.random.default_rng(seed).standard_normal((classes,) * n + shape) + 1
    return lambda labels: torch.from_numpy(drawn[tuple(labels.tolist())]), drawn.reshape(-1, *shape)


def signs(labels):
    return 2.0 * labels.double() - 1


def quadratic(n, seed=0):
    """Return y'My for two entries, and the matrices, with a diagonal and not symmetric."""
    m = torch.randn(2, n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (lambda labels: torch.einsum("i,eij,j->e", signs(labels), m, signs(labels))[None]), m


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_parts_are_those_of_the_definition(law) -> None:
    kernel, values = table(law)
    every, chance = oracle.labellings(law)
    for labels in (every[3], every[-2]):
        found = hoeffding(kernel, labels, probabilities=law)
        assert found.attrs["exact"] == 1
        n = len(law)
        assert_same(found["constant"], oracle.part(values, every, chance, labels, ()), rtol=1e-12)
        rest = oracle.part(values, every, chance, labels, ())
        for i in range(n):
            want = oracle.part(values, every, chance, labels, (i,))
            assert_same(found["single"][i], want, rtol=1e-12)
            assert not found["pair"][i, i].any()
            rest = rest + want
        for i, j in itertools.combinations(range(n), 2):
            want = oracle.part(values, every, chance, labels, (i, j))
            assert_same(found["pair"][i, j], want, rtol=1e-12)
            assert_same(found["pair"][j, i], want, rtol=1e-12)
            rest = rest + want
        value = values[int(np.ravel_multi_index(labels, (law.shape[1],) * n))]
        np.testing.assert_array_equal(found["value"], value)
        assert_same(found["rest"], value - rest, rtol=1e-11)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_levels_are_mean_squares_of_parts_and_add_up_to_that_of_the_kernel(law) -> None:
    kernel, values = table(law)
    _, chance = oracle.labellings(law)
    found = hoeffding(kernel, np.zeros(len(law), dtype=int), probabilities=law)
    squares = [
        sum(np.tensordot(chance, one**2, 1) for one in oracle.parts_of_level(values, law, r).values())
        for r in range(len(law) + 1)
    ]
    for level in range(3):
        assert_same(found["mean_square"][level], squares[level], rtol=1e-11)
    assert_same(found["mean_square"].sel(level="higher"), sum(squares[3:]), rtol=1e-11)
    assert_same(found["mean_square"].sum("level"), np.tensordot(chance, values**2, 1), rtol=1e-12)
    assert float(found["share"].sum()) == pytest.approx(1, abs=1e-12)
    assert not found["share_error"].any()


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_parts_of_different_labels_are_orthogonal(law) -> None:
    """E K_A K_B = 0 under the exact law, of the parts told at every labelling."""
    kernel, _ = table(law, shape=(1, 1))
    every, chance = oracle.labellings(law)
    n = len(law)
    told = [hoeffding(kernel, labels, probabilities=law) for labels in every]
    parts = [np.array([float(one["constant"][0, 0]) for one in told])]
    parts += [np.array([float(one["single"][i, 0, 0]) for one in told]) for i in range(n)]
    parts += [
        np.array([float(one["pair"][i, j, 0, 0]) for one in told])
        for i, j in itertools.combinations(range(n), 2)
    ]
    products = np.array([[np.sum(chance * a * b) for b in parts] for a in parts])
    np.testing.assert_allclose(products - np.diag(np.diag(products)), 0, atol=1e-13)
    rest = np.array([float(one["rest"][0, 0]) for one in told])
    np.testing.assert_allclose([np.sum(chance * rest * a) for a in parts], 0, atol=1e-13)


def test_of_opposite_labels_parts_are_walsh_coefficients() -> None:
    kernel, values = table(HALVES)
    every, _ = oracle.labellings(HALVES)
    y = 2 * every - 1
    found = hoeffding(kernel, every[11])
    for i, j in itertools.combinations(range(5), 2):
        assert_same(found["single"][i], (values * y[:, i, None, None]).mean(0) * y[11, i], rtol=1e-12)
        product = y[:, i] * y[:, j]
        assert_same(found["pair"][i, j], (values * product[:, None, None]).mean(0) * product[11], rtol=1e-12)


@pytest.mark.parametrize("draws", [4096, 40])
def test_a_kernel_blind_to_labels_is_all_constant(draws) -> None:
    blind = torch.tensor([[2.0, -1.0], [0.5, 3.0]]).double()
    found = hoeffding(lambda _: blind, [0, 1, 1, 0, 1, 0], draws=draws)
    assert_same(found["constant"], blind, rtol=1e-14)
    for name in ("single", "pair", "rest", "single_error", "pair_error", "constant_error"):
        np.testing.assert_allclose(found[name], 0, atol=1e-14)
    np.testing.assert_allclose(found["share"], [1, 0, 0, 0], atol=1e-14)


@pytest.mark.parametrize("draws", [4096, 60])
def test_a_product_of_two_labels_is_one_pair(draws) -> None:
    found = hoeffding(lambda y: (signs(y)[1] * signs(y)[4])[None, None], [0, 1, 1, 0, 0, 1], draws=draws)
    want = np.zeros((6, 6))
    want[1, 4] = want[4, 1] = -1
    error = found["pair_error"].values[..., 0, 0]
    assert (np.abs(found["pair"].values[..., 0, 0] - want) <= 5 * error + 1e-13).all()
    share = found["share"].values
    assert (np.abs(share - [0, 0, 1, 0]) <= 4 * found["share_error"].values + 1e-13).all()
    if draws == 4096:
        assert float(found["single"].min()) == float(found["rest"][0, 0]) == 0
    else:
        # Odd levels of an even kernel vanish in each two opposite draws.
        assert not found["single"].any()
        assert float(found["mean_square"].sel(level="1").squeeze()) == 0


@pytest.mark.parametrize("draws", [4096, 200])
def test_a_quadratic_form_is_its_trace_and_pairs(draws) -> None:
    kernel, m = quadratic(8)
    labels = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])
    found = hoeffding(kernel, labels, draws=draws)
    y = signs(labels)
    trace = m.diagonal(dim1=1, dim2=2).sum(1)
    both = (m + m.mT) * torch.outer(y, y)
    both.diagonal(dim1=1, dim2=2).zero_()
    assert np.abs(found["single"]).max() < 1e-12
    if draws == 4096:
        assert_same(found["constant"][0], trace, rtol=1e-12)
        assert_same(found["pair"][:, :, 0], both.permute(1, 2, 0), rtol=1e-12)
        np.testing.assert_allclose(found["rest"], 0, atol=1e-12)
        squares = np.stack([trace**2, 0 * trace, both.triu(1).square().sum((1, 2)), 0 * trace])
        np.testing.assert_allclose(found["mean_square"][:, 0], squares, atol=1e-10)
        return
    assert found.attrs["relabellings"] == 200
    gap = np.abs(found["pair"][:, :, 0] - both.permute(1, 2, 0).numpy())
    assert (gap <= 5 * found["pair_error"][:, :, 0]).all()
    assert (np.abs(found["constant"][0] - trace.numpy()) <= 4 * found["constant_error"][0]).all()


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", LAWS)
def test_samples_are_right_on_average_and_their_standard_errors_cover(name) -> None:
    """Estimates of 300 seeds: their mean is the exact value, their spread the standard error told."""
    law = LAWS[name]
    kernel, _ = table(law, shape=(1, 2))
    labels = np.arange(len(law)) % 2
    exact = hoeffding(kernel, labels, probabilities=law)
    seeds = range(300)
    told = [hoeffding(kernel, labels, probabilities=law, draws=24, seed=s) for s in seeds]
    assert not told[0].attrs["exact"]
    assert told[0].attrs["opposites"] == int(name == "halves")
    for part in ("constant", "single", "pair", "mean_square"):
        values = np.stack([one[part].values for one in told])
        spread = values.std(0, ddof=1)
        bias = np.abs(values.mean(0) - exact[part].values)
        # About 40 numbers are compared: the largest of so many is 4 deviations once in 400 tests.
        assert (bias <= 4 * spread / math.sqrt(len(told)) + 1e-12).all(), part
        mean_error = np.sqrt(np.mean([one[part + "_error"].values ** 2 for one in told], axis=0))
        moving = spread > 1e-12
        ratio = mean_error[moving] / spread[moving]
        # A spread of 300 is known to 4 %; the jackknife of products is larger than it by a few tenths
        # with 12 draws or so, which is the safe side.
        assert (ratio > 0.85).all(), part
        assert (ratio < 1.9).all(), part


@pytest.mark.parametrize("opposites", [False, True])
def test_the_mean_over_all_samples_of_three_draws_is_the_exact_answer(opposites) -> None:
    """Every estimate is without bias: its expectation, written out over all 512 samples of three labels."""
    law = HALVES[:3] if opposites else UNEVEN[:3]
    kernel, values = table(law, shape=(1, 1))
    every, chance = oracle.labellings(law)
    values, labels = torch.from_numpy(values.reshape(8, 1)), torch.tensor([1, 0, 1])
    exact = hoeffding(kernel, labels, probabilities=law)
    mirrored = values.flip(0) if opposites else values
    total: dict[str, torch.Tensor] = {}
    for sample in itertools.product(range(8), repeat=3):
        rows = list(sample)
        even, odd = values[rows], values[rows]
        if opposites:
            even, odd = (even + mirrored[rows]) / 2, (odd - mirrored[rows]) / 2
        drawn = Relabellings(torch.from_numpy(every[rows]), None, torch.from_numpy(law), even, odd, opposites)
        told = _parts_at_labels(drawn, drawn.alike(labels), (1, 1)) | {
            "mean_square": _squares(drawn)["mean_square"][0]
        }
        for name in ("constant", "single", "pair", "mean_square"):
            weighted = told[name].squeeze() * chance[rows].prod()
            total[name] = total.get(name, 0) + weighted
    for name, mean in total.items():
        assert_same(mean, exact[name].values.squeeze(), rtol=1e-12)


def test_a_sample_of_all_comes_to_the_exact_answer() -> None:
    kernel, _ = table(UNEVEN)
    labels = [1, 0, 0, 1, 1]
    exact = hoeffding(kernel, labels, probabilities=UNEVEN)
    # Each class of one example in two: more labellings than 31 draws, fewer than 4000.
    found = hoeffding(kernel, labels, probabilities=UNEVEN, draws=31)
    assert (exact.attrs["exact"], found.attrs["exact"]) == (1, 0)
    gap = np.abs(found["share"] - exact["share"])
    assert (gap <= 4 * found["share_error"]).all()


def test_the_scale_of_the_kernel_does_not_count_and_renamed_classes_change_nothing() -> None:
    kernel, _ = table(UNEVEN)
    labels = np.array([1, 0, 0, 1, 1])
    one = hoeffding(kernel, labels, probabilities=UNEVEN, draws=20, seed=3)
    scaled = hoeffding(lambda y: -7 * kernel(y), labels, probabilities=UNEVEN, draws=20, seed=3)
    assert_same(scaled["share"], one["share"], rtol=1e-12)
    assert_same(scaled["pair"], -7 * one["pair"], rtol=1e-12)
    assert_same(scaled["mean_square_error"], 49 * one["mean_square_error"], rtol=1e-12)
    whole = hoeffding(kernel, labels, probabilities=UNEVEN)
    renamed = hoeffding(lambda y: kernel(1 - y), 1 - labels, probabilities=UNEVEN[:, ::-1])
    for part in ("constant", "single", "pair", "mean_square"):
        assert_same(renamed[part], whole[part], rtol=1e-12)


def test_the_kernel_may_write_to_its_labels_and_ours_stay() -> None:
    def rude(labels):
        labels.zero_()
        return torch.ones(1, 1)

    labels = torch.tensor([0, 1, 1])
    found = hoeffding(rude, labels)
    assert labels.tolist() == [0, 1, 1]
    assert float(found["constant"].squeeze()) == 1


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (np.array([0.5, 1.0]), {}, "`labels` must be class numbers, whole"),
        (np.array([[0, 1]]), {}, "`labels` must be class numbers, whole, in one row"),
        ([0, 2], {}, r"from 0 to 1; got 0 to 2\. Pass `probabilities`"),
        ([-1, 1], {"probabilities": [0.3, 0.7]}, r"from 0 to 1; got -1 to 1\.$"),
        ([0, 1], {"probabilities": [0.0, 1.0]}, "must all be above 0 and add up to 1"),
        ([0, 1], {"probabilities": [0.5, 0.6]}, "must all be above 0 and add up to 1"),
        ([0, 1], {"draws": 7}, "`draws` must be 8 or more; got 7"),
        ([0, 1], {"draws": 0}, "`draws` must be a whole number"),
        ([0, 1], {"seed": -1}, "`seed` must be a whole number"),
    ],
)
def test_what_cannot_be_is_refused(given, options, message) -> None:
    with pytest.raises(OptionError, match=message):
        hoeffding(lambda _: torch.ones(1, 1), given, **options)


def test_probabilities_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"`probabilities` must have shape \(c,\) or \(n, c\)"):
        hoeffding(lambda _: torch.ones(1, 1), [0, 1, 0], probabilities=[[0.5, 0.5]])


def test_what_is_no_matrix_or_not_finite_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"must be a matrix with two axes; got \(3,\)"):
        hoeffding(lambda _: torch.ones(3), [0, 1])
    with pytest.raises(ShapeError, match=r"with shape \(1, 1\), as before; got \(2, 1\)"):
        hoeffding(lambda y: torch.ones(1 + int(y.sum() == 1), 1), [1, 1])
    with pytest.raises(DataError, match=r"`kernel_of\(labels\)` must be finite"):
        hoeffding(lambda y: torch.full((1, 1), 1.0 / float(y.sum() != 0) if y.any() else math.nan), [1, 1])
    with pytest.raises(MemoryBudgetError, match="label pairs"):
        hoeffding(lambda _: torch.ones(9, 9), [0] * 40, draws=8, memory="1MB")


def test_what_does_not_fit_is_told_after_one_evaluation() -> None:
    asked = []

    def kernel(labels):
        asked.append(labels)
        return torch.ones(60, 60)

    with pytest.raises(
        MemoryBudgetError, match=r"512 relabellings, .* 12 × 12 label pairs .* 60 × 60 kernel"
    ):
        hoeffding(kernel, [0] * 12, probabilities=[0.3, 0.7], draws=512, memory="60MB")
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("n", "probabilities", "draws", "side"),
    [
        (12, [0.5, 0.5], 256, 20),  # opposites
        (12, [0.3, 0.7], 256, 20),
        (8, [0.5, 0.5], 256, 20),  # each labelling once
        (40, [0.5, 0.5], 16, 10),  # parts take most
        (20, [0.1, 0.2, 0.3, 0.4], 300, 1),  # labels take most
    ],
)
def test_no_more_is_held_than_what_is_asked_for(n, probabilities, draws, side, monkeypatch) -> None:
    told = []
    monkeypatch.setattr(
        "leftout.diagnostics.locality.hoeffding.check_fits", lambda _, needed, *__, **___: told.append(needed)
    )
    fixed = torch.randn(side, side, generator=torch.Generator().manual_seed(n)).double()
    held = peak_memory(
        hoeffding, lambda y: fixed * float(y.sum()), [0] * n, probabilities=probabilities, draws=draws
    )
    assert held <= told[0] <= 1.6 * held


@pytest.mark.parametrize("draws", [4096, 8])
def test_of_a_kernel_that_is_zero_shares_are_nothing(draws) -> None:
    found = hoeffding(lambda _: torch.zeros(1, 2), [0, 1, 0, 1, 1], draws=draws)
    for name in ("share", "share_error"):
        assert found[name].isnull().all()
    for name in ("constant", "single", "pair", "rest", "mean_square", "mean_square_error"):
        assert not found[name].any()


@pytest.mark.usefixtures("as_users_run_it")
def test_an_array_is_no_tensor() -> None:
    with pytest.raises(OptionError, match=r"`kernel_of\(labels\)` must be a tensor"):
        hoeffding(lambda _: np.ones((1, 1)), [0, 1])


def inputs_of(n, seed=0):
    rows = np.random.default_rng(seed).standard_normal((n, 4))
    return torch.from_numpy(rows * 2 / np.linalg.norm(rows, axis=1, keepdims=True))


def test_the_hierarchys_kernel_is_quadratic_in_the_labels() -> None:
    """Eq. 5 of the paper: level 0 and level 2, as its two constructions are said to be."""
    x, labels = inputs_of(5), torch.tensor([0, 1, 1, 0, 1])
    asked = kernels.NeuralTangentHierarchy(width=16, activation="gelu", neurons=128)

    def part(y: torch.Tensor) -> torch.Tensor:
        targets = (2.0 * y.double() - 1)[:, None]
        return asked.fit_labels(x, y, targets).block(x[:1], x[:2])

    found = hoeffding(part, labels)
    assert found.attrs["exact"]
    share = found["share"]
    assert float(share.sel(level="1")) < 1e-20
    assert abs(float(share.sel(level="higher"))) < 1e-12
    assert float(share.sel(level="2")) > 1e-6


def test_kernel_regression_before_it_is_scaled_is_quadratic_in_the_labels() -> None:
    """Z is linear in the labels of pairs; λ, a ratio of means, is not, so it is taken out here."""
    x, labels = inputs_of(7, seed=1), torch.tensor([0, 1, 1, 0, 1, 0, 0])
    asked = kernels.LabelAware(kernels.ReLU(1), "kr-v1", 1.0)
    base = kernels.ReLU(1).block(x[:1], x[1:3])

    def part(y: torch.Tensor) -> torch.Tensor:
        if len(y.unique()) == 1:  # all pairs agree: Z = 1 everywhere
            return torch.ones_like(base)
        taught = asked.fit_labels(x, y)
        return (taught.block(x[:1], x[1:3]) - base) / taught.strength_used

    share = hoeffding(part, labels)["share"]
    assert float(share.sel(level="1")) < 1e-20
    assert abs(float(share.sel(level="higher"))) < 1e-12
    assert float(share.sel(level="2")) > 1e-3

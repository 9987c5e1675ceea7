"""Do the bounds hold on every example tried, and is what they bound what it is said to be?"""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import leftout as lo
from laws import assert_same
from leftout.attribution.first_order import first_order
from leftout.core.errors import MemoryBudgetError, OptionError, ShapeError
from leftout.data.mixtures import mixture
from leftout.diagnostics.influence_error.bounds import lower, smallest_eigenvalue, terms, upper
from leftout.diagnostics.influence_error.decomposition import InfluenceDecomposition
from oracles import definitions as oracles
from oracles import diagnostics as oracle
from problems.small import Problem, Started, low_rank, problem, training

N, M = 12, 4
EPS = np.finfo(float).eps


def slack(gram, ridge, *sizes):
    """10·cond·eps of the largest |term 1| + term 2, what a stable solve may be off by."""
    values = np.linalg.eigvalsh(gram) + ridge
    return 10 * values[-1] / values[0] * EPS * sum(np.abs(size) for size in sizes).max()


def relu_problem(n, m, k, seed):
    """A problem on unit inputs in few dimensions, with its Examples and queries."""
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((n + m, draw.integers(2, 6)))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    targets = draw.standard_normal((n + m, k))
    u = (x @ x.T).clip(-1, 1)
    np.fill_diagonal(u, 1)
    whole = u * (np.pi - np.arccos(u)) / (2 * np.pi)
    return Problem((whole + whole.T) / 2, n, targets), x


def made(data, n, k):
    """Return a fit of random data: a random positive semi-definite matrix or a ReLU network."""
    ridge = 2.0 ** data.draw(st.integers(-4, 4))
    seed = data.draw(st.integers(0, 9999))
    if data.draw(st.booleans()):
        p = problem(n, M, k, condition=data.draw(st.sampled_from([1.5, 1e2, 1e5])), seed=seed)
        p = Problem(p.whole * 2.0 ** data.draw(st.integers(-3, 6)), n, p.targets)
        return p, p.fitted(lo.Ridge(ridge)), p.query, ridge
    p, x = relu_problem(n, M, k, seed)
    x, y = torch.from_numpy(x), torch.from_numpy(p.targets)
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), (x[:n], y[:n]), rule=lo.Ridge(ridge))
    return p, fitted, (x[n:], y[n:]), ridge


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.data())
def test_theorem_3_holds(data) -> None:
    n, k = data.draw(st.integers(2, 14)), data.draw(st.integers(1, 3))
    p, fitted, query, ridge = made(data, n, k)
    got = lower(fitted, query)
    one, two = oracle.terms(p.whole, n, p.targets, ridge)
    noise = slack(p.gram, ridge, one, two)
    assert (got["bound"].values <= got["actual"].values + noise).all()
    assert got.attrs["excess"] * np.abs(got["influence"].values).max() <= noise


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("ridge", [0.0625, 1.0, 16.0])
def test_bound_and_actual_are_what_fits_without_each_example_say(k, ridge) -> None:
    p = problem(N, M, k, condition=100, top=4.0, seed=k)
    got = lower(p.fitted(lo.Ridge(ridge)), p.query)
    exact = oracles.leave_one_out(p.gram, p.cross, p.residual, p.wanted, training(lo.Ridge(ridge)))
    classical = oracle.classical(p.whole, N, p.targets, ridge)
    least = np.linalg.eigvalsh(p.gram)[0]
    rate = least / (least + ridge)
    second = oracle.terms(p.whole, N, p.targets, ridge)[1]
    assert got["actual"].dims == ("query", "train")
    assert_same(got["influence"], exact)
    assert_same(got["first_order"], classical)
    assert_same(got["actual"], np.abs(exact - classical))
    assert_same(got["bound"], rate * np.abs(exact) - second)
    assert_same([got.attrs["s_min"], got.attrs["rate"]], [least, rate], 1e-12)
    assert got.attrs["ridge"] == ridge
    scale = np.abs(exact).max()
    excess = (rate * np.abs(exact) - second - np.abs(exact - classical)).max() / scale
    assert abs(got.attrs["excess"] - excess) <= 1e-9


def test_influence_and_first_order_are_those_of_the_public_calls() -> None:
    p = problem(N, M, 2)
    fitted = p.fitted(lo.Ridge(0.5))
    got = lower(fitted, p.query)
    assert_same(got["influence"], lo.leave_one_out(fitted, p.query), 1e-12)
    assert_same(got["first_order"], first_order(fitted, p.query), 1e-12)


@pytest.mark.parametrize("ridge", [0.0, 0.25, 16.0])
def test_the_two_terms_are_the_influence(ridge) -> None:
    p = problem(N, M, 2, condition=100, seed=3)
    got = terms(p.fitted(lo.Ridge(ridge)), p.query)
    one, two = oracle.terms(p.whole, N, p.targets, ridge)
    assert_same(got["term_1"], one)
    assert_same(got["term_2"], two)
    assert_same(got["sum"], one + two)
    exact = oracles.leave_one_out(p.gram, p.cross, p.residual, p.wanted, training(lo.Ridge(ridge)))
    assert_same(got["influence"], exact)
    largest = np.abs(got["sum"].values - got["influence"].values).max() / np.abs(exact).max()
    assert_same([got.attrs["largest_difference"]], [largest])
    assert largest <= slack(p.gram, ridge, one, two) / np.abs(exact).max()


def test_a_wrong_influence_would_show_in_the_difference(monkeypatch) -> None:
    from leftout.diagnostics.influence_error import decomposition as module

    p = problem(N, M)
    right = module.loss_changes
    monkeypatch.setattr(module, "loss_changes", lambda *given: right(*given) * 1.001)
    got = terms(p.fitted(lo.Ridge(0.5)), p.query)
    assert 0.9e-3 < got.attrs["largest_difference"] < 1.1e-3


@pytest.mark.parametrize("rule", [lo.GradientFlow(0.7, 0.5), lo.GradientDescent(1.0, 0.5)], ids=repr)
def test_the_end_of_any_training_is_that_of_its_ridge(rule) -> None:
    p = problem(N, M, 2)
    for ask in (lower, terms):
        want, got = ask(p.fitted(lo.Ridge(0.5)), p.query), ask(p.fitted(rule), p.query)
        for name in want:
            assert_same(got[name], want[name], 1e-12)


def test_without_ridge_the_classical_function_is_zero_and_misses_everything() -> None:
    p = problem(N, M, condition=100)
    got = lower(p.fitted(lo.Ridge(0.0)), p.query)
    assert got.attrs["rate"] == 1
    assert not got["first_order"].values.any()
    assert_same(got["actual"], np.abs(got["influence"]), 1e-14)


def test_a_kernel_and_ridge_c_times_as_large_change_nothing() -> None:
    p = problem(N, M, 2)
    scaled = Problem(8 * p.whole, N, p.targets)
    one, other = (lower(p.fitted(lo.Ridge(0.5)), p.query), lower(scaled.fitted(lo.Ridge(4.0)), p.query))
    assert_same(other.attrs["rate"], one.attrs["rate"], 1e-10)
    for name in one:
        assert_same(other[name], one[name], 1e-10)


def test_an_output_written_twice_counts_twice() -> None:
    p = problem(N, M)
    twice = Problem(p.whole, N, np.hstack([p.targets, p.targets]))
    for ask in (lower, terms):
        one = ask(p.fitted(lo.Ridge(0.5)), p.query)
        other = ask(twice.fitted(lo.Ridge(0.5)), twice.query)
        for name in one:
            assert_same(other[name], 2 * one[name].values, 1e-11)


def test_the_order_of_the_training_examples_does_not_matter() -> None:
    p = problem(N, M, 2)
    order = np.random.default_rng(0).permutation(N)
    one = lower(p.fitted(lo.Ridge(0.5)), p.query)
    other = lower(p.permuted(order).fitted(lo.Ridge(0.5)), p.query)
    for name in one:
        assert_same(other[name], one[name].values[:, order], 1e-11)


def test_blocks_of_queries_and_means_over_them_change_nothing() -> None:
    p = problem(N, 300, 2)
    whole, blocked = p.fitted(lo.Ridge(0.5)), p.fitted(lo.Ridge(0.5))
    blocked.rows.memory = 150_000  # a hundred and thirty queries at a time
    for ask in (lower, terms):
        want, got = ask(whole, p.query), ask(blocked, p.query)
        mean = ask(blocked, p.query, mean=True)
        assert mean.attrs["mean_over"] == "query"
        assert "query" not in mean.dims
        for name in want:
            assert_same(got[name], want[name], 1e-12)
            assert mean[name].dims == ("train",)
            assert_same(mean[name], want[name].mean("query"), 1e-12)
        for key in ("excess", "largest_difference"):
            if key in want.attrs:
                assert abs(mean.attrs[key] - want.attrs[key]) <= 1e-13


def test_what_the_network_starts_from_is_taken_off() -> None:
    p = problem(N, M, 2)
    start = np.random.default_rng(0).standard_normal(p.targets.shape)
    moved = Problem(p.whole, N, p.targets + start)
    want = lower(p.fitted(lo.Ridge(0.5)), p.query)
    got = lower(moved.fitted(lo.Ridge(0.5), Started(p.whole, start)), moved.query)
    for name in want:
        assert_same(got[name], want[name], 1e-11)


def test_the_smallest_eigenvalue_is_found_with_and_without_a_spectrum() -> None:
    p = problem(N, M, condition=100)
    fitted = p.fitted(lo.Ridge(1.0))
    assert_same(smallest_eigenvalue(fitted), 0.01, 1e-12)
    assert not fitted.factorisations.has_spectrum
    assert_same(fitted.spectrum.smallest, 0.01, 1e-12)
    assert_same(smallest_eigenvalue(fitted), 0.01, 1e-12)
    singular = low_rank(N, M, rank=4).fitted(lo.Ridge(1.0))
    assert 0 <= smallest_eigenvalue(singular) < 1e-15
    assert singular.spectrum.smallest < 1e-15
    assert smallest_eigenvalue(singular) >= 0


def test_a_kernel_that_is_none_is_refused() -> None:
    whole = np.diag([1.0, -0.5, 1.0])
    fitted = Problem(whole, 2, np.ones((3, 1))).fitted(lo.Ridge(1.0))
    words = "`gram` must be positive semi-definite; its smallest eigenvalue is -0.5 and its largest 1."
    with pytest.raises(lo.LeftoutError, match=re.escape(words)):
        lower(fitted, (torch.tensor([2.0]), torch.tensor([[1.0]])))


@pytest.mark.parametrize("ask", [lower, terms])
def test_a_mean_of_losses_under_a_ridge_is_refused(ask) -> None:
    p = problem(N, M)
    words = (
        "`fitted` must be trained on a sum of losses: under a mean, Ridge(ridge=0.5, loss='mean'), "
        "leaving one out also changes the ridge, and the theorem is not about that. Fit with "
        "loss='sum' and ridge=6, the same model."
    )
    with pytest.raises(OptionError, match=re.escape(words)):
        ask(p.fitted(lo.Ridge(0.5, "mean")), p.query)
    got, want = ask(p.fitted(lo.Ridge(0.0, "mean")), p.query), ask(p.fitted(lo.Ridge(0.0)), p.query)
    assert_same(got["influence"], want["influence"], 1e-10)


def test_too_large_a_result_is_refused_before_it_is_made(monkeypatch) -> None:
    p = problem(N, M)
    fitted = p.fitted(lo.Ridge(0.5))
    monkeypatch.setattr(fitted.rows, "memory", 8 * 4 * M * N - 1)
    words = f"The result (4 × {M} × {N}) needs 1.54 kB"
    for ask in (lower, terms):
        with pytest.raises(MemoryBudgetError, match=re.escape(words)):
            ask(fitted, p.query)
        ask(fitted, p.query, mean=True)


def test_the_result_says_what_it_is_and_nothing_given_is_written_to(frozen) -> None:
    p = problem(N, M)
    fitted = p.fitted(lo.Ridge(0.5))
    frozen(fitted.gram, fitted.residual, *p.query)
    for ask, method in ((lower, "lower"), (terms, "terms")):
        got = ask(fitted, p.query)
        assert got.attrs["method"] == method
        assert got.attrs["train_fingerprint"] == fitted.train.fingerprint
        assert "positive = it helped" in got.attrs["sign"]
        assert got.coords["train"].values.tolist() == list(fitted.train.ids)


# Theorem 4 on clusters.

SIZES = [25, 50, 100, 200, 400]


@pytest.fixture(scope="module")
def clustered():
    """The simulated mixture of figure 12, half as many examples, and queries of its clusters."""
    generator = torch.Generator().manual_seed(5)
    examples, clusters = mixture([size + 3 for size in SIZES], generator=generator)
    keep = torch.ones(len(clusters), dtype=torch.bool)
    for cluster in range(10):
        keep[(clusters == cluster).nonzero().flatten()[-3:]] = False
    return (
        examples.select(keep.nonzero().flatten()),
        clusters[keep],
        examples.select((~keep).nonzero().flatten()),
    )


def test_the_numbers_of_the_simulated_mixture_are_reproduced(clustered) -> None:
    train, clusters, query = clustered
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(14.4))
    got = upper(fitted, query, clusters, radius=1e-3)
    # ε depends on the radius alone, γ and the bound on the sizes: an example of the smallest cluster
    # shares its leverage evenly with the n_k = 25 others, γ = n / 25, to the kernel between clusters.
    assert abs(got.attrs["epsilon"] - 0.0447) < 5e-5
    assert_same(got.attrs["epsilon"], oracle.epsilon(1e-3), 1e-10)  # its arccos is of nearly 1
    assert abs(got.attrs["gamma"] - 62) < 1
    # s_max is 200, half the size of the largest cluster, and more by how near the other class's is:
    # 203 to 227 over a dozen draws. So the threshold lies in 13.5 … 15.5; 14.4 was published.
    assert 13.5 < got.attrs["threshold"] < 15.5
    assert_same(got.attrs["threshold"] / got.attrs["s_max"], 0.0675, 1e-3)
    of_size = {size: got["leverage"].values[clusters.numpy() == k] for k, size in enumerate(SIZES)}
    bounds = [0.040, 0.028, 0.020, 0.014, 0.010]
    seen = [0.019, 0.013, 0.008, 0.004, 0.002]
    for k, (size, bound, value) in enumerate(zip(SIZES, bounds, seen, strict=True)):
        ours = got["leverage_bound"].values[clusters.numpy() == k]
        assert np.abs(ours - bound).max() < 0.0007  # printed to 1e-3, γ to 1 in 62
        assert np.abs(of_size[size] - value).max() < 0.001
    inverse = np.linalg.inv(fitted.gram.numpy() + 14.4 * np.eye(1550))
    assert_same(got["leverage"], 1 - 14.4 * np.diag(inverse))


def test_theorem_4_applies_and_holds_there_and_the_error_falls_with_the_cluster(clustered) -> None:
    train, clusters, query = clustered
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(16.0))
    got = upper(fitted, query, clusters)
    assert got.attrs["applies"] == 1
    assert "ridge 16 is above s_max" in got.attrs["why"]
    assert got.attrs["excess"] <= 0
    assert (got["actual"] <= got["bound"]).all()
    assert (got["leverage"] <= got["leverage_bound"]).all()
    assert got["cluster"].values.tolist() == clusters.tolist()
    rate = got["actual"].sum("query") / np.abs(got["influence"]).sum("query")
    by_cluster = [float(rate.values[clusters.numpy() == k].mean()) for k in range(5)]
    assert by_cluster == sorted(by_cluster, reverse=True)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.data())
def test_theorem_4_holds_wherever_it_applies(data) -> None:
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    radius = 10.0 ** data.draw(st.integers(-6, -3))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 9999)))
    inputs = data.draw(st.integers(2, 6))
    examples, clusters = mixture([size + 1 for size in sizes], inputs, radius, generator=generator)
    first = torch.tensor([int((clusters == k).nonzero()[0]) for k in range(2 * len(sizes))])
    rest = torch.tensor([i for i in range(len(clusters)) if i not in set(first.tolist())])
    k = data.draw(st.integers(1, 3))
    noise = torch.randn(len(clusters), k, generator=generator, dtype=torch.float64)
    targets = examples.targets + noise
    fitted = lo.fit(
        lo.kernels.TwoLayerReLU(),
        (examples.inputs[rest], targets[rest]),
        rule=lo.Ridge(2.0 ** data.draw(st.integers(-4, 4))),
    )
    got = upper(fitted, (examples.inputs[first], targets[first]), clusters[rest])
    if got.attrs["applies"]:
        # s_max ≤ n/2 = 27 at most, and the ridge is 1/16 at least: a condition below 600.
        rounding = 10 * 600 * EPS
        assert (got["leverage"].values <= got["leverage_bound"].values + rounding).all()
        assert got.attrs["excess"] <= 10 * rounding
    assert got.attrs["epsilon_measured"] <= got.attrs["epsilon"] + 1e-7


@pytest.mark.parametrize("k", [1, 2])
def test_the_upper_bound_is_made_of_what_the_paper_says(k) -> None:
    p, x = relu_problem(N, M, k, seed=3)
    clusters = [0, 0, 7, 7, 7, 7, -2, -2, -2, 0, 5, 5]
    sizes = np.array([clusters.count(cluster) for cluster in clusters])
    pair = (torch.from_numpy(x[:N]), torch.from_numpy(p.residual))
    query = (torch.from_numpy(x[N:]), torch.from_numpy(p.wanted))
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), pair, rule=lo.Ridge(0.5))
    got = upper(fitted, query, clusters)
    gamma = oracle.gamma(p.gram, 0.5)
    bound = np.sqrt(gamma / (N * sizes))
    second = oracle.terms(p.whole, N, p.targets, 0.5)[1]
    exact = oracles.leave_one_out(p.gram, p.cross, p.residual, p.wanted, training(lo.Ridge(0.5)))
    assert_same(got.attrs["gamma"], gamma)
    assert_same(got["leverage_bound"], bound)
    assert_same(got["leverage"], oracle.leverage(p.gram, 0.5))
    assert_same(got["bound"], bound * np.abs(exact) + second)
    assert_same(got["actual"], np.abs(exact - oracle.classical(p.whole, N, p.targets, 0.5)))
    groups = [np.flatnonzero(np.array(clusters) == one) for one in set(clusters)]
    radius = max(np.linalg.norm(x[rows] - x[rows].mean(0), axis=1).max() for rows in groups)
    assert_same(got.attrs["radius"], radius, 1e-12)
    phi = oracle.features(p.gram)
    spread = max(np.linalg.norm(phi[rows] - phi[rows].mean(0), axis=1).max() for rows in groups)
    assert_same(got.attrs["epsilon_measured"], spread, 1e-7)
    # Clusters drawn at random are wide, so nothing is claimed, and that is said with the numbers.
    assert got.attrs["applies"] == 0
    assert got.attrs["threshold"] == np.inf
    assert "ridge 0.5 is not above s_max √2 ε / (1 − √2 ε) = inf" in got.attrs["why"]


def test_names_of_clusters_and_the_order_of_examples_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(1)
    examples, clusters = mixture([3, 6], 5, generator=generator)
    query = examples.select([0, 9])
    order = torch.randperm(len(clusters), generator=generator)
    one = upper(lo.fit(lo.kernels.TwoLayerReLU(), examples), query, clusters)
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), examples.select(order))
    other = upper(fitted, query, np.array([8, -1, 33, 2])[clusters[order].numpy()])
    for name in ("actual", "bound"):
        assert_same(other[name], one[name].values[:, order], 1e-10)
    for key in ("gamma", "epsilon", "threshold"):
        assert_same(other.attrs[key], one.attrs[key], 1e-10)
    mean = upper(fitted, query, clusters[order], mean=True)
    assert_same(mean["bound"], other["bound"].mean("query"), 1e-12)
    assert mean["leverage_bound"].values.tolist() == other["leverage_bound"].values.tolist()


def test_a_radius_that_the_clusters_outgrow_is_refused() -> None:
    examples, clusters = mixture([3, 6], 5, 1e-2, generator=torch.Generator().manual_seed(1))
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), examples)
    words = "`radius` must be that of every cluster; with 1e-05 the features of a cluster lie within "
    with pytest.raises(OptionError, match=words):
        upper(fitted, examples, clusters, radius=1e-5)
    with pytest.raises(OptionError, match="`radius` must be a finite number ≥ 0; got -1"):
        upper(fitted, examples, clusters, radius=-1.0)
    assert upper(fitted, examples, clusters, radius=1e-2).attrs["radius"] == 1e-2


def test_clusters_are_checked() -> None:
    examples, clusters = mixture([3, 6], 5, generator=torch.Generator().manual_seed(1))
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), examples)
    words = "`clusters` must hold one number for each of the 18 training examples; got (17,)."
    with pytest.raises(ShapeError, match=re.escape(words)):
        upper(fitted, examples, clusters[1:])
    with pytest.raises(OptionError, match=r"`clusters` must be whole numbers; got float64\."):
        upper(fitted, examples, np.full(18, 0.5))
    p = problem(N, M)
    with pytest.raises(OptionError, match="`fitted` must have the kernel TwoLayerReLU: theorem 4"):
        upper(p.fitted(lo.Ridge(1.0)), p.query, [0] * N)
    mean = lo.fit(lo.kernels.TwoLayerReLU(), examples, rule=lo.Ridge(1.0, "mean"))
    with pytest.raises(OptionError, match="`fitted` must be trained on a sum of losses"):
        upper(mean, examples, clusters)


def test_the_leverage_keeps_its_digits_under_a_huge_ridge() -> None:
    p = problem(N, M, condition=100, top=4.0)
    for ridge in (1e8, 1e16, 1e24):
        # K (K + λI)⁻¹ = K/λ − K²/λ² + …: beyond the first two terms below eps at λ = 1e8.
        want = (p.gram / ridge - p.gram @ p.gram / ridge**2).diagonal()
        got = InfluenceDecomposition(p.fitted(lo.Ridge(ridge))).leverage.numpy()
        np.testing.assert_allclose(got, want, rtol=1e-14)


@pytest.mark.usefixtures("as_users_run_it")
def test_what_is_no_model_is_refused() -> None:
    p = problem(N, M)
    for ask in (lower, terms, lambda fitted, query: upper(fitted, query, [0] * N)):
        with pytest.raises(OptionError, match=re.escape("`fitted` must be a model, from `fit`; got None.")):
            ask(None, p.query)
    examples, _ = mixture([3, 6], 5, generator=torch.Generator().manual_seed(1))
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), examples)
    with pytest.raises(ShapeError, match="`clusters` must be a tensor, an array or a list with rows"):
        upper(fitted, examples, [[1], [1, 2]])
    with pytest.raises(OptionError, match=re.escape("`radius` must be a finite number ≥ 0; got 'x'.")):
        upper(fitted, examples, [0] * len(examples), radius="x")

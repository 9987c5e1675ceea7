"""Exhibits of smooth unique information: each is run, and each helper is what its docstring says."""

import json
import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import leftout as lo
from leftout.cli.main import app
from leftout_papers.material import Material, Size
from leftout_papers.rerun import record_name
from leftout_papers.smooth_information import (
    adversarial,
    classical,
    dependence,
    networks,
    retrained,
    scores,
    sources,
    subclass,
    summarise,
    table,
    task,
    toy,
)
from leftout_papers.smooth_information.publication import INFORMATION

NAME = INFORMATION.name
QUICK = Material(size=Size.QUICK)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return what runs an exhibit in its minute's version, on the digits, once, and gives its folder."""
    out = tmp_path_factory.mktemp("papers")

    @cache
    def run(name):
        done = CliRunner().invoke(app, ["papers", NAME, name, "--quick", "--out", str(out)])
        assert done.exit_code == 0, done.output
        exhibit = next(one for one in INFORMATION.exhibits if one.name == name)
        return out / record_name(exhibit, QUICK)

    return run


def record(runs, name):
    return json.loads((runs(name) / "result.json").read_text())


def small(width=8, *, seed=0):
    """A smooth network on 28 × 28 pictures, in double precision: no kinks, no rounding to speak of."""

    def build():
        return nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.Tanh(), networks.readout(width, 1))

    return networks.build_with_seed(build, seed).double()


def few(n=12, m=8):
    return task.pair(QUICK, dict.fromkeys(Size, (n, m)))


@pytest.mark.sample(3)
@pytest.mark.parametrize("exhibit", INFORMATION.exhibits, ids=lambda one: one.name)
def test_every_exhibit_leaves_a_record_and_a_picture(runs, exhibit):
    where = runs(exhibit.name)
    kept = record(runs, exhibit.name)
    assert (where / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert kept["rows"]
    assert all(row["measured"] and row["published"] for row in kept["rows"])
    assert any(row["holds"] is not None for row in kept["rows"])


def test_wrong_labels_are_found_with_the_auc_of_the_information(runs):
    for name in ("figure2b", "figure8"):
        kept = record(runs, name)["result"]
        values = np.array(kept["information"])
        wrong = np.isin(np.arange(len(values)), kept["wrong"])
        wins = (values[wrong][:, None] > values[~wrong]).mean()
        assert kept["auc"] == pytest.approx(wins)
        assert kept["ratio_of_means"] == pytest.approx(values[wrong].mean() / values[~wrong].mean())


def test_information_of_the_exhibit_is_that_of_training_the_linearised_network_again(runs):
    kept = record(runs, "figure4")["result"]
    train, query = task.pair(QUICK, task.THOUSAND)
    network = networks.perceptron(QUICK, train.inputs.shape[1:])
    kernel = lo.kernels.Empirical(network, weights="initial")
    rule = lo.GradientDescent(kept["rate"], loss="mean")

    def predicted(rows):
        return lo.fit(kernel, train.select(rows), rule=rule).predict(query, kept["steps"])

    everyone = list(range(len(train)))
    for i in (0, 7):
        apart = predicted(everyone) - predicted([j for j in everyone if j != i])
        # The network is evaluated in single precision, in other batches: 1e-6 of the predictions.
        assert kept["information"][i] == pytest.approx(float(apart.square().sum(1).mean() / 2), rel=1e-3)


def test_targets_and_networks_start_one_half_lower():
    train, _ = few()
    assert sorted(train.targets.unique().tolist()) == [-0.5, 0.5]
    assert torch.equal(train.targets[:, 0] > 0, train.labels == 1)
    torch.manual_seed(3)
    plain = nn.Linear(5, 1)
    torch.manual_seed(3)
    lowered = networks.readout(5, 1)
    torch.testing.assert_close(lowered.bias, plain.bias - 0.5)
    torch.manual_seed(3)
    wide = nn.Linear(5, 3)
    torch.manual_seed(3)
    torch.testing.assert_close(networks.readout(5, 3).bias, wide.bias)


def test_accuracy_is_the_share_on_the_right_side_of_one_half():
    train, _ = few()
    right = train.targets.clone()
    right[:3] *= -1
    assert task.accuracy(train, right) == pytest.approx(1 - 3 / len(train))


def test_pictures_are_scaled_as_those_of_the_paper_and_back():
    pixels = torch.rand(3, 1, 28, 28, dtype=torch.float64)
    torch.testing.assert_close(task.standard(pixels), (pixels - 0.456) / 0.224)
    for channels in (1, 3):
        some = torch.rand(2, channels, 4, 4, dtype=torch.float64)
        torch.testing.assert_close(task.pixels_of(task.standard(some)), some)
    train, _ = task.pictures(QUICK, (10, 10), ("4", "9"))
    assert train.inputs.shape[1:] == (1, 28, 28)


def test_networks_are_those_of_the_paper_and_of_their_seed():
    wide = networks.perceptron(Material(), (1, 28, 28))
    assert sum(one.numel() for one in wide.parameters()) == 784 * 1024 + 1024 + 1024 + 1
    net = networks.convolutional((1, 28, 28))
    shapes = [tuple(one.weight.shape) for one in net.modules() if hasattr(one, "weight")]
    assert shapes == [(32, 1, 4, 4), (32, 32, 4, 4), (64, 32, 3, 3), (256, 64, 3, 3), (256, 2304), (1, 256)]
    state = torch.get_rng_state()
    again = networks.convolutional((1, 28, 28))
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(net.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    other = networks.convolutional((1, 28, 28), seed=1)
    assert not torch.equal(next(net.parameters()), next(other.parameters()))


def test_only_the_last_layer_of_a_pretrained_network_is_new():
    one, other = (networks.pretrained_network(QUICK, seed=seed) for seed in (0, 1))
    same = [torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)]
    assert same == [True] * (len(same) - 2) + [False, False]
    fresh = networks.convolutional((1, 28, 28))
    assert not torch.equal(next(fresh.parameters()), next(one.parameters()))


def test_the_pretrained_resnet_classifies_its_pictures(shared_data):
    weights = shared_data / "resnet20-cifar10" / "resnet20.safetensors"
    material = Material(f"cifar10:{shared_data / 'cifar10.zip'}", Size.QUICK)
    assert networks.resnet_weights(material) == weights
    network = networks.ResNet20()
    from safetensors.torch import load_file

    missing = network.load_state_dict(load_file(weights), strict=False)
    assert not missing.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in missing.missing_keys)
    _, query = task.pictures(material, (20, 200), None)
    with torch.no_grad():
        right = task.accuracy(query, network.eval()(query.inputs.float()).double())
    # 81 % of the first 2000; four standard errors of 200.
    assert right > 0.81 - 4 * math.sqrt(0.81 * 0.19 / 200)


def test_a_missing_resnet_is_named(tmp_path):
    material = Material(f"cifar10:{tmp_path / 'data'}", Size.QUICK)
    assert networks.weights_beside(material) is None
    with pytest.raises(lo.LeftoutError, match="must have the pretrained ResNet-20 beside it"):
        networks.pretrained_network(material)
    assert networks.weights_beside(QUICK) is None


@pytest.mark.parametrize("ridge", [0.0, 1.0])
def test_influence_functions_are_the_sum_of_the_recursion(ridge):
    train, query = few()
    settings = classical.Recursion(scale=400.0, depth=40)
    rule = lo.GradientDescent(1e-3, ridge=ridge, loss="mean")
    trained = lo.train(small(), train, rule=rule, steps=30, tolerance=None)
    found = classical.series(QUICK, trained, query, settings)
    n, x = len(train), train.inputs
    weights = dict(trained.module.named_parameters())
    jacobians = torch.func.jacrev(
        lambda w, some: torch.func.functional_call(trained.module, w, (some,))[:, 0]
    )

    def rows(some):
        return torch.cat([one.detach().flatten(1) for one in jacobians(weights, some).values()], 1)

    flat = torch.cat([one.detach().flatten() for one in trained.module.parameters()])
    start = torch.cat([one.detach().flatten() for one in trained.initial.parameters()])
    jacobian, asked = rows(x), rows(query.inputs)
    error = (trained.module(x).detach() - train.targets)[:, 0]
    pulls = jacobian.T * error + ridge * (flat - start)[:, None]
    damped = 0.01 if ridge == 0 else 0.0
    state = pulls.clone()
    for _ in range(settings.depth):
        curved = jacobian.T @ (jacobian @ state) / n + ridge * state
        state = pulls + (1 - damped) * state - curved / settings.scale
    moved = state / settings.scale / n
    # Sums of 40 terms and an eigendecomposition: 1e-10 is far above either's rounding.
    np.testing.assert_allclose(found.weights, moved.square().sum(0), rtol=1e-10)
    np.testing.assert_allclose(found.predictions, (asked @ moved).square().sum(0), rtol=1e-10)


@pytest.mark.parametrize("ridge", [0.0, 1.0])
def test_the_recursion_itself_agrees_where_the_network_is_linear(ridge):
    train, query = few(10, 6)
    linear = networks.build_with_seed(
        lambda: nn.Sequential(nn.Flatten(), networks.readout(784, 1)), 0
    ).double()
    rule = lo.GradientDescent(5e-4, ridge=ridge, loss="mean")
    trained = lo.train(linear, train, rule=rule, steps=20, tolerance=None)
    settings = classical.Recursion(scale=1500.0, depth=30)
    closed = classical.series(QUICK, trained, query, settings).select([1, 4])
    stepped = classical.recursion(QUICK, trained, query, [1, 4], settings)
    # The Hessian is the Gauss-Newton matrix here, and every step takes all examples.
    np.testing.assert_allclose(stepped.weights, closed.weights, rtol=1e-9)
    np.testing.assert_allclose(stepped.predictions, closed.predictions, rtol=1e-9)


def test_a_long_recursion_without_damping_solves_the_system():
    values = torch.tensor([0.5, 3.0, 100.0], dtype=torch.float64)
    long = classical.Recursion(scale=100.0, depth=20_000)
    torch.testing.assert_close(long.filter(values), 1 / values)
    assert classical.LISSA.shift(0.0) == pytest.approx(10)
    assert classical.LISSA.shift(1.0) == 1.0


def test_training_again_of_a_linear_network_is_what_linearisation_says(tmp_path):
    train, query = few(10, 6)
    linear = networks.build_with_seed(
        lambda: nn.Sequential(nn.Flatten(), networks.readout(784, 1)), 0
    ).double()
    material = Material(size=Size.QUICK, folder=tmp_path)
    schedule = scores.Schedule(5e-4, 25, ridge=0.5)
    trained = lo.train(linear, train, rule=schedule.rule, steps=25, tolerance=None)
    truth = retrained.retrained_effects(material, trained, query, [0, 3])
    fitted = scores.linearised_fit(material, linear, train, schedule)
    found = lo.information(fitted, query, at=25).isel(train=[0, 3])
    np.testing.assert_allclose(truth.weights, 2 * found["weights"], rtol=1e-8)
    np.testing.assert_allclose(truth.predictions, 2 * 6 * found["function"], rtol=1e-8)
    kept = next(tmp_path.glob("*/3.json"))
    kept.write_text("[1.0, 2.0]")
    again = retrained.retrained_effects(material, trained, query, [0, 3])
    assert (again.weights[1], again.predictions[1]) == (1.0, 2.0)
    assert again.weights[0] == truth.weights[0]


def test_correlations_are_pearsons_and_are_told_apart_by_their_intervals():
    random = np.random.default_rng(0)
    one = random.standard_normal(30)
    other = one + 0.1 * random.standard_normal(30)
    found = table.correlation_with_interval(one, other)
    assert found.value == pytest.approx(np.corrcoef(one, other)[0, 1])
    assert found.low <= found.value <= found.high
    high, low = table.Correlation(0.9, 0.8, 1.0), table.Correlation(0.1, 0.0, 0.3)
    assert table.above(high, low) is True
    assert table.above(low, high) is False
    assert table.above(high, table.Correlation(0.7, 0.5, 0.85)) == "open"


@pytest.mark.slow
def test_effects_of_the_table_are_there_for_every_case_and_ridge(runs):
    kept = record(runs, "table1")["result"]["cases"]
    assert [(one["case"], one["ridge_of_mean_loss"]) for one in kept] == [
        (case.label, ridge) for case in (table.MLP, table.SCRATCH, table.PRETRAINED) for ridge in table.RIDGES
    ]
    for one in kept:
        for what in table.QUANTITIES:
            assert all(len(values[what]) == 3 for values in one["effects"].values())


def test_groups_that_differ_are_told_from_groups_that_do_not():
    random = np.random.default_rng(1)
    flags = np.arange(200) < 40
    shifted, same = random.exponential(size=200) + flags, random.exponential(size=200)
    for told in (scores.more_on_average, scores.more_often):
        assert told(shifted, flags) is True
        assert told(-shifted, flags) is False
    alike = np.sort(same)[random.permutation(200)]
    alike[flags] = np.quantile(alike[~flags], np.linspace(0.01, 0.99, 40))
    assert scores.more_often(alike, flags) == "open"
    assert scores.auc(shifted, flags) == pytest.approx((shifted[flags][:, None] > shifted[~flags]).mean())


def test_the_attack_moves_every_pixel_up_the_loss_within_black_and_white():
    train, _ = few()
    network = small()
    pixels = task.pixels_of(train.inputs)
    moved = task.pixels_of(adversarial.sign_attack(network, train, 0.03))
    step = (moved - pixels).abs()
    # The scaling there and back rounds in the last digits.
    assert float(step.max()) <= 0.03 + 1e-9
    inside = (pixels > 0.03) & (pixels < 0.97)
    torch.testing.assert_close(step[inside], torch.full_like(step[inside], 0.03))
    assert float(moved.min()) >= -1e-9
    assert float(moved.max()) <= 1 + 1e-9

    def loss(inputs):
        return (network(inputs).detach() - train.targets).square().sum()

    tiny = adversarial.sign_attack(network, train, 1e-4)
    assert loss(tiny) > loss(train.inputs)


def test_the_rare_ones_of_a_sub_class_share_their_class_with_the_many():
    pets = subclass._pets(QUICK)
    assert (pets.kind == 0).sum() == 6
    assert (pets.kind == 1).sum() == 24
    classes = pets.train.labels.numpy()
    np.testing.assert_array_equal(classes, pets.kind == 2)


def test_varied_digits_are_other_pictures_of_the_same_digits():
    own, _ = task.pictures(QUICK, (20, 10), None)
    varied = sources._vary_digits(own.inputs, torch.Generator().manual_seed(0))
    pixels = task.pixels_of(varied)
    assert float(pixels.min()) >= -1e-9
    assert float(pixels.max()) <= 1 + 1e-9
    plain = task.pixels_of(own.inputs)
    across = [
        float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])
        for a, b in zip(plain, pixels, strict=True)
    ]
    assert min(across) < -0.3
    assert max(across) > 0.3
    assert min(map(abs, across)) > 0.2


def test_sgd_of_the_toy_is_that_of_a_loop():
    generator = torch.Generator().manual_seed(4)
    inputs, targets = toy.draw_examples(7, generator)
    state = generator.get_state()
    found = toy.weights_of(inputs[None], targets[None], chains=2, epochs=3, generator=generator)
    generator.set_state(state)
    weights = torch.zeros(2, 2, dtype=torch.float64)
    kept = []
    for epoch in range(3):
        order = torch.rand(2, 7, generator=generator).argsort(1)
        for chain in range(2):
            for start in (0, 5):
                rows = order[chain, start : start + 5]
                error = inputs[rows] @ weights[chain] - targets[rows]
                weights[chain] -= 0.1 * (inputs[rows].T @ error) / len(rows)
        if epoch >= 1:
            kept.append(weights.clone())
    expected = torch.stack(kept, 1).reshape(1, -1, 2)
    torch.testing.assert_close(found, expected)


def test_divergences_are_those_of_torch_and_obey_the_lemma():
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(6, 4000, 2, generator=generator, dtype=torch.float64)
    draws = draws * torch.linspace(0.5, 1.0, 6, dtype=torch.float64)[:, None, None]
    draws = draws + 0.3 * torch.randn(6, 1, 2, generator=generator, dtype=torch.float64)
    alone = 1.5 * torch.randn(1, 4000, 2, generator=generator, dtype=torch.float64)
    laws, without = toy.normal(draws), toy.normal(alone)
    one, other = (torch.distributions.MultivariateNormal(law.mean, law.covariance) for law in (laws, without))
    torch.testing.assert_close(toy.divergences(laws, without), torch.distributions.kl_divergence(one, other))
    points = alone[0, :20]
    torch.testing.assert_close(laws.log_density(points), one.log_prob(points[:, None]).T)
    information, divergence = toy.informations(draws, alone)
    apart = float((divergence - information).mean())
    # Both sides are means over the same 500 draws of each law: 3 standard errors of such a mean.
    assert apart == pytest.approx(toy.divergence_of_mixture(draws, alone), abs=3 / math.sqrt(3000))
    assert float(information.mean()) < float(divergence.mean())


def test_predicted_accuracy_without_some_is_that_of_a_model_that_never_saw_them():
    train, query = few(14, 30)
    network = small()
    schedule = scores.Schedule(1e-3, 50)
    fitted = scores.linearised_fit(QUICK, network, train, schedule)
    rows = list(range(14))
    found = list(summarise._predicted_accuracies(fitted, query, rows, (0, 5), schedule))
    model = lo.fit(fitted.kernel, train.select(rows[5:]), rule=schedule.rule)
    assert found[1] == task.accuracy(query, model.predict(query, 50))
    assert found[0] == task.accuracy(query, fitted.predict(query, 50))


def test_curves_of_summarisation_begin_with_everyone(runs):
    for name in ("figure2c", "figure7b"):
        curves = record(runs, name)["result"]["curves"]
        assert set(curves) == {"bottom", "top", "bottom, iterative", "random"}
        assert len({one["retrained"][0] for one in curves.values()}) == 1
        assert all(one["shares"][0] == 0 for one in curves.values())


def test_positive_correlations_are_those_that_chance_does_not_give():
    assert dependence._positive(np.array([0.4, 0.9]), 100) is True
    assert dependence._positive(np.array([0.1, 0.9]), 100) == "open"
    assert dependence._positive(np.array([-0.4, -0.9]), 100) is False


def test_bins_of_a_histogram_hold_every_value_and_are_no_more_than_can_be_filled():
    values = np.geomspace(1e-9, 1.0, 100)
    bins = scores.edges(values)
    assert len(bins) == 100 // 8 + 1
    assert bins[0] <= values.min()
    assert bins[-1] >= values.max()
    np.testing.assert_allclose(np.diff(np.log(bins)), np.diff(np.log(bins))[0])
    assert len(scores.edges(np.geomspace(1e-9, 1.0, 5000))) == scores.BINS + 1

"""Which answers about a trained network speak for it: agreement of two models, and what it was worth."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import leftout as lo
from leftout.diagnostics.trust.calibration import CALIBRATION
from leftout.diagnostics.trust.trust import row_correlations

ROOT = Path(__file__).parents[2]
N, M = 50, 12


def digits():
    return lo.load("digits", classes=[3, 8, 9], n_train=N, n_query=M, normalise="sphere", centre="none")


def trained_network(train, *middle, outputs=3):
    """Return a network that cross-entropy has taught most labels."""
    torch.manual_seed(0)
    layers = middle or (nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, outputs))
    module = nn.Sequential(*layers).double()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(train.inputs), train.labels).backward()
        optimiser.step()
    return module


@pytest.fixture(scope="module")
def asked():
    train, query = digits()
    module = trained_network(train)
    fitted = lo.fit(lo.kernels.Empirical(module), train, rule=lo.Logistic(0.5))
    return module, fitted, query, lo.trust(fitted, query)


def test_agreement_is_the_correlation_of_the_answers_of_both_models(asked) -> None:
    module, fitted, query, found = asked
    train = fitted.train
    rows = []  # of the Jacobian, by plain autograd
    for output in module(train.inputs).flatten():
        gradients = torch.autograd.grad(output, list(module.parameters()), retain_graph=True)
        rows.append(sum(float(gradient.square().sum()) for gradient in gradients))
    kernel = lo.kernels.ReLU(1)
    ridge = 0.5 * float(kernel.block(train.inputs, train.inputs).diagonal().mean()) / np.mean(rows)
    other = lo.fit(kernel, train, rule=lo.Logistic(ridge))
    answers = [lo.leave_one_out(model, query).values for model in (fitted, other)]
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(*answers, strict=True)]
    np.testing.assert_allclose(found.agreement, expected, rtol=1e-8)
    np.testing.assert_array_equal(found.trusted, np.array(expected) >= CALIBRATION.threshold)
    assert found.attrs["kernel"] == "Flatten, Dense, Relu, Dense"
    assert found["query"].values.tolist() == list(query.ids)


def test_neither_order_nor_unit_matters(asked) -> None:
    module, fitted, query, found = asked
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    turned = lo.fit(lo.kernels.Empirical(module), fitted.train.select(order), rule=lo.Logistic(0.5))
    # One Newton step is solved to a thousandth of the largest change: correlations move by as much.
    np.testing.assert_allclose(lo.trust(turned, query).agreement, found.agreement, atol=2e-3)
    scores = lo.leave_one_out(fitted, query)
    np.testing.assert_allclose(
        lo.trust(fitted, query, scores=1e-200 * scores).agreement, found.agreement, rtol=1e-9
    )
    np.testing.assert_allclose(lo.trust(fitted, query, scores=-scores).agreement, -found.agreement, rtol=1e-9)


def test_answers_of_nothing_are_not_trusted(asked) -> None:
    _, fitted, query, found = asked
    shuffled = lo.leave_one_out(fitted, query).copy()
    generator = np.random.default_rng(0)
    shuffled.values = generator.permuted(shuffled.values, axis=1)
    control = lo.trust(fitted, query, scores=shuffled)
    assert abs(control.agreement.values).mean() < 0.3 < found.agreement.values.mean()
    assert int(control.trusted.sum()) <= 2
    assert "do not speak for the network trained again" in control.attrs["verdict"]


def test_a_query_that_nothing_moves_has_no_agreement(asked) -> None:
    _, fitted, query, _ = asked
    scores = lo.leave_one_out(fitted, query).copy()
    scores[0] = 3.0
    found = lo.trust(fitted, query, scores=scores)
    assert np.isnan(found.agreement[0])
    assert not found.trusted[0]
    nothing = lo.trust(fitted, query, scores=0 * scores)
    assert nothing.attrs["verdict"] == "Verdict: none, as no training example moves any query."


def test_correlations_of_rows_are_exact_at_any_size() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.standard_normal((2, 5, 40))
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(first, second, strict=True)]
    for size in (1e-300, 1.0, 1e300):
        np.testing.assert_allclose(row_correlations(size * first, second / size), expected, rtol=1e-12)


PARTS = {
    "last layer": {"parameters": "3.*"},
    "trace": {"outputs": "trace"},
    "projected": {"projection": lo.kernels.Rademacher(size=200)},
}


def in_another_form(train, name):
    """Return a model of which there is no verdict."""
    kernel, rule = lo.kernels.Empirical, lo.Logistic(0.5)
    if name == "tanh":
        layers = (nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 3))
        return lo.fit(kernel(trained_network(train, *layers)), train, rule=rule)
    if name == "rows of pictures":
        layers = (nn.Linear(8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
        return lo.fit(kernel(trained_network(train, *layers)), train, rule=rule)
    if name == "initial":
        return lo.fit(
            kernel(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), weights="initial"), train, rule=rule
        )
    if name in PARTS:
        return lo.fit(kernel(trained_network(train), **PARTS[name]), train, rule=rule)
    if name == "wide":
        return lo.fit(lo.kernels.ReLU(1), train, rule=rule)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 3)).double()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    for _ in range(400):
        optimiser.zero_grad()
        (module(train.inputs) - train.targets).square().sum(1).mean().backward()
        optimiser.step()
    return lo.fit(kernel(module), train, rule=lo.Ridge(0.5))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tanh", "this one has Tanh"),
        ("rows of pictures", "all 64 numbers of an input"),
        ("initial", "at its trained weights"),
        ("last layer", "75 of 1635 weights move"),
        ("trace", "all outputs, no projection"),
        ("projected", "all outputs, no projection"),
        ("wide", "at its trained weights"),
        ("squares", "by cross-entropy"),
    ],
)
def test_without_a_second_model_there_is_no_verdict(name, words) -> None:
    train, query = digits()
    with pytest.raises(lo.LeftoutError, match=words):
        lo.trust(in_another_form(train, name), query)


def test_scores_of_other_queries_are_refused(asked) -> None:
    _, fitted, query, _ = asked
    with pytest.raises(lo.LeftoutError, match="12 queries and 50 training"):
        lo.trust(fitted, query, scores=lo.leave_one_out(fitted, query)[:5])


@pytest.mark.parametrize(
    ("agreement", "words"),
    [
        (1.0, "answers speak for the"),
        (0.45, "speak in part for"),
        (0.0, "do not speak for"),
        (-0.9, "do not speak"),
    ],
)
def test_the_verdict_follows_the_agreement(agreement, words) -> None:
    assert words in CALIBRATION.verdict(np.full(10, agreement))


def test_a_calibration_that_knows_less_says_less() -> None:
    vague = replace(CALIBRATION, low=-0.9, high=0.9)
    assert "speak in part" in vague.verdict(np.full(10, 0.9))


def test_the_numbers_are_those_of_the_record() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from verdict import AUDITS, calibrate
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    result = json.loads((ROOT / CALIBRATION.source / "result.json").read_text())
    measured = [
        {
            "name": name,
            "queries": {
                key: numbers[f"{kind} {first}"]
                for first, second in AUDITS
                for kind, key in (("lds", f"lds {first}"), ("agreement", f"pearson {first}, {second}"))
            },
        }
        for name, numbers in result["queries"].items()
    ]
    again = calibrate(measured)
    for name, kept in CALIBRATION.record.items():
        if name not in ("source", "single_networks", "seeds_agree"):
            assert again[name] == kept, name
    between = [each["between seeds"] for each in result["singles"].values()]
    assert CALIBRATION.single_networks == len(between)
    assert CALIBRATION.seeds_agree == pytest.approx((np.mean(between), min(between), max(between)), abs=1e-3)
    assert CALIBRATION.networks >= 30
    # The control: agreement of another query of the same network tells nothing of this one.
    control = again["control, agreement of other queries of the network"]
    assert abs(control) < 0.1 < again["correlation within networks"]

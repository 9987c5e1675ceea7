"""The network that is trained again is that of the kernel, and it is shown beside the model."""

import numpy as np
import pytest
import torch
from torch import nn

import leftout as lo
from leftout.audit.retrained_curve import _spread_counts, initial_network, retrained_removal_curve
from leftout.core.errors import OptionError
from leftout.curation.prune import prune
from leftout.diagnostics.retraining import retrain as retrain_module
from leftout.kernels.network.empirical import Empirical
from leftout.report.report import html
from problems.networks import linear, network
from report.test_report import Page


def flat():
    """A linear network on pictures of 8 × 8."""
    return nn.Sequential(nn.Flatten(), linear(64))


def sevens(n_train=40):
    return lo.load("digits", classes=[7, 9], n_train=n_train, n_query=20)


@pytest.mark.parametrize(
    ("most", "chosen"),
    [(None, [0, 1, 5, 10, 20, 30, 50]), (9, [0, 1, 5, 10, 20, 30, 50]), (3, [0, 5, 20, 50]), (1, [0, 50])],
)
def test_trainings_are_spread_over_the_curve_and_reach_its_end(most, chosen) -> None:
    assert _spread_counts((0, 1, 5, 10, 20, 30, 50), most) == chosen


def test_an_audit_with_trainings_shows_the_curve_of_the_network(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(retrain_module, "cpu_count", lambda: 1)  # processes take longer to start
    train, query = sevens()
    kernel = Empirical(flat(), weights="initial")
    found = lo.audit(
        kernel, train, query, rule=lo.Ridge(0.5), out=tmp_path / "run", retrain_examples=3, refit_examples=1
    ).findings
    again = found.retrained_removal
    assert again.counts == (0, 2, 8, 20)
    # A linear network is its linearisation, up to the tolerance of training, 1e-5 of the gradient.
    np.testing.assert_allclose(again.retrained_loss, again.predicted_loss, rtol=1e-3)
    page = html(found)
    words = Page(page).words
    assert "Squares are your network, trained again on the rest" in words
    assert "loss, trained again" in words
    assert page.count('<rect class="dot b"') == 2 * len(again.counts)
    record = lo.open(tmp_path / "run").record["retrained_removal"]
    assert record["counts"] == [0, 2, 8, 20]


def test_without_trainings_nothing_is_said_of_them() -> None:
    train, query = sevens()
    found = lo.audit(
        Empirical(flat(), weights="initial"), train, query, rule=lo.Ridge(0.5), refit_examples=1
    ).findings
    assert found.retrained_removal is None
    assert "trained again on what remains" not in Page(html(found)).words


def test_the_network_of_a_kernel_is_made_or_taken() -> None:
    train, _ = sevens(20)
    two_layer = lo.fit(lo.kernels.TwoLayerReLU(), train)
    made = initial_network(two_layer, width=32, seed=3)
    wanted = network(32, 64, seed=3)
    torch.testing.assert_close(made.weights, wanted.weights, rtol=0, atol=0)
    empirical = lo.fit(Empirical(flat(), weights="initial"), train)
    assert initial_network(empirical, width=32, seed=0) is empirical.kernel.module
    with pytest.raises(OptionError, match="--retrain needs --model, or --kernel two-layer-relu"):
        initial_network(lo.fit(lo.kernels.ReLU(2), train), width=32, seed=0)


def test_a_rule_or_time_that_a_network_cannot_follow_is_refused() -> None:
    train, query = sevens(20)
    flow = lo.fit(Empirical(flat(), weights="initial"), train, rule=lo.GradientFlow(0.1))
    with pytest.raises(OptionError, match="under Ridge or GradientDescent, which it can follow"):
        retrained_removal_curve(flow, query, prune(flow, query, at=1.0), flat())
    descent = lo.fit(Empirical(flat(), weights="initial"), train, rule=lo.GradientDescent(0.01))
    with pytest.raises(OptionError, match="at least one step; got at = 0"):
        retrained_removal_curve(descent, query, prune(descent, query, at=0), flat())

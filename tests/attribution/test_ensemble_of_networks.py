"""Do trained wide networks, each from random weights of its own, spread as the formulas say?

One hundred tanh networks of width 512, trained by plain descent, with all examples and without two. What
they estimate is known to its standard errors; to these the width adds: the tangent kernel of a network is
off by O(m^-1/2), independently of f_0, and that adds O(1/m) to a variance. Where an influence hardly
depends on f_0 it is all there is, so variances are compared against the largest, or summed.
"""

import math

import numpy as np
import pytest
import torch
from torch.func import functional_call, vmap

import leftout as lo
from leftout.dynamics.ensemble import ensemble
from leftout.dynamics.wide import WideNetwork
from leftout.kernels.wide.tanh import Tanh
from problems.networks import seeded, sphere

MEMBERS, WIDTH, N, M, D = 100, 512, 12, 5, 4
RIDGE, TIMES, LEFT = 1.0, (0, 10, 100), (0, 1)
KERNEL = Tanh(1, 2.0, 0.1)


def data(count, seed):
    inputs, targets = sphere(count, D, seed=seed)
    return inputs * math.sqrt(D), targets


class Members:
    """Networks side by side, and predictions of each at the queries at every time."""

    def __init__(self, train, points, rate):
        networks = [
            WideNetwork(WIDTH, D, activation="tanh", bias_variance=0.1, generator=seeded(member))
            for member in range(MEMBERS)
        ]
        self.one, self.rate, self.train, self.points = networks[0], rate, train, points
        self.start = {
            name: torch.stack([dict(net.named_parameters())[name].detach() for net in networks])
            for name, _ in self.one.named_parameters()
        }

    def outputs(self, weights, inputs):
        return vmap(lambda own: functional_call(self.one, own, (inputs,)))(weights)[..., 0]

    def predictions(self, left=None):
        keep = torch.ones(N, dtype=torch.float64)
        if left is not None:
            keep[left] = 0
        inputs, targets = self.train
        weights, found = dict(self.start), []
        for step in range(TIMES[-1] + 1):
            if step in TIMES:
                found.append(self.outputs(weights, self.points).detach().numpy())
            own = {name: one.detach().requires_grad_() for name, one in weights.items()}
            loss = (keep * (self.outputs(own, inputs) - targets[:, 0]) ** 2).sum() / 2
            loss = loss + RIDGE / 2 * sum(((own[n] - self.start[n]) ** 2).sum() for n in own)
            slopes = torch.autograd.grad(loss, list(own.values()))
            weights = {
                name: (one - self.rate * slope).detach()
                for (name, one), slope in zip(own.items(), slopes, strict=True)
            }
        return np.stack(found)  # (t, members, m)


@pytest.fixture(scope="module")
def trained():
    train, query = data(N, 0), data(M, 1)
    rate = 1.5 / (float(torch.linalg.eigvalsh(KERNEL.block(train[0], train[0]))[-1]) + RIDGE)
    members = Members(train, query[0], rate)
    fitted = lo.fit(KERNEL, train, rule=lo.GradientDescent(rate, RIDGE))
    return fitted, query, members.predictions(), [members.predictions(left) for left in LEFT]


def sure(variances):
    """Four standard errors of a sum of variances, each of which is known to a share of √(2 / members).

    As if all went up and down together, which is the worst.
    """
    return 4 * math.sqrt(2 / MEMBERS) * variances.sum()


WIDE = 20 / WIDTH
"""What width may add, relative to the largest: 1 / width times a number of order ten."""


def test_predictions_have_the_mean_and_the_variance_of_the_limit(trained) -> None:
    fitted, query, found, _ = trained
    said = ensemble(fitted, query[0], at=list(TIMES))
    for place in range(len(TIMES)):
        mean, variance = said.mean[place, :, 0].numpy(), said.variance[place, :, 0].numpy()
        error = found[place].std(0) / math.sqrt(MEMBERS)
        assert (np.abs(found[place].mean(0) - mean) < 4 * error + WIDE * variance.max() ** 0.5).all()
        apart = np.abs(found[place].var(0, ddof=1) - variance)
        assert (apart < 4 * math.sqrt(2 / MEMBERS) * variance + WIDE * variance.max()).all()
    end = ensemble(fitted, query[0])
    assert float((end.mean - said.mean[-1]).abs().max()) < 1e-3, "the last of the times is the end"


@pytest.mark.parametrize("of", ["prediction", "loss"])
def test_influences_have_the_mean_and_the_spread_of_the_limit(trained, of) -> None:
    fitted, query, found, without = trained
    said = lo.leave_one_out(fitted, query, at=list(TIMES), of=of, spread=True).isel(train=list(LEFT))
    means, spreads = (said[name].values.reshape(len(TIMES), M, len(LEFT)) for name in ("mean", "spread"))
    wanted = query[1][:, 0].numpy()
    for place in range(1, len(TIMES)):
        ours = np.stack(
            [
                found[place] - one[place]
                if of == "prediction"
                else ((one[place] - wanted) ** 2 - (found[place] - wanted) ** 2) / 2
                for one in without
            ],
            axis=2,
        )  # (members, m, left)
        largest = spreads[place].max()
        error = ours.std(0) / math.sqrt(MEMBERS)
        assert (np.abs(ours.mean(0) - means[place]) < 4 * error + WIDE * largest).all()
        variances = spreads[place] ** 2
        apart = ours.var(0, ddof=1).sum() - variances.sum()
        # A square of normal numbers has heavier tails: twice the standard error.
        heavier = 2 if of == "loss" else 1
        assert abs(apart) < heavier * sure(variances) + WIDE * variances.size * largest**2

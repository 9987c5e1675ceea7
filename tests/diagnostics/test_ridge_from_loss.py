"""A ridge for trained weights of whose training nothing is known: where the training losses meet."""

import numpy as np
import pytest
import torch
from torch import nn

import leftout as lo
from oracles.cross_entropy import DenseLogistic, cross_entropy

N = 40


def trained(steps, *, columns=3, activation=nn.ReLU):
    train, _ = lo.load(
        "digits",
        classes=[3, 8, 9][: max(columns, 2)],
        n_train=N,
        n_query=5,
        normalise="sphere",
        centre="none",
    )
    torch.manual_seed(1)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), activation(), nn.Linear(32, columns)).double()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.02, momentum=0.9)
    for _ in range(steps):
        optimiser.zero_grad()
        logits = module(train.inputs)
        logits = nn.functional.pad(logits, (1, 0)) if columns == 1 else logits
        nn.functional.cross_entropy(logits, train.labels).backward()
        optimiser.step()
    return module, train


@pytest.mark.parametrize("columns", [1, 3])
def test_the_kernel_of_the_architecture_has_the_loss_of_the_network(columns) -> None:
    module, train = trained(20, columns=columns)
    ridge = lo.ridge_from_loss(lo.kernels.Empirical(module), train)
    squares = [  # rows of the Jacobian, by plain autograd
        sum(
            float(g.square().sum())
            for g in torch.autograd.grad(one, list(module.parameters()), retain_graph=True)
        )
        for one in module(train.inputs).flatten()
    ]
    gram = lo.kernels.ReLU(1).block(train.inputs, train.inputs).numpy()
    share = ridge / np.mean(squares)
    labels = train.labels.numpy()
    targets = np.eye(3)[labels] if columns == 3 else labels[:, None].astype(float)
    initial = np.zeros((N, columns))
    own = cross_entropy(module(train.inputs).detach().numpy(), targets).mean()

    def loss(factor):
        dense = DenseLogistic(
            gram, gram, initial, initial, targets, ridge=factor * share * gram.diagonal().mean()
        )
        return cross_entropy(initial + (dense.features @ dense.weights()).reshape(N, columns), targets).mean()

    # It is found to 5 %: the losses of ridges a tenth smaller and larger lie on both sides.
    assert loss(0.9) < own < loss(1.1)


def test_a_shorter_training_has_a_larger_ridge() -> None:
    ridges = []
    for steps in (8, 16, 32):
        module, train = trained(steps)
        ridge = lo.ridge_from_loss(lo.kernels.Empirical(module), train)
        ridges.append(ridge / float(lo.kernels.Empirical(module, "trace").diagonal(train.inputs).mean()))
    assert ridges[0] > 2 * ridges[1] > 4 * ridges[2]


def test_a_network_beyond_its_kernel_has_a_hundredth_of_the_diagonal() -> None:
    module, train = trained(1500)
    kernel = lo.kernels.Empirical(module)
    ridge = lo.ridge_from_loss(kernel, train)
    diagonal = float(lo.kernels.Empirical(module, "trace").diagonal(train.inputs).mean())
    assert ridge == pytest.approx(0.01 * diagonal, rel=1e-9)


def test_a_network_that_has_learned_nothing_is_refused() -> None:
    module, train = trained(20)
    with torch.no_grad():
        module[3].weight.mul_(-1)
        module[3].bias.mul_(-1)
    with pytest.raises(lo.LeftoutError, match="that has learned from `train`"):
        lo.ridge_from_loss(lo.kernels.Empirical(module), train)
    module, train = trained(20, activation=lambda: nn.Softmax(1))
    with pytest.raises(lo.LeftoutError, match=r"it has 2 \(Softmax\)"):
        lo.ridge_from_loss(lo.kernels.Empirical(module), train)
    with pytest.raises(lo.LeftoutError, match="at its trained weights"):
        lo.ridge_from_loss(lo.kernels.ReLU(1), train)

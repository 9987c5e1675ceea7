"""Are products those with the matrix that the definition writes down, in any chunks?"""

import copy

import pytest
import torch
from torch import nn

from leftout.data.pairs import examples_of
from leftout.dynamics.curvature import Curvature
from oracles.classical import Network

N, D, K = 8, 3, 2
SHIFT = 0.3
ROUNDING = 1e-12
"""Relative: sums of 16 products of numbers of size 1, in another order than the oracle's."""


def tensor(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(D, 4), nn.Tanh(), nn.Linear(4, K)).double()


MODULE, X, Y = network(), tensor(N, D), tensor(N, K, seed=1)
ORACLE = Network(MODULE, X, Y, ridge=0.0)
SIDE = len(ORACLE.start)


def curvature(kind="hessian", memory=10**8, shift=SHIFT):
    return Curvature(MODULE, examples_of((X, Y)), kind=kind, shift=shift, memory=memory)


def jacobian(inputs=X):
    """(n, k, p)."""
    return torch.autograd.functional.jacobian(lambda w: ORACLE.outputs(w, inputs), ORACLE.start)


def matrix(kind):
    if kind == "hessian":
        found = ORACLE.hessian(ORACLE.start)
    else:
        rows = jacobian().flatten(0, 1)
        found = rows.T @ rows
    return found + SHIFT * torch.eye(SIDE, dtype=torch.float64)


KINDS = pytest.mark.parametrize("kind", ["hessian", "ggn"])
MEMORIES = pytest.mark.parametrize("memory", [1, 20_000, 10**8])


def assert_close(got, want):
    torch.testing.assert_close(got, want, rtol=0, atol=ROUNDING * float(want.abs().max()))


@KINDS
@MEMORIES
@pytest.mark.parametrize("columns", [1, 7])
def test_a_product_is_that_of_the_matrix(kind, memory, columns, frozen) -> None:
    vectors = tensor(SIDE, columns, seed=2)
    frozen(vectors, X, Y, *MODULE.parameters())
    assert_close(curvature(kind, memory)(vectors), matrix(kind) @ vectors)


@KINDS
def test_the_products_of_all_columns_of_the_identity_are_symmetric(kind) -> None:
    found = curvature(kind)(torch.eye(SIDE, dtype=torch.float64))
    assert_close(found, found.T)
    if kind == "ggn":
        assert float(torch.linalg.eigvalsh(found)[0]) >= SHIFT * (1 - ROUNDING)


@KINDS
def test_what_single_examples_say_is_the_whole_on_average(kind) -> None:
    made, vectors = curvature(kind), tensor(SIDE, 3, seed=3)
    single = torch.stack([made(vectors, torch.tensor([i])) for i in range(N)])
    assert_close(single.mean(0), made(vectors))
    pair = made(vectors, torch.tensor([2, 5]))
    assert_close(pair, (single[2] + single[5]) / 2)


@MEMORIES
def test_gradients_are_those_of_each_loss(memory) -> None:
    got = curvature(memory=memory).gradients(X[:5], Y[:5])
    residual = ORACLE.outputs(ORACLE.start, X[:5]) - Y[:5]
    assert_close(got, torch.einsum("nkp,nk->pn", jacobian(X[:5]), residual))


@MEMORIES
def test_slopes_are_gradients_times_columns(memory) -> None:
    made, vectors = curvature(memory=memory), tensor(SIDE, 4, seed=4)
    want = vectors.T @ made.gradients(X, Y)
    assert_close(made.slopes(vectors), want)
    rows = torch.tensor([6, 0, 6])
    assert_close(made.slopes(vectors, rows), want[:, rows])


def test_a_push_forward_is_the_derivative_along_a_line() -> None:
    made, along = curvature(), tensor(SIDE, 1, seed=5)
    step = 1e-5
    ahead, behind = (
        0.5 * (ORACLE.outputs(ORACLE.start + sign * step * along[:, 0], X) - Y).square().sum(1)
        for sign in (1, -1)
    )
    # Central differences leave step² = 1e-10 of the third derivative, and eps / step = 1e-11.
    want = (ahead - behind) / (2 * step)
    torch.testing.assert_close(made.slopes(along)[0], want, rtol=0, atol=1e-8)


def test_the_module_is_neither_written_to_nor_kept() -> None:
    module = copy.deepcopy(MODULE).float()
    made = Curvature(module, examples_of((X, Y)), kind="ggn", shift=0.0, memory=10**8)
    before = made(tensor(SIDE, 1))
    assert before.dtype == torch.float64
    assert {one.dtype for one in module.parameters()} == {torch.float32}
    with torch.no_grad():
        for one in module.parameters():
            one.zero_()
    assert torch.equal(made(tensor(SIDE, 1)), before)


def test_a_chunk_holds_as_many_examples_as_fit_the_memory() -> None:
    sizes = []
    for memory in (1, 20_000, 10**8):
        made = curvature(memory=memory)
        sizes.append([len(x) for x, _ in made._chunks(1, None)])
    assert sizes[0] == [1] * N
    assert 1 < len(sizes[1]) < N
    assert sizes[2] == [N]

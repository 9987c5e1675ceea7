"""Is what one data set teaches exactly what refitting says, and are its laws kept?"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from laws import assert_same
from leftout.core.errors import DataError, NotPositiveError, OptionError, ShapeError
from leftout.diagnostics.eigenlearning.transfer import data_learnability, transfer, transfer_derivatives
from oracles.learnability import predict, rebuilt, share

M = 14


@st.composite
def domains(draw, ridge=True):
    """A kernel on 14 points with its eigenvalues of gram / M, some of them as examples, and a ridge.

    Condition 1e3: differences of eigenvalues and inverses then keep 1e-12.
    """
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    vectors = np.linalg.qr(chance.standard_normal((M, M)))[0]
    values = np.sort(10.0 ** chance.uniform(-3, 0, M))[::-1]
    rows = chance.permutation(M)[: draw(st.integers(1, M - 1))]
    return values, vectors, rows, draw(st.sampled_from([0.0, 1e-3, 1.0])) if ridge else 0.0, chance


@given(domains())
@settings(max_examples=40, deadline=None)
def test_the_matrix_is_that_of_refitting_every_function(domain) -> None:
    values, vectors, rows, ridge, chance = domain
    gram = rebuilt(values, vectors)
    basis = np.linalg.qr(chance.standard_normal((M, M)))[0][:, :5]
    columns = [predict(gram, rows, f[rows], ridge) for f in basis.T]
    want = basis.T @ np.array(columns).T
    assert_same(transfer(gram, rows, ridge=ridge, basis=7 * basis), want, 1e-9)
    got = data_learnability(gram, basis, rows, ridge=ridge)
    assert_same(got, [share(f, one) for f, one in zip(basis.T, columns, strict=True)], 1e-9)


@given(domains())
@settings(max_examples=40, deadline=None)
def test_the_sum_over_any_complete_basis_is_n_less_the_share_of_the_ridge(domain) -> None:
    """tr K (K + ridge)⁻¹ over the examples."""
    values, vectors, rows, ridge, chance = domain
    gram = rebuilt(values, vectors)
    seen = np.linalg.eigvalsh(gram[np.ix_(rows, rows)])
    want = (seen / (seen + ridge)).sum()
    basis = np.linalg.qr(chance.standard_normal((M, M)))[0]
    for functions in (None, basis, np.eye(M)):
        got = float(transfer(gram, rows, ridge=ridge, basis=functions).trace())
        assert got == pytest.approx(want, abs=1e-9)
    if ridge == 0:
        assert want == pytest.approx(len(rows), abs=1e-12)


@given(domains())
@settings(max_examples=40, deadline=None)
def test_of_eigenfunctions_more_data_teach_more_and_never_more_than_all(domain) -> None:
    """Lemma 1: bounds and (e), with and without ridge."""
    values, vectors, rows, ridge, _ = domain
    gram = rebuilt(values, vectors)
    parts = [data_learnability(gram, vectors, rows[:k], ridge=ridge) for k in range(len(rows) + 1)]
    assert float(torch.stack(parts).min()) >= -1e-11
    assert float(torch.stack(parts).max()) <= 1 + 1e-11
    assert float(torch.stack(parts).diff(dim=0).min()) >= -1e-11


def test_of_other_functions_more_data_may_teach_less_and_bounds_do_not_hold() -> None:
    """Lemma 1 (e) is printed for every f."""
    chance = np.random.default_rng(0)
    vectors = np.linalg.qr(chance.standard_normal((M, M)))[0]
    gram = rebuilt(np.geomspace(1, 1e-3, M), vectors)
    functions = chance.standard_normal((M, 200))
    parts = torch.stack([data_learnability(gram, functions, range(k)) for k in (3, 4, 5)])
    assert float(parts.min()) < 0
    assert float(parts.max()) > 1
    assert 0.1 < float((parts.diff(dim=0) < 0).double().mean()) < 0.6


@given(domains(), st.integers(0, M - 1))
@settings(max_examples=40, deadline=None)
def test_derivatives_are_those_of_finite_differences_and_have_their_signs(domain, i) -> None:
    """Eqs. 9, 10, 39 and 40."""
    values, vectors, rows, ridge, _ = domain
    ends = []
    step = 1e-6
    for sign in (-1, 1):
        moved = values.copy()
        moved[i] *= 1 + sign * step
        moved_gram = rebuilt(moved, vectors)
        ends.append([share(f, predict(moved_gram, rows, f[rows], ridge)) for f in vectors.T])
    numeric = np.subtract(ends[1], ends[0]) / (2 * step)
    found = transfer_derivatives(rebuilt(values, vectors), rows, ridge=ridge)
    # λ dT / dλ is at most 1; the difference has an error of step², and 1e-12 / step of rounding.
    np.testing.assert_allclose(values[i] * found[i], numeric, atol=3e-6)
    others = found - torch.diag(found.diagonal())
    assert float(others.max()) <= 0
    assert float((found.diagonal() * torch.from_numpy(values.copy())).min()) >= -1e-10


@given(domains())
@settings(max_examples=20, deadline=None)
def test_rotations_turn_the_matrix_and_orders_leave_it(domain) -> None:
    values, vectors, rows, ridge, chance = domain
    gram = rebuilt(values, vectors)
    basis, turn = (np.linalg.qr(chance.standard_normal((M, M)))[0] for _ in range(2))
    one = transfer(gram, rows, ridge=ridge, basis=basis).numpy()
    assert_same(transfer(gram, rows, ridge=ridge, basis=basis @ turn), turn.T @ one @ turn, 1e-9)
    assert_same(transfer(gram, rows[::-1].copy(), ridge=ridge, basis=basis), one, 1e-9)
    order = chance.permutation(M)
    where = np.argsort(order)[rows]
    moved = transfer(gram[np.ix_(order, order)], where, ridge=ridge, basis=basis[order])
    assert_same(moved, one, 1e-9)
    assert_same(transfer(5 * gram, rows, ridge=5 * ridge, basis=basis), one, 1e-9)


def test_no_examples_teach_nothing_and_all_teach_everything() -> None:
    """Eqs. 7 and 8."""
    gram = rebuilt(np.geomspace(1, 1e-2, M), np.linalg.qr(np.random.default_rng(0).normal(size=(M, M)))[0])
    assert float(transfer(gram, []).abs().max()) == 0
    assert float(transfer_derivatives(gram, []).abs().max()) == 0
    assert float(data_learnability(gram, np.ones(M), [])) == 0
    assert_same(transfer(gram, range(M)), np.eye(M), 1e-12)
    assert float(data_learnability(gram, np.arange(M), range(M))) == pytest.approx(1, rel=1e-12)


def test_without_a_basis_it_is_that_of_eigenfunctions() -> None:
    values = np.geomspace(1, 1e-2, M)
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(M, M)))[0]
    found = transfer(rebuilt(values, vectors), range(5))
    # Eigenvectors are known up to their signs: the diagonal does not see them.
    want = transfer(rebuilt(values, vectors), range(5), basis=vectors)
    assert_same(found.diagonal(), want.diagonal(), 1e-10)
    assert_same(found.abs(), want.abs(), 1e-10)


def test_tensors_are_taken_and_left_alone(frozen) -> None:
    gram = torch.eye(4, dtype=torch.float64)
    basis = torch.eye(4, dtype=torch.float64)
    frozen(gram, basis)
    rows = torch.tensor([2, 0])
    for found in (transfer(gram, rows, basis=basis), transfer(gram.numpy(), [2, 0], basis=basis)):
        assert_same(found, np.diag([1.0, 0, 1, 0]), 1e-15)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"gram": np.ones((3, 2))}, ShapeError, r"`gram` must be square"),
        ({"rows": [0, 4]}, OptionError, r"`rows` must be numbers.*from 0 to 3, each once; got \[0, 4\]"),
        ({"rows": [-1]}, OptionError, r"`rows` must be numbers of points"),
        ({"rows": [1, 1]}, OptionError, r"each once; got \[1, 1\]"),
        ({"rows": [True, False]}, OptionError, r"`rows` must be row numbers, whole"),
        ({"ridge": -1}, OptionError, r"`ridge` must be a finite number ≥ 0; got -1"),
        ({"basis": np.eye(3)}, ShapeError, r"`basis` must have 4 rows, the side of `gram`"),
        ({"basis": np.ones((4, 2))}, DataError, r"`basis` must hold orthogonal.*columns 0 and 1.*qr"),
        ({"basis": np.zeros((4, 1))}, DataError, r"`basis` must hold no function that is 0.*column 0"),
        ({"gram": np.ones((4, 4))}, NotPositiveError, r"not positive definite"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(options, error, match) -> None:
    asked = {"gram": np.eye(4), "rows": [0, 1], **options}
    with pytest.raises(error, match=match):
        transfer(asked.pop("gram"), asked.pop("rows"), **asked)


@pytest.mark.parametrize("function", [data_learnability])
def test_a_function_that_is_zero_is_refused(function) -> None:
    with pytest.raises(DataError, match=r"`functions` must hold no function that is 0 everywhere"):
        function(np.eye(3), np.zeros(3), [0])


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_the_size_of_functions_does_not_count_however_far_from_one(size) -> None:
    gram = np.eye(3)
    assert_same(data_learnability(gram, np.full(3, size), [0]), [1 / 3], 1e-15)
    basis = np.linalg.qr(np.arange(9.0).reshape(3, 3) ** 2)[0]
    assert float(transfer(gram, [1, 2], basis=size * basis).trace()) == pytest.approx(2, rel=1e-14)


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(DataError, match="`predictions` must be finite"):
        data_learnability(np.eye(3) * 1e-320, np.ones(3), [0])

"""Are the resolvents downdated as the matrices are? Against dense complex inverses, node by node."""

import numpy as np
import pytest
import torch

from leftout.solvers import spectrum as module
from leftout.solvers.quadrature import Quadrature
from leftout.solvers.resolvent import (
    added_coordinates,
    coefficients,
    edited_coordinates,
    filtered_coordinates,
    group_left_out_coordinates,
    left_out_diagonal,
    left_out_ratios,
    resolvents_at_nodes,
    reweighted_ratios,
)
from leftout.solvers.spectrum import Spectrum, spectrum_of

N, RANK, K = 11, 4, 2
NODES = np.array([-0.3 + 0j, 0.4 + 0.2j, -1.0 - 2.0j, 1.5 + 0.01j])
WEIGHTS = np.array([[1.0 - 1j, 0.5, 2j, -0.1], [0.2, -1j, 0.3, 1.0 + 1j]])
QUADRATURE = Quadrature(torch.from_numpy(NODES), torch.from_numpy(WEIGHTS.astype(complex)))


def close(got, want):
    torch.testing.assert_close(got, torch.as_tensor(want), rtol=1e-10, atol=1e-11)


@pytest.fixture(params=["thin", "full", "full rank"])
def case(request):
    """A matrix, its spectrum with and without the modes that are zero, and data."""
    draw = np.random.default_rng(0)
    rank = N if request.param == "full rank" else RANK
    features = draw.standard_normal((N, rank)) / np.sqrt(N)
    gram = features @ features.T
    spectrum = spectrum_of(torch.from_numpy((gram + gram.T) / 2))
    if request.param == "thin":
        spectrum = Spectrum(spectrum.values[:RANK], spectrum.vectors[:, :RANK].clone())
    data = draw.standard_normal((N, K))
    return gram, features, spectrum, data, resolvents_at_nodes(spectrum, torch.from_numpy(data), QUADRATURE)


def inverse(gram, z):
    return np.linalg.inv(z * np.eye(len(gram)) - gram)


def stands(weights, matrices):
    """Re Σ w_q M_q, for one time."""
    return sum(w * m for w, m in zip(weights, matrices, strict=True)).real


def test_values_and_diagonals_are_those_of_the_inverse(case) -> None:
    gram, _, _, data, found = case
    for q, z in enumerate(NODES):
        close(found.values[q], inverse(gram, z) @ data)
        close(found.diagonal[q, :, 0, 0], np.diag(inverse(gram, z)).copy())


def test_leaving_one_out_is_the_inverse_without_it(case) -> None:
    gram, _, spectrum, data, found = case
    ratios = left_out_ratios(found)
    for time, weights in enumerate(WEIGHTS):
        before = stands(weights, [inverse(gram, z) @ data for z in NODES])
        for c in range(K):
            got = edited_coordinates(found, ratios[:, :, c], time, slice(0, N))
            own = left_out_diagonal(found, ratios[:, :, c], time)
            for i in range(N):
                keep = np.delete(np.arange(N), i)
                after = np.zeros_like(before)
                after[keep] = stands(
                    weights, [inverse(gram[np.ix_(keep, keep)], z) @ data[keep] for z in NODES]
                )
                change = after[:, c] - before[:, c]
                close(got[:, i], spectrum.vectors.numpy().T @ change)
                close(own[i], gram[i] @ change)


@pytest.mark.parametrize("rows", [[2], [0, 7], [9, 3, 1, 4], list(range(1, N)), list(range(N))])
def test_leaving_a_group_out_is_the_inverse_without_it(case, rows) -> None:
    gram, _, spectrum, data, found = case
    got = group_left_out_coordinates(found, torch.tensor(rows))
    keep = np.setdiff1d(np.arange(N), rows)
    for time, weights in enumerate(WEIGHTS):
        change = -stands(weights, [inverse(gram, z) @ data for z in NODES])
        if len(keep):
            part = gram[np.ix_(keep, keep)]
            change[keep] += stands(weights, [inverse(part, z) @ data[keep] for z in NODES])
        close(got[time], spectrum.vectors.numpy().T @ change)


@pytest.mark.parametrize("weight", [0.0, 1e-12, 0.3, 1.0, 2.0, 40.0])
def test_a_weight_is_the_inverse_of_the_weighted_matrix(case, weight) -> None:
    gram, _, spectrum, data, found = case
    ratios = reweighted_ratios(found, weight)
    if weight == 0:
        close(ratios, left_out_ratios(found))
        return
    for i in (0, 5):
        heavier = np.ones(N)
        heavier[i] = weight
        for time, weights in enumerate(WEIGHTS):
            change = stands(
                weights,
                [(np.linalg.inv(np.diag(z / heavier) - gram) - inverse(gram, z)) @ data for z in NODES],
            )
            for c in range(K):
                inside = coefficients(found, ratios[:, [i], c], time)[:, 0]
                close(-inside * spectrum.vectors[i], spectrum.vectors.numpy().T @ change[:, c])


def test_at_a_node_of_zero_a_weight_changes_nothing() -> None:
    gram = np.diag([1.0, 2.0, 3.0])
    spectrum = spectrum_of(torch.from_numpy(gram))
    data = torch.ones(3, 1, dtype=torch.float64)
    zero = Quadrature(torch.zeros(1, dtype=torch.complex128), -torch.ones(1, 1).to(torch.complex128))
    found = resolvents_at_nodes(spectrum, data, zero)
    assert not reweighted_ratios(found, 0.5).abs().any()
    left = reweighted_ratios(found, 0.0)
    close(left, left_out_ratios(found))


def test_adding_is_the_inverse_of_the_bordered_matrix(case) -> None:
    gram, features, spectrum, data, found = case
    draw = np.random.default_rng(3)
    new = draw.standard_normal((3, features.shape[1])) / np.sqrt(N)
    to_train, itself = features @ new.T, (new**2).sum(1) + 0.1
    targets = draw.standard_normal((3, K))
    for time, weights in enumerate(WEIGHTS):
        change, own = added_coordinates(
            found,
            torch.from_numpy(to_train),
            torch.from_numpy(itself)[:, None, None],
            torch.from_numpy(targets),
            time,
        )
        before = stands(weights, [inverse(gram, z) @ data for z in NODES])
        for a in range(3):
            bigger = np.block([[gram, to_train[:, [a]]], [to_train[:, [a]].T, itself[a]]])
            both = np.vstack([data, targets[a]])
            after = stands(weights, [inverse(bigger, z) @ both for z in NODES])
            close(own[a], after[-1])
            close(change[:, a], spectrum.vectors.numpy().T @ (after[:-1] - before))


def test_rows_are_squared_in_blocks_that_do_not_show(case, monkeypatch) -> None:
    _, _, spectrum, data, found = case
    ratios = left_out_ratios(found)[:, :, 0]
    whole = left_out_diagonal(found, ratios, 1)
    monkeypatch.setattr(module, "ROWS", 3)
    again = resolvents_at_nodes(spectrum, torch.from_numpy(data), QUADRATURE)
    close(again.diagonal, found.diagonal)
    close(left_out_diagonal(found, ratios, 1), whole)
    close(
        edited_coordinates(found, ratios, 1, torch.tensor([4, 1])),
        edited_coordinates(found, ratios, 1, slice(0, N))[:, [4, 1]],
    )


def test_a_function_of_the_spectrum_is_that_of_the_matrix(case) -> None:
    gram, _, spectrum, data, _ = case
    got = filtered_coordinates(spectrum, torch.from_numpy(data), lambda s: s.square() + s)
    close(got, spectrum.vectors.numpy().T @ (gram @ gram @ data + gram @ data))


def test_nothing_given_is_written_to(case) -> None:
    _, _, spectrum, data, found = case
    kept = [
        (tensor, tensor.clone())
        for tensor in (spectrum.values, spectrum.vectors, found.poles, found.values, found.diagonal)
    ]
    ratios = left_out_ratios(found)
    kept.append((ratios, ratios.clone()))
    edited_coordinates(found, ratios[:, :, 0], 0, slice(0, N))
    left_out_diagonal(found, ratios[:, :, 0], 0)
    group_left_out_coordinates(found, torch.tensor([1, 2]))
    reweighted_ratios(found, 0.5)
    for tensor, before in kept:
        torch.testing.assert_close(tensor, before, rtol=0, atol=0)
    assert data.shape == (N, K)

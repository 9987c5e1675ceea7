"""Are errors along the ridge those of refits, and κ and E0 those of the population?"""

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.diagnostics.learning_curve.population_curve import PopulationCurve
from leftout.diagnostics.learning_curve.ridge_path import MOST, held_out_path, left_out_path, path_ridges
from oracles import learning_curve as oracle

MODES, NOISE = 1500, 0.1
VALUES = oracle.spectrum(MODES, 1.4)
TARGET = oracle.coefficients(MODES, 1.4)


def fitted(x, y, rule=None):
    pair = (torch.arange(len(x), dtype=torch.float64), torch.from_numpy(y))
    return lo.fit(lo.kernels.Precomputed(torch.from_numpy(x @ x.T)), pair, rule=rule or lo.Ridge(0.1))


@pytest.fixture(scope="module")
def sample():
    x, y = oracle.draw(200, VALUES, TARGET, NOISE, 0)
    return x, y, fitted(x, y)


def test_left_out_errors_are_those_of_refits_at_every_ridge(sample) -> None:
    x, _, model = sample
    ridges = path_ridges(model.spectrum)
    path = left_out_path(model.spectrum, model.residual, model.train, ridges)
    residual = model.residual.numpy()
    for place in (0, 9, 31):
        want = oracle.refitted_without_each(x @ x.T, residual, ridges[place])
        # cond(K + λ) is at most 1 + s_max / λ: 10·cond·eps relative to the largest residual.
        allowed = 10 * (1 + float(model.spectrum.values[0]) / ridges[place]) * np.finfo(float).eps
        assert_same(path.errors[place].numpy(), (want**2).sum(1), 2 * allowed)


def test_errors_on_examples_kept_aside_are_those_of_a_solve(sample) -> None:
    x, _, model = sample
    spectrum, residual = model.spectrum, model.residual
    new, y = oracle.draw(30, VALUES, TARGET, NOISE, 1)
    others = fitted(new, y).train
    ridges = [0.03, 2.0]
    cross = torch.from_numpy(new @ x.T)
    path = held_out_path(spectrum, residual, cross, others.targets, others, ridges)
    for place, ridge in enumerate(ridges):
        dual = np.linalg.solve(x @ x.T + ridge * np.eye(200), residual.numpy())
        want = ((others.targets.numpy() - cross.numpy() @ dual) ** 2).sum(1)
        assert_same(path.errors[place].numpy(), want, 1e-10)
    assert path.wrong is None


def test_kappa_and_excess_are_the_populations_within_what_is_promised(sample) -> None:
    _, _, model = sample
    ridges = path_ridges(model.spectrum)
    path = left_out_path(model.spectrum, model.residual, model.train, ridges)
    for place in (0, 5, 10, 15):
        kappa = oracle.kappa(200, VALUES, ridges[place])
        learned = VALUES / (VALUES + kappa)
        # Fluctuations of linear statistics of a spectrum are O(1) modes of those learned, D: the first
        # eigenvalues vary by √(2/n) each, which moves κ by no more than 3 √2 / D.
        allowed = 3 * np.sqrt(2) / learned.sum()
        assert abs(float(path.log_kappa[place]) - np.log(kappa)) < allowed
        excess = 200 / (200 - (learned**2).sum())
        assert abs(float(path.log_excess[place]) - np.log(excess)) < allowed


def test_the_path_goes_from_most_modes_learned_to_next_to_none(sample) -> None:
    _, _, model = sample
    path = left_out_path(model.spectrum, model.residual, model.train, path_ridges(model.spectrum))
    assert (path.log_kappa.diff() > 0).all()
    assert_same(float(path.log_modes[0].exp()), MOST * 200, 1e-9)
    assert float(path.log_modes[-1].exp()) < 1


def test_the_same_sample_and_ridge_give_back_the_point_of_the_path(sample) -> None:
    _, _, model = sample
    ridges = path_ridges(model.spectrum)
    curve = PopulationCurve(left_out_path(model.spectrum, model.residual, model.train, ridges))
    for place in (1, 12, 20):
        point = curve.at(200, ridges[place])
        assert abs(point.log_kappa - float(curve.path.log_kappa[place])) < 1e-6
        assert not point.extrapolated
        # The slope of D is taken between ridges: linear interpolation of a curve, a few percent of E0 − 1.
        want = float(curve.path.log_excess[place])
        assert abs(point.log_excess - want) < 0.1 * want + 1e-4
    assert curve.at(2000, ridges[0]).extrapolated


def test_more_examples_and_less_ridge_both_go_down_in_kappa(sample) -> None:
    _, _, model = sample
    curve = PopulationCurve(
        left_out_path(model.spectrum, model.residual, model.train, path_ridges(model.spectrum))
    )
    kappas = [curve.at(n, 0.1).log_kappa for n in (50, 200, 800, 3200)]
    assert all(np.diff(kappas) < 0)
    kappas = [curve.at(200, ridge).log_kappa for ridge in (10.0, 1.0, 0.1, 0.0)]
    assert all(np.diff(kappas) < 0)


@pytest.mark.parametrize("bend", [0.0, 0.5, 1.0])
def test_a_power_law_goes_on_as_itself_with_and_without_bend(sample, bend) -> None:
    _, _, model = sample
    curve = PopulationCurve(
        left_out_path(model.spectrum, model.residual, model.train, path_ridges(model.spectrum))
    )
    values = 3.0 + 0.4 * curve.path.log_kappa
    for beyond in (-4.0, -1.0, 0.0):
        place = float(curve.path.log_kappa[0]) + beyond
        assert_same(float(curve.weights(place, bend=bend) @ values), 3.0 + 0.4 * place, 1e-10)

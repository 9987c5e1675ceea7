"""Several networks answer with their mean, and say how far apart they are."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import leftout as lo
from leftout.core.errors import OptionError
from leftout.kernels.network.empirical import Empirical

D, N, M = 4, 12, 5


def points(n, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, D, dtype=torch.float64, generator=generator)
    return inputs, torch.randn(n, 2, dtype=torch.float64, generator=generator)


TRAIN, QUERY = points(N, 0), points(M, 1)
RULE = lo.Ridge(0.5)


def networks():
    """Return three networks, not all of one architecture."""
    torch.manual_seed(0)
    shapes = (nn.Linear(D, 2),), (nn.Linear(D, 6), nn.Tanh(), nn.Linear(6, 2)), (nn.Linear(D, 2),)
    return [nn.Sequential(*layers).double() for layers in shapes]


@pytest.fixture(scope="module", params=["trained", "initial"])
def both(request):
    """Return the model of several networks, and those of each by itself."""
    several = lo.fit(Empirical(networks(), weights=request.param), TRAIN, rule=RULE)
    each = [lo.fit(Empirical(module, weights=request.param), TRAIN, rule=RULE) for module in networks()]
    return several, each


QUESTIONS = {
    "leave_one_out": lambda fitted: lo.leave_one_out(fitted, QUERY),
    "prediction": lambda fitted: lo.leave_one_out(fitted, QUERY, of="prediction"),
    "mean": lambda fitted: lo.leave_one_out(fitted=fitted, query=QUERY, mean=True),
    "leave_out": lambda fitted: lo.leave_out(fitted, QUERY, [[0, 1], [2, 3, 4]]),
    "relabel": lambda fitted: lo.relabel(fitted, QUERY, [0, 1], torch.ones(2, 2)),
    "reweight": lambda fitted: lo.reweight(fitted, QUERY, [0, 1], 0.5),
    "add": lambda fitted: lo.add(fitted, QUERY, *points(2, 2)),
    "first_order": lambda fitted: lo.first_order(fitted, QUERY),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_scores_are_the_mean_over_networks_beside_their_standard_deviation(both, question) -> None:
    several, each = both
    scores, alone = QUESTIONS[question](several), [QUESTIONS[question](fitted) for fitted in each]
    assert list(scores) == ["influence", "between_networks"]
    assert scores["influence"].dims == alone[0].dims
    values = np.stack([answer.values for answer in alone])
    size = np.abs(values).max()
    np.testing.assert_allclose(scores["influence"], values.mean(0), atol=1e-13 * size)
    np.testing.assert_allclose(scores["between_networks"], values.std(0, ddof=1), atol=1e-13 * size)
    assert scores.attrs["networks"] == 3
    assert scores.attrs["sign"] == alone[0].attrs["sign"] == scores["influence"].attrs["sign"]
    assert scores.attrs["fitted_fingerprint"] not in [answer.attrs["fitted_fingerprint"] for answer in alone]


def test_predictions_are_means(both) -> None:
    several, each = both
    want = sum(fitted.predict(QUERY[0]) for fitted in each) / 3
    torch.testing.assert_close(several.predict(QUERY[0]), want)
    torch.testing.assert_close(lo.out_of_sample(several), sum(map(lo.out_of_sample, each)) / 3)
    assert len(several) == N
    assert several.rule == RULE


def test_probabilities_are_means_of_probabilities() -> None:
    pair, rule = (TRAIN[0], torch.arange(N) % 2), lo.Logistic(0.5)
    several = lo.fit(Empirical(networks()), pair, rule=rule)
    each = [lo.fit(Empirical(module), pair, rule=rule) for module in networks()]
    want = sum(fitted.probabilities(QUERY[0]) for fitted in each) / 3
    torch.testing.assert_close(several.probabilities(QUERY[0]), want)
    query = QUERY[0], torch.arange(M) % 2
    scores = lo.leave_one_out(several, query)
    values = np.stack([lo.leave_one_out(fitted, query).values for fitted in each])
    np.testing.assert_allclose(scores["influence"], values.mean(0), atol=1e-12)


@pytest.mark.parametrize("options", [{"top": 2}, {"spread": True, "prior": lo.kernels.ReLU(1)}])
def test_answers_that_have_no_mean_are_refused(both, options) -> None:
    with pytest.raises(OptionError, match=r"mean of lists|f_0 of its own"):
        lo.leave_one_out(both[0], QUERY, **options)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    "ask",
    [
        lambda fitted, kernel: lo.information(fitted, QUERY),
        lambda fitted, kernel: lo.prune(fitted, QUERY),
        lambda fitted, kernel: lo.audit(kernel, TRAIN, QUERY),
        lambda fitted, kernel: Empirical(networks()[:1]),
        lambda fitted, kernel: Empirical([]),
        lambda fitted, kernel: Empirical([networks()[0], "network"]),
    ],
)
def test_what_is_asked_of_one_network_says_so(both, ask) -> None:
    with pytest.raises(OptionError, match=r"`(fitted|kernel|module)` must be (a|one|an) "):
        ask(both[0], Empirical(networks()))


def test_a_kernel_of_one_network_can_be_copied_as_before() -> None:
    kernel = Empirical(networks()[0])
    for copied in (copy.deepcopy(kernel), pickle.loads(pickle.dumps(kernel))):
        assert torch.equal(copied.block(TRAIN[0], TRAIN[0]), kernel.block(TRAIN[0], TRAIN[0]))


def test_the_record_names_all_networks() -> None:
    kernels = Empirical(networks(), outputs="trace")
    fingerprints = [record["fingerprint"] for record in kernels.record["networks"]]
    assert len(set(fingerprints)) == len(kernels) == 3
    fitted = lo.fit(kernels, TRAIN, rule=RULE)
    assert [member["kernel"]["fingerprint"] for member in fitted.record["networks"]] == fingerprints
    assert repr(fitted).startswith("FittedNetworks(3 networks, 12 examples")

"""An audit makes each set of resolvents, and each left-out prediction, once."""

from collections import Counter

import pytest

import leftout as lo
from leftout.attribution import trajectory as trajectory_module
from leftout.attribution.engine import edit_engines as engines_module
from leftout.attribution.engine.base import EngineAtTime
from leftout.attribution.engine.refit_each import RefitEach


@pytest.fixture
def digits():
    return lo.load("digits", n_train=60, n_query=12, classes=[3, 8])


@pytest.fixture
def counts(monkeypatch) -> Counter:
    """Count the sets of resolvents by their nodes, and left-out predictions by their time."""
    made = Counter()
    for module in (engines_module, trajectory_module):
        real = module.resolvents_at_nodes

        def resolvents(spectrum, residual, quadrature, real=real, **options):
            made["resolvents", tuple(quadrature.nodes.tolist())] += 1
            return real(spectrum, residual, quadrature, **options)

        monkeypatch.setattr(module, "resolvents_at_nodes", resolvents)
    real_prediction = EngineAtTime._out_of_sample

    def out_of_sample(self):
        made["left out", self.time] += 1
        return real_prediction(self)

    monkeypatch.setattr(EngineAtTime, "_out_of_sample", out_of_sample)
    return made


@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_an_audit_at_one_time_makes_everything_once(digits, counts, loss):
    lo.audit(lo.kernels.TwoLayerReLU(), *digits, rule=lo.GradientFlow(1.0, loss=loss), at=5.0)
    assert counts["left out", 5.0] == 1
    assert max(counts.values()) == 1, counts
    if loss == "sum":
        nodes = lo.GradientFlow(1.0).quadratures([5.0], total=59, high=1.0)[0][1].nodes
        assert counts["resolvents", tuple(nodes.tolist())] == 1, counts


def test_an_audit_at_several_times_predicts_each_example_once_a_time(digits, counts):
    times = [0.5, 5.0]
    lo.audit(lo.kernels.TwoLayerReLU(), *digits, rule=lo.GradientFlow(1.0), at=times)
    assert [counts["left out", time] for time in times] == [1, 1]


def test_a_kernel_fitted_to_labels_is_fitted_once_without_each_example(digits, monkeypatch):
    kernel = lo.kernels.LabelAware(lo.kernels.ReLU(1), "kr-v1")
    fitted = []
    family = type(lo.fit(kernel, digits[0]).kernel)
    real = family.refit_labels
    monkeypatch.setattr(
        family,
        "refit_labels",
        lambda self, keep, *labels: fitted.append(len(keep)) or real(self, keep, *labels),
    )
    lo.audit(kernel, *digits, rule=lo.Ridge(0.1))
    assert fitted == [59] * 60
    assert RefitEach.__abstractmethods__ == frozenset(), "no class refuses what its base promises"


def test_what_was_made_is_made_again_for_another_model(digits, counts):
    for _ in range(2):
        lo.out_of_sample(lo.fit(lo.kernels.ReLU(1), digits[0], rule=lo.GradientFlow(1.0)), 5.0)
    assert counts["left out", 5.0] == 2

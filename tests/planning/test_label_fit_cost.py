"""What fitting a kernel to labels takes: counted as the work is done, priced by an invented machine."""

import dataclasses
import math

import pytest
import torch

import leftout as lo
from leftout.attribution.engine import refit as refit_module
from leftout.core.errors import DataError
from leftout.data.pairs import examples_of
from leftout.diagnostics.model_selection import POSITIVE_SHARE, STRENGTHS, choose_strength
from leftout.kernels.pairwise import label_aware
from leftout.planning import plan as plan_module
from leftout.planning.cost import Cost
from leftout.planning.label_aware_cost import EVALUATIONS, label_fit_cost
from leftout.planning.label_fit_memory import label_fit_bytes
from leftout.planning.machine import (
    LABEL_FITTED,
    SIZES,
    LabelFitTimings,
    SecondsBySize,
    _affordable_fit,
    _Clock,
    _sizes,
    bare_machine,
    with_kernel,
)
from leftout.planning.plan import plan
from leftout.planning.planned_audit import PlannedAudit
from leftout.storage import score_store as store
from planning.test_plan import FREE, NOTHING, USUAL

CPU = torch.device("cpu")
RELU = lo.kernels.ReLU(1)
FITTED_STRENGTHS = len(STRENGTHS) - STRENGTHS.count(0)
"""At strength 0 the kernel is its base, which is fitted to no labels."""

CUBES = SecondsBySize((1, 2), (1.0, 8.0))
NAUGHT = LabelFitTimings(NOTHING, fit=0.0, refit=0.0, at_input=0.0, at_pair=0.0)
SOME = LabelFitTimings(SecondsBySize((1,), (2e-9,)), fit=1e-6, refit=1e-7, at_input=1e-8, at_pair=1e-9)

NAMED = lo.kernels.LabelAware(RELU, "kr-v1", 0.1)
AUTO = lo.kernels.LabelAware(RELU, "kr-v1", None)
HIERARCHY = lo.kernels.NeuralTangentHierarchy(width=64, neurons=64)


def planned_audit(n=100, m=30, *, rule=None, times=(math.inf,), refit_examples=0):
    return PlannedAudit(
        n=n,
        m=m,
        k=1,
        rule=rule or lo.GradientFlow(),
        times=times,
        refit_examples=refit_examples,
        budget=10**9,
    )


def priced(asked_for, kernel, machine=FREE, **timings):
    """Return what fitting to labels takes where everything is free but for these timings."""
    label_fits = dataclasses.replace(NAUGHT, **timings)
    return label_fit_cost(kernel, Cost(asked_for, dataclasses.replace(machine, label_fits=label_fits)))


def test_a_fit_is_a_factor_at_the_end_and_a_spectrum_at_each_finite_time():
    n, eigh = 100, dataclasses.replace(FREE, eigh=CUBES)
    end = priced(planned_audit(n), NAMED, indefinite=CUBES)
    assert end.seconds == pytest.approx(n * n**3)
    assert end.fits == n
    one = planned_audit(n, times=(3.0,))
    assert priced(one, NAMED, eigh).seconds == pytest.approx(n * n**3)
    assert priced(one, NAMED, indefinite=CUBES).seconds == pytest.approx(0)
    both = planned_audit(n, times=(3.0, 30.0, math.inf))
    assert priced(both, NAMED, eigh).seconds == pytest.approx(2 * n * n**3)
    assert priced(both, NAMED).fits == 3 * n


def test_no_model_is_fitted_at_time_0_though_the_kernel_is_fitted_to_labels():
    n = 100
    start = planned_audit(n, times=(0.0,))
    assert priced(start, NAMED, indefinite=CUBES).seconds == pytest.approx(0)
    assert priced(start, NAMED, refit=1.0).seconds == pytest.approx(n * n**2)


def test_strengths_share_the_kernel_without_each_example_and_not_the_models():
    n, s = 100, FITTED_STRENGTHS
    assert priced(planned_audit(n), AUTO, indefinite=CUBES).choosing == pytest.approx(s * n * n**3)
    assert priced(planned_audit(n), AUTO, refit=1.0).choosing == pytest.approx(n * n**2)
    assert priced(planned_audit(n), AUTO, at_input=1.0).choosing == pytest.approx(s * n * n**2)
    passed = priced(planned_audit(n), AUTO, dataclasses.replace(FREE, streamed=8.0))
    assert passed.choosing == pytest.approx(s * n * 6 * n**2)
    assert priced(planned_audit(n), NAMED, indefinite=CUBES).choosing == 0
    assert priced(planned_audit(n), AUTO).fits == n * (1 + s)
    assert priced(planned_audit(n), AUTO).method.endswith(f"{len(STRENGTHS)} strengths tried")


def test_at_finite_times_only_strengths_that_leave_the_kernel_positive_are_fitted():
    n, s = 100, len(STRENGTHS)
    found = priced(planned_audit(n, times=(3.0,)), AUTO, dataclasses.replace(FREE, eigh=CUBES))
    # And the spectrum of each strength once.
    assert found.choosing == pytest.approx(POSITIVE_SHARE * FITTED_STRENGTHS * n * n**3 + s * n**3)


def test_the_fits_of_a_choice_are_those_that_are_made(monkeypatch):
    train, _ = lo.load("digits", classes=["3", "8"], n_train=20, n_query=5, normalise="sphere")
    models, kernels = [], []
    factor, refit = refit_module.factor_indefinite, label_aware.FittedLabelAware.refit_labels

    def factor_and_count(gram, **options):
        models.append(len(gram))
        return factor(gram, **options)

    def refit_and_count(kernel, keep, *labels):
        kernels.append(len(keep))
        return refit(kernel, keep, *labels)

    monkeypatch.setattr(refit_module, "factor_indefinite", factor_and_count)
    monkeypatch.setattr(label_aware.FittedLabelAware, "refit_labels", refit_and_count)
    found = choose_strength(AUTO, train)
    assert len(found.with_losses) == len(STRENGTHS), "none was skipped"
    assert models.count(19) == 20 * FITTED_STRENGTHS
    assert kernels.count(19) == 20


def test_every_kernel_is_evaluated_at_the_queries_at_every_time():
    n, m = 100, 30
    for times in ((math.inf,), (3.0, 30.0)):
        found = priced(planned_audit(n, m, times=times), NAMED, at_pair=1.0)
        assert found.without_each == pytest.approx(len(times) * n * m * n)
        assert found.with_all == pytest.approx((EVALUATIONS + len(times)) * m * n)
    blocks = priced(planned_audit(n, 2 * store.BLOCK + 1), NAMED, at_input=1.0)
    assert blocks.without_each == pytest.approx(n * (3 + 1) * n**2), "and each about its own example"


def test_a_frozen_kernel_is_fitted_once_and_that_is_foreseen():
    n = 100
    frozen = dataclasses.replace(HIERARCHY, frozen=True)
    found = priced(planned_audit(n, refit_examples=3), frozen, fit=1.0, refit=1.0, indefinite=CUBES)
    assert found.seconds == pytest.approx(n**2)
    assert (found.fits, found.method) == (0, "once, by all examples")
    free = priced(planned_audit(n, refit_examples=3), HIERARCHY, fit=1.0)
    assert free.seconds == pytest.approx((1 + 3) * n**2), "each refit is made from nothing"


def test_a_rate_has_to_stay_below_the_critical_one_at_the_end_too():
    slow = dataclasses.replace(FREE, streamed=1.0)
    steps = priced(planned_audit(rule=lo.GradientDescent(1e-3)), NAMED, slow)
    assert steps.without_each > priced(planned_audit(), NAMED, slow).without_each


@pytest.mark.parametrize("kernel", [NAMED, AUTO, HIERARCHY, dataclasses.replace(AUTO, frozen=True)])
def test_more_of_anything_never_takes_less(kernel):
    machine = dataclasses.replace(USUAL, label_fits=SOME)

    def taken(*sizes, **more):
        asked_for = planned_audit(*sizes, **more)
        return label_fit_cost(kernel, Cost(asked_for, machine)).seconds, label_fit_bytes(kernel, asked_for)

    seconds, held = taken(100, 30)
    for more_seconds, more_held in (taken(101, 30), taken(100, 31), taken(100, 30, times=(1.0, math.inf))):
        assert more_seconds > seconds
        assert more_held >= held


def test_a_plan_has_a_step_for_labels_frozen_or_not(monkeypatch):
    monkeypatch.setattr(
        plan_module, "measure_machine", lambda *_, **__: dataclasses.replace(USUAL, label_fits=SOME)
    )
    train, query = lo.load("digits", classes=["3", "8"], n_train=40, n_query=10, normalise="sphere")
    for kernel in (HIERARCHY, AUTO):
        last = plan(kernel, train, query, rule=lo.Ridge()).steps[-1]
        assert last.name == "fitting to labels"
        frozen = dataclasses.replace(kernel, frozen=True)
        once = plan(frozen, train, query, rule=lo.Ridge()).steps[-1]
        assert once.name == "fitting to labels"
        assert 0 < once.seconds < last.seconds


@pytest.mark.sample(1)
@pytest.mark.parametrize("kernel", [NAMED, AUTO, HIERARCHY])
def test_fits_to_labels_can_be_measured(kernel):
    train, _ = lo.load("digits", classes=["3", "8"], n_train=30, n_query=5, normalise="sphere")
    found = with_kernel(bare_machine(train, device=CPU, most=30), kernel, train, device=CPU)
    assert found.gram > 0
    for name, value in vars(found.label_fits).items():
        for one in value.seconds if isinstance(value, SecondsBySize) else (value,):
            assert 0 <= one < math.inf, name
    assert found.label_fits.fit > 0
    assert found.label_fits.refit > 0
    assert found.label_fits.indefinite.sizes == found.eigh.sizes == SIZES[:1]


def test_matrices_are_tried_no_larger_than_they_will_be():
    train, _ = lo.load("digits", n_train=30, n_query=5)
    for most, sizes in ((1, 1), (SIZES[0], 1), (SIZES[0] + 1, 2), (math.inf, len(SIZES))):
        assert _sizes(most) == SIZES[:sizes]
    assert bare_machine(train, device=CPU, most=50).label_fits is None


def test_a_dear_base_is_not_made_to_measure_fits_to_labels():
    asked_of = []
    train, _ = lo.load("digits", n_train=LABEL_FITTED[1], n_query=5, normalise="sphere")
    base = lo.kernels.From(lambda x, z: asked_of.append(len(x)) or x.flatten(1) @ z.flatten(1).T + 1)
    fit, count = _affordable_fit(_Clock(CPU), lo.kernels.LabelAware(base, "kr-v1", None), train, CPU)
    fit()
    assert count == LABEL_FITTED[1]
    assert not asked_of


def test_numbers_are_no_labels_to_be_fitted_to():
    inputs, targets = torch.randn(30, 4), torch.randn(30, 1)
    train = examples_of((inputs, targets), name="train")
    with pytest.raises(DataError, match="`train` must have classes for a kernel that sees labels"):
        with_kernel(FREE, NAMED, train, device=CPU)


def test_a_strength_of_0_is_the_base_which_is_not_fitted_again():
    """As a fit of it says: it changes with no example."""
    found = label_fit_cost(
        dataclasses.replace(NAMED, strength=0.0),
        Cost(planned_audit(refit_examples=3), dataclasses.replace(FREE, label_fits=SOME)),
    )
    assert (found.fits, found.without_each, found.certified) == (0, 0.0, 0.0)
    train, _ = lo.load("digits", classes=["3", "8"], n_train=20, n_query=5, normalise="sphere")
    assert not lo.fit(dataclasses.replace(NAMED, strength=0.0), train).depends_on_labels

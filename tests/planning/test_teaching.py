"""What teaching a kernel labels takes: counted as the work is done, priced by a machine that is made up."""

import dataclasses
import math

import pytest
import torch

import leftout as lo
from leftout.attribution.engine import refit as afresh
from leftout.core.errors import DataError
from leftout.data.pairs import examples_of
from leftout.diagnostics.model_selection import STRENGTHS, choose_strength
from leftout.kernels.pairwise import label_aware
from leftout.planning import plan as plan_module
from leftout.planning.cost import Cost, Work
from leftout.planning.label_aware_cost import ASKED, FOLLOWED, PASSES, teaching
from leftout.planning.machine import (
    SIZES,
    TAUGHT,
    Curve,
    Lessons,
    _Clock,
    _pupil,
    _sizes,
    bare_machine,
    with_kernel,
)
from leftout.planning.plan import plan
from leftout.storage import score_store as store
from planning.test_plan import FREE, NOTHING, USUAL

CPU = torch.device("cpu")
RELU = lo.kernels.ReLU(1)
TAUGHT_STRENGTHS = len(STRENGTHS) - STRENGTHS.count(0)
"""At strength 0 the kernel is its base, which nothing is taught."""

CUBES = Curve((1, 2), (1.0, 8.0))
NAUGHT = Lessons(NOTHING, first=0.0, again=0.0, own=0.0, asked=0.0)
SOME = Lessons(Curve((1,), (2e-9,)), first=1e-6, again=1e-7, own=1e-8, asked=1e-9)

NAMED = lo.kernels.LabelAware(RELU, "kr-v1", 0.1)
AUTO = lo.kernels.LabelAware(RELU, "kr-v1", None)
HIERARCHY = lo.kernels.NeuralTangentHierarchy(width=64, neurons=64)


def asked(n=100, m=30, *, rule=None, times=(math.inf,), refits=0):
    return Work(n=n, m=m, k=1, rule=rule or lo.GradientFlow(), times=times, refits=refits, budget=10**9)


def priced(work, kernel, machine=FREE, **lessons):
    """Return what teaching takes where everything is free but for what is said."""
    return teaching(
        kernel, Cost(work, dataclasses.replace(machine, lessons=dataclasses.replace(NAUGHT, **lessons)))
    )


def test_a_fit_is_a_factor_at_the_end_and_a_spectrum_at_each_finite_time():
    n, eigh = 100, dataclasses.replace(FREE, eigh=CUBES)
    end = priced(asked(n), NAMED, indefinite=CUBES)
    assert end.seconds == pytest.approx(n * n**3)
    assert end.fits == n
    one = asked(n, times=(3.0,))
    assert priced(one, NAMED, eigh).seconds == pytest.approx(n * n**3)
    assert priced(one, NAMED, indefinite=CUBES).seconds == pytest.approx(0)
    both = asked(n, times=(3.0, 30.0, math.inf))
    assert priced(both, NAMED, eigh).seconds == pytest.approx(2 * n * n**3)
    assert priced(both, NAMED).fits == 3 * n


def test_nothing_is_fitted_at_time_0_though_the_kernel_is_taught():
    n = 100
    start = asked(n, times=(0.0,))
    assert priced(start, NAMED, indefinite=CUBES).seconds == pytest.approx(0)
    assert priced(start, NAMED, again=1.0).seconds == pytest.approx(n * n**2)


def test_strengths_share_the_lessons_and_not_the_fits():
    n, s = 100, TAUGHT_STRENGTHS
    assert priced(asked(n), AUTO, indefinite=CUBES).choosing == pytest.approx(s * n * n**3)
    assert priced(asked(n), AUTO, again=1.0).choosing == pytest.approx(n * n**2)
    assert priced(asked(n), AUTO, own=1.0).choosing == pytest.approx(s * n * n**2)
    passed = priced(asked(n), AUTO, dataclasses.replace(FREE, streamed=8.0))
    assert passed.choosing == pytest.approx(s * n * PASSES * n**2)
    assert priced(asked(n), NAMED, indefinite=CUBES).choosing == 0
    assert priced(asked(n), AUTO).fits == n * (1 + s)
    assert priced(asked(n), AUTO).method.endswith(f"{len(STRENGTHS)} strengths tried")


def test_at_finite_times_only_strengths_that_leave_the_kernel_positive_are_fitted():
    n, s = 100, len(STRENGTHS)
    found = priced(asked(n, times=(3.0,)), AUTO, dataclasses.replace(FREE, eigh=CUBES))
    # And the spectrum of each strength once.
    assert found.choosing == pytest.approx(FOLLOWED * TAUGHT_STRENGTHS * n * n**3 + s * n**3)


def test_the_fits_of_a_choice_are_those_that_are_made(monkeypatch):
    train, _ = lo.load("digits", classes=["3", "8"], n_train=20, n_query=5, normalise="sphere")
    made = []
    real = afresh.factor_indefinite
    monkeypatch.setattr(
        afresh, "factor_indefinite", lambda gram, **more: made.append(len(gram)) or real(gram, **more)
    )
    taught = []
    again = label_aware.FittedLabelAware.without
    monkeypatch.setattr(
        label_aware.FittedLabelAware,
        "without",
        lambda self, keep: taught.append(len(keep)) or again(self, keep),
    )
    found = choose_strength(AUTO, train)
    assert len(found.with_losses) == len(STRENGTHS), "none was skipped"
    assert made.count(19) == 20 * TAUGHT_STRENGTHS
    assert taught.count(19) == 20


def test_queries_are_asked_of_every_kernel_at_every_time():
    n, m = 100, 30
    for times in ((math.inf,), (3.0, 30.0)):
        found = priced(asked(n, m, times=times), NAMED, asked=1.0)
        assert found.without_each == pytest.approx(len(times) * n * m * n)
        assert found.kept == pytest.approx((ASKED + len(times)) * m * n)
    blocks = priced(asked(n, 2 * store.BLOCK + 1), NAMED, own=1.0)
    assert blocks.without_each == pytest.approx(n * (3 + 1) * n**2), "and each about its own example"


def test_a_frozen_kernel_is_taught_once_and_that_is_foreseen():
    n = 100
    frozen = dataclasses.replace(HIERARCHY, frozen=True)
    found = priced(asked(n, refits=3), frozen, first=1.0, again=1.0, indefinite=CUBES)
    assert found.seconds == pytest.approx(n**2)
    assert (found.fits, found.method) == (0, "once, by all examples")
    free = priced(asked(n, refits=3), HIERARCHY, first=1.0)
    assert free.seconds == pytest.approx((1 + 3) * n**2), "each refit is made from nothing"


def test_a_rate_has_to_stay_below_the_critical_one_at_the_end_too():
    slow = dataclasses.replace(FREE, streamed=1.0)
    steps = priced(asked(rule=lo.GradientDescent(1e-3)), NAMED, slow)
    assert steps.without_each > priced(asked(), NAMED, slow).without_each


@pytest.mark.parametrize("kernel", [NAMED, AUTO, HIERARCHY, dataclasses.replace(AUTO, frozen=True)])
def test_more_of_anything_never_takes_less(kernel):
    machine = dataclasses.replace(USUAL, lessons=SOME)

    def taken(*sizes, **more):
        return teaching(kernel, Cost(asked(*sizes, **more), machine))

    least = taken(100, 30)
    for more in (taken(101, 30), taken(100, 31), taken(100, 30, times=(1.0, math.inf))):
        assert more.seconds > least.seconds
        assert more.held >= least.held


def test_a_plan_has_a_step_for_what_is_taught_frozen_or_not(monkeypatch):
    monkeypatch.setattr(plan_module, "machine", lambda *_, **__: dataclasses.replace(USUAL, lessons=SOME))
    train, query = lo.load("digits", classes=["3", "8"], n_train=40, n_query=10, normalise="sphere")
    for kernel in (HIERARCHY, AUTO):
        last = plan(kernel, train, query, rule=lo.Ridge()).steps[-1]
        assert last.name == "teaching again"
        frozen = dataclasses.replace(kernel, frozen=True)
        once = plan(frozen, train, query, rule=lo.Ridge()).steps[-1]
        assert once.name == ("teaching again" if kernel is AUTO else "teaching")
        assert 0 < once.seconds < last.seconds


@pytest.mark.parametrize("kernel", [NAMED, AUTO, HIERARCHY])
def test_lessons_can_be_measured(kernel):
    train, _ = lo.load("digits", classes=["3", "8"], n_train=30, n_query=5, normalise="sphere")
    found = with_kernel(bare_machine(train, device=CPU, most=30), kernel, train, device=CPU)
    assert found.gram > 0
    for name, value in vars(found.lessons).items():
        for one in value.seconds if isinstance(value, Curve) else (value,):
            assert 0 <= one < math.inf, name
    assert found.lessons.first > 0
    assert found.lessons.again > 0
    assert found.lessons.indefinite.sizes == found.eigh.sizes == SIZES[:1]


def test_matrices_are_tried_no_larger_than_they_will_be():
    train, _ = lo.load("digits", n_train=30, n_query=5)
    for most, sizes in ((1, 1), (SIZES[0], 1), (SIZES[0] + 1, 2), (math.inf, len(SIZES))):
        assert _sizes(most) == SIZES[:sizes]
    assert bare_machine(train, device=CPU, most=50).lessons is None


def test_a_dear_base_is_not_made_to_see_how_long_lessons_take():
    asked_of = []
    train, _ = lo.load("digits", n_train=TAUGHT[1], n_query=5, normalise="sphere")
    base = lo.kernels.From(lambda x, z: asked_of.append(len(x)) or x.flatten(1) @ z.flatten(1).T + 1)
    teach, count = _pupil(_Clock(CPU), lo.kernels.LabelAware(base, "kr-v1", None), train, CPU)
    teach()
    assert count == TAUGHT[1]
    assert not asked_of


def test_numbers_teach_no_classes():
    inputs, targets = torch.randn(30, 4), torch.randn(30, 1)
    train = examples_of((inputs, targets), name="train")
    with pytest.raises(DataError, match="`train` must have classes for a kernel that sees labels"):
        with_kernel(FREE, NAMED, train, device=CPU)


def test_a_strength_of_0_is_the_base_which_nothing_teaches_again():
    """As a fit of it says: it changes with no example."""
    found = teaching(
        dataclasses.replace(NAMED, strength=0.0),
        Cost(asked(refits=3), dataclasses.replace(FREE, lessons=SOME)),
    )
    assert (found.fits, found.without_each, found.certified) == (0, 0.0, 0.0)
    train, _ = lo.load("digits", classes=["3", "8"], n_train=20, n_query=5, normalise="sphere")
    assert not lo.fit(dataclasses.replace(NAMED, strength=0.0), train).depends_on_labels

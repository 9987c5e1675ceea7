"""A decision is made in one place: changed there, the engine does otherwise and the plan counts otherwise."""

import dataclasses
import math

import pytest

import leftout as lo
from leftout.attribution.engine import edit_engines, finite_time, group_removal
from leftout.core.work import NO_WORK, Operation, operations
from leftout.curation import model_change
from leftout.dynamics import kernel_rows
from leftout.planning.cost import Cost
from leftout.planning.planned_audit import PlannedAudit
from leftout.solvers import quadrature
from planning.test_plan import FREE, SecondsBySize

KERNEL = lo.kernels.TwoLayerReLU()
MARKED = dataclasses.replace(FREE, picture=1.0)
"""A machine on which marked work alone takes time: a second for each mark."""


@pytest.fixture(scope="module")
def digits():
    return lo.load("digits", n_train=60, n_query=12)


def planned_for(train, query, rule, times, *, budget=10**10):
    outputs = train.encoding.outputs
    return PlannedAudit(len(train), len(query), outputs, rule, tuple(times), refit_examples=0, budget=budget)


def count_calls(monkeypatch, module, name):
    """Return a list that grows by one with each call of a function of a module."""
    calls, function = [], getattr(module, name)

    def counted(*arguments, **options):
        calls.append(name)
        return function(*arguments, **options)

    monkeypatch.setattr(module, name, counted)
    return calls


def mark(monkeypatch, module, name):
    """Count each call for the work of a function as one second of a `MARKED` machine, and nothing else."""
    monkeypatch.setattr(module, name, lambda *_: operations(Operation.PICTURE, 1))


@pytest.mark.parametrize(("flops", "refits"), [(math.inf, 3), (0.0, 0)])
def test_whether_a_group_is_refitted(monkeypatch, digits, flops, refits):
    train, query = digits
    monkeypatch.setattr(group_removal, "block_flops", lambda n, size: flops)
    monkeypatch.setattr(PlannedAudit, "groups", (1, 10, 30))
    calls = count_calls(monkeypatch, group_removal, "refit")
    fitted = lo.fit(KERNEL, train, rule=lo.GradientFlow())
    asked_for = planned_for(train, query, fitted.rule, [10.0])
    lo.leave_out(fitted, query, [range(size) for size in asked_for.groups], at=10.0)
    assert len(calls) == refits
    assert asked_for.refitted_groups == refits
    price = dataclasses.replace(FREE, flops=math.inf, eigh=SecondsBySize((1, 1000), (1.0, 1.0)))
    assert round(Cost(asked_for, price).redundant()) == refits


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("rule", "times", "window", "sets"),
    [
        (lo.GradientFlow(), [5.0], 10.0, 1),
        (lo.GradientFlow(), [1.0, 5.0, 50.0], 10.0, 2 + 3),
        (lo.GradientFlow(), [1.0, 5.0, 50.0], 2.0, 3 + 3),
        (lo.GradientFlow(0.1, 1.0, "mean"), [5.0], 10.0, 3),
    ],
)
def test_an_audit_makes_as_many_sets_of_resolvents_as_the_plan_counts(
    monkeypatch, digits, rule, times, window, sets
):
    monkeypatch.setattr(quadrature, "WINDOW", window)
    calls = count_calls(monkeypatch, edit_engines, "resolvents_at_nodes")
    for module in (edit_engines, group_removal):
        mark(monkeypatch, module, "resolvents_work")
    lo.audit(KERNEL, *digits, rule=rule, at=times, refit_examples=0)
    cost = Cost(planned_for(*digits, rule, times), MARKED)
    steps = (cost.scores, cost.predictions, cost.labels, cost.redundant, cost.rare, cost.certificate)
    assert len(calls) == sets
    assert round(sum(step() for step in steps)) == sets


@pytest.mark.parametrize(("share", "kept"), [(1, True), (10**6, False)])
def test_whether_the_kernel_of_queries_is_kept(monkeypatch, digits, share, kept):
    monkeypatch.setattr(kernel_rows, "COMPARISON_SHARE", share)
    train, query = digits
    fitted = lo.fit(KERNEL, train, memory=10**9)
    fitted.rows.keep_comparison(query.inputs)
    calls = count_calls(monkeypatch, kernel_rows.assemble, "cross")
    fitted.rows.compare(query.inputs)
    assert len(calls) == (not kept)
    assert planned_for(train, query, fitted.rule, [math.inf], budget=fitted.memory).keeps_comparison == kept


@pytest.mark.parametrize(("size", "blocks"), [(256, 1), (5, 3)])
def test_how_many_queries_an_order_of_removal_takes_at_once(monkeypatch, digits, size, blocks):
    monkeypatch.setattr(model_change, "QUERIES", size)
    train, query = digits
    fitted = lo.fit(KERNEL, train, rule=lo.GradientFlow(), memory=10**9)
    sizes = []
    singles = finite_time.FiniteTime.singles

    def counted(engine, queries, columns, output):
        sizes.append(len(queries.targets))
        return singles(engine, queries, columns, output)

    monkeypatch.setattr(finite_time.FiniteTime, "singles", counted)
    model_change.model_change(fitted, query, 10.0, "function")
    assert len(sizes) == blocks * fitted.outputs
    mark(monkeypatch, finite_time, "coefficients_work")
    monkeypatch.setattr(group_removal, "group_sum_work", lambda *_: NO_WORK)
    asked_for = planned_for(train, query, fitted.rule, [10.0], budget=fitted.memory)
    assert round(Cost(asked_for, MARKED).redundant()) == blocks * fitted.outputs


def test_work_adds_up_and_is_priced_by_size():
    work = 2 * operations(Operation.EIGENPAIRS, side=3) + operations(Operation.CALL, 5) + NO_WORK
    price = dataclasses.replace(FREE, call=0.5, eigh=SecondsBySize((1, 2), (1.0, 8.0)))
    assert price.seconds(work) == pytest.approx(2 * 27 + 2.5)
    assert price.seconds(0.5 * (work + work)) == pytest.approx(price.seconds(work))

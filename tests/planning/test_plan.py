"""Planned time and memory: counted as the work is done, growing with it, and refused where it is too much."""

import dataclasses
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import leftout as lo
from leftout.attribution.trajectory import COUNT, DECADES
from leftout.cli.main import app
from leftout.core.errors import MemoryBudgetError, OptionError, ShapeError
from leftout.kernels.tiles import FeatureBytes
from leftout.planning import plan as plan_module
from leftout.planning.cost import REFACTORED, Cost
from leftout.planning.machine import Machine, SecondsBySize, measure_machine
from leftout.planning.memory import AuditMemory
from leftout.planning.plan import Plan, Step, plan
from leftout.planning.planned_audit import PlannedAudit

KERNEL = lo.kernels.TwoLayerReLU()
NOTHING = SecondsBySize((1, 2), (1e-300, 1e-300))

FREE = Machine(
    flops=math.inf,
    cholesky=NOTHING,
    inverse=NOTHING,
    eigh=NOTHING,
    streamed=math.inf,
    fresh=math.inf,
    thin=0.0,
    call=0.0,
    example=0.0,
    gram=0.0,
    cross=0.0,
    ranked=0.0,
    stored=0.0,
    picture=0.0,
)
"""A machine on which everything is done at once: tests put a price on one thing at a time."""

CUBIC = SecondsBySize((100, 200), (1e-3, 8e-3))

USUAL = Machine(
    flops=4e10,
    cholesky=CUBIC,
    inverse=CUBIC,
    eigh=CUBIC,
    streamed=2e10,
    fresh=2e9,
    thin=1e-9,
    call=3e-6,
    example=0.0,
    gram=1e-8,
    cross=1e-8,
    ranked=1e-8,
    stored=1e-8,
    picture=1e-4,
)

RULES = {
    "end": (lo.Ridge(1.0), (None,)),
    "mean loss, end": (lo.Ridge(0.1, "mean"), (None,)),
    "beginning": (lo.GradientFlow(), (0,)),
    "one time": (lo.GradientFlow(), (10,)),
    "three times": (lo.GradientFlow(), (1, 10, 100)),
    "times and end": (lo.GradientFlow(1.0, 0.1), (1, 10, None)),
    "steps": (lo.GradientDescent(1e-3), (5, 100)),
}


def planned_audit(n=1000, m=200, k=10, *, name="end", budget=10**10):
    rule, at = RULES[name]
    times = tuple(sorted(rule.time(time) for time in at))
    return PlannedAudit(n=n, m=m, k=k, rule=rule, times=times, refit_examples=3, budget=budget)


def plan_of(asked_for, price=USUAL):
    """Return a plan without a trial of this machine."""
    memory = AuditMemory(asked_for, KERNEL)
    steps = plan_module._steps(Cost(asked_for, price), memory, 0, pictures=True)
    return Plan(asked_for, tuple(steps), 0, memory)


def test_cross_entropy_keeps_its_kernel_matrix_once_more_in_single_precision():
    asked_for = PlannedAudit(
        n=1000, m=200, k=10, rule=lo.Logistic(0.1), times=(math.inf,), refit_examples=3, budget=10**10
    )
    assert AuditMemory(asked_for, KERNEL).model == (8 + 4) * 1000**2


@pytest.fixture
def usual(monkeypatch):
    monkeypatch.setattr(plan_module, "measure_machine", lambda *_, **__: USUAL)


@pytest.fixture(scope="module")
def digits():
    return lo.load("digits", n_train=150, n_query=30)


def test_a_plan_has_a_row_for_each_step_and_adds_them_up(usual, digits):
    found = plan(KERNEL, *digits, rule=lo.Ridge(1.0), started=2.5)
    assert [step.name for step in found.steps] == [
        "start and load",
        "kernel",
        "factorisation",
        "scores",
        "predictions",
        "labels",
        "redundant",
        "rare, outliers",
        "learning curve",
        "certificate",
        "report",
    ]
    assert found.steps[0].seconds == 2.5
    assert found.seconds == sum(step.seconds for step in found.steps)
    assert found.peak == max(step.memory for step in found.steps)
    assert all(step.seconds > 0 and step.memory >= found.before > 0 for step in found.steps)
    assert found.fits
    assert re.fullmatch(
        r"150 training examples and 30 queries take about [\d.]+ s and [\d.]+ [MG]B at the peak, of "
        r"which [\d.]+ [MG]B are libraries and data\. The budget for the rest is [\d.]+ GB: it fits\.",
        found.summary,
    )
    found.check()


def test_methods_say_which_factorisation_is_made():
    assert "Cholesky" in plan_of(planned_audit(name="end")).steps[1].method
    assert "again" in plan_of(planned_audit(name="mean loss, end")).steps[1].method
    assert plan_of(planned_audit(name="one time")).steps[1].method == "eigendecomposition"
    assert plan_of(planned_audit(name="times and end")).steps[1].method == (
        "Cholesky and inverse and eigendecomposition"
    )
    assert plan_of(planned_audit(name="beginning")).steps[1].method == "none"


@pytest.mark.parametrize("name", RULES)
def test_more_examples_queries_outputs_never_take_less(name):
    small = plan_of(planned_audit(500, 100, 2, name=name))
    for more in ((501, 100, 2), (4000, 100, 2), (500, 900, 2), (500, 100, 10)):
        large = plan_of(planned_audit(*more, name=name))
        assert large.seconds > small.seconds
        assert large.peak >= small.peak


def test_more_times_take_more():
    one, three = plan_of(planned_audit(name="one time")), plan_of(planned_audit(name="three times"))
    assert three.seconds > one.seconds
    assert three.peak > one.peak
    # But not thrice: the eigendecomposition is made once.
    assert three.seconds < 3 * one.seconds


@pytest.mark.parametrize("name", RULES)
def test_a_rule_with_training_time_is_followed_over_it(name):
    names = [step.name for step in plan_of(planned_audit(name=name)).steps]
    # Ridge has no time, and at time 0 nothing has been learned.
    assert ("training curve" in names) == (name not in ("end", "mean loss, end", "beginning"))


def test_the_end_of_a_flow_takes_the_spectrum_for_its_curve():
    flow, ridge = (
        PlannedAudit(1000, 200, 10, rule, (math.inf,), 3, 10**10) for rule in (lo.GradientFlow(), lo.Ridge())
    )
    assert plan_of(flow).steps[1].method == "Cholesky and inverse and eigendecomposition"
    assert plan_of(flow).memory.model == plan_of(ridge).memory.model + 8 * 1000**2
    assert plan_of(flow).seconds > plan_of(ridge).seconds


def test_a_curve_shares_nodes_in_a_decade_and_a_product_between_its_times():
    n, k = 300, 4
    cost = Cost(planned_audit(n, 600, k, name="one time"), dataclasses.replace(FREE, flops=1.0))
    of_a_decade = 2 * n * n * 2 * 40 * (k + 1) + 2 * n * n * 80  # R y and diag R, and diag K R
    assert cost.training_curve() == DECADES * of_a_decade + (COUNT + 1) * 2 * n * n * k


def test_time_0_needs_no_factorisation():
    asked_for = planned_audit(name="beginning")
    memory = AuditMemory(asked_for, KERNEL)
    assert Cost(asked_for, USUAL).factorisations() == memory.factorisation == 0
    assert memory.model == memory.square


def test_scores_at_the_end_are_one_product_for_all_outputs():
    n, m, k = 300, 70, 4
    cost = Cost(planned_audit(n, m, k), dataclasses.replace(FREE, flops=1.0))
    assert cost.scores() == 2 * m * n * n


def test_scores_at_finite_times_share_nodes_but_not_products():
    n, m, k = 300, 600, 4  # three blocks of queries
    cost = Cost(planned_audit(n, m, k, name="three times"), dataclasses.replace(FREE, flops=1.0))
    resolvents = 2 * n * n * 2 * 40 * (k + 1)  # 40 nodes, complex; times 1 to 10, and 100
    coefficients = 2 * n * 80 * n
    products = 2 * m * n * n
    assert cost.scores() == products + 2 * resolvents + 3 * k * (3 * coefficients + products)


def test_mean_loss_is_factored_again_and_again():
    once = SecondsBySize((1, 2), (1.0, 1.0))
    price = dataclasses.replace(FREE, cholesky=once)
    # Beyond its sizes the curve grows with n³; twice as far is eight times as long.
    assert Cost(planned_audit(2), price).factorisations() == pytest.approx(1)
    mean = Cost(planned_audit(2, name="mean loss, end"), price)
    assert mean.factorisations() == pytest.approx(1 + REFACTORED)


def test_eigendecompositions_are_one_of_all_and_one_of_each_rest():
    price = dataclasses.replace(FREE, eigh=SecondsBySize((1, 2), (1.0, 8.0)))  # n³ seconds
    cost = Cost(planned_audit(1000, name="one time"), price)
    assert cost.factorisations() == pytest.approx(1000**3)
    # Without 20, 30 and 50 %, and 4 small ones of the Lanczos matrices elsewhere.
    assert cost.redundant() == pytest.approx(800**3 + 700**3 + 500**3)


def test_the_groups_are_those_of_redundant(digits):
    train, query = digits
    found = lo.audit(KERNEL, train, query)
    assert (0, *planned_audit(len(train), len(query)).groups) == found.findings.redundant.counts


def test_too_little_memory_is_refused_with_the_number_that_fits():
    found = plan_of(planned_audit(3000, budget=200 * 10**6))
    assert not found.fits
    assert found.summary.endswith("it does not fit.")
    with pytest.raises(
        MemoryBudgetError,
        match=r"3000 training examples and 200 queries need \d+ MB, more than the budget of 200 MB: "
        rf"take `n_train` ≤ {found.memory.most_examples}, or raise `memory` to \d+ MB\.",
    ):
        found.check()
    assert plan_of(planned_audit(found.memory.most_examples, budget=200 * 10**6)).fits
    assert not plan_of(planned_audit(found.memory.most_examples + 1, budget=200 * 10**6)).fits


@pytest.mark.parametrize(
    ("n", "m", "budget"), [(3000, 200, 200), (300, 20_000, 60), (500, 300, 1), (50, 9, 60)]
)
def test_the_budget_that_is_advised_holds_whatever_blocks_it_allows(n, m, budget):
    memory = AuditMemory(planned_audit(n, m, budget=budget * 10**6), KERNEL)
    advised = memory.least_budget
    assert AuditMemory(planned_audit(n, m, budget=advised), KERNEL).fits
    assert advised % 10**6 == 0
    assert advised <= 2 * memory.peak
    assert memory.fits == (advised == budget * 10**6)


def test_too_many_queries_for_the_memory_are_refused_with_the_number_that_fits():
    def memory(m):
        return AuditMemory(planned_audit(300, m, budget=10**8), KERNEL)

    with pytest.raises(MemoryBudgetError, match=r"100 MB: take `n_query` ≤ \d+, or raise") as refused:
        memory(100_000).check()
    most = int(re.search(r"`n_query` ≤ (\d+)", str(refused.value))[1])
    assert memory(most).fits
    assert not memory(most + 1).fits


def test_where_no_number_of_examples_fits_none_is_advised():
    found = plan_of(planned_audit(3000, budget=10**6))
    with pytest.raises(MemoryBudgetError, match=r"more than the budget of 1 MB: raise `memory` to \d+ MB\."):
        found.check()


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.314, "0.31 s"), (42.4, "42 s"), (100, "1.7 minutes"), (7000, "1.9 hours")]
)
def test_seconds_are_said_in_a_fitting_unit(seconds, said):
    asked_for = planned_audit()
    found = Plan(asked_for, (Step("all", seconds, 0, ""),), 0, AuditMemory(asked_for, KERNEL))
    assert f"about {said} and" in found.summary


def test_what_audit_would_refuse_is_refused(usual, digits):
    with pytest.raises(OptionError, match="`refit_examples` must be a whole number ≥ 0; got -1"):
        plan(KERNEL, *digits, rule=lo.Ridge(1.0), refit_examples=-1)
    with pytest.raises(OptionError, match="`at` must be None under Ridge"):
        plan(KERNEL, *digits, rule=lo.Ridge(1.0), at=[3])
    with pytest.raises(OptionError, match="`device` must be one that this machine has"):
        plan(KERNEL, *digits, rule=lo.Ridge(1.0), device="abacus")
    with pytest.raises(OptionError, match="`memory` must be a number of bytes or a size"):
        plan(KERNEL, *digits, rule=lo.Ridge(1.0), memory="plenty")


def test_a_curve_goes_through_its_points_and_on_with_n_cubed():
    curve = SecondsBySize((10, 100), (1e-3, 1e-1))
    assert curve(0) == 0
    assert [curve(10), curve(100)] == pytest.approx([1e-3, 1e-1])
    assert curve(math.sqrt(1000)) == pytest.approx(1e-2)  # a straight line of logarithms
    assert curve(200) == pytest.approx(0.8)
    assert curve(1) == pytest.approx(1e-3)  # overhead does not shrink


def test_this_machine_can_be_measured(digits):
    found = measure_machine(KERNEL, digits[0], device=torch.device("cpu"))
    assert found.label_fits is None, "of a kernel that sees no labels"
    speeds = {name: speed for name, speed in vars(found).items() if name != "label_fits"}
    for name, speed in speeds.items():
        for one in speed.seconds if isinstance(speed, SecondsBySize) else (speed,):
            # Of an infinitely wide network nothing is paid for an example by itself.
            assert (one == 0) if name == "example" else (0 < one < math.inf), name
    tables = dataclasses.replace(digits[0], images=None)
    assert measure_machine(KERNEL, tables, device=torch.device("cpu")).picture == 0


@pytest.mark.usefixtures("machine_measured_once")
def test_a_network_is_priced_by_its_passes_and_counted_by_its_rows(digits) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10)
    )
    kernel = lo.kernels.Empirical(module, weights="initial")
    found = measure_machine(kernel, digits[0], device=torch.device("cpu"))
    assert found.example >= 0
    assert found.gram >= 0
    assert found.example + found.gram > 0
    train, query = (one.select(range(20)) for one in digits)
    plan = plan_module.plan(kernel, train, query, rule=lo.Ridge(1.0))
    asked_for = plan.audit
    assert (asked_for.n, asked_for.m, asked_for.k, asked_for.outputs_per_example) == (200, 200, 1, 10)
    assert plan.summary.startswith("20 training examples and 20 queries take")


def test_rows_pass_a_network_again_where_their_features_do_not_fit() -> None:
    features = FeatureBytes(
        kept=1000, passing=10, tiles=0, pieces=0, least=1000, most_passing=100, most_beside=10
    )
    ample = dataclasses.replace(planned_audit(n=300, m=60), outputs_per_example=3, features=features)
    assert dataclasses.replace(ample, features=None).passes == (300, 60)
    assert ample.passes == (300, 60)  # 100 examples: 100 kB of 10 GB
    # They fit, but are not kept for the queries, which takes a quarter of the budget.
    once = dataclasses.replace(ample, budget=300_000)
    assert once.passes == (300, 360)
    # In four panels of 25 examples, behind which 75, 50, 25 and none pass again.
    panels = dataclasses.replace(ample, budget=50_000)
    assert panels.passes == (300 + 3 * (75 + 50 + 25), 360)
    price = dataclasses.replace(FREE, example=1.0)
    assert Cost(panels, price).kernel() == pytest.approx(750)
    assert Cost(panels, price).scores() == pytest.approx(360)


def test_few_inputs_take_small_tiles() -> None:
    features = FeatureBytes(kept=0, passing=0, tiles=1000, pieces=7, least=0, most_passing=0, most_beside=100)
    assert [features.held(n, 1, 10**6) for n in (100, 500, 50, 1)] == [1007, 1007, 507, 17]
    assert features.held(1, 50, 10**6) == 507


def test_rows_of_an_example_are_paid_for_once_each() -> None:
    price = dataclasses.replace(FREE, example=0.5)
    assert Cost(planned_audit(n=30), price).kernel() == 15


def test_the_command_shows_the_plan_and_says_when_it_does_not_fit(usual):
    done = CliRunner().invoke(app, ["plan", "digits", "--n-train", "100", "--n-query", "20"])
    assert done.exit_code == 0, done.output
    assert "leftout audit would take" in done.output
    assert "certificate" in done.output
    said = " ".join(done.output.split())
    assert "100 training examples and 20 queries take about" in said
    short = CliRunner().invoke(app, ["plan", "digits", "--n-train", "100", "--memory", "1MB"])
    assert isinstance(short.exception, MemoryBudgetError)


AUDITED = """
import resource, sys
from pathlib import Path
import leftout as lo
from leftout.planning import plan as planner
from leftout.planning.machine import Machine
from test_plan import USUAL, KERNEL

train, query = lo.load("digits", n_train=1000, n_query=60)
planner.measure_machine = lambda *_, **__: USUAL
found = planner.plan(KERNEL, train, query, rule=lo.GradientFlow(), at=[10.0])
lo.audit(KERNEL, train, query, rule=lo.GradientFlow(), at=[10.0], out=sys.argv[1])
status = Path("/proc/self/status")
if status.exists():  # ru_maxrss begins at the size of the process that started this one
    peak = 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
else:
    unit = 1 if sys.platform == "darwin" else 1024
    peak = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(found.memory.peak, peak - found.before)
"""


@pytest.mark.slow
def test_planned_memory_is_what_an_audit_takes_within_a_factor_of_2(tmp_path):
    here = str(tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-c", AUDITED, here],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
    )
    expected, taken = map(int, done.stdout.split())
    assert taken / 2 < expected < 2 * taken


@pytest.mark.parametrize("ask", [lo.audit, plan])
@pytest.mark.parametrize("outputs", [2, 3])
def test_a_network_with_other_outputs_than_targets_is_refused_first(ask, outputs) -> None:
    pair = (torch.randn(12, 2, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 2)
    data = lo.load((pair, pair))
    with pytest.raises(ShapeError, match=f"tells apart {outputs} outputs, the targets have 1"):
        ask(lo.kernels.Empirical(torch.nn.Linear(2, outputs), weights="initial"), *data, rule=lo.Ridge(1.0))

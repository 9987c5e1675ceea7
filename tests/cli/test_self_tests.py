"""The self-tests of an installation: all sound here, and each notices what it is there for."""

import math
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from leftout.cli import command_check
from leftout.cli import self_tests as checks
from leftout.cli.main import app
from leftout.cli.self_tests import TESTS, SelfTest, run_self_tests
from leftout.kernels.wide.two_layer_relu import TwoLayerReLU
from leftout.solvers.cholesky import CholeskyFactor
from leftout.solvers.quadrature import Quadrature

WRONG = "digits: share of wrong answers"


@pytest.fixture(scope="module")
def results():
    return run_self_tests()


def failed(test):
    """Return the names of what is not sound in one self-test."""
    return [one.name for one in TESTS[test]() if not one.sound]


def test_this_installation_is_sound(results):
    assert [(one.name, one.measured, one.allowed) for one in results if not one.sound] == []


def test_every_number_has_a_name_and_every_rule_is_tried(results):
    names = [one.name for one in results]
    assert len(set(names)) == len(names)
    assert {f"leave-one-out, {rule}" for rule in checks.RULES} <= set(names)
    assert all(math.isfinite(one.measured) and one.measured >= 0 for one in results)


def test_what_is_allowed_is_small_beside_what_is_tested(results):
    # Predictions of digits are of size 1, their changes of size 0.1.
    for one in results:
        if one.name.startswith(("leave-one-out", "digits: difference", "GPU")):
            assert 0 < one.allowed < 1e-8, one


def test_nan_is_not_sound():
    assert SelfTest("equal", 1.0, 1.0).sound
    assert not SelfTest("above", 1.1, 1.0).sound
    assert not SelfTest("nothing", math.nan, 1.0).sound


def test_a_test_that_raises_has_failed_and_says_why(monkeypatch):
    def broken():
        yield SelfTest("before", 0.0, 0.0)
        raise RuntimeError("LAPACK library not found")

    monkeypatch.setattr(checks, "TESTS", {"linear algebra": broken})
    before, raised = run_self_tests()
    assert before.sound
    assert not raised.sound
    assert raised.name == "linear algebra: RuntimeError: LAPACK library not found"


def test_a_wrong_factor_is_noticed(monkeypatch):
    def wrong(gram, *, ridge):
        made = checks_factor(gram, ridge=ridge)
        return CholeskyFactor(made.lower * (1 + 1e-10), made.ridge)

    checks_factor = checks.factor_cholesky
    monkeypatch.setattr(checks, "factor_cholesky", wrong)
    assert failed("linear algebra") == ["Cholesky: LLᵀ against K + λI"]


def test_wrong_eigenvectors_are_noticed(monkeypatch):
    def wrong(gram):
        made = checks_spectrum(gram)
        return replace(made, vectors=made.vectors * (1 + 1e-10))

    checks_spectrum = checks.spectrum_of
    monkeypatch.setattr(checks, "spectrum_of", wrong)
    assert failed("linear algebra") == [
        "eigendecomposition: V diag(s) Vᵀ against K",
        "eigenvectors: VᵀV against I",
    ]


def test_a_kernel_that_takes_the_arccos_is_noticed(monkeypatch):
    def plain(self, queries, inputs):
        dot = queries.flatten(1) @ inputs.flatten(1).T
        return dot * (math.pi - dot.clamp(-1, 1).arccos()) / (2 * math.pi)

    monkeypatch.setattr(TwoLayerReLU, "block", plain)
    assert "kernel of nearly equal inputs" in failed("kernels")


def test_a_wrong_quadrature_is_noticed(monkeypatch):
    def wrong(times, *, ridge):
        made = checks_quadrature(times, ridge=ridge)
        return Quadrature(made.nodes, made.weights * (1 + 1e-12))

    checks_quadrature = checks.flow_quadrature
    monkeypatch.setattr(checks, "flow_quadrature", wrong)
    assert failed("quadrature") == ["quadrature of gradient flow"]


def test_an_engine_that_is_a_little_off_is_noticed_under_every_rule(monkeypatch):
    engine = checks.leave_one_out
    monkeypatch.setattr(checks, "leave_one_out", lambda *given, **more: engine(*given, **more) * (1 + 1e-9))
    assert failed("leave-one-out") == [f"leave-one-out, {rule}" for rule in checks.RULES]


def test_a_bad_model_is_noticed(monkeypatch):
    train, query = checks._digits()
    wrong = replace(query, labels=query.labels.roll(1), targets=query.targets.roll(1, 0))
    monkeypatch.setattr(checks, "_digits", lambda: (train, wrong))
    assert failed("audit") == [WRONG]


def test_a_folder_that_gives_back_other_numbers_is_noticed(monkeypatch):
    opened = checks.open_run

    def rounded(run):
        made = opened(run)
        return replace(made, scores=made.scores.astype("float32"), suspects=made.suspects[1:])

    monkeypatch.setattr(checks, "open_run", rounded)
    assert failed("audit") == [
        "the same audit again, from its folder",
        "folder: what is missing or half-written",
    ]


@pytest.fixture
def few_digits(monkeypatch):
    """Audit fewer, where what is noticed is no matter of how good the model is."""
    train, query = checks._digits()
    monkeypatch.setattr(checks, "_digits", lambda: (train.select(range(60)), query.select(range(20))))


def test_an_empty_report_is_noticed(few_digits, monkeypatch):
    monkeypatch.setattr(checks, "html", lambda findings: "")
    assert set(failed("audit")) - {WRONG} == {"report: parts that are missing"}


def test_without_a_gpu_none_is_compared(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert list(TESTS["GPU"]()) == []


@pytest.mark.gpu
def test_a_gpu_gives_the_same_numbers():
    assert failed("GPU") == []


def test_the_command_says_so_and_its_status_too(monkeypatch):
    monkeypatch.setattr(command_check, "run_self_tests", lambda: [SelfTest("one", 1e-16, 1e-15)])
    done = CliRunner().invoke(app, ["check"])
    assert done.exit_code == 0
    assert "Everything is sound." in done.output
    monkeypatch.setattr(command_check, "run_self_tests", lambda: [SelfTest("[/odd]", 1.0, 1e-15)])
    done = CliRunner().invoke(app, ["check"])
    assert done.exit_code == 1
    assert "[/odd]" in done.output
    assert "FAILED" in done.output

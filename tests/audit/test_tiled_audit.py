"""An audit in tiles finds what the dense one finds, and goes on where it was stopped."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.attribution.engine import end_of_training
from leftout.audit.run_folder import open as open_run
from leftout.audit.summary import audit_settings
from leftout.curation import model_change
from leftout.data.pairs import examples_of
from leftout.planning.audit_solver import with_solver
from leftout.planning.plan import plan
from leftout.planning.planned_audit import planned_audit
from leftout.planning.tiled_memory import memory_of
from leftout.solvers.tiled import triangle
from leftout.storage import score_store

KERNEL, RULE = lo.kernels.ReLU(2, bias_variance=0.3), lo.Ridge(0.01)


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch) -> None:
    monkeypatch.setattr(triangle, "SIDES", (64,))
    monkeypatch.setattr(score_store, "BLOCK", 16)
    # Else so few examples are asked about in one piece, without the product of all.
    monkeypatch.setattr(end_of_training, "COLUMNS", 64)


@pytest.fixture(scope="module")
def data():
    train, query = lo.load("digits", n_train=300, n_query=40)
    labels = train.labels.clone()
    labels[::60] = (labels[::60] + 1) % 10
    return (train.inputs, labels), (query.inputs, query.labels)


def audit(data, **options):
    return lo.audit(KERNEL, *data, rule=RULE, **options)


def test_it_finds_what_the_dense_audit_finds(data, tmp_path) -> None:
    dense = audit(data, solver="dense", out=tmp_path / "dense").findings
    train, query = (examples_of(part) for part in data)
    moved = lo.leave_one_out(lo.fit(KERNEL, train, rule=RULE), query, of="prediction").values
    information = np.square(moved).sum(-1).mean(0) / 2
    for dtype, rtol in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        out = tmp_path / str(dtype)
        tiled = audit(data, solver="tiled", tile_dtype=dtype, out=out).findings
        assert_same(tiled.scores, dense.scores, rtol)
        assert_same(tiled.margins, dense.margins, rtol)
        assert [suspect.row for suspect in tiled.suspects] == [suspect.row for suspect in dense.suspects]
        assert [rare.row for rare in tiled.rare] == [rare.row for rare in dense.rare]
        assert [outlier.row for outlier in tiled.outliers] == [outlier.row for outlier in dense.outliers]
        assert tiled.redundant.counts == dense.redundant.counts
        assert_same(tiled.redundant.loss, dense.redundant.loss, rtol)
        assert_same(tiled.redundant.by_row, information, 10 * rtol)
        assert [kind.rows for kind in tiled.subclasses] == [kind.rows for kind in dense.subclasses]
        assert tiled.settings["precision"].startswith(
            "float64" if dtype == torch.float64 else "tiles in float32"
        )
        assert tiled.settings["removal"].endswith("examples together: more do not fit the memory")
        assert tiled.no_learning_curve.startswith("It takes the spectrum of half of the examples")
        assert not (out / score_store.WORK).exists()


def test_kinds_that_were_not_looked_for_are_said_to_be_so(data) -> None:
    train, query = (examples_of(part) for part in data)
    fitted = lo.fit(KERNEL, train, rule=RULE, solver="tiled")
    assert "small kinds" not in audit_settings(fitted, query, [1.0])
    fitted.rows.memory = 10_000
    assert audit_settings(fitted, query, [1.0])["small kinds"].startswith("not looked for among")
    assert lo.subclasses(fitted, query) == ()


class StoppedError(BaseException):
    """Raised in the middle, like the end of a process."""


@pytest.mark.parametrize(
    "step", [2, 40, "scores", *(pytest.param(step, marks=pytest.mark.slow) for step in (20, 55, "later"))]
)
def test_a_stopped_audit_goes_on_to_the_same_numbers(data, tmp_path, monkeypatch, step) -> None:
    from leftout.audit import audit_findings
    from leftout.dynamics.triangle_file import TriangleFile

    options = {"solver": "tiled", "tile_dtype": torch.float32}
    counted, replace, write = 0, TriangleFile.replace, score_store.write_block

    def replaced(self, *tile) -> None:
        nonlocal counted
        counted += 1
        if counted == step:
            raise StoppedError
        replace(self, *tile)

    def written(folder, start, scores) -> None:
        if step == "scores" and start == 32:
            raise StoppedError
        write(folder, start, scores)

    def stopped(*_) -> None:
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(TriangleFile, "replace", replaced)
        patch.setattr(score_store, "write_block", written)
        if step == "later":
            patch.setattr(audit_findings, "outliers", stopped)
        with pytest.raises(StoppedError):
            audit(data, out=tmp_path / "run", **options)
    made = 0

    def count(self, *tile) -> None:
        nonlocal made
        made += 1
        replace(self, *tile)

    monkeypatch.setattr(TriangleFile, "replace", count)
    # What removals move comes with the scores, and of those that are done from the folder.
    monkeypatch.setattr(model_change, "edit_engines", stopped)
    audit(data, out=tmp_path / "run", **options)
    places = 5 * 6 // 2
    assert made == (0 if isinstance(step, str) else 4 * places - (step - 1))
    audit(data, out=tmp_path / "whole", **options)
    ours, theirs = (open_run(tmp_path / name) for name in ("run", "whole"))
    assert np.array_equal(ours.scores.values, theirs.scores.values)
    for table in ("suspects.csv", "redundant.csv", "rare.csv"):
        assert (tmp_path / "run" / table).read_bytes() == (tmp_path / "whole" / table).read_bytes()
    shutil.rmtree(tmp_path / "run")


def test_auto_is_dense_where_all_steps_fit_and_tiled_where_they_do_not(data) -> None:
    train, query = (examples_of(part) for part in data)

    asked = planned_audit(KERNEL, train, query, rule=RULE, at=None, refit_examples=3, budget=10**12)
    asked = dataclasses.replace(asked, n=8000, m=500, largest_class=900)
    for dtype in (None, torch.float64, torch.float32):
        least = memory_of(dataclasses.replace(asked, tile_dtype=dtype, budget=10**6), KERNEL).least_budget
        of_budget = dataclasses.replace(asked, budget=least)
        assert (
            with_solver(of_budget, KERNEL, solver="auto", tile_dtype=None, features=None).tile_dtype == dtype
        )


@pytest.mark.parametrize(("n", "least"), [(300, None), (20_000, torch.float32)])
def test_where_nothing_fits_the_advice_is_the_least_that_would(data, monkeypatch, n, least) -> None:
    monkeypatch.setattr(triangle, "SIDES", (512, 1024))
    train, query = (examples_of(part) for part in data)
    asked = planned_audit(KERNEL, train, query, rule=RULE, at=None, refit_examples=3, budget=10**6)
    asked = dataclasses.replace(asked, n=n, largest_class=n // 10)
    options = {"solver": "auto", "tile_dtype": None, "features": None}
    chosen = with_solver(asked, KERNEL, **options)
    assert chosen.tile_dtype == least
    advised = dataclasses.replace(asked, budget=memory_of(chosen, KERNEL).least_budget)
    assert memory_of(with_solver(advised, KERNEL, **options), KERNEL).fits


def test_a_plan_says_which_way_and_why(data) -> None:
    train, query = (examples_of(part) for part in data)
    expected = plan(KERNEL, train, query, rule=RULE, solver="tiled", tile_dtype=torch.float32)
    methods = {step.name: step.method for step in expected.steps}
    assert methods["kernel"] == "300 × 300, one triangle of tiles in float32, as asked"
    assert "inverse in tiles in float32, solutions refined in float64" in methods["factorisation"]
    assert expected.seconds > 0

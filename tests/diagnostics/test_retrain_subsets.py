"""Networks trained again on subsets: the training that was asked for, stored, continued, and labelled."""

import json
import re

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import leftout as lo
from laws import assert_same
from leftout.core.errors import DataError, NotConvergedWarning, OptionError, ShapeError, StoreError
from leftout.data.pairs import examples_of
from leftout.diagnostics.retraining import retrain_subsets as module

N, D, M = 24, 5, 6


def problem(k=3):
    draws = np.random.default_rng(0)
    x = torch.from_numpy(draws.normal(size=(N + M, D)))
    y = (
        torch.from_numpy(draws.integers(k, size=N + M))
        if k
        else torch.from_numpy(draws.normal(size=(N + M, 2)))
    )
    if k:
        y[:k] = torch.arange(k)
    return (x[:N], y[:N]), (x[N:], y[N:])


def build():
    return nn.Sequential(nn.Linear(D, 4), nn.Tanh(), nn.Linear(4, 3)).double()


RECIPE = lo.SGDTraining(build=build, epochs=3, batch_size=5, learning_rate=0.5, momentum=0.5)
SUBSETS = lo.random_subsets(N, count=5, seed=1)


def by_hand(train, seed):
    """A user's own loop."""
    torch.manual_seed(seed)
    network = build()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5, momentum=0.5)
    order = torch.Generator().manual_seed(seed)
    for _ in range(3):
        for rows in torch.randperm(len(train), generator=order).split(5):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(train.inputs[rows]), train.labels[rows]).backward()
            optimizer.step()
    return network


@pytest.fixture
def counted(monkeypatch):
    """How many networks were trained, and a limit after which a user stops."""
    trained = module._Trainings.__call__

    def counting(self, networks):
        if counting.limit is not None and len(counting.seen) >= counting.limit:
            raise KeyboardInterrupt
        counting.seen.append(len(networks))
        return trained(self, networks)

    counting.limit, counting.seen = None, []
    monkeypatch.setattr(module._Trainings, "__call__", counting)
    return counting


def test_function_and_recipe_give_the_loss_by_definition() -> None:
    train, query = problem()
    by_function = lo.retrain_subsets(by_hand, train, query, SUBSETS, seeds=(0, 3), jobs=1)
    by_recipe = lo.retrain_subsets(RECIPE, train, query, SUBSETS, seeds=(0, 3), jobs=1)
    assert by_function.loss.dims == ("subset", "seed", "query")
    for row, kept in enumerate(SUBSETS):
        for column, seed in enumerate((0, 3)):
            class_examples = examples_of(train).select(np.flatnonzero(kept))
            outputs = by_hand(class_examples, seed)(query[0]).detach()
            want = nn.functional.cross_entropy(outputs, query[1], reduction="none")
            assert_same(by_function.loss[row, column], want, 1e-12)
            assert_same(by_recipe.loss[row, column], want, 1e-11)
    assert by_recipe.attrs["way"] == "64 networks at once"
    assert by_function.attrs["way"].startswith("one after another")


def test_subsets_of_several_sizes_are_trained_each_as_it_is() -> None:
    train, query = problem()
    several = {"most": range(20), "few": [0, 1, 2, 9], "other": range(4, 24)}
    together = lo.retrain_subsets(RECIPE, train, query, several, seeds=(0, 1), jobs=1)
    alone = lo.retrain_subsets(RECIPE, train, query, several, seeds=(0, 1), jobs=1, at_once=1)
    assert_same(together.loss, alone.loss, 1e-11)
    assert alone.attrs["way"] == "one after another: asked for"
    assert together["subset"].values.tolist() == ["most", "few", "other"]
    assert together.kept.sel(subset="few").values.nonzero()[0].tolist() == [0, 1, 2, 9]


def test_a_trained_network_is_trained_the_same_way() -> None:
    (x, y), query = problem(0)
    trained = lo.train(nn.Linear(D, 2).double(), (x, y), rule=lo.Ridge(0.3), tolerance=1e-4)
    truth = lo.retrain_subsets(trained, (x, y), query, SUBSETS[:2], jobs=1)
    assert truth.attrs["loss"] == "squared"
    for row, kept in enumerate(SUBSETS[:2]):
        again = lo.train(trained.initial, (x[kept], y[kept]), rule=lo.Ridge(0.3), tolerance=1e-4)
        want = (again.predict(query[0]) - query[1]).square().sum(1) / 2
        assert_same(truth.loss[row, 0], want, 1e-12)


def test_a_linear_network_is_what_the_kernel_model_says() -> None:
    """Retraining and exact refits are two ways to one truth."""
    (x, y), query = problem(0)
    network = nn.Linear(D, 2, bias=False).double()
    nn.init.zeros_(network.weight)
    trained = lo.train(network, (x, y), rule=lo.Ridge(0.3), tolerance=1e-10)
    fitted = lo.fit(lo.kernels.From(lambda a, b: a @ b.T), (x, y), rule=lo.Ridge(0.3))
    truth = lo.retrain_subsets(trained, (x, y), query, SUBSETS[:2], jobs=1)
    assert_same(truth.loss[:, 0], lo.refit_subsets(fitted, query, SUBSETS[:2]).loss, 1e-8)


def test_of_squared_loss_two_classes_may_have_one_output_or_two() -> None:
    (x, y), query = problem(2)
    recipe = {"epochs": 2, "batch_size": 6, "learning_rate": 0.1, "loss": "squared"}
    for k in (1, 2):
        make = lo.SGDTraining(build=lambda k=k: nn.Linear(D, k).double(), **recipe)
        truth = lo.retrain_subsets(make, (x, y), query, SUBSETS[:1], jobs=1)
        assert truth.loss.shape == (1, 1, M)
        assert bool((truth.loss > 0).all())


# Stopped, and continued


def test_a_stopped_run_goes_on_to_the_same_numbers(tmp_path, counted) -> None:
    train, query = problem()
    want = lo.retrain_subsets(RECIPE, train, query, SUBSETS, seeds=(0, 1), at_once=3, jobs=1)
    assert counted.seen == [3, 3, 3, 1]
    counted.seen.clear()
    counted.limit = 2
    out = tmp_path / "truth"
    with pytest.raises(KeyboardInterrupt):
        lo.retrain_subsets(RECIPE, train, query, SUBSETS, seeds=(0, 1), at_once=3, jobs=1, out=out)
    counted.limit = None
    got = lo.retrain_subsets(RECIPE, train, query, SUBSETS, seeds=(0, 1), at_once=3, jobs=1, out=out)
    assert counted.seen == [3, 3, 3, 1]
    assert np.array_equal(got.loss, want.loss)
    assert got.attrs == want.attrs
    lo.retrain_subsets(RECIPE, train, query, SUBSETS, seeds=(0, 1), at_once=3, jobs=1, out=out)
    assert counted.seen == [3, 3, 3, 1], "nothing is trained twice"


def test_each_training_has_one_thread_and_gives_the_others_back() -> None:
    train, query = problem()
    threads = []

    def count_threads(train, seed):
        threads.append(torch.get_num_threads())
        return by_hand(train, seed)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        lo.retrain_subsets(count_threads, train, query, SUBSETS[:1], jobs=1)
        assert threads == [1], "sums in another order are other numbers"
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_the_number_of_processes_does_not_change_a_digit(tmp_path) -> None:
    train, query = problem()
    for function in (RECIPE, by_hand):
        alone = lo.retrain_subsets(function, train, query, SUBSETS, seeds=(0, 1), jobs=1)
        two = lo.retrain_subsets(
            function, train, query, SUBSETS, seeds=(0, 1), jobs=2, out=tmp_path / repr(type(function))
        )
        assert np.array_equal(alone.loss, two.loss)


def test_a_folder_of_another_computation_or_a_damaged_one_is_refused(tmp_path) -> None:
    train, query = problem()
    lo.retrain_subsets(RECIPE, train, query, SUBSETS[:1], jobs=1, out=tmp_path)
    other = lo.SGDTraining(build=build, epochs=2, batch_size=5, learning_rate=0.5)
    with pytest.raises(StoreError, match=r"holds trainings of another computation \(other epochs, momentum"):
        lo.retrain_subsets(other, train, query, SUBSETS[:1], jobs=1, out=tmp_path)
    with pytest.raises(StoreError, match=r"\(other query\)"):
        lo.retrain_subsets(RECIPE, train, (query[0] + 1, query[1]), SUBSETS[:1], jobs=1, out=tmp_path)
    stored = next(tmp_path.glob("*.npz"))
    stored.write_bytes(stored.read_bytes()[:60])
    with pytest.raises(StoreError, match=r"is damaged \(.+\): remove it, and it is trained again"):
        lo.retrain_subsets(RECIPE, train, query, SUBSETS[:1], jobs=1, out=tmp_path)


def test_nothing_stored_is_a_pickle(tmp_path) -> None:
    train, query = problem()
    truth = lo.retrain_subsets(by_hand, train, query, SUBSETS, jobs=1, out=tmp_path / "run")
    for path in (tmp_path / "run").glob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            assert {arrays[name].dtype.kind for name in arrays} <= {"f", "U"}
    truth.to_zarr(tmp_path / "truth.zarr", zarr_format=2, consolidated=False)
    again = xr.open_zarr(tmp_path / "truth.zarr", consolidated=False).load()
    assert np.array_equal(again.loss, truth.loss)
    assert np.array_equal(again.kept, truth.kept)
    assert again.attrs == truth.attrs


def test_the_result_says_what_it_is() -> None:
    train, query = problem()
    truth = lo.retrain_subsets(RECIPE, train, query, SUBSETS, seeds=7, jobs=1)
    assert truth["seed"].values.tolist() == [7]
    assert truth.attrs["units"] == "cross-entropy, in nats"
    record = json.loads(truth.attrs["training"])
    assert record["momentum"] == 0.5
    assert record["network"].startswith("Sequential")
    assert truth.attrs["not_converged"] == 0
    assert truth.sizes["train"] == N


# What is refused


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        (
            3,
            {},
            "`train_function` must be a function of (train, seed) that returns a trained network, an "
            "SGDTraining",
        ),
        (build(), {}, "`train_function` must be a function of (train, seed)"),
        (by_hand, {"at_once": 4}, "`at_once` belongs to an SGDTraining; training is one after another"),
        (
            RECIPE,
            {"loss": "squared"},
            "`loss` must be 'cross-entropy' for this recipe; say it there; got 'squared'",
        ),
        (RECIPE, {"seeds": (1, 1)}, "`seeds` must be one or more different whole numbers"),
        (RECIPE, {"seeds": -1}, "`seeds` must be a whole number ≥ 0"),
        (RECIPE, {"jobs": 0}, "`jobs` must be a whole number ≥ 1"),
        (lambda train, seed: 1 / 0, {}, "on 12 examples with seed 0 it raised ZeroDivisionError"),
        (lambda train, seed: None, {}, "`train_function` must return a network, or a function that predicts"),
        (
            lambda train, seed: lambda x: x[:, 0],
            {},
            "return (m, k), one row for each input and k outputs; of 6",
        ),
        (lambda train, seed: lambda x: x, {}, "an output for each of 3 classes; got 5 outputs"),
        (lambda train, seed: lambda x: x[:, :3] * np.inf, {}, "finite outputs; of query '0' they are NaN"),
    ],
)
def test_what_cannot_be_is_refused(function, options, words) -> None:
    train, query = problem()
    with pytest.raises((OptionError, ShapeError, DataError), match=re.escape(words)):
        lo.retrain_subsets(function, train, query, SUBSETS, **{"jobs": 1} | options)


def test_more_seeds_of_a_training_without_randomness_are_refused() -> None:
    train, query = problem(0)
    trained = lo.train(nn.Linear(D, 2).double(), train, rule=lo.Ridge(0.3))
    with pytest.raises(OptionError, match="`seeds` must be one for a network from `train`"):
        lo.retrain_subsets(trained, train, query, SUBSETS, seeds=(0, 1), jobs=1)
    with pytest.raises(OptionError, match="`loss` must be 'squared' for a network from `train`"):
        lo.retrain_subsets(trained, train, query, SUBSETS, loss="cross-entropy", jobs=1)
    short = lo.train(nn.Linear(D, 2).double(), train, rule=lo.Ridge(0.3), steps=2)
    with pytest.warns(NotConvergedWarning, match="5 of 5 networks trained again stopped short"):
        truth = lo.retrain_subsets(short, train, query, SUBSETS, jobs=1)
    assert truth.attrs["not_converged"] == 5


def test_what_it_will_take_is_said_on_a_terminal(monkeypatch) -> None:
    texts = []

    def without_bar(steps, *, what, total):
        texts.append((what, total))
        return steps

    monkeypatch.setattr(module, "with_progress", without_bar)
    train, query = problem()
    lo.retrain_subsets(RECIPE, train, query, SUBSETS, seeds=(0, 1), at_once=4, jobs=1)
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True)
    lo.retrain_subsets(RECIPE, train, query, SUBSETS, seeds=(0, 1), at_once=4, jobs=1)
    assert texts[0] == ("training 10\u00a0networks on subsets", 3)
    assert re.fullmatch("training 10\u00a0networks on subsets, about [0-9.e-]+ s", texts[1][0])

"""Is retraining the truth: the same training without the example, kept, continued and flagged?"""

import json
import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import leftout as lo
from laws import assert_same, difference
from leftout.core.errors import NotConvergedWarning, OptionError, StoreError
from leftout.diagnostics.retraining import runner as retraining
from leftout.diagnostics.retraining.retrain import APART, retrain
from leftout.dynamics.train import train
from oracles import networks as oracles
from problems.networks import linear, network, numpy_of, sphere

N, D = 9, 5
TIGHT = 1e-10


def data(k=1, *, n=N, d=D):
    """Training pair and query pair."""
    x, y = sphere(n + 4, d, k)
    return (x[:n], y[:n]), (x[n:], y[n:])


def fitted_linear(k=1, rule=None, *, zero=False, **options):
    """A linear module trained to a tight tolerance, its data and queries."""
    pair, query = data(k)
    module = linear(D, k)
    if zero:
        nn.init.zeros_(module.weight)
    options = {"tolerance": TIGHT} | options
    return train(module, pair, rule=rule or lo.Ridge(0.3), **options), pair, query


def changes(before, after, wanted, of):
    """The effect of what makes predictions `after` out of `before`, by the definition."""
    if of == "prediction":
        return before - after
    return ((after - wanted) ** 2).sum(-1) / 2 - ((before - wanted) ** 2).sum(-1) / 2


def refits(trained, pair, query, groups, of):
    """The same by normal equations without the groups."""
    x, y = numpy_of(*pair)
    initial = trained.initial.weight.detach().numpy()
    points, wanted = numpy_of(*query)
    found = []
    for group in [[], *groups]:
        keep = np.ones(len(x), dtype=bool)
        keep[group] = False
        ridge = trained.rule.ridge * (keep.sum() if trained.rule.loss == "mean" else 1)
        found.append(points @ oracles.linear_fit(x, y, initial, ridge, keep).T)
    return np.stack([changes(found[0], after, wanted, of) for after in found[1:]], axis=1)


@pytest.fixture
def counted(monkeypatch):
    """The sizes of the training sets that were trained on; stops after `limit` of them."""
    real, seen = retraining.train, []

    def counting(module, train, **options):
        if counting.limit is not None and len(seen) >= counting.limit:
            raise KeyboardInterrupt
        seen.append(len(train))
        counting.threads.append(torch.get_num_threads())
        return real(module, train, **options)

    counting.limit = None
    counting.seen, counting.threads = seen, []
    monkeypatch.setattr(retraining, "train", counting)
    return counting


@pytest.mark.parametrize("of", ["loss", "prediction"])
@pytest.mark.parametrize("loss", ["sum", "mean"])
@pytest.mark.parametrize("k", [1, 2])
def test_of_a_linear_module_it_is_the_refit_by_normal_equations(k, loss, of) -> None:
    trained, pair, query = fitted_linear(k, lo.Ridge(0.3, loss))
    singles = retrain(trained, query, [4, 0, 7], of=of, jobs=1)
    want = refits(trained, pair, query, [[4], [0], [7]], of)
    # Weights are within TIGHT · ‖∇L at w_0‖ / ridge of the minimiser; ‖∇L‖ is some 10, ridge 0.3.
    assert_same(singles, want, 1e-7)
    groups = retrain(trained, query, [[4, 0], [7], [1, 2, 3]], of=of, jobs=1)
    assert_same(groups, refits(trained, pair, query, [[4, 0], [7], [1, 2, 3]], of), 1e-7)


@pytest.mark.parametrize("of", ["loss", "prediction"])
def test_of_a_linear_module_it_is_what_leave_one_out_says(of) -> None:
    trained, pair, query = fitted_linear(zero=True)
    kernel = lo.kernels.From(lambda a, b: a @ b.T)
    fitted = lo.fit(kernel, pair, rule=lo.Ridge(0.3))
    got = retrain(trained, query, range(N), of=of, jobs=1)
    want = lo.leave_one_out(fitted, query, of=of)
    assert_same(got, want, 1e-7)
    assert got.dims == want.dims
    assert got["train"].values.tolist() == want["train"].values.tolist()
    assert got["query"].values.tolist() == want["query"].values.tolist()
    groups = {"odd": [1, 3, 5], "first": [0]}
    got = retrain(trained, query, groups, of=of, jobs=1)
    want = lo.leave_out(fitted, query, groups, of=of)
    assert_same(got, want, 1e-7)
    assert got.dims == want.dims
    assert got["group"].values.tolist() == ["odd", "first"]


@pytest.mark.parametrize("k", [1, 3])
def test_of_a_network_it_is_the_same_training_without_the_example(k) -> None:
    (x, y), (points, wanted) = data(k)
    net = network(20, D, k)
    trained = train(net, (x, y), rule=lo.Ridge(0.5))
    got = retrain(trained, (points, wanted), [2, 6], jobs=1)
    before = trained.predict(points).numpy()
    ended = []
    for column, row in enumerate((2, 6)):
        keep = torch.arange(N) != row
        again = train(net, (x[keep], y[keep]), rule=lo.Ridge(0.5))
        after = again.predict(points).numpy()
        want = changes(before, after, wanted.numpy(), "loss")
        assert_same(got[:, column], want, 1e-9)
        ended.append((again.relative_gradient, again.steps))
    worst, steps = zip(*ended, strict=True)
    assert got.attrs["largest_relative_gradient"] == pytest.approx(max(worst), rel=1e-6)
    assert got.attrs["steps"] == sum(steps) / 2


def test_steps_that_were_asked_for_are_taken_again_and_nothing_is_amiss() -> None:
    pair, query = data()
    rule = lo.GradientDescent(0.2, 0.1)
    module = linear(D)
    nn.init.zeros_(module.weight)
    trained = train(module, pair, rule=rule, steps=7, tolerance=None)
    got = retrain(trained, query, range(N), jobs=1)  # a warning would be an error here
    assert (got.attrs["steps"], got.attrs["not_converged"]) == (7, 0)
    assert got.attrs["training"].startswith("took the 7 steps asked for")
    fitted = lo.fit(lo.kernels.From(lambda a, b: a @ b.T), pair, rule=rule)
    assert_same(got, lo.leave_one_out(fitted, query, at=7), 1e-11)


def test_the_wider_the_network_the_more_the_kernel_knows_of_it() -> None:
    pair, query = data(n=12)
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), pair, rule=lo.Ridge(1.0))
    want = lo.leave_one_out(fitted, query, of="prediction")[:, :6]
    away = {}
    for width in (64, 4096):
        errors = []
        for seed in range(3):
            trained = train(network(width, D, seed=seed), pair, rule=lo.Ridge(1.0))
            got = retrain(trained, query, range(6), of="prediction", jobs=1)
            errors.append(difference(got, want))
        away[width] = np.mean(errors)
    # m^-1/2 makes it an eighth; half of that power is asked for.
    assert away[4096] < away[64] / np.sqrt(8)


# Laws


def test_an_example_that_says_nothing_has_no_influence() -> None:
    (x, y), query = data()
    x = x.clone()
    x[3] = 0
    trained = train(linear(D), (x, y), rule=lo.Ridge(0.3), tolerance=TIGHT)
    got = retrain(trained, query, [3, 4], of="prediction", jobs=1)
    assert np.abs(got[:, 0]).max() < 1e-7 * np.abs(got[:, 1]).max()


def test_an_example_twice_is_left_out_half_at_a_time() -> None:
    (x, y), query = data()
    twice = torch.cat([x, x[:1]]), torch.cat([y, y[:1]])
    trained = train(linear(D), twice, rule=lo.Ridge(0.3), tolerance=TIGHT)
    got = retrain(trained, query, [[0], [N], [0, N]], jobs=1)
    assert_same(got[:, 0], got[:, 1], 1e-7)
    once = train(linear(D), (x, y), rule=lo.Ridge(0.3), tolerance=TIGHT)
    rest = retrain(once, query, [0], jobs=1)
    # Both copies gone is the one gone, after the other.
    assert_same(got[:, 2], got[:, 0].values + rest[:, 0].values, 1e-6)


def test_the_order_of_groups_and_of_their_rows_does_not_matter(tmp_path, counted) -> None:
    trained, _, query = fitted_linear()
    a = retrain(trained, query, [[1, 2], [5, 0]], jobs=1, out=tmp_path)
    b = retrain(trained, query, [[0, 5], [2, 1]], jobs=1)
    kept = retrain(trained, query, [[0, 5], [2, 1], [1, 2]], jobs=1, out=tmp_path)
    assert len(counted.seen) == 4
    assert np.array_equal(kept[:, :2], b)
    assert np.array_equal(a[:, 0], b[:, 1])
    assert np.array_equal(a[:, 1], b[:, 0])


@pytest.mark.parametrize("rows", [[3, 1], (3, 1), np.array([3, 1]), torch.tensor([3, 1])], ids=type)
def test_rows_may_come_in_any_form(rows) -> None:
    trained, _, query = fitted_linear()
    want = retrain(trained, query, [[3], [1]], jobs=1)
    got = retrain(trained, query, rows, jobs=1)
    assert got.dims == ("query", "train")
    assert np.array_equal(got, want)
    alone = retrain(trained, query, rows[0], jobs=1)
    assert alone.dims == ("query", "train")
    assert np.array_equal(alone, want[:, :1])


# Warm starts


def test_from_the_trained_weights_it_ends_where_it_ends_from_the_initial_ones() -> None:
    trained, _, query = fitted_linear()
    cold = retrain(trained, query, range(N), jobs=1)
    warm = retrain(trained, query, range(N), start="warm", check=4, jobs=1)
    assert_same(warm, cold, 1e-7)
    assert warm.attrs["checked"] == 4
    assert 0 < warm.attrs["warm_difference"] < 1e-7
    assert warm.attrs["steps"] < cold.attrs["steps"]
    assert "warm_difference" not in cold.attrs
    unchecked = retrain(trained, query, range(N), start="warm", check=0, jobs=1)
    assert np.array_equal(unchecked, warm)
    assert "warm_difference" not in unchecked.attrs
    assert retrain(trained, query, [1], start="warm", jobs=1).attrs["checked"] == 1


def test_the_difference_that_the_start_makes_is_measured_and_told() -> None:
    (x, y), query = data(n=20, d=2)
    trained = train(network(6, 2, scale=0.01), (x, y), rule=lo.Ridge(0.05))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        warm = retrain(trained, query, range(8), of="prediction", start="warm", check=8, jobs=1)
        cold = retrain(trained, query, range(8), of="prediction", jobs=1)
    told = warm.attrs["warm_difference"]
    assert told > 1e-3, "six neurons have more than one way to fit"
    assert told == pytest.approx(difference(warm, cold), rel=1e-9)


def test_a_start_that_decides_where_it_ends_is_warned_of() -> None:
    (x, y), query = data(n=20, d=5)
    narrow = train(network(16, 5, scale=0.1), (x, y), rule=lo.Ridge(0.05))
    with pytest.warns(NotConvergedWarning) as caught:
        found = retrain(narrow, query, range(4), start="warm", check=4, jobs=1)
    told = found.attrs["warm_difference"]
    assert told > APART
    words = f"The start makes a difference of {told:.2g} of the largest effect, on 4 trainings that"
    assert any(str(one.message).startswith(words) for one in caught)
    assert "Pass start='initial'" in str(caught[-1].message)


def test_where_the_start_decides_by_itself_a_warm_one_is_refused() -> None:
    pair, query = data()
    words = (
        "`start` must be 'initial' without a ridge: there is more than one minimum, and from the "
        "trained weights training stays at its own; got 'warm' under Ridge(ridge=0.0, loss='sum')."
    )
    free = train(network(64, D), pair, rule=lo.Ridge(0.0), tolerance=1e-3)
    with pytest.raises(OptionError, match=re.escape(words)):
        retrain(free, query, [0], start="warm", jobs=1)
    steps = train(linear(D), pair, rule=lo.GradientDescent(0.2, 0.1), steps=7, tolerance=None)
    words = "`start` must be 'initial' for a network that took all its steps: from the trained weights "
    with pytest.raises(OptionError, match=f"{words}it would be one of 7 more"):
        retrain(steps, query, [0], start="warm", jobs=1)


def test_steps_that_are_all_taken_are_the_moment_that_is_asked_about() -> None:
    pair, query = data()
    rule = lo.GradientDescent(0.2, 0.1)
    module = linear(D)
    nn.init.zeros_(module.weight)
    fitted = lo.fit(lo.kernels.From(lambda a, b: a @ b.T), pair, rule=rule)
    truth = retrain(train(module, pair, rule=rule, steps=7, tolerance=None), query, range(N), jobs=1)
    assert truth.attrs["at"] == 7.0
    then = lo.leave_one_out(fitted, query, at=7)
    assert lo.agreement(then, truth, top=3)["pooled"].sel(measure="relative_error") < 1e-9
    with pytest.raises(OptionError, match="the same moment of training; at is 'end of training' of"):
        lo.agreement(lo.leave_one_out(fitted, query), truth)
    assert retrain(fitted_linear()[0], query, [0], jobs=1).attrs["at"] == "end of training"


# Processes


def test_the_number_of_processes_does_not_change_a_digit() -> None:
    """Each training is the same sums by one thread, in this process or in another."""
    pair, query = data(2)
    trained = train(network(30, D, 2), pair, rule=lo.Ridge(0.5))
    one = retrain(trained, query, range(5), jobs=1)
    two = retrain(trained, query, range(5), jobs=2)
    assert np.array_equal(one, two)
    assert one.attrs == two.attrs


def test_each_training_has_one_thread_and_the_others_are_given_back(counted) -> None:
    trained, _, query = fitted_linear()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        retrain(trained, query, [0], jobs=1)
        assert counted.threads == [1], "sums in another order are other numbers"
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# Kept, and continued


def test_what_was_interrupted_goes_on_and_what_is_done_is_not_done_again(tmp_path, counted) -> None:
    trained, _, query = fitted_linear()
    want = retrain(trained, query, range(5), jobs=1)
    counted.seen.clear()
    counted.limit = 2
    with pytest.raises(KeyboardInterrupt):
        retrain(trained, query, range(5), jobs=1, out=tmp_path / "kept")
    counted.limit = None
    assert counted.seen == [N - 1] * 2
    got = retrain(trained, query, range(5), jobs=1, out=tmp_path / "kept")
    assert counted.seen == [N - 1] * 5
    assert np.array_equal(got, want)
    assert got.attrs == want.attrs
    again = retrain(trained, query, [4], jobs=1, out=str(tmp_path / "kept"))
    other = retrain(trained, query, range(5), jobs=1, of="prediction", out=tmp_path / "kept")
    assert counted.seen == [N - 1] * 5, "kept are predictions: other groups and losses are free"
    assert np.array_equal(again[:, 0], want[:, 4])
    assert other.dims == ("query", "train", "output")


def test_a_file_that_was_being_written_is_none(tmp_path, counted) -> None:
    trained, _, query = fitted_linear()
    want = retrain(trained, query, [0, 1], jobs=1, out=tmp_path)
    kept = sorted(tmp_path.glob("*.npz"))
    assert len(kept) == 2
    assert not list(tmp_path.glob("*.part"))
    half = kept[0].with_suffix(".123.part")
    half.write_bytes(kept[0].read_bytes()[:100])
    kept[0].unlink()
    counted.seen.clear()
    assert np.array_equal(retrain(trained, query, [0, 1], jobs=1, out=tmp_path), want)
    assert counted.seen == [N - 1]


def test_processes_keep_what_they_finish(tmp_path, counted) -> None:
    trained, _, query = fitted_linear()
    want = retrain(trained, query, range(4), jobs=2, out=tmp_path)
    counted.seen.clear()
    got = retrain(trained, query, range(4), jobs=1, out=tmp_path)
    assert not counted.seen
    assert np.array_equal(got, want)


def test_warm_and_cold_are_kept_apart(tmp_path, counted) -> None:
    trained, _, query = fitted_linear()
    retrain(trained, query, [0, 1], jobs=1, out=tmp_path)
    counted.seen.clear()
    retrain(trained, query, [0, 1], start="warm", check=2, jobs=1, out=tmp_path)
    assert counted.seen == [N - 1] * 2, "the check finds what is kept"


def test_a_folder_of_another_computation_is_refused(tmp_path) -> None:
    trained, pair, query = fitted_linear()
    retrain(trained, query, [0], jobs=1, out=tmp_path)

    def refused(other, points, what):
        words = f"holds trainings of another computation (other {what}): choose another folder, or"
        with pytest.raises(StoreError, match=re.escape(words)):
            retrain(other, points, [0], jobs=1, out=tmp_path)

    refused(trained, (query[0] + 1, query[1]), "query")
    module = trained.initial
    refused(train(module, pair, rule=lo.Ridge(0.3), tolerance=1e-9), query, "weights, tolerance")
    refused(train(module, pair, rule=lo.Ridge(0.4), tolerance=TIGHT), query, "weights, rule")
    short = (pair[0][1:], pair[1][1:])
    refused(train(module, short, rule=trained.rule, tolerance=TIGHT), query, "weights, train")
    fewer = train(module, pair, rule=trained.rule, tolerance=TIGHT, steps=19_000)
    refused(fewer, query, "limit")


def test_a_damaged_folder_is_refused(tmp_path) -> None:
    trained, _, query = fitted_linear()
    retrain(trained, query, [0], jobs=1, out=tmp_path)
    kept = next(tmp_path.glob("*.npz"))
    whole = kept.read_bytes()
    for broken in (b"", whole[:50], b"not a zip"):
        kept.write_bytes(broken)
        with pytest.raises(StoreError, match=r"is damaged \(.+\): remove it, and it is trained again"):
            retrain(trained, query, [0], jobs=1, out=tmp_path)
    kept.write_bytes(whole)
    for broken in ("", "[1]"):
        (tmp_path / "of.json").write_text(broken)
        with pytest.raises(StoreError, match=r"of.json' is damaged: remove the folder and train"):
            retrain(trained, query, [0], jobs=1, out=tmp_path)
    with pytest.raises(StoreError, match=r"`out` must be a folder; .* is a file"):
        retrain(trained, query, [0], jobs=1, out=kept)


# What it says about itself


def test_the_result_says_what_it_is() -> None:
    trained, _, query = fitted_linear()
    found = retrain(trained, query, [2, 5], jobs=1)
    assert found.name == "influence"
    assert found.dims == ("query", "train")
    assert found["train"].values.tolist() == ["2", "5"]
    assert found.attrs["method"] == "retrain"
    assert found.attrs["of"] == "loss"
    assert found.attrs["sign"].endswith("positive = the example helped")
    assert found.attrs["start"] == "initial"
    assert json.loads(found.attrs["rule"]) == trained.rule.record
    assert json.loads(found.attrs["network"])["weights"] == trained.record["weights"]
    assert found.attrs["train_fingerprint"] == trained.train.fingerprint
    assert found.attrs["not_converged"] == 0
    assert 0 < found.attrs["largest_relative_gradient"] <= TIGHT
    assert found.attrs["steps"] > 0
    assert retrain(trained, query, [2], of="prediction", jobs=1)["output"].values.tolist() == ["0"]


@pytest.mark.parametrize(("names", "want"), [("ab", ["b"]), ("abc", ["a", "b", "c"])])
def test_outputs_are_named_by_their_classes(names, want) -> None:
    x = sphere(N, D)[0]
    labels = np.array([names[i % len(names)] for i in range(N)])
    trained = train(linear(D, len(want)), (x, labels), rule=lo.Ridge(0.3))
    found = retrain(trained, (x[:2], labels[:2]), [0], of="prediction", jobs=1)
    assert found["output"].values.tolist() == want


def test_trainings_that_do_not_converge_are_flagged() -> None:
    pair, query = data()
    trained = train(linear(D), pair, rule=lo.Ridge(0.3), steps=3)
    with pytest.warns(NotConvergedWarning) as caught:
        found = retrain(trained, query, [0, 1], jobs=1)
    messages = [str(one.message) for one in caught]
    assert messages[0].startswith("The network is not trained to convergence: stopped after 3 steps")
    assert messages[1].startswith(
        "2 of 2 networks trained again stopped short of convergence; one of them stopped after 3"
    )
    assert len(messages) == 2
    assert found.attrs["not_converged"] == 2
    assert found.attrs["converged"] == 0


@pytest.mark.parametrize(
    ("groups", "options", "words"),
    [
        ([], {}, "`groups` must hold at least one group of row numbers; got none."),
        ([[]], {}, "`groups`: group 0 is empty; name at least one training row."),
        ([N], {}, f"`groups`: group 0 names row {N}; rows go from 0 to {N - 1}."),
        ([0, -1], {}, f"`groups`: group 1 names row -1; rows go from 0 to {N - 1}."),
        ([[1, 2, 1]], {}, "`groups`: group 0 names a row twice; name each once."),
        ({"all": range(N)}, {}, f"`groups`: group 'all' holds all {N} training examples; nothing"),
        ([0], {"check": -1, "start": "warm"}, "`check` must be a finite number ≥ 0; got -1."),
        ([0], {"jobs": 0}, "`jobs` must be a whole number ≥ 1; got 0."),
    ],
)
def test_what_cannot_be_left_out_is_refused(groups, options, words) -> None:
    trained, _, query = fitted_linear()
    with pytest.raises(OptionError, match=re.escape(words)):
        retrain(trained, query, groups, **options)


@pytest.mark.usefixtures("as_users_run_it")
def test_options_outside_their_choices_are_refused() -> None:
    trained, _, query = fitted_linear()
    for options, words in (
        ({"of": "error"}, "`of` must be one of 'loss', 'prediction'; got 'error'."),
        ({"start": "cold"}, "`start` must be one of 'initial', 'warm'; got 'cold'."),
    ):
        with pytest.raises(OptionError, match=re.escape(words)):
            retrain(trained, query, [0], **options)


@pytest.mark.usefixtures("as_users_run_it")
def test_what_is_no_network_is_refused() -> None:
    trained, pair, query = fitted_linear()
    words = "`trained` must be a trained network, from `train`; got "
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), pair, rule=lo.Ridge(0.3))
    for other, came in ((fitted, "Fitted"), (trained.module, "Linear"), (None, "None")):
        with pytest.raises(OptionError, match=f"{words}{came}"):
            retrain(other, query, [0])


def test_a_folder_that_cannot_be_written_is_refused(tmp_path) -> None:
    trained, _, query = fitted_linear()
    file = tmp_path / "file"
    file.touch()
    words = r"`out` must be a folder that can be written; '.*' is none \("
    for out in (file / "below", "/proc/nowhere"):
        with pytest.raises(StoreError, match=words):
            retrain(trained, query, [0], jobs=1, out=out)
    with pytest.raises(StoreError, match=r"`out` must be a folder; '.*' is a file"):
        retrain(trained, query, [0], jobs=1, out=file)

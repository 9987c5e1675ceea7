"""Is everything written on a result that a reader needs, and is nothing else touched?"""

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

import leftout as lo
from problems.small import Problem, Started, problem

N = 10
P = problem(N, 3, 2, spare=1)
ATTRIBUTES = {
    "method",
    "of",
    "sign",
    "units",
    "orientation",
    "rule",
    "loss",
    "kernel",
    "dtype",
    "kernel_dtype",
    "leftout_version",
    "train_fingerprint",
    "query_fingerprint",
    "fitted_fingerprint",
}

CALLS: dict[str, Callable] = {
    "leave_one_out": lambda fitted, **more: lo.leave_one_out(fitted, P.query, **more),
    "leave_out": lambda fitted, **more: lo.leave_out(fitted, P.query, [[1, 2]], **more),
    "relabel": lambda fitted, **more: lo.relabel(fitted, P.query, 1, [0.0, 1.0], **more),
    "reweight": lambda fitted, **more: lo.reweight(fitted, P.query, 1, 0.5, **more),
    "add": lambda fitted, **more: lo.add(fitted, P.query, [N + 3.0], [0.0, 1.0], **more),
}
EVERY_CALL = pytest.mark.parametrize("call", CALLS)


@EVERY_CALL
@pytest.mark.parametrize("of", ["loss", "prediction"])
def test_a_result_says_what_it_is(call, of) -> None:
    rule = lo.GradientFlow(2.0, 0.01, "mean")
    fitted = P.fitted(rule)
    got = CALLS[call](fitted, of=of, at=[3.0, None])
    assert set(got.attrs) == ATTRIBUTES
    assert got.attrs["method"] == call
    assert got.attrs["of"] == of
    assert got.attrs["orientation"] == "rows are queries, columns training examples"
    assert json.loads(got.attrs["rule"]) == {
        "rule": "GradientFlow",
        "rate": 2.0,
        "ridge": 0.01,
        "loss": "mean",
    }
    assert got.attrs["loss"] == "mean"
    assert json.loads(got.attrs["kernel"]) == fitted.kernel.record
    assert got.attrs["leftout_version"] == lo.__version__
    assert got.attrs["train_fingerprint"] == fitted.train.fingerprint
    assert got.name == "influence"
    assert got.dtype == np.float64
    assert got.dims[:2] == ("at", "query")
    assert got.coords["at"].values.tolist() == [3.0, math.inf]
    assert got.coords["query"].values.tolist() == ["0", "1", "2"]
    units = {"loss": "½ Σ (prediction − target)² over outputs", "prediction": "target units"}
    assert got.attrs["units"] == units[of]


@EVERY_CALL
def test_attributes_survive_any_file_format(call) -> None:
    for at in (3.0, None):
        got = CALLS[call](P.fitted(lo.GradientFlow(1.0, 0.1)), at=at)
        assert all(isinstance(value, str | int | float) for value in got.attrs.values())
        assert json.loads(json.dumps(got.attrs)) == got.attrs
        assert got.attrs["at"] == ("end of training" if at is None else 3.0)


@EVERY_CALL
def test_the_sign_is_said_and_kept(call) -> None:
    # Where the loss rises without the example (or with it edited), the influence is positive, and
    # the prediction is told with it minus without.
    fitted = P.fitted(lo.Ridge(0.1))
    losses, change = CALLS[call](fitted), CALLS[call](fitted, of="prediction")
    full = fitted.predict(P.query[0]).numpy()[:, None]
    # `add` starts from the fit without the example: there it is "with" that is not as fitted.
    edited = full + change.values if call == "add" else full - change.values
    error = 0.5 * ((edited - P.wanted[:, None]) ** 2).sum(-1)
    before = 0.5 * ((full - P.wanted[:, None]) ** 2).sum(-1)
    rise = error - before
    np.testing.assert_allclose(losses, -rise if call == "add" else rise, rtol=1e-9, atol=1e-12)
    assert "positive = " in losses.attrs["sign"]
    word = "edited" if call in ("relabel", "reweight") else "without"
    assert word in losses.attrs["sign"]
    assert word in change.attrs["sign"]


def test_fingerprints_tell_data_rules_and_kernels_apart() -> None:
    def prints(p=P, rule=None, query=None):
        got = lo.leave_one_out(p.fitted(rule or lo.Ridge(0.1)), query or p.query)
        return tuple(got.attrs[f"{what}_fingerprint"] for what in ("train", "query", "fitted"))

    train, query, fitted = prints()
    assert prints() == (train, query, fitted)
    assert prints(rule=lo.Ridge(0.2))[:2] == (train, query)
    assert prints(rule=lo.Ridge(0.2))[2] != fitted
    assert prints(rule=lo.Ridge(0.1, "mean"))[2] != fitted
    assert prints(rule=lo.GradientFlow(1.0, 0.1))[2] != fitted
    other = Problem(2 * P.whole, N, P.targets, spare=1)
    assert prints(other)[0] == train
    assert prints(other)[2] != fitted
    moved = P.targets.copy()
    moved[0, 0] += 1e-15
    assert prints(Problem(P.whole, N, moved, spare=1))[0] != train
    fewer = (P.query[0][:2], P.query[1][:2])
    assert prints(query=fewer)[1] != query


@EVERY_CALL
@pytest.mark.parametrize("rule", [lo.Ridge(0.1), lo.Ridge(0.01, "mean"), lo.GradientFlow(1.0, 0.1)])
def test_nothing_that_was_passed_is_written_to(call, rule, frozen) -> None:
    whole, start = torch.from_numpy(P.whole.copy()), np.zeros_like(P.targets) + 0.5
    kernel = Started(P.whole, start)
    rows, targets = torch.arange(N).double(), torch.from_numpy(P.residual.copy())
    frozen(whole, kernel.start, kernel.inside.gram, rows, targets, *P.query)
    fitted = lo.fit(kernel, (rows, targets), rule=rule)
    frozen(fitted.gram, fitted.residual, fitted.train.inputs, fitted.train.targets)
    times = [None] if isinstance(rule, lo.Ridge) else [0.0, 4.0, None]
    for of in ("loss", "prediction"):
        CALLS[call](fitted, at=times, of=of)
    lo.leave_one_out(fitted, P.query, at=times, mean=True)
    lo.leave_one_out(fitted, P.query, at=times, top=2)
    lo.out_of_sample(fitted, at=times)
    lo.certify(fitted, P.query, at=times[0])
    fitted.predict(P.query[0], at=times[-1])


@EVERY_CALL
def test_read_only_arrays_are_good_enough(call) -> None:
    rows, targets = np.arange(float(N)), P.residual.copy()
    for array in (rows, targets):
        array.flags.writeable = False
    fitted = lo.fit(P.kernel, (rows, targets), rule=lo.GradientFlow(1.0, 0.1))
    assert CALLS[call](fitted, at=3.0).shape[0] == 3


@EVERY_CALL
def test_asking_twice_gives_the_same_bits(call) -> None:
    # Nothing random, and no cache that is not what it was made from.
    fitted = P.fitted(lo.GradientFlow(1.0, 0.01, "mean"))
    times = [2.0, 0.0, 700.0, None]
    first = CALLS[call](fitted, at=times).values
    for other in CALLS.values():
        other(fitted, at=times)
    state = torch.random.get_rng_state()
    assert CALLS[call](fitted, at=times).values.tolist() == first.tolist()
    assert torch.equal(torch.random.get_rng_state(), state), "global randomness was used"
    assert CALLS[call](P.fitted(fitted.rule), at=times).values.tolist() == first.tolist()

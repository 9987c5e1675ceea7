"""What people type first in place of a kernel is answered with the call to make; the calls work."""

import re
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge

import leftout as lo
from leftout.cli.model import KERNELS
from leftout.cli.options import KernelName
from leftout.core.errors import DataError, OptionError
from leftout.dynamics.kernel_advice import CALLS, kernel_advice

pytestmark = pytest.mark.usefixtures("as_users_run_it")

X = np.random.default_rng(0).standard_normal((20, 3))
Y = (X[:, 0] > 0).astype(int)
KERNEL = lo.kernels.ReLU(1)
TRAIN = lo.fit(KERNEL, (X, Y)).train
MODEL = lo.fit(KERNEL, (X, Y))
NET = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
TYPED = {
    "a name": (
        lambda: lo.fit("relu", (X, Y)),
        r"got 'relu'. The kernel of this name is lo\.kernels\.ReLU\(2\)",
    ),
    "a name misspelt": (lambda: lo.fit("rellu", (X, Y)), r"Did you mean lo\.kernels\.ReLU\(2\)\?"),
    "another misspelt": (
        lambda: lo.fit("two_layer_rleu", (X, Y)),
        r"Did you mean lo\.kernels\.TwoLayerReLU\(\)\?",
    ),
    "a module": (
        lambda: lo.fit(NET, (X, Y)),
        r"got Sequential\. The kernel of a module is lo\.kernels\.Empirical\(",
    ),
    "data first": (
        lambda: lo.fit(X, Y),
        r"got ndarray\. It stands before .* lo\.fit\(lo\.kernels\.ReLU\(2\), \(X, y",
    ),
    "lists first": (lambda: lo.fit(X.tolist(), Y.tolist()), r"got list\. It stands before the data"),
    "a frame first": (lambda: lo.fit(pd.DataFrame(X), Y), "got DataFrame. It stands before the data"),
    "a tensor first": (lambda: lo.fit(torch.ones(3, 2), Y), "got Tensor. It stands before the data"),
    "a matrix": (
        lambda: lo.fit(X @ X.T, (X, Y)),
        r"The kernel of a matrix is lo\.kernels\.Precomputed\(gram\)",
    ),
    "Examples first": (
        lambda: lo.fit(TRAIN, KERNEL),
        r"got Examples. It stands .* lo\.fit\(lo\.kernels\.ReLU\(2\), tr",
    ),
    "an estimator": (
        lambda: lo.fit(Ridge(), (X, Y)),
        r"got Ridge\. An estimator .* lo\.from_sklearn\(estimator, X, y\)",
    ),
    "a function": (
        lambda: lo.fit(lambda x, z: x @ z.T, (X, Y)),
        r"two sets of inputs is lo\.kernels\.From\(",
    ),
    "a model": (
        lambda: lo.fit(MODEL, (X, Y)),
        r"got FittedM?.*model already: ask it, as lo\.leave_one_out\(",
    ),
    "a class": (lambda: lo.fit(lo.kernels.ReLU, (X, Y)), r"the class ReLU; write ReLU\(…\)\.$"),
    "nothing": (lambda: lo.fit(None, (X, Y)), r"such as lo\.kernels\.ReLU\(2\); got None\.$"),
    "inputs alone": (
        lambda: lo.fit(KERNEL, X),
        r"got ndarray\. Pass inputs and targets as one pair: \(X, y\)",
    ),
    "a ridge": (
        lambda: lo.fit(KERNEL, (X, Y), rule=0.1),
        r"got 0\.1\. With this ridge it is lo\.Ridge\(0\.1\)",
    ),
    "an auto ridge": (
        lambda: lo.fit(KERNEL, (X, Y), rule="auto"),
        r"With this ridge it is lo\.Ridge\('auto'\)",
    ),
    "audit: a name": (
        lambda: lo.audit("relu"),
        r"'relu' names a kernel: lo\.audit\(data, kernel=lo\.kernels\.ReLU",
    ),
    "audit: a kernel by name": (lambda: lo.audit("digits", kernel="rellu"), "Did you mean"),
    "audit: an estimator": (lambda: lo.audit(Ridge().fit(X, Y)), r"lo\.from_sklearn\(estimator, X, y\)"),
    "audit: an estimator, X, y": (lambda: lo.audit(Ridge(), X, Y), r"lo\.from_sklearn\(estimator, X, y\)"),
    "audit: a module": (lambda: lo.audit(NET, X, Y), r"is lo\.kernels\.Empirical\(module\)"),
    "audit: a model": (lambda: lo.audit(MODEL, (X, Y)), "This is a model already"),
    "audit: kernel, X, y": (lambda: lo.audit(KERNEL, X, Y), r"are one pair: lo\.audit\(kernel, \(X, y\)\)"),
    "audit: queries alone": (lambda: lo.audit(KERNEL, (X, Y), X), r"lo\.audit\(kernel, train, \(X, y\)\)"),
}


@pytest.mark.parametrize(("call", "message"), TYPED.values(), ids=TYPED)
def test_what_is_typed_first_is_answered_with_the_call_to_make(call, message) -> None:
    with pytest.raises((OptionError, DataError), match=message) as refused:
        call()
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 330


def test_the_calls_that_are_named_work() -> None:
    gram, function, module, estimator = X @ X.T, lambda x, z: x @ z.T, NET.double(), Ridge().fit(X, Y * 1.0)
    names = {"lo": lo, "gram": gram, "function": function, "module": module, "X": X, "y": Y * 1.0}
    names |= {"train": TRAIN, "estimator": estimator, "fitted": MODEL, "query": (X, Y)}
    given = [NET, Ridge(), MODEL, TRAIN, X, function, *CALLS]
    calls = [call for one in given for call in calls_in(kernel_advice(one))]
    assert len(calls) == 13
    for call in calls:
        eval(call, names)


def calls_in(sentence):
    """Return the calls that a sentence names, with all their brackets."""
    starts = [match.start() for match in re.finditer(r"(?<![\w.(])lo\.", sentence)]
    for start in starts:
        depth, end = 0, start
        while True:
            depth += {"(": 1, ")": -1}.get(sentence[end], 0)
            end += 1
            if depth == 0 and sentence[end - 1] == ")":
                break
        yield sentence[start:end]


def test_every_kernel_of_the_command_line_is_known_by_its_name() -> None:
    with_options = {"hierarchy", "of-model", "auto"}
    assert set(CALLS) == set(get_args(KernelName)) - with_options == set(KERNELS)
    for name, call in CALLS.items():
        assert type(eval(f"kernels.{call}", {"kernels": lo.kernels})) is KERNELS[name]


@pytest.mark.parametrize(
    ("window", "name", "meant"),
    [(lo.kernels, "Relu", "ReLU"), (lo, "leave_oneout", "leave_one_out"), (lo, "Audti", "audit")],
)
def test_a_misspelt_public_name_is_answered_with_the_one_meant(window, name, meant) -> None:
    with pytest.raises(AttributeError, match=f"no attribute '{name}'; did you mean '{meant}'"):
        getattr(window, name)


def test_a_name_that_nothing_is_like_has_no_question() -> None:
    for name in ("zebra", "__wrapped__", "_ReLU"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'$"):
            getattr(lo.kernels, name)

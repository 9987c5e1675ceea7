"""What a program sets for all of torch (device, dtype, recording of gradients) changes no number of ours."""

import ast
import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import leftout
import leftout as lo
from laws import difference

SOURCE = Path(leftout.__file__).parent
FACTORIES = {
    *(
        "arange",
        "as_tensor",
        "asarray",
        "empty",
        "eye",
        "full",
        "linspace",
        "logspace",
        "normal",
        "ones",
        "rand",
    ),
    *("randint", "randn", "randperm", "scalar_tensor", "tensor", "tril_indices", "triu_indices", "zeros"),
}
OF_FLOATS = {"empty", "eye", "linspace", "logspace", "ones", "rand", "randn", "zeros"}
FLOATS_LATER = {"torch.eye(outputs, device='cpu')", "torch.ones(len(alike), 1, device='cpu')"}
"""Exact in any type, and converted at once."""


def factory_calls(path):
    for node in ast.walk(ast.parse(path.read_text())):
        # Only what is called as torch.NAME is spelt out, which takes longer than all of the rest.
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        name = ast.unparse(node.func) if is_call and node.func.attr in FACTORIES else ""
        if name.startswith("torch.") and name[6:] in FACTORIES:
            yield name[6:], {keyword.arg for keyword in node.keywords}, ast.unparse(node)


def test_every_new_tensor_names_its_device_and_floats_their_type() -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 300
    for path in files:
        for name, keywords, call in factory_calls(path):
            assert None in keywords or "device" in keywords, f"{path}: {call} lands on the default device"
            if name in OF_FLOATS and None not in keywords:
                assert "dtype" in keywords or call in FLOATS_LATER, f"{path}: {call} has the default dtype"


def inputs(n, seed):
    rows = np.random.default_rng(seed).standard_normal((n, 4))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


X, Y = inputs(9, 0), np.arange(9) % 3
QUERY, LABELS = inputs(5, 1), np.arange(5) % 3


def module():
    layers = [nn.Linear(*shape, device="cpu", dtype=torch.float64) for shape in ((4, 6), (6, 3))]
    built = nn.Sequential(layers[0], nn.Tanh(), layers[1])
    with torch.no_grad():
        for i, weight in enumerate(built.parameters()):
            draws = np.random.default_rng(i).standard_normal(tuple(weight.shape)) / 2
            weight.copy_(torch.from_numpy(draws))
    return built


def small():
    return lo.load("digits", n_train=16, n_query=4, classes=[3, 8])


def of_kernel(kernel):
    fitted = lo.fit(kernel, (X, Y), rule=lo.GradientFlow(0.1))
    return [lo.leave_one_out(fitted, (QUERY, LABELS), at=at) for at in (3.0, 30.0)]


def trained():
    return lo.train(module(), (X, Y), rule=lo.GradientDescent(0.05, 0.1), steps=9, tolerance=None)


QUESTIONS = {
    "digits": lambda: [side.inputs for side in small()],
    "audit": lambda: [lo.out_of_sample(lo.fit(lo.kernels.ReLU(2), small()[0], rule=lo.Ridge(0.1)))],
    "relu": lambda: of_kernel(lo.kernels.ReLU(2)),
    "erf": lambda: of_kernel(lo.kernels.Erf(1)),
    "tanh": lambda: of_kernel(lo.kernels.Tanh(1)),
    "two layers": lambda: of_kernel(lo.kernels.TwoLayerReLU()),
    "groups": lambda: [
        lo.leave_out(lo.fit(lo.kernels.ReLU(1), (X, Y), rule=lo.Ridge(0.1)), (QUERY, LABELS), [[0, 1], [2]])
    ],
    "empirical": lambda: of_kernel(lo.kernels.Empirical(module(), weights="initial")),
    "projected": lambda: of_kernel(
        lo.kernels.Empirical(module(), projection=lo.kernels.Sparse(size=30), weights="initial")
    ),
    "linearised": lambda: [
        weight.detach()
        for weight in lo.linearised_module(
            lo.fit(lo.kernels.Empirical(module(), weights="initial"), (X, Y), rule=lo.Ridge(0.1))
        ).parameters()
    ],
    "train": lambda: [trained().predict(QUERY)],
    "retrain": lambda: [lo.retrain(trained(), (QUERY, LABELS), [[0], [3, 4]], jobs=1)],
    "influence function": lambda: [
        lo.influence_function(lo.train(module(), (X, Y), rule=lo.Ridge(2.0), tolerance=1e-2), (QUERY, LABELS))
    ],
    "linearity": lambda: [
        lo.linearity_test(module(), (X, Y), (QUERY, LABELS), steps=3, rule=lo.GradientDescent(0.05)).gap
    ],
}

STATES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "device": lambda: torch.device("meta"),
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
}


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


OFTEN = ("digits", "relu", "empirical", "train")
ASKED = [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in QUESTIONS]


@pytest.mark.parametrize("question", ASKED)
def test_answers_are_the_same_whatever_is_set_for_all_of_torch(question) -> None:
    expected = QUESTIONS[question]()
    for name, state in STATES.items():
        with state():
            answers = QUESTIONS[question]()
        for answer, want in zip(answers, expected, strict=True):
            assert difference(np.asarray(answer), np.asarray(want)) == 0, f"{question} under {name}"

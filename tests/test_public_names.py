"""What is public is written down: `public_names.txt`. A new or lost name needs a changelog entry."""

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest
import torch

import leftout

AGREED = Path(__file__).with_name("public_names.txt").read_text().split()


ROOMS = (
    "cluster",
    "core",
    "data",
    "diagnostics",
    "dynamics",
    "kernels",
    "kernels.layers",
    "solvers",
    "storage",
)
"""Folders that show public names of their own."""

WINDOWS = {"": leftout, "bounds.": leftout.bounds}
WINDOWS |= {f"{room}.": importlib.import_module(f"leftout.{room}") for room in ROOMS}
SHOWN = {prefix + name: (module, name) for prefix, module in WINDOWS.items() for name in module.__all__}


def test_public_names_are_the_agreed_ones() -> None:
    assert sorted(SHOWN) == AGREED, "a new or lost name needs a changelog entry"


def test_the_list_is_sorted_and_says_nothing_twice() -> None:
    assert sorted(set(AGREED)) == AGREED


@pytest.mark.parametrize("name", AGREED)
def test_every_public_name_is_there_and_explained(name: str) -> None:
    public = getattr(*SHOWN[name])
    if not isinstance(public, str):
        assert (public.__doc__ or "").strip(), f"`{name}` has no docstring"


def in_a_room(name: str) -> bool:
    return "." in name and inspect.isfunction(getattr(*SHOWN[name])) and not name.startswith("bounds.")


@pytest.mark.parametrize("name", list(filter(in_a_room, AGREED)))
def test_every_public_function_of_a_room_has_an_example_that_runs(name: str) -> None:
    function = getattr(*SHOWN[name])
    tests = doctest.DocTestFinder(recurse=False).find(function, name)
    assert any(test.examples for test in tests), f"`{name}` has no example"
    for test in tests:
        assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize("room", ROOMS)
def test_no_public_name_of_a_room_is_hidden_by_a_file(room: str) -> None:
    """A file of the name of a function would take its place once imported."""
    window = WINDOWS[f"{room}."]
    files = {module.name for module in pkgutil.iter_modules(window.__path__)}
    hidden = {name for name in set(window.__all__) & files if not inspect.ismodule(getattr(window, name))}
    assert not hidden


QUESTIONS = [
    name
    for name, (module, own_name) in SHOWN.items()
    if inspect.isfunction(getattr(module, own_name))
    and next(iter(inspect.signature(getattr(module, own_name)).parameters), "") == "fitted"
]
"""Functions that are asked of a fitted model."""


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_to_what_is_no_model_says_how_one_is_made(name) -> None:
    inputs, targets = torch.eye(8), torch.arange(8) % 2
    examples = leftout.fit(leftout.kernels.ReLU(1), (inputs, targets)).train
    needed: dict = {
        "query": (inputs, targets),
        "inputs": inputs,
        "groups": [[0]],
        "subsets": [[0]],
        "source": ["a", "b"] * 4,
        "index": [0],
        "target": [1],
        "weight": 0.5,
        "targets": targets,
        "n": [16],
        "clusters": [0] * 8,
    }
    module, own_name = SHOWN[name]
    question = getattr(module, own_name)
    required = [p for p in inspect.signature(question).parameters.values() if p.default is p.empty]
    others = {parameter.name: needed[parameter.name] for parameter in required[1:]}
    for wrong in (examples, (inputs, targets), leftout.kernels.ReLU(1), "relu", None):
        with pytest.raises(leftout.LeftoutError, match="`fitted` must be a model, from `fit`"):
            question(wrong, **others)

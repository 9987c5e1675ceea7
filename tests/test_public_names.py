"""What is public is written down: `public_names.txt`. A new or lost name needs a changelog entry."""

import ast
from pathlib import Path
from types import ModuleType

import pytest

import leftout

AGREED = Path(__file__).with_name("public_names.txt").read_text().split()
WINDOWS = {"": leftout, "bounds.": leftout.bounds, "kernels.": leftout.kernels}


def shown(module: ModuleType) -> list[str]:
    """Return the names that an `__init__` exports: those of `__all__`, or those said `X as X`."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    names = []
    for node in ast.parse(Path(module.__file__).read_text()).body:
        if isinstance(node, ast.ImportFrom):
            names += [alias.asname for alias in node.names if alias.asname == alias.name]
    return names


def test_public_names_are_the_agreed_ones() -> None:
    found = [prefix + name for prefix, module in WINDOWS.items() for name in shown(module)]
    assert sorted(found) == AGREED, "a new or lost name needs a changelog entry"


def test_the_list_is_sorted_and_says_nothing_twice() -> None:
    assert sorted(set(AGREED)) == AGREED


@pytest.mark.parametrize("name", AGREED)
def test_every_public_name_is_there_and_explained(name: str) -> None:
    found = leftout
    for part in name.split("."):
        found = getattr(found, part)
    if not isinstance(found, str):
        assert (found.__doc__ or "").strip(), f"`{name}` has no docstring"

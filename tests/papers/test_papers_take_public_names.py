"""The papers take from leftout only what a user could: public names, by `lo.NAME` or from a room's window."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import leftout

PAPERS = Path(__file__).parents[2] / "src" / "leftout_papers"
FILES = sorted(PAPERS.rglob("*.py"))


def is_public(dotted: str) -> bool:
    """Return whether a module, or each name of a chain from it, is exported where it is taken from."""
    owner: object = leftout
    for name in dotted.split(".")[1:]:
        if isinstance(owner, ModuleType):
            if name not in getattr(owner, "__all__", ()):
                return False
        elif name.startswith("_"):
            return False
        owner = getattr(owner, name, None)
    return True


def chains(tree: ast.AST) -> Iterator[str]:
    """Yield the attributes that are read from `lo`, as `leftout.kernels.ReLU`, and the beginnings of each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first: ast.expr = node
            while isinstance(first, ast.Attribute):
                first = first.value
            if isinstance(first, ast.Name) and first.id == "lo":
                yield f"leftout.{ast.unparse(node).removeprefix('lo.')}"


def private_names(tree: ast.AST) -> list[str]:
    """Return what a file takes from leftout that is not public."""
    private = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "leftout" and (alias.name, alias.asname) != ("leftout", "lo"):
                    private.append(f"import {alias.name}")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "leftout":
            assert node.module is not None
            exported = getattr(importlib.import_module(node.module), "__all__", ())
            private += [f"{node.module}.{alias.name}" for alias in node.names if alias.name not in exported]
    return private + [dotted for dotted in chains(tree) if not is_public(dotted)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PAPERS)))
def test_papers_take_public_names_only(path: Path) -> None:
    assert not private_names(ast.parse(path.read_text()))


@pytest.mark.parametrize(
    "source",
    [
        "import leftout",
        "import leftout.data",
        "from leftout.data.mixtures import mixture",
        "from leftout.data import load",
        "from leftout import core",
        "import leftout as lo\nlo.core.OptionError",
        "import leftout as lo\nlo.kernels.wide.ReLU(1)",
        "import leftout as lo\nlo.Examples._fingerprint",
    ],
)
def test_a_private_name_is_noticed(source: str) -> None:
    assert private_names(ast.parse(source))


def test_public_names_are_not_complained_about() -> None:
    source = "import leftout as lo\nfrom leftout.data import Sphere\nlo.kernels.ReLU(1)\nlo.bounds.upper"
    assert not private_names(ast.parse(source))

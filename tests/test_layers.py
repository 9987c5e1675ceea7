"""A folder is a layer, imports point down, and every name comes from the file that defines it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "leftout"
ORDER = ["dynamics", "attribution", "diagnostics", "curation", "sklearn_estimators", "storage"]
ORDER += ["cluster", "report", "planning", "audit", "cli"]
"""Layers in which each may import all below it; under them, three that never meet, on `core`."""
MIDDLE = ("data", "kernels", "solvers")
BELOW = {
    "core": set(),
    **{name: {"core"} for name in MIDDLE},
    **{name: {"core", *MIDDLE, *ORDER[:place]} for place, name in enumerate(ORDER)},
}
FILES = sorted(PACKAGE.glob("*/**/*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def internal_imports(tree: ast.AST) -> list[tuple[str, list[str]]]:
    """Return each imported module of the package and the names taken from it."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names if alias.name.startswith("leftout")]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            if (node.module or "").split(".")[0] == "leftout":
                found.append((node.module, [alias.name for alias in node.names]))
    return found


def layers_of(tree: ast.AST) -> set[str]:
    """Return the layers that a file imports from."""
    return {module.partition(".")[2].split(".")[0] for module, _ in internal_imports(tree)}


def wrong_sources(tree: ast.AST) -> list[str]:
    """Return the imports that do not name the file that defines what they take."""
    wrong = []
    for module, names in internal_imports(tree):
        path = PACKAGE.joinpath(*module.split(".")[1:])
        if path.with_suffix(".py").is_file() and names:
            continue
        # `from leftout.kernels import assemble` takes a file, which is as good.
        if not names or not all((path / f"{name}.py").is_file() for name in names):
            wrong.append(f"{module}: {', '.join(names)}")
    return wrong


def lazy_imports(tree: ast.AST) -> list[int]:
    """Return the lines of imports of the package inside functions."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    inside = [node for node in ast.walk(tree) if isinstance(node, functions)]
    return [
        inner.lineno
        for node in inside
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom) and internal_imports(inner)
    ]


def test_there_is_something_to_look_at() -> None:
    assert len(FILES) > 30
    assert {path.relative_to(PACKAGE).parts[0] for path in FILES} <= set(BELOW)


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.AST]:
    """Return every file, read once."""
    return {path: ast.parse(path.read_text()) for path in FILES}


def test_imports_point_down(trees) -> None:
    wrong = {}
    for path, tree in trees.items():
        here = path.relative_to(PACKAGE).parts[0]
        wrong[name_of(path)] = sorted(layers_of(tree) - {here, *BELOW[here]})
    assert not {name: layers for name, layers in wrong.items() if layers}, "imports of a layer that is above"


def test_names_come_from_the_file_that_defines_them_at_the_top(trees) -> None:
    # An `__init__` is a shop window: nothing inside the house takes from it.
    inside = {name_of(path): tree for path, tree in trees.items() if path.name != "__init__.py"}
    assert not {name: wrong for name, tree in inside.items() if (wrong := wrong_sources(tree))}
    lazy = {name: lines for name, tree in inside.items() if (lines := lazy_imports(tree))}
    assert not lazy, "a lazy import is a layer error in hiding"


@pytest.mark.parametrize(
    "source",
    [
        "import leftout",
        "from leftout import fit",
        "from leftout.kernels import ReLU",
        "import leftout.core.checks",
    ],
)
def test_an_import_from_a_window_is_noticed(source: str) -> None:
    assert wrong_sources(ast.parse(source))


def test_what_is_forbidden_is_noticed() -> None:
    tree = ast.parse("def f():\n    from leftout.report.report import write")
    assert layers_of(tree) == {"report"}
    assert lazy_imports(tree) == [2]
    fine = ast.parse("from leftout.core.checks import check_rows\nfrom leftout.kernels import assemble")
    assert not wrong_sources(fine)
    assert not lazy_imports(fine)
    with pytest.raises(AssertionError, match="a relative import"):
        internal_imports(ast.parse("from . import checks"))

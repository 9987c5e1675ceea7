"""A comparison whose result nobody reads is a test that cannot fail."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SILENT = {"allclose", "isclose", "equal", "array_equal", "array_equiv", "is_close"}


def thrown_away(source: str) -> list[int]:
    """Return the lines on which a comparison, or its result, goes nowhere."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Expr):
            continue
        value = node.value
        called = isinstance(value, ast.Call) and ast.unparse(value.func).rsplit(".", 1)[-1]
        if called in SILENT or isinstance(value, ast.Compare):
            lines.append(node.lineno)
    return lines


def test_no_comparison_is_thrown_away() -> None:
    files = sorted(TESTS.rglob("*.py"))
    assert len(files) > 200
    assert not {str(path): lines for path in files if (lines := thrown_away(path.read_text()))}


@pytest.mark.parametrize(
    "line", ["torch.allclose(a, b)", "np.array_equal(a, b)", "equal(a, b)", "a == b", "a.b < 3"]
)
def test_a_thrown_away_comparison_is_noticed(line: str) -> None:
    assert thrown_away(f"def test():\n    {line}") == [2]
    assert thrown_away(f"def test():\n    assert {line}") == []

"""Names are the field's words: how many functions hold a filler instead, counted over the whole package.

`python tests/test_names.py [PART_OF_A_PATH]` lists what is counted, file by file.
"""

import ast
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
FILLERS = {"one", "found", "some", "said", "part", "few", "own", "left", "whole"}
GENERIC = {
    "item", "items", "res", "result", "results", "value", "val", "thing", "things", "obj", "object", "data",
    "entry", "entries", "element", "elem", "stuff", "tmp", "temp", "info", "ret", "made", "kept", "known",
    "given", "asked", "taken", "seen", "each", "other", "others", "parts", "piece", "what", "where", "out",
}  # fmt: skip
IRREGULAR = {
    *(
        "begun",
        "bound",
        "broken",
        "brought",
        "built",
        "chosen",
        "cut",
        "done",
        "drawn",
        "found",
        "gone",
        "given",
    ),
    *("held", "hidden", "kept", "known", "left", "let", "lost", "made", "met", "paid", "put", "read", "run"),
    *(
        "said",
        "seen",
        "sent",
        "shown",
        "sold",
        "spent",
        "split",
        "spread",
        "taken",
        "taught",
        "thought",
        "told",
    ),
    *("understood", "won", "written"),
}
FAMILY_MEMBERS = {"panel", "publication"}
"""Names that every file of a family has: the common parts of a panel or an exhibit."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(place: str = "") -> Iterator[tuple[Path, Function]]:
    """Yield every function of the package whose path holds `place`."""
    for path in sorted(SOURCE.rglob("*.py")):
        if place in str(path.relative_to(SOURCE)):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, Function):
                    yield path, node


def locals_of(function: Function) -> set[str]:
    """Return the names that a function binds: arguments, assignments, loops, comprehensions."""
    names = set()
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def functions_with(words: set[str]) -> list[str]:
    """Return the functions of the package that have a local by one of these names."""
    return [f"{path.name}:{f.name}" for path, f, names in every_function() if names & words]


def is_bare_participle(name: str) -> bool:
    """Return whether a function is named by one participle and nothing else."""
    word = name.strip("_")
    return "_" not in word and (bool(re.search(r"..(ed|ing)$", word)) or word in IRREGULAR)


@cache
def public_definitions() -> dict[str, set[str]]:
    """Return the files of leftout that define each public function or class at their top."""
    homes: dict[str, set[str]] = defaultdict(set)
    for path in sorted((SOURCE / "leftout").rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].add(str(path.relative_to(SOURCE)))
    return homes


def defined_twice() -> dict[str, set[str]]:
    """Return public names with several homes, but for those that every member of a family has."""
    return {
        name: homes
        for name, homes in public_definitions().items()
        if len(homes) > 1 and name not in FAMILY_MEMBERS
    }


@cache
def every_function() -> list[tuple[Path, Function, set[str]]]:
    """Return every function of the package and its locals; one process reads them, when it runs these."""
    return [(path, function, locals_of(function)) for path, function in functions()]


def test_few_functions_have_a_local_called_by_a_filler() -> None:
    held = functions_with(FILLERS)
    assert len(held) < 0.02 * len(every_function()), held


@pytest.mark.parametrize("word", sorted(GENERIC))
def test_no_generic_word_takes_their_place(word: str) -> None:
    held = functions_with({word})
    assert len(held) < 0.02 * len(every_function()), held


def test_few_functions_are_named_by_a_bare_participle() -> None:
    named = [f"{path.name}:{f.name}" for path, f, _ in every_function() if is_bare_participle(f.name)]
    assert len(named) < 0.01 * len(every_function()), named


def test_few_public_names_have_two_homes() -> None:
    assert len(defined_twice()) < 0.03 * len(public_definitions()), defined_twice()


def test_the_formatter_is_hardly_ever_switched_off() -> None:
    assert sum(path.read_text().count("# fmt: skip") for path in SOURCE.rglob("*.py")) < 20


def test_what_is_counted_is_noticed() -> None:
    tree = ast.parse("def ranked(some):\n    found = [one for one in some]\n    return found")
    (function,) = tree.body
    assert isinstance(function, Function)
    assert locals_of(function) == {"some", "found", "one"}
    assert is_bare_participle("_made")
    assert not is_bare_participle("sort_candidates")
    assert not is_bare_participle("measure")


if __name__ == "__main__":
    counted = list(functions(sys.argv[1] if len(sys.argv) > 1 else ""))
    generic: Counter[str] = Counter()
    for path, function in counted:
        fillers = sorted(locals_of(function) & FILLERS)
        generic.update(locals_of(function) & GENERIC)
        participle = ["named by a participle"] if is_bare_participle(function.name) else []
        if fillers or participle:
            place = f"{path.relative_to(SOURCE)}:{function.lineno}"
            print(f"{place} {function.name}: {', '.join(fillers + participle)}")
    print(f"{len(counted)} functions; generic words in each:", generic.most_common())
    print("public names with two homes:", {k: sorted(v) for k, v in defined_twice().items()})

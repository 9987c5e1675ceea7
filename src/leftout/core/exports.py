"""Public names that load their module when first used.

A package lists its public names once, as imports that only type checkers see:

    if TYPE_CHECKING:
        from leftout.dynamics.fit import fit as fit
    else:
        __all__, __getattr__, __dir__ = exports(__spec__)

Importing the package then loads none of those modules.
"""

import ast
import importlib
import sys
from collections.abc import Callable, Iterable
from importlib.machinery import ModuleSpec
from typing import Any


def _meant(name: str, names: Iterable[str]) -> str:
    """Return the question whether another name was meant, or ""."""
    if name.startswith("_"):  # asked for by programs, not typed by people
        return ""
    from difflib import get_close_matches  # here, as `import leftout` should stay light

    written = {known.lower(): known for known in names}
    near = get_close_matches(name.lower(), written, n=1, cutoff=0.75)
    return f"; did you mean {written[near[0]]!r}?" if near else ""


def exports(spec: ModuleSpec) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__all__`, `__getattr__` and `__dir__` of a package, from its imports under TYPE_CHECKING."""
    code = spec.loader.get_source(spec.name)  # type: ignore[union-attr]
    homes: dict[str, tuple[str, str]] = {}
    for node in ast.parse(code).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for line in node.body:
                assert isinstance(line, ast.ImportFrom), "public names are imported with `from`"
                assert line.module is not None, "public names are imported from the full name of their module"
                homes |= {alias.asname or alias.name: (line.module, alias.name) for alias in line.names}

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {spec.name!r} has no attribute {name!r}{_meant(name, homes)}")
        module, attribute = homes[name]
        source = importlib.import_module(module)
        if module != spec.name and hasattr(source, attribute):
            public = getattr(source, attribute)
        else:
            public = importlib.import_module(f"{module}.{attribute}")  # a public module
        setattr(sys.modules[spec.name], name, public)
        return public

    names = sorted(homes)
    return names, load, lambda: sorted({*vars(sys.modules[spec.name]), *names})

"""What `docs/architecture.md` says of files, names and layers is there in the code."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "leftout"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
QUOTED = sorted(set(re.findall(r"`([^`\n]+)`", PAGE)))
ENDINGS = (".py", ".md", ".html", ".toml", ".txt", "/")
PATHS = [text for text in QUOTED if text.endswith(ENDINGS) and " " not in text]
NAMES_OF_FILES = re.findall(r"`([A-Za-z_]+)`(?:, | and `[A-Za-z_]+`)? (?:of|in)\s+`([a-z_/]+\.py)`", PAGE)


def place_of(path: str) -> Path:
    """Return where a path of the page lies: in the repository, else in the package."""
    return ROOT / path if (ROOT / path).exists() else PACKAGE / path


def test_the_page_names_many_files() -> None:
    assert len(PATHS) > 90
    assert len(NAMES_OF_FILES) > 20


@pytest.mark.parametrize("path", PATHS)
def test_every_path_exists(path: str) -> None:
    if path == "__init__.py":
        return  # any of them
    place = place_of(path)
    assert place.is_dir() if path.endswith("/") else place.is_file()


@pytest.mark.parametrize(("name", "path"), NAMES_OF_FILES)
def test_every_name_is_in_its_file(name: str, path: str) -> None:
    assert re.search(rf"\b{name}\b", place_of(path).read_text(encoding="utf-8"))


def test_the_layers_are_those_of_the_linter() -> None:
    picture = re.search(r"## The layers\n.*?```text\n(.*?)```", PAGE, re.DOTALL)
    assert picture is not None
    shown = [re.split(r"\s{2,}", line)[0] for line in picture[1].splitlines()]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if "containers" not in contract)
    assert shown == [layer.replace("leftout.", "") for layer in layers]

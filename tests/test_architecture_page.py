"""What `docs/architecture.md` says of files, names and layers is there in the code."""

import re
import tomllib
from pathlib import Path

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


def test_every_path_exists() -> None:
    folders = [path for path in PATHS if path.endswith("/")]
    assert not [path for path in folders if not place_of(path).is_dir()]
    assert not [path for path in PATHS if path not in folders and not place_of(path).is_file()]


def test_every_name_is_in_its_file() -> None:
    texts = {path: place_of(path).read_text(encoding="utf-8") for _, path in NAMES_OF_FILES}
    assert not [pair for pair in NAMES_OF_FILES if not re.search(rf"\b{pair[0]}\b", texts[pair[1]])]


def test_the_layers_are_those_of_the_linter() -> None:
    picture = re.search(r"## The layers\n.*?```text\n(.*?)```", PAGE, re.DOTALL)
    assert picture is not None
    shown = [re.split(r"\s{2,}", line)[0] for line in picture[1].splitlines()]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if "containers" not in contract)
    assert shown == [layer.replace("leftout.", "") for layer in layers]

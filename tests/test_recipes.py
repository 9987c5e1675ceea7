"""Do the recipes for other tools run, where these are installed?"""

import doctest
import importlib
from pathlib import Path

import pytest

RECIPES = Path(__file__).parent.parent / "docs" / "recipes"
PACKAGES = {"cleanlab": "cleanlab.datalab.datalab", "spotlight": "renumics.spotlight", "fiftyone": "fiftyone"}
"""What each page needs beside leftout."""


def test_every_recipe_says_what_it_needs() -> None:
    assert {page.stem for page in RECIPES.glob("*.md")} == set(PACKAGES)


@pytest.mark.parametrize("page", PACKAGES)
def test_a_recipe_runs(page: str) -> None:
    try:
        package = importlib.import_module(PACKAGES[page])
        if page == "fiftyone":
            package.list_datasets()  # needs its database
    except Exception as error:  # whatever a package that is not whole raises
        pytest.skip(f"docs/recipes/{page}.md was not run: {type(error).__name__}: {error}")
    outcome = doctest.testfile(str(RECIPES / f"{page}.md"), module_relative=False)
    assert outcome.attempted > 5
    assert outcome.failed == 0

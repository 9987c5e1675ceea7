import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leftout.core import blocks as module
from leftout.core.blocks import blocks, check_fits, memory_budget
from leftout.core.errors import MemoryBudgetError, OptionError


@given(st.integers(0, 500), st.integers(1, 100))
def test_blocks_cover_everything_once_in_order_and_none_is_longer(n, size) -> None:
    parts = list(blocks(n, size))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(n))
    assert all(part.stop - part.start <= size for part in parts)
    assert all(part.stop - part.start == size for part in parts[:-1])


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("4GB", 4 * 10**9),
        ("4 gb", 4 * 10**9),
        ("512MiB", 512 * 2**20),
        ("1.5 GiB", 3 * 2**29),
        ("2T", 2 * 10**12),
        ("1e9", 10**9),
        (" 7 B ", 7),
        (123, 123),
        (1e6, 10**6),
    ],
)
def test_sizes_are_read_as_people_write_them(text, size) -> None:
    assert memory_budget(text) == size


@pytest.mark.parametrize("text", ["", "GB", "4XB", "four GB", "4GBGB", "4 k k", "1,5GB"])
def test_a_text_that_is_no_size_is_refused(text) -> None:
    words = re.escape(
        f"`memory` must be a number of bytes or a size such as '4GB' or '512MiB'; got {text!r}."
    )
    with pytest.raises(OptionError, match=words):
        memory_budget(text)


@pytest.mark.parametrize("size", [0, -5, "0GB", "-1kB", float("nan"), float("inf"), "nan", "inf"])
def test_a_size_that_is_not_positive_is_refused(size) -> None:
    with pytest.raises(OptionError, match=re.escape(f"`memory` must be positive; got {size!r}.")):
        memory_budget(size)


def test_if_nothing_is_said_it_is_sixty_percent_of_what_is_free(monkeypatch) -> None:
    monkeypatch.setattr(module, "free_memory", lambda device: 1000)
    assert memory_budget(None) == 600


def test_what_does_not_fit_is_refused_with_advice() -> None:
    check_fits("A thing", 100, 100, advice="…")
    words = re.escape("A thing needs 2.5 GB, more than the budget of 1 MB. Take less.")
    with pytest.raises(MemoryBudgetError, match=words):
        check_fits("A thing", 2_500_000_000, 10**6, advice="Take less.")

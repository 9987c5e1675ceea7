import io
import sys

import pytest

from leftout.core import progress
from leftout.core.progress import with_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_everything_is_passed_on_in_order() -> None:
    assert list(with_progress([3, 1, 2], what="numbers")) == [3, 1, 2]
    assert list(with_progress(iter("ab"), what="letters", total=2)) == ["a", "b"]
    assert list(with_progress([], what="nothing")) == []


def test_nothing_is_written_where_nobody_looks(capsys) -> None:
    list(with_progress(range(3), what="rows"))
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_short_work_is_silent_on_a_terminal_too(monkeypatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    assert list(with_progress(range(5), what="rows")) == list(range(5))
    assert screen.getvalue() == ""


def test_long_work_shows_a_bar_on_stderr_and_takes_it_away(monkeypatch, capsys) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "PATIENCE", -1.0)
    assert list(with_progress(range(5), what="rows", total=5)) == list(range(5))
    assert "rows" in screen.getvalue()
    assert capsys.readouterr().out == ""


def test_a_loop_left_early_stops_its_bar(monkeypatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "PATIENCE", -1.0)
    items = with_progress(range(5), what="rows")
    next(items)
    items.close()
    with pytest.raises(StopIteration):
        next(items)

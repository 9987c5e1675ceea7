"""Tables that a spreadsheet opens run nothing, and programs read back what was written."""

import csv

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leftout.core.errors import OptionError, StoreError
from leftout.storage.csv_table import check_free, original_cell, save_csv, shown_cell, write_csv, write_new

RUN_BY_SPREADSHEETS = (
    "=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "=cmd|' /C calc'!A0", "＝1+1",
    "-", "+", "-inf+1",
    "-2+3+cmd|' /C calc'!D2", "'=1",
)  # fmt: skip
ORDINARY = (
    "",
    "seven",
    "digits/0003",
    "-1",
    "+1",
    "-1.5e-3",
    "-.5",
    "1e5",
    "-inf",
    "nan",
    "007",
    "'quoted'",
    "it's",
    "a=b",
)


@pytest.mark.parametrize("text", RUN_BY_SPREADSHEETS)
def test_a_cell_that_would_be_run_is_text_and_comes_back(text) -> None:
    assert shown_cell(text) == "'" + text
    assert original_cell(shown_cell(text)) == text


@pytest.mark.parametrize("text", ORDINARY)
def test_an_ordinary_cell_stays_as_it_is(text) -> None:
    assert shown_cell(text) == original_cell(text) == text


@given(st.text(st.sampled_from("'=+-@\t\ra1.e"), max_size=6))
def test_every_text_comes_back_from_its_cell(text) -> None:
    assert original_cell(shown_cell(text)) == text
    assert shown_cell(text)[:1] not in tuple("=@\t\r")


def cells_of(path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_a_table_of_ordinary_ids_and_names_keeps_its_bytes(tmp_path) -> None:
    write_csv(tmp_path / "table.csv", ("id", "label", "margin"), [("a", "-1", -0.5), ("b,c", "+1", "-1e-3")])
    assert (tmp_path / "table.csv").read_bytes() == b'id,label,margin\na,-1,-0.5\n"b,c",+1,-1e-3\n'


def test_an_id_stays_exact_and_stands_beside_as_text_for_people(tmp_path) -> None:
    write_csv(tmp_path / "table.csv", ("id", "label"), [("=1+1", "@seven"), ("b", "eight")])
    assert cells_of(tmp_path / "table.csv") == [
        ["id", "label", "id_shown"],
        ["=1+1", "'@seven", "'=1+1"],
        ["b", "eight", "b"],
    ]


def test_a_table_without_ids_has_no_column_of_them(tmp_path) -> None:
    write_csv(tmp_path / "table.csv", ("name", "n"), [("=1+1", 3)])
    assert cells_of(tmp_path / "table.csv") == [["name", "n"], ["'=1+1", "3"]]


def test_a_place_that_is_taken_is_refused(tmp_path) -> None:
    (tmp_path / "table.csv").touch()
    with pytest.raises(OptionError, match="exists; choose another"):
        check_free(tmp_path / "table.csv", ".csv")


def test_a_result_of_another_process_is_neither_overwritten_nor_mixed_with_ours(tmp_path) -> None:
    path = tmp_path / "table.csv"
    with write_new(path) as unfinished:
        unfinished.write_text("theirs")
        with pytest.raises(StoreError, match=r"table\.csv' is being written by process"):
            save_csv(path, ("id",), [("ours",)])
    with pytest.raises(OptionError, match="exists; choose another"):
        save_csv(path, ("id",), [("ours",)])
    assert path.read_text() == "theirs"
    assert [member.name for member in tmp_path.iterdir()] == ["table.csv"]


def test_pandas_reads_the_exact_ids(tmp_path) -> None:
    write_csv(tmp_path / "table.csv", ("id", "label"), [(text, "seven") for text in RUN_BY_SPREADSHEETS])
    frame = pd.read_csv(tmp_path / "table.csv", dtype=str, keep_default_na=False)
    assert tuple(frame["id"]) == RUN_BY_SPREADSHEETS

"""Ids, dates, separators and decimal commas in tables as people have them: read, said, or refused."""

from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from leftout.core.errors import DataError, LeftoutError, OptionError
from leftout.data.columns import text_column
from leftout.data.dates import dates_of
from leftout.data.load import load

N = 24
DRAW = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "size": DRAW.normal(size=N).round(3),
        "count": DRAW.integers(0, 9, N),
        "kind": np.array(["a", "b"])[np.arange(N) % 2],
    }
)
SENTENCES = [f"the {word} fox number {i} jumps over it" for i, word in enumerate(["red", "blue"] * (N // 2))]


def read(data, **options):
    return load(data, **{"target": "kind", "normalise": None} | options)


def notes(data, **options):
    return read(data, **options)[0].preparation["notes"]


IDS = {
    "texts": [f"user-{row:x}" for row in range(N)],
    "numbers from 0": list(range(N)),
    "numbers from 17, in another order": (DRAW.permutation(N) + 17).tolist(),
    "integers beyond double precision": [2**60 + 3 * row for row in range(N)],
    "codes": [f"{row:03}" for row in range(N)],
}


@pytest.mark.parametrize("cells", IDS.values(), ids=list(IDS))
def test_a_column_that_names_rows_names_them_and_is_no_feature(given, cells) -> None:
    frame = FRAME.assign(user=cells)
    train, query = read(given(frame))
    assert train.columns == ("size", "count")
    for part in (train, query):
        rows = [[str(cell) for cell in cells].index(name) for name in part.ids]
        assert np.array_equal(part.inputs.numpy(), frame[["size", "count"]].to_numpy(float)[rows])
    assert train.preparation["named_by"] == "user"
    (note,) = train.preparation["notes"]
    assert note.startswith("rows are named by 'user', which has a different text or running number in each")
    assert "--columns" in note


def test_columns_by_name_are_features_whatever_they_hold(given) -> None:
    data = given(FRAME.assign(number=np.arange(N)))
    train, _ = read(data, columns=["number", "size"])
    assert train.columns == ("number", "size")
    assert train.preparation["named_by"] is None
    assert train.ids[0].startswith("row ")
    # A table that has nothing else is predicted from what it has.
    assert read(given(FRAME[["kind"]].assign(number=np.arange(N))))[0].columns == ("number",)


def test_two_columns_that_name_rows_are_no_features_and_name_none(given) -> None:
    train, _ = read(given(FRAME.assign(user=IDS["texts"], number=np.arange(N))))
    assert train.columns == ("size", "count")
    assert (train.preparation["named_by"], train.ids[0][:4]) == (None, "row ")
    (note,) = train.preparation["notes"]
    assert note.startswith("'user', 'number' hold a different text or running number in every row")
    with_id, _ = read(given(FRAME.assign(user=IDS["texts"], id=[f"x{i}" for i in range(N)])))
    assert with_id.ids[0].startswith("x")
    assert with_id.columns == ("size", "count")


@pytest.mark.parametrize(
    "cells",
    [
        [*range(N - 1), N + 5],  # with a gap
        [*range(N - 1), 0],  # one twice
        (DRAW.permutation(10 * N)[:N]).tolist(),
        DRAW.normal(size=N).tolist(),
        SENTENCES,
    ],
)
def test_measurements_and_sentences_name_no_rows(given, cells) -> None:
    train, _ = read(given(FRAME.assign(more=cells)))
    assert train.preparation["named_by"] is None
    assert "more" in train.columns


def test_few_rows_name_nothing() -> None:
    few = FRAME[:9].assign(number=range(9))
    assert "number" in read(few, n_query=1)[0].columns


def test_dropped_columns_are_not_there(given) -> None:
    data = given(FRAME.assign(user=IDS["texts"], split=["train"] * 20 + ["test"] * 4))
    train, query = read(data, drop=["user", "split", "count"])
    assert train.columns == ("size",)
    assert (len(query), train.ids[0][:4]) == (6, "row ")  # a quarter, by the seed
    assert read(data)[1].preparation["split"] == "of the source"
    assert (
        read(given(FRAME), target=None, drop=["kind"], task="regression")[0].preparation["target"] == "count"
    )
    with pytest.raises(
        OptionError, match=r"`drop` must name columns of .*; got 'sise'. Did you mean 'size'\?"
    ):
        read(data, drop=["sise"])
    with pytest.raises(
        OptionError, match=r"`target` must be a column .*; got 'Kind '. Did you mean 'kind'\?"
    ):
        read(data, target="Kind ")
    with pytest.raises(OptionError, match=r"`columns` must name .*\. Did you mean 'count'\?"):
        read(data, columns=["counts"])
    with pytest.raises(OptionError, match="`target` must be a column"):
        read(data, drop=["kind"])
    for option in ({"target": 3}, {"columns": [3]}, {"drop": [3]}):
        with pytest.raises(OptionError, match=r"must .*column"):
            read(data, **option)


# Dates

DAYS = [datetime(2023, 12, 20) + timedelta(days=int(d)) for d in DRAW.integers(0, 400, N)]
DAYS[0], DAYS[1] = datetime(2024, 2, 29), datetime(2024, 5, 31)


def rows_of(data, part):
    """Return the rows of DAYS by the ids, which count from 0, from 1, or after a line of names."""
    first = 0 if isinstance(data, pd.DataFrame) else 2 if str(data).endswith("csv") else 1
    return [int(name.split()[1]) - first for name in part.ids]


def days_since_first(data, train, part):
    """Return days since the earliest training row."""
    first = min(DAYS[row] for row in rows_of(data, train))
    return [(DAYS[row] - first) / timedelta(days=1) for row in rows_of(data, part)]


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_moments_of_a_frame_are_days_since_the_first_training_row(given, zone) -> None:
    moments = pd.Series(DAYS).dt.tz_localize("UTC").dt.tz_convert(zone) if zone else pd.Series(DAYS)
    data = given(FRAME.assign(day=moments))
    train, query = read(data)
    for part in (train, query):
        assert part.inputs[:, -1].tolist() == days_since_first(data, train, part)
        assert [row[-1][:10] for row in part.table] == [str(DAYS[row])[:10] for row in rows_of(data, part)]
    said = "dates became days since the first one in the training rows: 'day' ("
    assert any(note.startswith(said) for note in train.preparation["notes"])


FORMS = ("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%m-%d-%Y", "%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize("form", FORMS)
def test_dates_in_text_have_one_meaning(tmp_path, form) -> None:
    frame = FRAME.assign(day=[day.strftime(form) for day in DAYS])
    frame.to_csv(tmp_path / "t.csv", index=False)
    train, query = read(tmp_path / "t.csv")
    for part in (train, query):
        assert part.inputs[:, -1].tolist() == days_since_first("t.csv", train, part)
    assert any(note.startswith("read as dates (") for note in train.preparation["notes"])


@pytest.mark.parametrize(
    "cells", [[day.date() for day in DAYS], list(DAYS), [str(day.date()) for day in DAYS]]
)
def test_days_are_days_in_every_form_of_a_frame(given, cells) -> None:
    data = given(FRAME.assign(day=pd.Series(cells, dtype=object)))
    train, query = read(data)
    for part in (train, query):
        assert part.inputs[:, -1].tolist() == days_since_first(data, train, part)


def test_long_cells_have_short_names(given) -> None:
    frame = FRAME.assign(long=["w " * 10_000, "v"] * 12)
    train, _ = read(given(frame))
    assert all(len(name) < 200 for name in train.preparation["input_columns"])
    mixed = [datetime(2024, 1, 1), *pd.date_range("2024", periods=N - 1, tz="UTC")]
    with pytest.raises(DataError, match="must hold dates of one kind"):
        read(FRAME.assign(day=pd.Series(mixed, dtype=object)))


def test_what_queries_hold_does_not_move_the_days(tmp_path) -> None:
    frame = FRAME.assign(day=DAYS, split=["train"] * 20 + ["test"] * 4)
    before, _ = read(frame)
    frame.loc[22, "day"] = datetime(1970, 1, 1)
    assert np.array_equal(read(frame)[0].inputs.numpy(), before.inputs.numpy())


def test_a_missing_date_is_the_median_with_a_flag(given) -> None:
    frame = FRAME.assign(
        day=pd.Series(DAYS).mask([row in (3, 9) for row in range(N)]), split=["train"] * 20 + ["test"] * 4
    )
    train, _ = read(given(frame))
    assert train.preparation["input_columns"] == ["size", "count", "day", "day is missing"]
    present = train.inputs[train.inputs[:, -1] == 0][:, -2]
    assert train.inputs[train.inputs[:, -1] == 1][:, -2].tolist() == [float(np.median(present.numpy()))] * 2
    assert [row[-1] for row in train.table].count("missing") == 2


@pytest.mark.parametrize(
    ("cells", "match"),
    [
        (["01/02/2024", "03/04/2024"], "as day, month, year or as month, day, year, such as '01/02/2024'"),
        (["1-2-2024", "3-4-2024"], "dates of one meaning"),
        (["2024-01-31T10:00+02:00", "2024-02-01 10:00"], "times of UTC where no offset stands or as"),
        (["2024-01-31"] * 23 + ["soon"], "holds dates, and text in 1 of 24 rows, such as 'soon'"),
        (['"1,234"', '"2,500"'], "'day' holds '1,234', where the mark may be between thousands or before"),
        (['"1.234,5"', '"22.500,0"'], "must have numbers of one meaning"),
        (["1'234", "22'500.75"], "must have numbers of one meaning"),
    ],
)  # fmt: skip
def test_cells_that_may_mean_two_things_are_refused_with_what_to_do(tmp_path, cells, match) -> None:
    rows = "".join(f"{row}.5,{cells[row % len(cells)]},{'ab'[row % 2]}\n" for row in range(N))
    (tmp_path / "t.csv").write_text("size,day,kind\n" + rows)
    with pytest.raises(DataError, match=match):
        read(tmp_path / "t.csv")
    assert read(tmp_path / "t.csv", drop=["day"])[0].columns == ("size",)


def test_the_same_day_in_every_reading_has_one_meaning() -> None:
    assert dates_of(["01/01/2024", "02/02/2024"]).orders == ("day, month, year",)


def test_points_stand_between_day_and_month_and_never_the_other_way() -> None:
    found = dates_of(["01.02.2024", "03.04.2024"])
    assert found.orders == ("day, month, year",)
    assert found.values.astype("datetime64[D]").astype(str).tolist() == ["2024-02-01", "2024-04-03"]
    assert dates_of(["31.02.2024"]) is None
    assert dates_of(["2024-02-30"]) is None
    assert dates_of(["2024-01-01T00:00:00+02:00"]).values[0] == np.datetime64("2023-12-31T22:00")


def test_dates_to_predict_are_classes(given) -> None:
    days = [DAYS[row % 2] for row in range(N)]
    train, _ = read(given(FRAME.assign(day=days)), target="day", drop=["kind"])
    assert train.classes == ("2024-02-29", "2024-05-31")


# Separators, decimals, encodings

MARKS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_separator_gives_the_same_numbers(tmp_path, mark, decimal, declared, encoding) -> None:
    if mark == "," and decimal == ",":
        pytest.skip("nobody can write so")
    path = tmp_path / "t.csv"
    frame = FRAME.assign(größe=DRAW.normal(size=N), note="a b", kind=FRAME["kind"])[["größe", *FRAME.columns]]
    text = frame.to_csv(index=False, sep=mark, decimal=decimal, lineterminator="\r\n")
    path.write_bytes(((f"sep={mark}\r\n" if declared else "") + text).encode(encoding))
    train, query = read(path)
    assert train.columns == ("größe", "size", "count")
    for part in (train, query):
        rows = [int(name.split()[1]) - 2 for name in part.ids]
        assert np.array_equal(part.inputs.numpy(), frame[["größe", "size", "count"]].to_numpy(float)[rows])
    said = train.preparation["notes"]
    assert (f"cells are separated by {MARKS[mark]}" in said) == (mark != ",")
    assert ("read as numbers with decimal commas: 'größe', 'size'" in said) == (decimal == ",")


def test_commas_within_cells_are_no_separators(tmp_path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a, b;kind\n" + "1,5;x\n2;y\n" * 10)
    assert read(path)[0].columns == ("a, b",)
    path.write_text("a,b;c,kind\n" + "1,2;3,x\n2,3;4,y\n" * 10)
    with pytest.raises(
        DataError, match=r"separated by commas or by semicolons: both .* a line sep=, \(or sep=;\)"
    ):
        read(path)
    path.write_text("sep=,\na,b;c,kind\n" + "1,2;3,x\n2,3;4,y\n" * 10)
    assert read(path)[0].columns == ("a", "b;c")
    path.write_text("sep=:\na:b\n")
    with pytest.raises(DataError, match="its first line says ':'"):
        read(path)


@pytest.mark.parametrize(
    ("cells", "values", "reading"),
    [
        (["5%", "12.5 %", ""], [5, 12.5], "numbers in %"),
        (["$5", "$ 7"], [5, 7], "numbers in $"),
        (["$5.00", "-$5.00", "$-5.50"], [5, -5, -5.5], "numbers in $"),
        (["-$5.00", "($5.00)", "+$ 2"], [-5, -5, 2], "numbers in $, in parentheses negative"),
        (["5 €", "-5 €", "(5 €)"], [5, -5, -5], "numbers in €, in parentheses negative"),
        (["5 €", "-7,5 €"], [5, -7.5], "numbers in € with decimal commas"),
    ],
)
def test_numbers_with_one_sign_beside_all_are_numbers(cells, values, reading) -> None:
    column = text_column("a", cells, comma_is_point=True)
    assert column.values[~column.gaps].tolist() == values
    assert column.reading == reading


@pytest.mark.parametrize(
    "cells",
    [
        ["5%", "7"],
        ["5%", "$7"],
        ["%", "%%"],
        ["5%", "7% off"],
        ["$1,234.5", "$7"],
        ["$5", "(-$5)"],
        ["$5", "($5"],
        ["(5)", "5"],
    ],
)
def test_other_signs_are_words(cells) -> None:
    assert text_column("a", cells).kind == "text"


def test_a_column_with_points_and_commas_is_no_number(tmp_path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a;b;kind\n" + "1,5;2;x\n2.5;3,5;y\n" * 10)
    with pytest.raises(DataError, match=r"'a' holds '1,5', where the mark"):
        read(path)
    assert read(path, columns=["b"])[0].inputs.unique().tolist() == [2.0, 3.5]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("a,kind\n".encode("utf-16-le"), "it holds a zero byte"),
        (b"\xff\xfe\x00\xd8", "must be UTF-8 text; byte"),
        ("a,kind\n1,x\n".encode("utf-16") + b"\x00", "must be UTF-8 text; byte"),
        ("a;kind\n1;\0\n".encode("utf-16"), "it holds a zero byte"),
        (b"sep=;\r\n", "it is empty"),
        (b"sep=;\r\na;kind\r\n1;x\r\n", "must hold|at least"),
    ],
)
def test_damaged_and_tiny_files_are_refused(tmp_path, content, match) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(LeftoutError, match=match):
        load(tmp_path / "t.csv")


def test_the_command_line_says_it_once_and_run_json_keeps_it(leftout, tmp_path) -> None:
    frame = FRAME.assign(user=IDS["texts"], size=FRAME["size"])
    frame.to_csv(tmp_path / "t.csv", index=False, sep=";", decimal=",")
    status, out, err = leftout("influence", "t.csv", "--target", "kind", "--drop", "count", "--top", "1")
    assert status == 0, err
    for words in (
        "cells are separated by semicolons",
        "read as numbers with decimal commas: 'size'",
        "rows are named by 'user'",
    ):
        assert out.count(words) == 1
    assert "user-" in out
    status, _, err = leftout("influence", "t.csv", "--target", "kimd")
    assert (status, "Did you mean 'kind'?" in err) == (2, True)


def test_ids_to_predict_are_refused_as_classes_are() -> None:
    frame = pd.DataFrame({"id": [f"u{i}" for i in range(N)], "split": ["train"] * 20 + ["test"] * 4})
    with pytest.raises(DataError, match="must have columns beside the target 'id'"):
        load(frame, target="id")
    with pytest.raises(DataError, match="must have a column to predict; it has 'id', 'split'"):
        load(frame)


@pytest.mark.parametrize(("numbers", "refused"), [(0.7, False), (0.9, True)])
def test_a_few_texts_among_numbers_are_slips_and_many_are_not(numbers, refused) -> None:
    cells = [f"{row}.5" if row < numbers * N else f"text {row % 2}" for row in range(N)]
    frame = FRAME.assign(mixed=cells)
    if refused:
        with pytest.raises(DataError, match="must have numbers or texts in a column, not both"):
            read(frame)
    else:
        read(frame)


@pytest.mark.parametrize(("alone", "left_out"), [(0.45, False), (0.55, True)])
def test_texts_of_which_most_stand_in_one_row_are_names(alone, left_out) -> None:
    cells = [f"own{row}" if row < alone * 100 else "ab"[row % 2] for row in range(100)]
    order = np.random.default_rng(0).permutation(100)
    frame = pd.DataFrame(
        {
            "size": np.arange(100) % 7 + 0.5,
            "text": np.array(cells)[order],
            "kind": ["a", "b"] * 50,
            "split": ["train"] * 100,
        }
    )
    asked = frame.iloc[:2].assign(split="test")
    assert (
        any("as names do" in note for note in notes(pd.concat([frame, asked], ignore_index=True))) is left_out
    )


def test_a_target_in_dollars_is_numbers_and_that_is_said(tmp_path) -> None:
    rows = [f"{i},{'-' * (i % 2)}${i}.50" for i in range(20)]
    (tmp_path / "t.csv").write_text("\n".join(["size,profit", *rows]))
    train, _ = read(tmp_path / "t.csv", target=None, n_query=5)
    assert "read as numbers in $: 'profit'" in train.preparation["notes"]
    want = [(-1) ** row * (row + 0.5) for row in train.source_rows.tolist()]
    assert train.encoding.in_target_units(train.targets)[:, 0].tolist() == pytest.approx(want)

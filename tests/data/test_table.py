import numpy as np
import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from leftout.core.errors import DataError, OptionError
from leftout.data import arrow_columns
from leftout.data.columns import text_column
from leftout.data.load import load

N = 12
FRAME = pd.DataFrame(
    {
        "length": np.linspace(1, 3, N),
        "count": np.arange(N) * 7 - 5,
        "ripe": np.arange(N) % 2 == 0,
        "kind": np.array(["apple", "<b>", "None"])[np.arange(N) % 3],
    }
)


def write(path, frame) -> None:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)


@pytest.fixture(params=[".csv", ".parquet"])
def path(request, tmp_path):
    return tmp_path / f"data{request.param}"


def of(path, frame=FRAME, **options):
    write(path, frame)
    return load(path, normalise=None, **options)


def refused(path, match, frame=None, error=DataError, **options) -> None:
    if frame is not None:
        write(path, frame)
    with pytest.raises(error, match=match):
        load(path, **options)


def rows_of(path, part) -> list[int]:
    """Return the frame's rows by the ids: in a .csv the line of names is row 1."""
    first = 2 if path.suffix == ".csv" else 1
    return [int(name.removeprefix("row ")) - first for name in part.ids]


def test_the_last_column_is_predicted_from_the_others(path) -> None:
    train, query = of(path)
    assert sorted(rows_of(path, train) + rows_of(path, query)) == list(range(N))
    for part in (train, query):
        rows = FRAME.iloc[rows_of(path, part)]
        features = rows[["length", "count", "ripe"]].to_numpy(dtype=float)
        assert np.array_equal(part.inputs.numpy(), features)
        assert np.array_equal(part.table, features)
        assert [part.classes[label] for label in part.labels] == rows["kind"].tolist()
    assert train.columns == ("length", "count", "ripe")
    assert train.classes == ("<b>", "None", "apple")
    assert train.preparation["target"] == "kind"
    assert train.preparation["format"] == path.suffix[1:]


def test_floats_are_predicted_as_numbers_and_integers_as_classes(path) -> None:
    train, _ = of(path, target="length", columns=["count"])
    assert train.classes is None
    raw = FRAME["length"].iloc[rows_of(path, train)].to_numpy()
    assert np.allclose(train.targets[:, 0].numpy() + raw.mean(), raw, rtol=0, atol=1e-15)
    assert train.columns == ("count",)
    frame = FRAME.assign(group=np.arange(N) % 2 + 8)
    assert of(path, frame, columns=["length"])[0].classes == ("8", "9")
    assert of(path, frame, target="ripe", columns=["length"])[0].classes == ("False", "True")


def test_the_table_keeps_raw_values_when_inputs_are_scaled(path) -> None:
    write(path, FRAME)
    train, _ = load(path, normalise="standard")
    assert np.array_equal(train.table[:, 1], FRAME["count"].iloc[rows_of(path, train)])
    assert float(train.inputs[:, 1].mean()) == pytest.approx(0, abs=1e-15)
    assert float(train.inputs[:, 1].std(correction=0)) == pytest.approx(1)
    assert train.preparation["of"] == "columns"


def test_columns_called_split_and_id_are_honoured(path) -> None:
    names = [f"fruit {number}" for number in range(N)]
    split = ["train"] * 8 + ["Val"] * 2 + ["test"] * 2
    frame = FRAME.assign(split=split, id=names)
    train, query = of(path, frame)
    assert train.ids == tuple(names[:8])
    assert query.ids == tuple(names[10:])
    assert train.columns == ("length", "count", "ripe")
    assert train.preparation["unused_splits"] == ["Val"]
    assert train.preparation["target"] == "kind"


def test_ids_that_repeat_are_refused_with_both_rows(path) -> None:
    rows = "row 2 and row 4" if path.suffix == ".csv" else "row 1 and row 3"
    frame = FRAME.assign(id=[5, 6, 5, *range(10, 19)])
    refused(path, f"different 'id' in every row; '5' is in {rows}", frame)


def test_a_target_that_is_missing_is_named_by_column_and_row(path) -> None:
    frame = FRAME.copy()
    frame.loc[3, "kind"] = None
    row = "row 5" if path.suffix == ".csv" else "row 4"
    refused(path, f"column 'kind' has none in {row}", frame)


def test_infinity_is_named_by_column_and_row(path) -> None:
    frame = FRAME.copy()
    frame.loc[3, "length"] = np.inf
    row = "row 5" if path.suffix == ".csv" else "row 4"
    refused(path, f"column 'length' has inf in {row}", frame)


def test_options_that_name_no_column_are_refused(path) -> None:
    refused(path, "`target` must be a column .*'kind'; got 'sort'", FRAME, OptionError, target="sort")
    refused(path, r"`columns` must name columns .*\['sort'\]", None, OptionError, columns=["sort"])
    refused(path, "`columns` must name columns", None, OptionError, columns=["kind"])
    refused(path, "`columns` must name columns", None, OptionError, columns=["count", "count"])
    refused(path, "`columns` must name columns", None, OptionError, columns=[])


def test_a_table_of_one_column_is_refused(path) -> None:
    refused(path, "columns beside the target 'kind'; it has none", FRAME[["kind"]])
    refused(path, "must have a column to predict; it has 'id'", pd.DataFrame({"id": [1, 2]}))


def test_an_unknown_split_is_refused(path) -> None:
    refused(path, "name its splits .* got 'fold1'", FRAME.assign(split="fold1"))


def test_an_empty_table_is_refused(path) -> None:
    refused(path, "there are none|it has", FRAME.iloc[:0])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "a first line that names its columns; it is empty"),
        ("\n\n", "a first line that names its columns; it is empty"),
        ("a,b\n", "rows below the names of its columns; there are none"),
        ("1,2.5\n3,4\n", "it holds only numbers. Add a line of names"),
        ("a;b\n1;2\n3\n", "2 cells in every row, as its first line; row 3 has 1"),
        (",a\n1,2\n", "must name every column; column 1 of 2 has no name"),
        ("a,b,a\n1,2,3\n", "must name each column once; 'a' is there twice"),
        ("a,b\n1,2\n\n3\n", "2 cells in every row, as its first line; row 4 has 1"),
        ("a,b\n1,2,3\n", "row 2 has 3"),
        ('a,b\n1,"2\n', "must be text separated by commas; got"),
        ("a,b\n1,\x002\n", "it holds a zero byte"),
        ("a,b\n1," + "x" * 200_000 + "\n", "got field larger.*longer texts fit in a .parquet"),
        ("a,b\n" + "1.5,0.25\n2.5,0.25\n" * 10, "must hold targets that differ; all 15 .* have 0.25"),
        ("a,b\n1,x\n2,y\n", "got 2 and 0. Bring more rows"),
        ("a,b\n" + ",1\n,2\n" * 10, "none is left: 'a' .missing in every training row.*Name others"),
    ],
)
def test_text_that_is_no_table_is_refused(tmp_path, text, match) -> None:
    (tmp_path / "data.csv").write_text(text, newline="")
    refused(tmp_path / "data.csv", match)


def test_other_encodings_are_refused_and_a_byte_order_mark_is_not(tmp_path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes("größe,y\n1,2\n".encode("latin-1"))
    refused(path, "must be UTF-8 text; byte 2 is none")
    path.write_bytes(("a,y\n" + "1,2\n2,3\n" * 8).encode("utf-8-sig"))
    assert load(path)[0].columns == ("a",)


def test_rows_are_counted_as_a_spreadsheet_counts_them(tmp_path) -> None:
    path = tmp_path / "data.csv"
    path.write_text('a,y\n1,"two\nlines"\n\n' + "1,x\n" * 5 + "1,two\n" * 5 + '2,"two\nlines"\n' * 3)
    train, query = load(path)
    rows = sorted(int(name.split()[1]) for name in train.ids + query.ids)
    assert rows == [2, *range(4, 17)]


@pytest.mark.parametrize(
    ("cells", "kind", "values", "missing"),
    [
        (["1", " -2", "+3"], "integer", [1, -2, 3], None),
        (["1", "2.5", ".5e-3"], "number", [1, 2.5, 0.0005], None),
        (["1", "inf", "-Infinity"], "number", [1, np.inf, -np.inf], None),
        (["true", "False", "TRUE"], "truth", [True, False, True], None),
        (["1", "NA", "2"], "integer", [1, 0, 2], 1),
        (["1.5", "?", "nan"], "number", [1.5, 0, 0], 1),
        (["none", "some", "NA"], "text", ["none", "some", "NA"], None),
        (["a", "", "b"], "text", ["a", "", "b"], 1),
        (["", ""], "text", ["", ""], 0),
        (["1_000", "2"], "text", ["1_000", "2"], None),
        (["1" * 19, "2"], "integer", [int("1" * 19), 2], None),
        (["٣", "4"], "text", ["٣", "4"], None),
    ],
)
def test_a_column_of_texts_has_the_type_of_every_cell(cells, kind, values, missing) -> None:
    column = text_column("name", cells)
    assert column.kind == kind
    assert column.values.tolist() == values
    assert column.missing == missing


def test_numbers_in_text_are_read_to_the_last_digit(tmp_path) -> None:
    values = np.random.default_rng(0).normal(size=50) * 10.0 ** np.arange(-25, 25)
    of_text, _ = of(tmp_path / "a.csv", pd.DataFrame({"x": values, "y": values}))
    rows = rows_of(tmp_path / "a.csv", of_text)
    # pandas writes the shortest text that reads back as the same number.
    assert np.array_equal(of_text.inputs[:, 0].numpy(), values[rows])


def test_not_a_number_in_parquet_is_a_missing_value(tmp_path) -> None:
    table = pyarrow.table({"a": [1.0, float("nan")], "y": ["u", "v"]})
    parquet.write_table(table, tmp_path / "data.parquet")
    refused(tmp_path / "data.parquet", "column 'a' has none in row 2", target="a", task="regression")


def test_a_frame_with_an_index_and_categories_is_read(tmp_path) -> None:
    path = tmp_path / "data.parquet"
    frame = FRAME.assign(kind=FRAME["kind"].astype("category"))
    frame.index = pd.Index(np.arange(N)[::-1] * 3)
    train, _ = of(path, frame)
    assert "__index_level_0__" in parquet.read_schema(path).names
    assert train.columns == ("length", "count", "ripe")
    assert train.classes == ("<b>", "None", "apple")


def test_times_and_huge_numbers_are_refused(tmp_path) -> None:
    path = tmp_path / "data.parquet"
    frame = FRAME.assign(day=pd.to_timedelta(np.arange(N), unit="D"))
    refused(path, "`day` in .* must hold numbers or texts; its type is duration", frame)
    frame = FRAME.assign(big=np.full(N, 2**63, dtype=np.uint64))
    refused(path, r"`column big of .*` .* row 1 holds 9223372036854775808", frame[["big", "kind"]])


def test_large_class_numbers_are_not_rounded(path) -> None:
    frame = FRAME.assign(y=2**53 + np.arange(N) % 2)
    assert of(path, frame, columns=["length"])[0].classes == (str(2**53), str(2**53 + 1))


def test_column_names_twice_are_refused_in_parquet_too(tmp_path) -> None:
    table = pyarrow.Table.from_arrays([pyarrow.array([1.0, 2.0])] * 2, names=["a", "a"])
    parquet.write_table(table, tmp_path / "data.parquet")
    refused(tmp_path / "data.parquet", "must name each column once; 'a' is there twice")


def test_a_damaged_parquet_file_is_refused(tmp_path) -> None:
    path = tmp_path / "data.parquet"
    refused(path, "must be a file; there is none of this name")
    write(path, FRAME)
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    refused(path, "must be a whole parquet file; got .* Save it again")


def test_without_pyarrow_the_error_says_what_to_install(tmp_path, monkeypatch) -> None:
    write(tmp_path / "data.parquet", FRAME)
    monkeypatch.setattr(arrow_columns, "pyarrow", None)
    refused(tmp_path / "data.parquet", r"needs pyarrow .* Install `leftout\[parquet\]`, or save")


def test_the_cell_that_makes_a_column_text_is_shown(tmp_path) -> None:
    (tmp_path / "t.csv").write_text("a,b,c\n" + "1.5,2.5,x\n2.5,3,y\n" * 10 + "Total,,\n")
    with pytest.raises(
        DataError, match="'a' holds numbers, and text in 1 of 21 rows, such as 'Total' in row 22"
    ):
        load(tmp_path / "t.csv")


@pytest.mark.parametrize("word", ["NA", "nan", "None", "?"])
def test_a_class_that_may_be_a_missing_value_is_said(tmp_path, word) -> None:
    (tmp_path / "t.csv").write_text("a,c\n" + f"1.5,{word}\n2.5,y\n" * 10)
    notes = load(tmp_path / "t.csv", target="c")[0].preparation["notes"]
    assert len(notes) == 1
    assert f"{word!r} in 10 of 20 rows" in notes[0]


@pytest.mark.parametrize("name", ["ID", "Split", "Unnamed: 0", "index"])
def test_a_column_to_predict_from_that_looks_like_names_of_rows_is_said(tmp_path, name) -> None:
    (tmp_path / "t.csv").write_text(
        f"{name},a,c\n" + "".join(f"{2 * i},1.5,{'xy'[i % 2]}\n" for i in range(1, 21))
    )
    notes = load(tmp_path / "t.csv", target="c")[0].preparation["notes"]
    assert len(notes) == 1
    assert notes[0].startswith(f"{name!r} is one of the columns to predict from")
    assert load(tmp_path / "t.csv", target="c", columns=[name])[0].preparation["notes"] == []


def test_commas_at_the_end_of_every_line_are_named(tmp_path) -> None:
    (tmp_path / "t.csv").write_text("a,c,\n" + "1.5,x,\n2.5,y,\n" * 10)
    with pytest.raises(DataError, match=r"column 3 of 3 has no name.*commas that end every line"):
        load(tmp_path / "t.csv")


@pytest.mark.parametrize("mark", ["\t", "|"])
def test_commas_that_may_stand_between_thousands_are_no_points(tmp_path, mark) -> None:
    path = tmp_path / "t.csv"
    lines = ["amount,kind".replace(",", mark)]
    lines += [f"{row + 1},{137 + row}{mark}{'ab'[row % 2]}" for row in range(20)]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="between thousands or before decimals"):
        load(path)
    # A zero in front, or another number of digits, tells.
    path.write_text("\n".join([*lines, f"0,5{mark}a"]) + "\n")
    train, query = load(path, normalise=None)
    amounts = sorted([*train.table[:, 0].tolist(), *query.table[:, 0].tolist()])
    assert amounts[:2] == [0.5, 1.137]

"""What becomes of texts and missing cells: by the training rows alone, and said."""

import numpy as np
import pandas as pd
import pytest
import torch

from laws import assert_same
from leftout.core.errors import DataError
from leftout.data.load import load
from leftout.data.planted import plant_outliers

N, TRAIN = 40, 30
DRAW = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "size": DRAW.normal(size=N).round(3),
        "colour": np.array(["red", "blue", "green"])[np.arange(N) % 3],
        "count": pd.array(DRAW.integers(0, 9, N), dtype="Int64"),
        "kind": np.array(["a", "b"])[np.arange(N) % 2],
        "split": ["train"] * TRAIN + ["test"] * (N - TRAIN),
    }
)


@pytest.fixture(params=["frame", ".csv", ".parquet"])
def given(request, tmp_path):
    """Return a frame as one of the forms that a table comes in."""

    def as_data(frame):
        if request.param == "frame":
            return frame
        path = tmp_path / f"t{request.param}"
        if request.param == ".csv":
            frame.to_csv(path, index=False)
        else:
            frame.to_parquet(path)
        return path

    return as_data


def read(data, **options):
    return load(data, target="kind", normalise=None, **options)


def test_texts_become_a_column_for_each_value_of_the_training_rows(given) -> None:
    frame = FRAME.copy()
    frame.loc[TRAIN + 1, "colour"] = "never seen"
    train, query = read(given(frame))
    assert train.preparation["input_columns"] == [
        "size",
        "colour = blue",
        "colour = green",
        "colour = red",
        "count",
    ]
    for part, rows in ((train, frame[:TRAIN]), (query, frame[TRAIN:])):
        want = [(rows["colour"] == value).to_numpy(float) for value in ("blue", "green", "red")]
        assert np.array_equal(part.inputs[:, 1:4].numpy(), np.stack(want, axis=1))
        assert_same(part.inputs[:, 0], rows["size"].to_numpy())
    assert query.inputs[1, 1:4].tolist() == [0, 0, 0]
    assert any("'colour' (3)" in note for note in train.preparation["notes"])
    # A person looks at the cells as they came.
    assert train.columns == ("size", "colour", "count")
    assert train.table[0].tolist() == [frame["size"][0], "red", frame["count"][0]]


def test_missing_numbers_become_the_median_of_the_training_rows_and_a_column_says_where(given) -> None:
    frame = FRAME.copy()
    gaps = [2, 7, TRAIN + 3]
    frame.loc[gaps, "size"] = np.nan
    frame.loc[[4], "count"] = pd.NA
    train, query = read(given(frame))
    names = train.preparation["input_columns"]
    assert names[:2] == ["size", "size is missing"]
    assert names[-2:] == ["count", "count is missing"]
    seen = frame["size"][:TRAIN].dropna()
    filled = frame["size"].fillna(seen.median()).to_numpy()
    both = torch.cat([train.inputs, query.inputs]).numpy()
    assert_same(both[:, 0], filled)
    assert np.flatnonzero(both[:, 1]).tolist() == gaps
    assert np.flatnonzero(both[:, -1]).tolist() == [4]
    counts = frame["count"][:TRAIN].dropna().astype(float)
    assert both[4, -2] == counts.median()
    assert any("'size' (3), 'count' (1)" in note for note in train.preparation["notes"])


def test_a_missing_text_is_a_value_of_its_own(given) -> None:
    frame = FRAME.copy()
    frame.loc[[1, 5], "colour"] = None
    train, _ = read(given(frame))
    names = train.preparation["input_columns"]
    column = names.index("colour = missing")
    assert np.flatnonzero(train.inputs[:, column].numpy()).tolist() == [1, 5]


def test_cells_that_only_queries_lack_get_no_column(given) -> None:
    frame = FRAME.copy()
    frame.loc[TRAIN + 1, "size"] = np.nan
    train, query = read(given(frame))
    assert "size is missing" not in train.preparation["input_columns"]
    assert query.inputs[1, 0] == frame["size"][:TRAIN].median()


def test_what_queries_hold_decides_nothing(given) -> None:
    frame = FRAME.copy()
    frame.loc[3, "size"] = np.nan
    before, _ = read(given(frame))
    frame.loc[TRAIN:, "size"] = 1e6
    frame.loc[TRAIN:, "colour"] = "other"
    after, _ = read(given(frame))
    assert torch.equal(before.inputs, after.inputs)


def test_texts_that_name_rows_and_empty_columns_are_left_out_and_said(given) -> None:
    frame = FRAME.assign(name=[f"person {row % (N - 1)}" for row in range(N)], nothing=np.full(N, np.nan))
    train, _ = read(given(frame))
    assert not any("name" in column or "nothing" in column for column in train.preparation["input_columns"])
    (note,) = (note for note in train.preparation["notes"] if note.startswith("left out"))
    assert "'name' (texts that tell single rows apart, as names do)" in note
    assert "'nothing' (missing in every training row)" in note


def test_a_table_of_numbers_stays_as_it_is(given) -> None:
    frame = FRAME.drop(columns="colour").astype({"count": "int64"})
    train, _ = read(given(frame))
    assert "input_columns" not in train.preparation
    assert train.preparation["notes"] == []
    assert np.array_equal(train.inputs.numpy(), frame[["size", "count"]][:TRAIN].to_numpy(float))


def test_constant_columns_are_left_out_where_it_is_asked_for_and_said(given) -> None:
    frame = FRAME.assign(same=7.0, rare=[0.0] * TRAIN + [1.0] * (N - TRAIN))
    kept, _ = load(given(frame), target="kind", normalise="standard")
    train, query = load(given(frame), target="kind", normalise="standard", drop_constant=True)
    assert kept.inputs.shape[1] == train.inputs.shape[1] + 2 == query.inputs.shape[1] + 2
    assert train.preparation["dropped_columns"] == ["same", "rare"]
    (note,) = (note for note in train.preparation["notes"] if note.startswith("left out"))
    assert "one value in all training rows: 'same', 'rare'" in note
    assert_same(train.inputs.std(0, correction=0), np.ones(5))


def test_a_table_with_nothing_to_predict_from_is_refused(given) -> None:
    nothing = FRAME[["kind", "split"]].assign(a=np.nan, b=[f"row {row % (N - 1)}" for row in range(N)])
    with pytest.raises(DataError, match=r"none is left: 'a' .*, 'b' .*`columns`"):
        read(given(nothing))
    same = FRAME[["kind", "split"]].assign(a=1.0)
    with pytest.raises(DataError, match="every column has one value in all training rows"):
        read(given(same), drop_constant=True)


def test_outliers_are_planted_in_what_the_kernel_sees() -> None:
    train, _ = read(FRAME)
    generator = torch.Generator().manual_seed(0)
    planted = plant_outliers(train, 3, generator=generator)
    assert not torch.equal(planted.examples.inputs, train.inputs)
    assert (planted.examples.table == train.table).all()

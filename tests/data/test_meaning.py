"""Nothing missing or ambiguous is filled in or guessed without a word."""

import json
import re
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import leftout as lo
from leftout.core.errors import DataError, LeftoutError, OptionError, ShapeError
from leftout.data.load import load
from leftout.data.pairs import examples_of, inputs_of
from problems.data_files import write_folder

N = 20
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(N, 3))
Y = np.arange(N) % 2
WORDS = np.array(["a", "b"])[Y]
COUNTS = RANDOM.poisson(3, (N, 8, 4))


def notes(data, **options) -> list[str]:
    return load(data, **options)[0].preparation["notes"]


def written(path, text: str):
    path.write_text(text)
    return path


# Masked and missing entries


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ((np.ma.masked_array(X, np.isin(X, X[7, 1])), Y), "`train inputs` .* row 7 .* masked .1 of 20"),
        ((X, np.ma.masked_equal(np.arange(N), 4)), "`train targets` .* row 4 .* masked"),
        ((X, np.ma.masked_values(np.arange(N) / 2, 2.0)), "`train targets` .* row 4 .* masked"),
        ((X, np.ma.masked_array(WORDS, np.arange(N) == 3)), "`train targets` .* row 3 .* masked"),
        ((X, [*Y[:-1].tolist(), np.ma.masked]), "`train targets` .* row 19 .* masked"),
        (
            ([np.ma.masked_array(row, np.isin(row, X[5, 0])) for row in X], Y),
            "`train inputs` .* row 5 .* masked",
        ),
        ((X, [*WORDS[:-1].tolist(), None]), "`train targets` .* row 19 .* missing"),
        ((X, np.array([np.nan, *WORDS[1:]], dtype=object)), "`train targets` .* row 0 .* missing"),
        ((X, pd.Series([*WORDS[:-1], None], dtype="category")), "row 19 .* missing"),
        ((X, pd.Series([*WORDS[:-1], None], dtype="string")), "row 19 .* missing"),
        ((X, pd.Series([*Y[:-1], None], dtype="Int64")), "row 19 .* missing"),
        ((X, pd.Categorical([*Y[:-1].tolist(), None])), "row 19 .* missing"),
        ((pd.DataFrame({"a": pd.array([1, None] * 10, dtype="Int64"), "b": 1.5}), Y), "column a.* row 1 "),
        ((pd.DataFrame({"a": [1.0, np.nan] * 10, "b": 1.5}), Y), "must be finite; row 1 "),
    ],
)
def test_a_masked_or_missing_entry_is_refused_with_its_row(data, match) -> None:
    with pytest.raises(DataError, match=match):
        examples_of(data)


def test_masks_are_looked_at_wherever_arrays_come_in() -> None:
    masked = np.ma.masked_array(X, np.isin(X, X[6, 2]))
    train = examples_of((X, Y))
    for read in (
        lambda: inputs_of(masked),
        lambda: examples_of((masked, Y), encoding=train.encoding, name="query"),
        lambda: load(((X, Y), (masked, Y))),
        lambda: load({"x": masked, "y": Y}),
        lambda: lo.fit(lo.kernels.ReLU(1), (masked, Y)),
        lambda: lo.fit(lo.kernels.ReLU(1), (X, Y)).predict(masked),
    ):
        with pytest.raises(DataError, match=r"row 6 .* masked"):
            read()
    assert torch.equal(examples_of((np.ma.masked_array(X), Y)).inputs, torch.from_numpy(X))


def test_a_masked_tensor_is_refused_with_its_row() -> None:
    with pytest.warns(UserWarning, match="prototype"):
        masked = torch.masked.masked_tensor(torch.from_numpy(X), torch.from_numpy(~np.isin(X, X[9, 1])))
    with pytest.raises(DataError, match=r"row 9 .* masked"):
        inputs_of(masked)


# Texts as classes


@pytest.mark.parametrize(
    "targets",
    [
        WORDS,
        WORDS.astype(object),
        WORDS.astype("S"),
        WORDS.astype(np.dtypes.StringDType()),
        WORDS.tolist(),
        tuple(WORDS),
        pd.Series(WORDS),
        pd.Series(WORDS, dtype=object),
        pd.Series(WORDS, dtype="string"),
        pd.Series(WORDS, dtype="category"),
        pd.Categorical(WORDS),
        pd.Index(WORDS),
        pd.DataFrame({"class": WORDS}),
    ],
    ids=lambda targets: type(targets).__name__,
)
def test_texts_of_every_kind_are_classes(targets) -> None:
    examples = examples_of((X, targets))
    assert examples.classes == ("a", "b")
    assert examples.labels.tolist() == Y.tolist()
    assert load((X, targets))[0].classes == ("a", "b")


ALIKE = "classes that differ only in capital letters or blanks are classes of their own: "


def test_classes_that_differ_only_in_case_or_blanks_are_said_and_kept(tmp_path, leftout) -> None:
    names = ["Cat", "cat ", "cat", "dog", "New York", "newyork"] * 5
    said = f"{ALIKE}'Cat', 'cat', 'cat '; 'New York', 'newyork'. If they are one, write them alike"
    inputs = RANDOM.normal(size=(30, 3))
    for examples in (examples_of((inputs, names)), load((inputs, names))[0]):
        assert examples.classes == ("Cat", "New York", "cat", "cat ", "dog", "newyork")
        assert examples.preparation["notes"] == [said]
    frame = pd.DataFrame({"x": inputs[:, 0], "kind": names})
    assert said in notes(frame, target="kind")
    # Cells of a text file lose the blanks around them.
    frame.to_csv(tmp_path / "t.csv", index=False)
    of_file = said.replace(", 'cat '", "")
    assert of_file in notes(tmp_path / "t.csv")
    _, out, _ = leftout("audit", "t.csv", "--refit-examples", "0", "--kernel", "two-layer-relu")
    assert f"note: {of_file}" in out
    assert of_file in json.loads((tmp_path / "run" / "run.json").read_text())["preparation"]["train"]["notes"]


@pytest.mark.parametrize("names", [["a", "b"], ["Cat", "Cats"], ["a b", "a-b"], ["1", "01"], ["é", "e"]])
def test_classes_of_other_letters_need_no_word(names) -> None:
    assert examples_of((X, names * 10)).preparation["notes"] == []


def test_of_many_groups_of_classes_alike_the_first_are_named() -> None:
    names = [letter + tail for letter in "abcde" for tail in ("X", "x")]
    (said,) = examples_of((X, names * 2)).preparation["notes"]
    assert said.startswith(f"{ALIKE}'aX', 'ax'; 'bX', 'bx'; 'cX', 'cx' and 2 more groups. ")


@pytest.mark.parametrize("targets", [["a", 1] * 10, [True, 2] * 10, np.array(["a", 1.5] * 10, dtype=object)])
def test_targets_of_two_types_are_refused_with_both(targets) -> None:
    with pytest.raises(DataError, match=r"one type; row 0 is .*, row 1 is .*\. Convert"):
        examples_of((X, targets))


# Codes with leading zeros


def test_codes_with_leading_zeros_stay_apart(tmp_path) -> None:
    rows = "".join(f"{row}.5,{code}\n" for row, code in enumerate(["0123", "123", "9"] * 8, start=1))
    train, _ = load(written(tmp_path / "z.csv", f"a,code\n{rows}"))
    assert train.classes == ("0123", "123", "9")


@pytest.mark.parametrize("code", ["00", "0123", "-07", "+01"])
def test_a_feature_of_codes_is_refused_as_such(tmp_path, code) -> None:
    rows = "".join(f"{row},{row}.5,{'ab'[row % 2]}\n" for row in range(1, 9))
    path = written(tmp_path / "z.csv", f"zip,a,y\n{rows}{code},1.5,a\n")
    with pytest.raises(
        DataError, match=rf"'zip' holds codes with leading zeros, such as '{re.escape(code)}'.*`drop` .--drop"
    ):
        load(path)
    assert load(path, columns=["a"])[0].columns == ("a",)


def test_zeros_that_lead_no_code_are_numbers(tmp_path) -> None:
    rows = "".join(f"0.{row},0,{row},-0.5,0e3,{'ab'[row % 2]}\n" for row in range(1, 9))
    train, _ = load(written(tmp_path / "z.csv", f"a,b,c,d,e,y\n{rows}"), normalise=None)
    assert train.columns == ("a", "b", "c", "d", "e")


# The first line of a .csv


ROWS = "".join(f"{row}.5,{row * 3},{'ab'[row % 2]}\n" for row in range(1, 30))


@pytest.mark.parametrize(
    "first", ["0.5,7,a", "0,1,2", "true,b,c", "x,NA,c", "x,?,c", "x,inf,c", "x,y,a", "1e3,u,v"]
)
def test_a_first_line_that_may_be_an_example_is_refused_until_it_is_said(tmp_path, first) -> None:
    path = written(tmp_path / "h.csv", f"{first}\n{ROWS}")
    with pytest.raises(DataError, match=r"--header no"):
        load(path)
    train, query = load(path, header=True)
    assert len(train) + len(query) == 29
    assert list(train.columns) == first.split(",")[:2]


def test_a_csv_without_names_keeps_its_first_example(tmp_path) -> None:
    train, query = load(written(tmp_path / "h.csv", ROWS), header=False, normalise=None)
    assert len(train) + len(query) == 29
    rows = {
        name: inputs.tolist()
        for part in (train, query)
        for name, inputs in zip(part.ids, part.inputs, strict=True)
    }
    assert rows["row 1"] == [1.5, 3]
    assert train.columns == ("column 1", "column 2")
    assert load(tmp_path / "h.csv", header=False, target="column 1", columns=["column 2"])[0].classes is None


def test_names_of_columns_are_taken_without_a_question(tmp_path) -> None:
    for first in ("x,y,class", "2020-01-01,3kg,v1.2.3", "none,x1,label"):
        assert len(load(written(tmp_path / "h.csv", f"{first}\n{ROWS}"))[0]) == 22
    with pytest.raises(OptionError, match="`header` must be left out"):
        load("digits", header=True)


# The target, classes as floats


def test_the_last_column_is_the_target_and_a_note_says_so(tmp_path) -> None:
    path = written(tmp_path / "t.csv", f"x,y,class\n{ROWS}")
    assert notes(path) == [
        "the target is 'class', the last column, as no other was named with `target` (--target)"
    ]
    assert notes(path, target="class") == []


@pytest.mark.parametrize("values", [(0.0, 1.0), (-1.0, 1.0), (1.0, 2.0, 3.0)])
def test_classes_as_floats_are_numbers_with_a_note_or_classes_when_asked(tmp_path, values) -> None:
    y = np.array(values)[np.arange(N) % len(values)]
    np.savez(tmp_path / "f.npz", x=X, y=y)
    pd.DataFrame({"x": X[:, 0], "y": y}).to_csv(tmp_path / "f.csv", index=False)
    for data, options in ((tmp_path / "f.npz", {}), (tmp_path / "f.csv", {"target": "y"}), ((X, y), {})):
        train, _ = load(data, **options)
        assert train.classes is None
        (note,) = train.preparation["notes"]
        assert f"floats of {len(values)} values" in note
        assert "--task classification" in note
        train, _ = load(data, task="classification", **options)
        assert train.classes == tuple(str(int(number)) for number in values)
        assert train.preparation["notes"] == []
        assert load(data, task="regression", **options)[0].preparation["notes"] == []
    (note,) = examples_of((X, y)).preparation["notes"]
    assert "pass integers or texts" in note
    assert examples_of((X, X[:, 0])).preparation["notes"] == []


def test_a_task_that_targets_cannot_have_is_refused() -> None:
    assert load((X, Y), task="regression")[0].classes is None
    with pytest.raises(OptionError, match="must be classification for `y`, which holds texts"):
        load((X, WORDS), task="regression")
    with pytest.raises(OptionError, match=r"unless all of it are whole numbers; row 0 holds"):
        load((X, X[:, 0]), task="classification")
    with pytest.raises(OptionError, match=r"`task` must be left out .* got 'regression' for `digits`"):
        load("digits", task="regression")


# Pictures or counts


def test_counts_that_may_be_pictures_are_refused_until_it_is_said(tmp_path) -> None:
    np.savez(tmp_path / "c.npz", x=COUNTS, y=Y)
    for data in (tmp_path / "c.npz", (COUNTS, Y), (COUNTS.astype(float), Y), (COUNTS[..., None], Y)):
        with pytest.raises(DataError, match=r"pictures or counts\. .*--pictures yes.*--pictures no"):
            load(data)
        train, _ = load(data, pictures=False, normalise=None)
        assert train.inputs.shape[1:] == (32,)
        assert train.inputs.max() == COUNTS[[int(name[2:-1]) for name in train.ids]].max()
        assert load(data, pictures=True)[0].inputs.shape[1:] == (8, 4)


def test_the_range_of_counts_does_not_change_what_they_are() -> None:
    read = [load((COUNTS * scale, Y), pictures=False, normalise=None)[0].inputs for scale in (1, 100)]
    assert torch.equal(100 * read[0], read[1])


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (COUNTS.astype(np.uint8), "taken as pictures with white = 255"),
        (COUNTS / 255, "taken as pictures with white = 1"),
        (np.repeat(COUNTS[..., None], 3, axis=3), "taken as pictures with white = 255"),
        (COUNTS - 1.5, "taken as 32 features each"),
        (COUNTS * 1000, "taken as 32 features each"),
    ],
)
def test_what_is_taken_for_pictures_or_features_is_said(array, words) -> None:
    (note,) = notes((array, Y))
    assert words in note
    assert notes((X, Y)) == []


def test_pictures_are_not_made_of_what_is_none() -> None:
    for array in (X, COUNTS * 1000, COUNTS - 1.0):
        with pytest.raises(OptionError, match="`pictures` must be left out or False"):
            load((array, Y), pictures=True)


# EXIF orientation


def photograph(pixels: np.ndarray, orientation: int, kind: str) -> bytes:
    """Return a picture with an EXIF orientation, stored without loss where the format allows."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, kind, exif=exif)
    return stream.getvalue()


UPRIGHT = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}
"""How a picture is shown for each value of the tag (EXIF 2.3, section 4.6.4)."""


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_pictures_are_turned_as_their_exif_data_say_and_a_note_says_so(tmp_path, orientation) -> None:
    pixels = RANDOM.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    plain, turned = (photograph(pixels, value, "PNG") for value in (1, orientation))
    write_folder(tmp_path / "p", {f"{name}/{i}.png": plain for name in "ab" for i in range(6)})
    write_folder(tmp_path / "p", {"a/3.png": turned})
    train, query = load(tmp_path / "p")
    shown = {
        name: image for part in (train, query) for name, image in zip(part.ids, part.images, strict=True)
    }
    assert np.array_equal(shown["a/3.png"], UPRIGHT[orientation](pixels))
    assert np.array_equal(shown["b/3.png"], pixels)
    words = (
        []
        if orientation == 1
        else ["1 of 12 pictures were turned as their EXIF orientation says, the first ['a/3.png']"]
    )
    assert train.preparation["notes"] == words


# Tables of which nothing is a number


def test_a_column_without_any_number_is_named_as_such(tmp_path) -> None:
    frame = pd.DataFrame({"a": np.nan, "b": X[:, 0], "y": WORDS})
    frame.to_csv(tmp_path / "n.csv", index=False)
    frame.to_parquet(tmp_path / "n.parquet")
    for data in (tmp_path / "n.csv", tmp_path / "n.parquet", frame):
        notes = load(data)[0].preparation["notes"]
        assert "left out of what is predicted from: 'a' (missing in every training row)" in notes
        assert load(data, columns=["b"])[0].columns == ("b",)
        with pytest.raises(DataError, match=r"column 'a' is missing in every row"):
            load(data, target="a", columns=["b"])


# What a program holds


class Items(Dataset):
    def __len__(self):
        return N

    def __getitem__(self, row):
        return X[row], int(Y[row])


def test_one_set_of_any_form_is_split_by_the_seed() -> None:
    forms = [
        (X, Y),
        [X, Y],
        (X.tolist(), Y.tolist()),
        Items(),
        DataLoader(Items(), batch_size=7),
        {"x": X, "y": Y},
        {"data": X, "target": Y, "DESCR": "as scikit-learn has it"},
    ]
    for form in forms:
        train, query = load(form, normalise=None, seed=3)
        assert train.ids == load((X, Y), seed=3)[0].ids
        for part in (train, query):
            rows = [int(name[2:-1]) for name in part.ids]
            assert np.array_equal(part.inputs.numpy(), X[rows])
            assert part.labels.tolist() == Y[rows].tolist()


def test_two_sets_of_any_form_stay_as_they_are() -> None:
    one = (X, Y)
    for form in (
        (one, one),
        [list(one), list(one)],
        (Items(), DataLoader(Items())),
        {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y},
    ):
        train, query = load(form, normalise=None)
        assert torch.equal(train.inputs, torch.from_numpy(X))
        assert torch.equal(query.inputs, train.inputs)


def test_a_frame_is_a_table() -> None:
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(y=WORDS)
    train, query = load(frame, target="y", normalise=None)
    assert train.columns == ("a", "b", "c")
    for part in (train, query):
        rows = [int(name.removeprefix("row ")) for name in part.ids]
        assert np.array_equal(part.inputs.numpy(), X[rows])
    assert "the last column" in notes(frame)[0]
    assert load(frame, target="a", columns=["b"])[0].classes is None
    with pytest.raises(DataError, match=r"name its rows .*reset_index"):
        load(pd.concat([frame, frame]), target="y")
    with pytest.raises(DataError, match=r"`a` in `data` must hold numbers or texts; it holds timedelta"):
        load(frame.assign(a=pd.to_timedelta(np.arange(N), unit="D")), target="y")


@pytest.mark.parametrize("data", [None, 3, b"x", X, {1: X}, {X.shape}, (X,), (X, Y, Y), iter([]), WORDS[0]])
def test_what_is_no_data_is_refused_with_what_is(data) -> None:
    with pytest.raises(LeftoutError, match=r"pair|digits"):
        load(data)


def test_what_stands_in_the_wrong_place_is_told_what_to_pass(as_users_run_it) -> None:
    train = examples_of((X, Y))
    for call, match in (
        (lambda: lo.fit("relu", train), r"got 'relu'. The kernel of this name is lo.kernels.ReLU\(2\)"),
        (
            lambda: lo.fit(torch.nn.Linear(3, 1), train),
            r"got Linear. The kernel of a module is lo.kernels.Empirical\(module\)",
        ),
        (lambda: lo.fit(lo.kernels.ReLU, train), r"the class ReLU; write ReLU\(…\)"),
        (lambda: lo.fit(train, lo.kernels.ReLU(1)), "`kernel` must be a kernel, .* got Examples"),
        (lambda: lo.fit(lo.kernels.ReLU(1), train, rule="ridge"), r"Ridge\(1.0\) .* got 'ridge'"),
        (lambda: lo.leave_one_out(train, train), r"a model, from `fit`; got Examples"),
        (lambda: lo.leave_one_out((X, Y), (X, Y)), r"a model, from `fit`; got tuple"),
    ):
        with pytest.raises(OptionError, match=match):
            call()


def test_arrays_that_hold_no_numbers_here_are_told_what_to_do() -> None:
    with pytest.raises(DataError, match="on the device meta"):
        inputs_of(torch.empty(3, 2, device="meta"))
    with pytest.raises(ShapeError, match=r"`inputs` must be dense; got SparseLike. Pass `.toarray\(\)`"):
        inputs_of(SparseLike())


class SparseLike:
    def toarray(self):
        return X


# The command line


def test_the_command_line_says_it_first_and_run_json_keeps_it(leftout) -> None:
    rows = "".join(f"{a:.3f},{b:.3f},{y}.0\n" for (a, b), y in zip(X[:, :2], Y, strict=True))
    with open("t.csv", "w") as file:
        file.write(f"a,b,y\n{rows}")
    options = ("audit", "t.csv", "--kernel", "relu", "--refit-examples", 1)
    status, out, err = leftout(*options)
    assert (status, err) == (0, "")
    first, second = out.splitlines()[:2]
    assert first.startswith("note: the target is 'y', the last column")
    assert second.startswith("note: the target 'y' holds floats of 2 values, 0, 1")
    with open("run/run.json") as file:
        record = json.load(file)
    assert [f"note: {note}" for note in record["preparation"]["train"]["notes"]] == [first, second]
    status, out, err = leftout("influence", "t.csv", "--at", 1, "--target", "y", "--columns", "b")
    assert (status, err, out.count("note: ")) == (0, "", 1)
    status, out, err = leftout("influence", "t.csv", "--at", 1, "--target", "y", "--task", "classification")
    assert (status, err, out.count("note: ")) == (0, "", 0)


def test_the_command_line_asks_for_the_flag_that_it_has(leftout) -> None:
    with open("h.csv", "w") as file:
        file.write(ROWS)
    status, _, err = leftout("influence", "h.csv", "--at", 1)
    assert status == 2
    assert "--header yes" in err
    assert leftout("influence", "h.csv", "--at", 1, "--header", "no")[0] == 0
    np.savez("c.npz", x=COUNTS + 1, y=Y)
    status, _, err = leftout("influence", "c.npz", "--at", 1)
    assert (status, "--pictures no" in err) == (2, True), err
    assert leftout("influence", "c.npz", "--at", 1, "--pictures", "no")[0] == 0

"""The same data through every door: the same examples; what is no fixed data set is refused in a sentence."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from sklearn.utils import Bunch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from leftout.core.errors import DataError, LeftoutError, OptionError
from leftout.data import arrow_columns
from leftout.data.data_source import DataSource, InputRows
from leftout.data.load import load
from leftout.data.targets import RawTargets
from problems.data_files import picture

N = 24
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(N, 2))
X[:, 1] = DRAW.integers(-(2**53), 2**53, N)  # whole numbers of 53 bits: rounding would show
Y = np.array(["cat", "dog", "eel"])[np.arange(N) % 3]
NUMBERS = np.arange(N) % 3
FRAME = pd.DataFrame({"size": X[:, 0], "count": X[:, 1].astype(np.int64), "kind": Y})


class Items(Dataset):
    def __len__(self):
        return N

    def __getitem__(self, row):
        return X[row], Y[row]


class Split:
    """A data set as `datasets` has it, by what it can do."""

    def __init__(self, columns, names=None):
        self.columns = columns
        self.column_names = list(columns)
        self.features = {name: SimpleNamespace(dtype="any") for name in columns}
        for name, classes in (names or {}).items():
            self.features[name] = SimpleNamespace(names=classes)

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, rows):
        return {name: cells[rows] for name, cells in self.columns.items()}


def save_arrow(folder, table, *, names=None, parts=1, state=None, metadata=False):
    """Write a folder as `dataset.save_to_disk` does."""
    folder.mkdir(parents=True)
    features = {name: {"dtype": "int64", "_type": "Value"} for name in table.column_names}
    features |= {name: {"names": classes, "_type": "ClassLabel"} for name, classes in (names or {}).items()}
    if metadata:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    else:
        (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    bounds = np.linspace(0, table.num_rows, parts + 1).astype(int)
    files = []
    for part in range(parts):
        name = f"data-{part:05}-of-{parts:05}.arrow"
        files.append({"filename": name})
        piece = table.slice(bounds[part], bounds[part + 1] - bounds[part])
        with (
            pyarrow.OSFile(str(folder / name), "wb") as file,
            pyarrow.ipc.new_stream(file, table.schema) as writer,
        ):
            writer.write_table(piece)
    (folder / "state.json").write_text(
        json.dumps({"_data_files": files, "_format_type": None} | (state or {}))
    )


COLUMNS = {"size": X[:, 0].tolist(), "count": FRAME["count"].tolist(), "kind": NUMBERS.tolist()}
NAMES = {"kind": ["cat", "dog", "eel"]}
TABLE = pyarrow.table(COLUMNS)


def doors(folder):
    """Return the same data in every form, by name."""
    FRAME.to_csv(folder / "t.csv", index=False)
    FRAME.to_csv(folder / "semicolons.csv", index=False, sep=";", decimal=",")
    FRAME.to_parquet(folder / "t.parquet")
    np.savez(folder / "t.npz", x=X, y=Y)
    save_arrow(folder / "arrow", TABLE, names=NAMES, parts=3)
    save_arrow(folder / "metadata", TABLE, names=NAMES, metadata=True)
    (folder / "hub" / "data").mkdir(parents=True)
    for part, rows in enumerate((slice(0, 10), slice(10, N))):
        FRAME[rows].to_parquet(folder / "hub" / "data" / f"train-{part:05}-of-00002.parquet")
    return {
        "csv": folder / "t.csv",
        "semicolons": str(folder / "semicolons.csv"),
        "parquet": folder / "t.parquet",
        "npz": folder / "t.npz",
        "frame": FRAME,
        "arrays": (X, Y),
        "lists": [X.tolist(), Y.tolist()],
        "tensors": (torch.from_numpy(X), Y),
        "frame and series": (FRAME[["size", "count"]], FRAME["kind"]),
        "frame and array": (FRAME[["size", "count"]], Y),
        "arrays by name": {"x": X, "y": Y},
        "columns by name": {"size": X[:, 0], "count": FRAME["count"].tolist(), "kind": Y.tolist()},
        "bunch": Bunch(data=X, target=Y, feature_names=["size", "count"]),
        "bunch of frames": Bunch(data=FRAME[["size", "count"]], target=FRAME["kind"], frame=FRAME),
        "data set": Items(),
        "loader": DataLoader(Items(), batch_size=7),
        "hugging face": Split(COLUMNS, NAMES),
        "arrow": folder / "arrow",
        "arrow with names in its files": folder / "metadata",
        "folder of parquet": folder / "hub",
    }


def test_every_door_gives_the_same_examples(tmp_path) -> None:
    expected = load((X, Y), normalise="standard", seed=3, drop_constant=True)
    for name, data in doors(tmp_path).items():
        given = load(data, normalise="standard", seed=3, drop_constant=True)
        for part, want in zip(given, expected, strict=True):
            assert torch.equal(part.inputs, want.inputs), name
            assert torch.equal(part.targets, want.targets), name
            assert torch.equal(part.labels, want.labels), name
            assert part.classes == want.classes == ("cat", "dog", "eel"), name
            # Names differ, the row that they name does not.
            numbers = [int("".join(filter(str.isdigit, i))) for i in part.ids]
            first = {"csv": 2, "semicolons": 2, "parquet": 1}.get(name, 0)
            assert numbers == [int(i[2:-1]) + first for i in want.ids], name
        assert given[0].preparation["split"] == "by seed"


def test_two_sets_come_in_every_form(tmp_path) -> None:
    rows = slice(0, 16), slice(16, N)
    train, query = (FRAME[part] for part in rows)
    halves = [Split({name: cells[part] for name, cells in COLUMNS.items()}, NAMES) for part in rows]
    for split, part in zip(("train", "validation"), rows, strict=True):
        save_arrow(tmp_path / "saved" / split, TABLE.slice(part.start, part.stop - part.start), names=NAMES)
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    (tmp_path / "hub" / "data").mkdir(parents=True)
    train.to_parquet(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet")
    query.to_parquet(tmp_path / "hub" / "data" / "test-00000-of-00001.parquet")
    features = ["size", "count"]
    forms = {
        "frames": (train, query),
        "frames beside targets": (
            (train[features], train["kind"]),
            (query[features], query["kind"].tolist()),
        ),
        "dictionary of splits": {"train": halves[0], "validation": halves[1], "unlabelled": halves[1]},
        "saved": tmp_path / "saved",
        "hub": tmp_path / "hub",
    }
    for name, data in forms.items():
        given = load(data, normalise=None)
        for part, chosen in zip(given, rows, strict=True):
            assert np.array_equal(part.inputs.numpy(), X[chosen]), name
            assert [part.classes[label] for label in part.labels] == Y[chosen].tolist(), name
            assert part.source_rows.tolist() == list(range(len(part))), name
        assert given[1].ids[1].endswith("[1]"), name
        assert given[0].preparation["split"] == "of the source"
    notes = load(forms["dictionary of splits"])[0].preparation["notes"]
    assert "splits that stay unused: 'unlabelled'" in notes


def test_integers_and_gaps_in_lists_are_not_rounded() -> None:
    large = [2**53 - 1 - row for row in range(N)]
    given = {"count": [None, *large[1:]], "kind": Y.tolist()}
    train, query = load(given, normalise=None)
    for part in (train, query):
        for name, row in zip(part.ids, part.inputs.tolist(), strict=True):
            place = int(name.split()[1])
            assert place == 0 or row[0] == large[place]
    with pytest.raises(DataError, match=r"whole numbers within .*row 3 holds"):
        load({"count": [0, 1, 2, 2**60 + 1] * 6, "kind": Y.tolist()})
    joined = load((FRAME.assign(count=1), FRAME.assign(count=0.5)), normalise=None)
    assert joined[0].inputs[:, 1].unique().tolist() == [1.0]


def test_a_frame_beside_targets_is_encoded_as_a_table() -> None:
    words = FRAME[["size"]].assign(colour=["red", "blue"] * 12)
    train, _ = load((words, FRAME["kind"]), normalise=None)
    assert train.preparation["input_columns"] == ["size", "colour = blue", "colour = red"]
    assert train.preparation["target"] == "kind"
    assert load((words, X[:, 0]))[0].classes is None
    repeated = pd.concat([words[:12], words[:12]])
    assert len(load((repeated, Y))[0]) == 18


SHUFFLED = "must be a loader in a fixed order"


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (DataLoader(Items(), shuffle=True), SHUFFLED),
        (DataLoader(Items(), sampler=torch.utils.data.RandomSampler(Items())), SHUFFLED),
        (DataLoader(Items(), batch_size=7, drop_last=True), "`drop_last=True`. Make it with"),
        (TensorDataset(torch.zeros(3, 2)), "must yield pairs"),
        ((FRAME, FRAME["kind"]), "targets that are no column of the inputs; both have 'kind'"),
        ((FRAME[["size"]], Y[:5]), "as many inputs as targets"),
        ((FRAME[["size"]], FRAME["kind"][::-1]), "in one order; their indices name the same rows in two"),
        ((FRAME[["size"]], [None, *Y[1:]]), "row 0 has an entry that is missing"),
        ((FRAME, FRAME.rename(columns={"size": "length"})), "must have the same columns twice"),
        ((FRAME.assign(split="a"), FRAME.assign(split="b")), "none called 'split'"),
        ({"a": [1, 2, 3], "kind": ["x", "y"]}, "columns of one length; 'a' has 3 cells, 'kind' 2"),
        ({"a": [], "kind": []}, "must hold columns and rows"),
        ({"a": X, "kind": Y}, "must hold x_train"),
        (pd.DataFrame({"a": [], "kind": []}), "must hold columns and rows"),
        (pd.DataFrame([[1, 2, "x"]] * 9, columns=["a", "a", "kind"]), "must name its columns once each"),
        (FRAME[:1], "must hold training examples|at least"),
        (FRAME.assign(size=np.inf), "must hold finite numbers; column 'size' has inf in row 0"),
        (FRAME.assign(size=[[1]] * N), "`size` in `data` must hold numbers or texts"),
        (Split({"kind": []}), "must hold rows and a column to predict"),
        ({"a": Split(COLUMNS), "b": Split(COLUMNS)}, "must have a split 'train', or only one; it has 'a',"),
        ({"train": Split(COLUMNS), "test": Split({"kind": [1]})}, "splits of the same columns"),
        (Split({**COLUMNS, "kind": [7] * N}, NAMES), "class numbers from 0 to 2; row 0 holds 7"),
        (Split({**COLUMNS, "kind": [-1, *COLUMNS["kind"][1:]]}, NAMES), "column 'kind' has none in row 0"),
        (SimpleNamespace(column_names=["a"], features={}), "at hand, and this .* is a stream"),
        (Split({**COLUMNS, "size": [[1.0, 2.0]] * N}), "`size` in `data` must hold numbers or texts"),
    ],
)  # fmt: skip
def test_what_is_no_data_set_is_refused(data, match) -> None:
    with pytest.raises(LeftoutError, match=match):
        load(data)


def test_a_target_that_the_object_has_is_not_named_again() -> None:
    with pytest.raises(OptionError, match="`target` must be left out"):
        load((FRAME[["size"]], FRAME["kind"]), target="kind")
    with pytest.raises(OptionError, match="`target` must be left out unless the data are a table"):
        load((X, Y), target="kind")
    assert load(Split(COLUMNS), target="count", task="regression")[0].preparation["target"] == "count"


# Pictures in a column

GREY = DRAW.integers(0, 256, (N, 5, 4), dtype=np.uint8)


def in_struct():
    return pyarrow.array([{"bytes": picture(image), "path": None} for image in GREY])


@pytest.mark.parametrize("form", ["object", "struct", "bytes", "parquet"])
def test_pictures_in_a_column_are_inputs(tmp_path, form) -> None:
    if form == "object":
        data = Split(
            {"image": [Image.fromarray(image) for image in GREY], "label": NUMBERS.tolist()},
            {"label": NAMES["kind"]},
        )
    else:
        cells = in_struct() if form != "bytes" else pyarrow.array([picture(image) for image in GREY])
        table = pyarrow.table({"image": cells, "label": NUMBERS})
        data = tmp_path / "saved"
        if form == "parquet":
            data.mkdir()
            info = json.dumps({"info": {"features": {"label": {"names": NAMES["kind"]}}}})
            parquet.write_table(
                table.replace_schema_metadata({"huggingface": info}), data / "train-0-of-1.parquet"
            )
        else:
            save_arrow(data, table, names={"label": NAMES["kind"]}, parts=2)
    train, query = load(data, normalise=None)
    for part in (train, query):
        rows = [int("".join(filter(str.isdigit, name))) for name in part.ids]
        assert np.array_equal(part.images, GREY[rows])
        assert np.array_equal(part.inputs.numpy(), GREY[rows] / 255)
        assert [part.classes[label] for label in part.labels] == Y[rows].tolist()
    small, _ = load(data, resize="3x2")
    assert small.images.shape == (len(train), 3, 2)
    flat, _ = load(data, embeddings=X, normalise=None)
    assert flat.inputs.shape == (18, 2)
    assert flat.images.shape == (18, 5, 4)
    with pytest.raises(OptionError, match="`columns` must be left out"):
        load(data, columns=["label"])


def test_folders_that_are_none_are_refused(tmp_path, monkeypatch) -> None:
    save_arrow(tmp_path / "chosen", TABLE, state={"_indices_data_files": [{"filename": "i.arrow"}]})
    with pytest.raises(DataError, match=r"holds a choice of them. Save `dataset\.flatten_indices"):
        load(tmp_path / "chosen")
    save_arrow(tmp_path / "cut", TABLE)
    file = tmp_path / "cut" / "data-00000-of-00001.arrow"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match="must be a whole Arrow file"):
        load(tmp_path / "cut")
    save_arrow(tmp_path / "two", TABLE)
    parquet.write_table(TABLE.rename_columns(["a", "b", "kind"]), tmp_path / "two" / "data-1.parquet")
    with pytest.raises(DataError, match="must hold files of the same columns"):
        load(tmp_path / "two")
    save_arrow(
        tmp_path / "paths", pyarrow.table({"image": [{"bytes": None, "path": "a.png"}] * N, "label": NUMBERS})
    )
    with pytest.raises(DataError, match=r"row \d+ of 'image' has none, only the path 'a.png'"):
        load(tmp_path / "paths")
    save_arrow(tmp_path / "names", TABLE)
    (tmp_path / "names" / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="must be JSON; it is damaged"):
        load(tmp_path / "names")
    monkeypatch.setattr(arrow_columns, "pyarrow", None)
    with pytest.raises(DataError, match=r"needs pyarrow .* Install `leftout\[parquet\]`"):
        load(tmp_path / "names")


def test_a_table_beside_pictures_is_no_folder_of_tables(tmp_path) -> None:
    for place in ("train/a", "train/b", "test/a", "test/b"):
        for number in range(2):
            path = tmp_path / "deep" / place / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(GREY[number]))
            path = tmp_path / "flat" / place[-1] / f"{place.replace('/', '-')}{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(GREY[number]))
    for name in ("deep", "flat"):
        FRAME.to_parquet(tmp_path / name / "metadata.parquet")
        assert load(tmp_path / name)[0].images.shape[1:] == (5, 4)


def test_an_audit_says_that_its_queries_were_drawn(leftout, tmp_path) -> None:
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    status, out, err = leftout("audit", "t.csv", "--target", "kind", "--seed", "3", "--out", "run")
    assert status == 0, err
    assert "18, 6, drawn by --seed 3" in out


def test_the_command_line_takes_a_saved_folder(leftout, tmp_path) -> None:
    save_arrow(tmp_path / "saved", TABLE, names=NAMES)
    status, _, err = leftout("influence", "saved", "--top", "1")
    assert status == 0, err
    status, _, err = leftout("influence", "saved", "--resize", "8")
    assert (status, "unless the data are picture files" in err) == (2, True)


def test_rows_are_counted_in_the_side_that_they_come_from() -> None:
    targets = RawTargets(np.array([0, 1, 0, 1]), ("no", "yes"), None)
    source = DataSource(
        "sides", list("abcd"), targets, InputRows, is_query=np.array([True, False, True, False])
    )
    assert source.source_rows.tolist() == [0, 0, 1, 1]

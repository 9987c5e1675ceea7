"""Training examples and queries, from the name of a data set.

    digits                     ships with scikit-learn
    mnist:DIR, cifar10:DIR     the original files
    DIR, FILE.zip              pictures by split and class, or by class
    DIR                        of Parquet or Arrow files, as `datasets` saves them
    FILE.npz                   arrays
    FILE.csv, FILE.parquet     a table
    FILE.py:function           a function of yours

or from what a program holds: a DataFrame, a pair of arrays or of pairs, a dictionary of arrays or of columns,
a data set of `datasets`. Whatever was taken for granted is a sentence in `Examples.preparation["notes"]`:
the last column as target, arrays as pictures, floats as numbers; and so is what was made of texts and
missing cells (`table_encoding`).

Rows are chosen first, then read, then scaled, then their targets are coded; each step is written
into `Examples.preparation`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leftout.core.checks import check_choice, check_seed, shown
from leftout.core.errors import DataError, OptionError
from leftout.core.wording import name_list
from leftout.data.archive import npz
from leftout.data.arrow_folder import arrow_folder
from leftout.data.cifar import cifar10
from leftout.data.corrections import correct, read_corrections
from leftout.data.data_name import TABLES, parse_data_name
from leftout.data.data_source import DataSource, InputRows
from leftout.data.digits import digits
from leftout.data.embedding_function import with_embedding_function
from leftout.data.embeddings import read_embeddings, with_embeddings
from leftout.data.encoding import CENTRES, Encoding, encoding_of_classes, encoding_of_numbers
from leftout.data.examples import Examples
from leftout.data.frames_of_objects import GivenTable, given_table
from leftout.data.hugging_face import check_no_stream, hugging_face_tables, is_hugging_face
from leftout.data.idx import mnist
from leftout.data.images import image_folder, image_zip
from leftout.data.module import returned_by
from leftout.data.normalise import NORMALISATIONS, normalise_inputs
from leftout.data.objects import ExamplePair, source_of_object
from leftout.data.options import Background, Centre, Normalise, Task
from leftout.data.picture_form import PictureForm, picture_form
from leftout.data.split import RowSplit, split_rows
from leftout.data.split_tables import SplitTables, source_of_splits
from leftout.data.table import read_table, table
from leftout.data.targets import RawTargets, alike_class_note

READERS: dict[str, Callable[[Path, str], DataSource]] = {
    "digits": lambda path, name: digits(),
    "mnist": mnist,
    "cifar10": cifar10,
}
PICTURE_READERS: dict[str, Callable[[Path, str, PictureForm], DataSource]] = {
    "folder": image_folder,
    ".zip": image_zip,
}


def load(
    data: Any = "digits",
    *,
    classes: Sequence[str | int] | None = None,
    n_train: int | None = None,
    n_query: int | None = None,
    seed: int = 0,
    normalise: Normalise | None = "unit",
    centre: Centre | None = None,
    outputs: int | None = None,
    target: str | None = None,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] | None = None,
    header: bool | None = None,
    task: Task | None = None,
    pictures: bool | None = None,
    labels: str | Path | None = None,
    drop_constant: bool = False,
    resize: int | tuple[int, int] | str | None = None,
    crop: bool | None = None,
    background: Background | None = None,
    embeddings: Any = None,
    embed: Callable[[Tensor], Any] | str | None = None,
) -> tuple[Examples, Examples]:
    """Return training examples and queries.

    Args:
        data: a name as in the list above; a DataFrame of pandas, or columns by name; a pair (inputs,
            targets), a Dataset or a DataLoader of such, which the seed splits; a data set of Hugging Face's
            `datasets`, or a dictionary of its splits; a pair (train, query) of frames or of these, or of
            Examples, which come back unchanged, however `normalise` is set; or a dictionary of arrays named
            as in a .npz, or a Bunch.
        classes: names, or numbers where names are words; selects them and sets their order.
        n_train: how many to take, each class in its proportion; None takes all.
        n_query: likewise.
        seed: of every choice: the split, where the data have none, and the subsets.
        normalise: how inputs are scaled, see `leftout.data.normalise`.
        centre: see `leftout.data.encoding`; None is "uniform" for classes, "mean" for numbers.
        outputs: columns that classes are coded in: 2 gives two classes one each, for a network with
            two outputs; None is one column of ∓1 for two classes, and one each for more.
        target: the column of a table to predict; None is the last that holds no names of rows and no prose,
            and a note says so.
        columns: the columns of a table to predict from; None is all others, but for those that tell rows
            apart: see `leftout.data.id_columns`.
        drop: columns of a table to leave out of everything.
        header: whether the first line of a .csv names its columns; None: it does, and one that may be an
            example is refused.
        task: whether targets are classes or numbers; None goes by their type: floats are numbers.
        drop_constant: leave out columns that have one value in all training rows; not of pictures.
        pictures: whether arrays are pictures; None goes by shape, type and range, see `leftout.data.pixels`.
        labels: a file of corrected labels, which take the place of those of the data once examples are
            chosen: see `leftout.data.corrections`.
        resize: side, or height and width, that picture files are brought to; None: all must have one size.
        crop: whether their middle is cut out for that; by default the whole picture is squeezed.
        background: "white" or "black", behind transparent pixels; None refuses them.
        embeddings: features (n, d) that take the place of the inputs, one row for each row of the data, or
            the name of a .npy or .parquet file of them: see `leftout.data.embeddings`. Pictures and columns
            of the data stay what a person looks at.
        embed: a function, or module, that makes features (b, d) of a batch of inputs, or its name,
            "FILE.py:FUNCTION": see `leftout.data.embedding_function`. Only chosen rows are embedded.

    Raises:
        DataError: the data are missing, damaged or not what their name says.
        OptionError: an option has a value that is not allowed, or does not go with these data.
        MemoryBudgetError: the data would not fit into the free memory.

    Example:
        >>> train, query = load("digits", classes=["3", "8"], n_train=100, n_query=20)
        >>> train.inputs.shape, train.classes, query.ids[:2]
        (torch.Size([100, 8, 8]), ('3', '8'), ('digits/0013', 'digits/0023'))

    Cost:
        What is listed is cheap; only chosen pictures are decoded. 9 bytes a pixel in the end.
    """
    check_choice("normalise", normalise, NORMALISATIONS)
    check_choice("centre", centre, (None, *CENTRES))
    check_seed(seed)
    check_choice("task", task, (None, "classification", "regression"))
    for name, choice in (("header", header), ("pictures", pictures)):
        check_choice(name, choice, (None, True, False))
    check_choice("drop_constant", drop_constant, (True, False))
    if embeddings is not None and embed is not None:
        raise OptionError("`embed` must be left out with `embeddings`, which are the features already.")
    reading = _Reading(
        target=target,
        columns=columns,
        drop=drop,
        header=header,
        task=task,
        pictures=pictures,
        form=picture_form(resize, crop, background),
        shown_only=embeddings is not None,
    )
    source = _data_source(data, reading)
    if isinstance(source, DataSource):
        if embeddings is not None:
            source = with_embeddings(source, read_embeddings(embeddings))
        if embed is not None:
            source = with_embedding_function(source, embed)
        split = split_rows(source, classes=classes, n_train=n_train, n_query=n_query, seed=seed)
        pair = _examples(
            source,
            split,
            normalise=normalise,
            drop_constant=drop_constant,
            centre=centre,
            outputs=outputs,
            seed=int(seed),
        )
    else:
        _check_untouched(
            classes=classes,
            n_train=n_train,
            n_query=n_query,
            centre=centre,
            outputs=outputs,
            task=task,
            embeddings=embeddings,
            embed=embed,
        )
        pair = source
    return pair if labels is None else correct(pair, read_corrections(labels), str(labels))


@dataclass(frozen=True)
class _Reading:
    """How data are to be read, as far as it was said."""

    target: str | None
    columns: Sequence[str] | None
    drop: Sequence[str] | None
    header: bool | None
    task: Task | None
    pictures: bool | None
    form: PictureForm
    shown_only: bool

    @property
    def of_table(self) -> dict[str, Any]:
        """Return what is said of the columns of a table."""
        return {"target": self.target, "columns": self.columns, "drop": self.drop}

    @property
    def of_files(self) -> dict[str, Any]:
        """Return what is said of picture files."""
        crop = self.form.crop or None
        return {"resize": self.form.size, "crop": crop, "background": self.form.background}


OF_TABLES = "a table (.csv, .parquet, DataFrame, columns by name)"
OF_FILES = "picture files (a folder, a .zip, a column of them)"


def _data_source(data: Any, reading: _Reading) -> DataSource | ExamplePair:
    """Return the rows that the reader for `data` lists, or Examples that are ready."""
    if not isinstance(data, str | Path):
        return _of_object(data, "pair" if isinstance(data, tuple | list) else "data", reading)
    kind, path = parse_data_name(str(data))
    text = str(data)
    if kind == "function":
        source = _of_object(returned_by(text, "(train, query)"), text, reading)
        return source if isinstance(source, DataSource) else _with_origin(source, text)
    if kind != ".csv":
        _check_left_out(text, "a .csv", header=reading.header)
    if kind in TABLES:
        _check_left_out(text, "arrays", pictures=reading.pictures)
        _check_left_out(text, OF_FILES, **reading.of_files)
        return _of_table(GivenTable(read_table(path, reading.header)), text, kind.lstrip("."), reading)
    if kind == "tables":
        _check_left_out(text, "arrays", pictures=reading.pictures)
        return _of_splits(arrow_folder(path, text), text, reading)
    _check_left_out(text, OF_TABLES, **reading.of_table)
    if kind == ".npz":
        _check_left_out(text, OF_FILES, **reading.of_files)
        return npz(path, text, task=reading.task, pictures=reading.pictures)
    _check_left_out(text, "arrays or a table", pictures=reading.pictures, task=reading.task)
    if kind in PICTURE_READERS:
        return PICTURE_READERS[kind](path, text, reading.form)
    _check_left_out(text, OF_FILES, **reading.of_files)
    return READERS[kind](path, text)


def _of_object(data: Any, text: str, reading: _Reading) -> DataSource | ExamplePair:
    """Return the rows of what a program holds."""
    _check_left_out(text, "a .csv", header=reading.header)
    check_no_stream(data, text)
    if is_hugging_face(data):
        _check_left_out(text, "arrays", pictures=reading.pictures)
        return _of_splits(hugging_face_tables(data, text), text, reading)
    _check_left_out(text, OF_FILES, **reading.of_files)
    given = given_table(data, text)
    if given is not None:
        _check_left_out(text, "arrays", pictures=reading.pictures)
        return _of_table(given, text, "frame", reading)
    _check_left_out(text, OF_TABLES, **reading.of_table)
    return source_of_object(data, text, task=reading.task, pictures=reading.pictures)


def _of_table(given: GivenTable, text: str, form: str, reading: _Reading) -> DataSource:
    of_table = reading.of_table
    if given.target is not None:
        _check_left_out(text, "a table that holds its target", target=reading.target)
        of_table["target"] = given.target
    rows = table(given.raw, text, form=form, task=reading.task, shown_only=reading.shown_only, **of_table)
    # Rows of two tables are counted in each.
    return replace(rows, rows=None) if given.of_two else rows


def _of_splits(tables: SplitTables, text: str, reading: _Reading) -> DataSource:
    if not tables.pictures:
        _check_left_out(text, OF_FILES, **reading.of_files)
    options = {"task": reading.task, "shown_only": reading.shown_only, **reading.of_table}
    return source_of_splits(tables, text, reading.form, **options)


def _check_left_out(source: str, wanted: str, **options: Any) -> None:
    for name, choice in options.items():
        if choice is not None:
            raise OptionError(
                f"`{name}` must be left out unless the data are {wanted}; got {shown(choice)} for `{source}`."
            )


def _with_origin(pair: ExamplePair, name: str) -> ExamplePair:
    """Return the Examples with the name of their data in `preparation`, unless there is one."""
    train, query = (replace(examples, preparation={"data": name} | examples.preparation) for examples in pair)
    return train, query


def _check_untouched(**options: Any) -> None:
    for name, option in options.items():
        if option is not None:
            raise OptionError(
                f"`{name}` must be left out when the data are already Examples, which are used "
                f"unchanged; got {shown(option)}. Choose rows with `Examples.select`."
            )


def _examples(
    source: DataSource,
    split: RowSplit,
    *,
    normalise: Normalise | None,
    drop_constant: bool,
    centre: Centre | None,
    outputs: int | None,
    seed: int,
) -> tuple[Examples, Examples]:
    """Return the chosen rows, read, scaled and coded."""
    n, source_rows = len(split.train), source.source_rows
    rows = source.read_split(split.train, split.query)
    train_rows, query_rows = rows.span(slice(0, n)), rows.span(slice(n, None))
    train_ids, query_ids = (
        tuple(source.ids[row] for row in numbers) for numbers in (split.train, split.query)
    )
    train, query, scaling = normalise_inputs(
        _finite(train_rows.inputs, train_ids),
        _finite(query_rows.inputs, query_ids),
        normalise=normalise,
        pictures=rows.images is not None and rows.inputs.ndim > 2,
        ids=(train_ids, query_ids),
        columns=rows.input_columns or rows.columns,
        drop_constant=drop_constant,
        words=sum(count for _, count in rows.words),
    )
    encoding = _target_encoding(split.train_targets, centre, outputs, train_ids)
    alike = alike_class_note(encoding.classes)
    preparation = {
        "data": source.name,
        **source.record,
        **({} if rows.white is None else {"white": rows.white}),
        **scaling,
        "centre": encoding.centre,
        "seed": seed,
        "split": "by seed" if source.is_query is None else "of the source",
        "n_train": n,
        "n_query": len(split.query),
        "classes": None if encoding.classes is None else list(encoding.classes),
        **_columns_record(rows),
        "notes": [
            *source.record.get("notes", ()),
            *([alike] if alike else []),
            *rows.notes,
            *_dropped_note(scaling),
        ],
    }
    return (
        _encoded_examples(
            train_rows, train, split.train_targets, encoding, train_ids, preparation, source_rows[split.train]
        ),
        _encoded_examples(
            query_rows, query, split.query_targets, encoding, query_ids, preparation, source_rows[split.query]
        ),
    )


def _columns_record(rows: InputRows) -> dict[str, Any]:
    """Return the names of the columns of inputs, where they are not those of the table; words are counted."""
    if rows.input_columns is None:
        return {}
    plain = len(rows.input_columns) - sum(count for _, count in rows.words)
    names = [*rows.input_columns[:plain], *(f"{name}: {count} words" for name, count in rows.words)]
    return {"input_columns": names}


def _dropped_note(scaling: dict[str, Any]) -> list[str]:
    """Return the sentence that names columns which were left out."""
    dropped = scaling.get("dropped_columns", ())
    if not dropped:
        return []
    have = "has" if len(dropped) == 1 else "have"
    return [
        f"left out, as it {have} one value in all training rows: {name_list(dropped)}".replace(
            "it have", "they have"
        )
    ]


def _encoded_examples(
    rows: InputRows,
    inputs: Tensor,
    raw: RawTargets,
    encoding: Encoding,
    ids: tuple[str, ...],
    preparation: dict[str, Any],
    source_rows: np.ndarray,
) -> Examples:
    if raw.labels is None:
        assert raw.numbers is not None
        labels = None
        targets = _finite(raw.numbers, ids, name="targets")
        targets = targets - torch.tensor(encoding.offset, dtype=torch.float64, device="cpu")
    else:
        labels = torch.from_numpy(raw.labels)
        targets = encoding.encode(labels)
    return Examples(
        inputs=inputs,
        targets=targets,
        encoding=encoding,
        labels=labels,
        ids=ids,
        images=rows.images,
        table=rows.table,
        columns=rows.columns,
        preparation=dict(preparation),
        source_rows=source_rows,
    )


def _target_encoding(
    raw: RawTargets, centre: Centre | None, outputs: int | None, ids: Sequence[str]
) -> Encoding:
    if raw.labels is None:
        assert raw.numbers is not None
        if outputs not in (None, raw.numbers.shape[1]):
            raise OptionError(
                f"`outputs` must be left out, or {raw.numbers.shape[1]}, the columns of numbers to "
                f"predict; got {outputs}."
            )
        numbers = _finite(raw.numbers, ids, name="targets")
        return encoding_of_numbers(numbers, centre=centre or "mean")
    return encoding_of_classes(
        torch.from_numpy(raw.labels), raw.classes, centre=centre or "uniform", outputs=outputs
    )


def _finite(array: Any, ids: Sequence[str], *, name: str = "inputs") -> Tensor:
    """Return an array as a tensor; raise at the first example that is not finite, by its id."""
    tensor = torch.from_numpy(array)
    bad = (~torch.isfinite(tensor.reshape(len(tensor), -1))).any(1).nonzero().flatten()
    if len(bad):
        raise DataError(
            f"`{name}` must be finite; {ids[int(bad[0])]} holds NaN or infinity ({len(bad)} of "
            f"{len(tensor)} examples do). Repair or drop them."
        )
    return tensor

"""Folders of Parquet or Arrow files, as Hugging Face's `datasets` saves them, or anybody.

FOLDER/data-00000-of-00001.arrow, state.json        `dataset.save_to_disk`
FOLDER/train/…, FOLDER/test/…, dataset_dict.json    the same of several splits
FOLDER/data/train-00000-of-00001.parquet            as a hub lays them out: the split is the name's first word

Only what pyarrow reads; `datasets` is not needed. Names of classes are in the files' own metadata.
"""

import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from leftout.core.errors import DataError
from leftout.data.arrow_columns import arrow_columns, arrow_errors, check_installed, is_pictures
from leftout.data.columns import RawTable
from leftout.data.data_name import ARROW, table_files
from leftout.data.files import check_allocation, file_bytes
from leftout.data.parquet_file import parquet_table
from leftout.data.split import TRAIN
from leftout.data.split_tables import (
    NAMES_OF_QUERIES,
    WHOLE,
    SplitTables,
    is_query_of,
    row_names,
    used_splits,
)

try:
    import pyarrow
except ImportError:
    pyarrow = None

SHARD = re.compile(r"(?P<split>\w+?)(-[0-9]+)?(-of-[0-9]+)?(-[0-9a-f]+)?")
"""The name of a file: its split, and which of how many it is."""

UNNAMED = ("data", "dataset", "cache", "part")
"""First words of file names that are no splits."""


def arrow_folder(folder: Path, source: str) -> SplitTables:
    """Return the rows of a folder.

    Raises:
        DataError: pyarrow is not installed; files that are damaged, or differ in their columns; rows that
            were chosen from a file and not written.
    """
    check_installed(source)
    files: dict[str, list[Path]] = {}
    for path in table_files(folder):
        _check_flat(path.parent)
        files.setdefault(_split_of(path, folder), []).append(path)
    if not set(files) & {TRAIN, *NAMES_OF_QUERIES}:
        files = {WHOLE: [path for paths in files.values() for path in paths]}
    used, unused = used_splits(list(files), source)
    parts = {split: [_read_table(path) for path in sorted(files[split])] for split in used}
    counts = {split: sum(part.num_rows for part in parts[split]) for split in used}
    counts = counts if len(counts) > 1 else {WHOLE: sum(counts.values())}
    tables = [part for split in used for part in parts[split]]
    first = tables[0].schema
    odd = next((each for each in tables if each.schema.names != first.names), None)
    if odd is not None:
        raise DataError(
            f"`{source}` must hold files of the same columns; got {first.names} and {odd.schema.names}."
        )
    with arrow_errors(source, "Arrow"):
        whole = pyarrow.concat_tables([table.replace_schema_metadata(None) for table in tables])
        whole.validate(full=True)
        pictures = {field.name: whole.column(field.name) for field in whole.schema if is_pictures(field.type)}
        flat = [name for name in whole.column_names if name not in pictures]
        columns = arrow_columns(whole.select(flat), source).columns if flat else []
    if not whole.num_rows or not flat:
        raise DataError(f"`{source}` must hold rows and a column to predict; it has {whole.shape}.")
    return SplitTables(
        raw=RawTable(columns, row_names(counts)),
        pictures={name: partial(_contents, column, name, source) for name, column in pictures.items()},
        classes=_class_names(first, folder),
        is_query=is_query_of(counts),
        unused=tuple(unused),
    )


def _split_of(path: Path, folder: Path) -> str:
    """Return the split of a file: the folder it lies in, or the first word of its name."""
    inner = path.relative_to(folder).parts[:-1]
    if inner and inner[-1].lower() not in UNNAMED:
        return inner[-1].lower()
    match = SHARD.fullmatch(path.stem)
    word = match["split"].lower() if match else WHOLE
    return WHOLE if word in UNNAMED or match is None else word


def _read_table(path: Path) -> Any:
    if path.suffix.lower() != ARROW:
        return parquet_table(path)
    content = file_bytes(path)
    with arrow_errors(str(path), "Arrow"):
        try:
            return pyarrow.ipc.open_stream(content).read_all()
        except pyarrow.ArrowInvalid:
            return pyarrow.ipc.open_file(content).read_all()


def _check_flat(folder: Path) -> None:
    """Raise where rows were chosen from a file and not written."""
    state = _json(folder / "state.json")
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise DataError(
            f"`{folder}` must hold its rows as they are; it holds a choice of them. Save "
            "`dataset.flatten_indices()` instead."
        )


def _class_names(schema: Any, folder: Path) -> dict[str, list[str]]:
    """Return the names of classes by column, from the metadata of the files, or beside them."""
    metadata = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = json.loads(metadata).get("info", {}).get("features", {})
    except (ValueError, AttributeError):
        features = {}
    for path in [folder / "dataset_info.json", *sorted(folder.glob("*/dataset_info.json"))]:
        features = features or _json(path).get("features") or {}
    return {
        name: list(map(str, feature["names"]))
        for name, feature in features.items()
        if isinstance(feature, dict) and isinstance(feature.get("names"), list)
    }


def _json(path: Path) -> dict[str, Any]:
    """Return what a file of settings holds; nothing where there is none."""
    if not path.is_file():
        return {}
    try:
        record = json.loads(file_bytes(path))
    except ValueError as error:
        raise DataError(f"`{path}` must be JSON; it is damaged: {error}. Save the data set again.") from error
    return record if isinstance(record, dict) else {}


def _contents(column: Any, name: str, source: str, rows: Sequence[int]) -> list[bytes]:
    """Return the bytes of picture files in some rows."""
    taken = column.take(rows).to_pylist()
    contents = []
    for row, cell in zip(rows, taken, strict=True):
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if content is None:
            raise DataError(
                f"`{source}` must hold its pictures; row {row} of {name!r} has none"
                + (
                    f", only the path {cell['path']!r}."
                    if isinstance(cell, dict) and cell.get("path")
                    else "."
                )
            )
        contents.append(content)
    check_allocation(f"{len(rows)} picture files of `{source}`", sum(map(len, contents)))
    return contents

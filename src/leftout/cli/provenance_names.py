"""Where each training example comes from, by a column of the table, by a file, or by its class.

--provenance COLUMN     a column of DATA, a .csv or .parquet table; it is then no feature
--provenance FILE.csv   (or .parquet) with columns `id` and `source`, for data of any kind
not given               the class
"""

from pathlib import Path

from leftout.core.errors import DataError, OptionError
from leftout.core.wording import did_you_mean, name_list
from leftout.data.columns import ID, Column, RawTable
from leftout.data.data_name import TABLES
from leftout.data.examples import Examples
from leftout.data.table import SPLIT, read_table

SOURCE = "source"
"""Name of the column, in a file, that says where an example comes from."""


def provenance_names(
    provenance: str | None, data: str, train: Examples, header: bool | None = None
) -> list[str]:
    """Return where each training example comes from.

    Raises:
        OptionError: no such column or file; none given where there are no classes.
        DataError: a file without the two columns, or without one of the examples.
    """
    if provenance is None:
        if train.labels is None or train.classes is None:
            raise OptionError(
                "--provenance must say where examples come from, as there are no classes: a column of the "
                "table, or FILE.csv with columns id and source."
            )
        return [train.classes[label] for label in train.labels.tolist()]
    if is_table(provenance):
        columns, raw = _table(provenance)
        column = columns.get(SOURCE)
        ids = raw.names_by(ID) if ID in columns else []
        if column is None or ID not in columns:
            raise DataError(
                f"`{provenance}` must have the columns 'id' and 'source'; it has {name_list(columns)}."
            )
    else:
        columns, raw = _table(data, header)
        column = columns[provenance]
        ids = raw.names_by(train.preparation["named_by"])
    if column.missing is not None:
        raise DataError(
            f"`{provenance}` must name a source for every example; that of {ids[column.missing]} is missing."
        )
    source_by_id = dict(zip(ids, map(str, column.values.tolist()), strict=True))
    unknown = [name for name in train.ids if name not in source_by_id]
    if unknown:
        raise DataError(
            f"`{provenance}` must name a source for every training example; {len(unknown)} of "
            f"{len(train)} are not there, the first {unknown[0]!r}."
        )
    return [source_by_id[name] for name in train.ids]


def is_table(name: str) -> bool:
    """Return whether a name is that of a table rather than of a column."""
    return Path(name).suffix.lower() in TABLES


def provenance_column(
    provenance: str | None, data: str, target: str | None, *, header: bool | None = None
) -> str | None:
    """Return the column of the table that says where examples come from, which is no feature; None for none.

    Args:
        header: whether the first line of a .csv names its columns; None: as `load` decides.

    Raises:
        OptionError: no such column, or the one that is predicted.
    """
    if provenance is None or is_table(provenance):
        return None
    if not is_table(data):
        raise OptionError(
            f"--provenance {provenance!r} must be a file with columns id and source (.csv, .parquet): only a "
            f"table has columns of its own, and {data!r} is none."
        )
    names = [name for name in _table(data, header)[0] if name not in (ID, SPLIT)]
    predicted = target or names[-1]
    if provenance not in names:
        raise OptionError(
            f"--provenance must be a column of {data!r}, {name_list(names)}, or a file with columns id and "
            f"source; got {provenance!r}.{did_you_mean(provenance, names)}"
        )
    if provenance == predicted:
        raise OptionError(
            f"--provenance {provenance!r} is the column that is predicted; name another with --target."
        )
    return provenance


def _table(name: str, header: bool | None = None) -> tuple[dict[str, Column], RawTable]:
    """Return the columns of a table by name, and the table."""
    raw = read_table(Path(name).expanduser(), header)
    return {column.name: column for column in raw.columns}, raw

"""Where does each training example come from? Said by a column of the table, by a file, or by its class.

--source COLUMN     a column of DATA, a .csv or .parquet table; it is then no feature
--source FILE.csv   (or .parquet) with columns `id` and `source`, for data of any kind
not said            the class
"""

from pathlib import Path

from leftout.core.errors import DataError, OptionError
from leftout.core.wording import name_list
from leftout.data.columns import ID, Column
from leftout.data.examples import Examples
from leftout.data.table import READERS, SPLIT

SOURCE = "source"
"""Name of the column, in a file of sources, that says where an example comes from."""


def origins(source: str | None, data: str, train: Examples) -> list[str]:
    """Return the source of each training example.

    Raises:
        OptionError: no such column or file; nothing said where there are no classes.
        DataError: a file without the two columns, or without one of the examples.
    """
    if source is None:
        if train.labels is None or train.classes is None:
            raise OptionError(
                "--source must say where examples come from, as there are no classes: a column of the "
                "table, or FILE.csv with columns id and source."
            )
        return [train.classes[label] for label in train.labels.tolist()]
    if is_file(source):
        by_name, names = _table(Path(source).expanduser())
        column = by_name.get(SOURCE)
        if column is None or ID not in by_name:
            raise DataError(
                f"`{source}` must have the columns 'id' and 'source'; it has {name_list(by_name)}."
            )
    else:
        by_name, names = _table(Path(data).expanduser())
        column = by_name[source]
    if column.missing is not None:
        raise DataError(
            f"`{source}` must name a source for every example; that of {names[column.missing]} is missing."
        )
    said = dict(zip(names, map(str, column.values.tolist()), strict=True))
    unknown = [name for name in train.ids if name not in said]
    if unknown:
        raise DataError(
            f"`{source}` must name a source for every training example; {len(unknown)} of "
            f"{len(train)} are not there, the first {unknown[0]!r}."
        )
    return [said[name] for name in train.ids]


def is_file(source: str) -> bool:
    """Return whether sources are named by a file rather than by a column."""
    return Path(source).suffix.lower() in READERS


def columns_beside(source: str | None, data: str, target: str | None) -> list[str] | None:
    """Return the columns to predict from where the source is a column, None where all others are.

    Raises:
        OptionError: no such column, or the one that is predicted.
    """
    if source is None or is_file(source):
        return None
    if not is_file(data):
        raise OptionError(
            f"--source {source!r} must be a file with columns id and source (.csv, .parquet): only a "
            f"table has columns of its own, and {data!r} is none."
        )
    names = [name for name in _table(Path(data).expanduser())[0] if name not in (ID, SPLIT)]
    goal = target or names[-1]
    if source not in names:
        raise OptionError(
            f"--source must be a column of {data!r}, {name_list(names)}, or a file with columns id and "
            f"source; got {source!r}."
        )
    if source == goal:
        raise OptionError(f"--source {source!r} is the column that is predicted; name another with --target.")
    return [name for name in names if name not in (source, goal)]


def _table(path: Path) -> tuple[dict[str, Column], list[str]]:
    """Return the columns of a table by name, and the ids of its rows as `load` names them."""
    every, names = READERS[path.suffix.lower()](path)
    by_name = {column.name: column for column in every}
    if ID in by_name:
        names = [str(value) for value in by_name[ID].values.tolist()]
    return by_name, names

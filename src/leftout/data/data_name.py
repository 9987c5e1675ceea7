"""The reader that the name of a data set asks for, decided before anything is read or torch is loaded."""

from pathlib import Path

from leftout.core.errors import DataError
from leftout.core.wording import did_you_mean

FOLDERS = ("mnist", "cifar10")
TABLES = (".csv", ".parquet")
FILES = (".npz", ".zip", *TABLES)
ARROW = ".arrow"
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm", ".ppm")
KINDS_OF_DATA = "digits, mnist:DIR, cifar10:DIR, a folder, .zip, .npz, .csv, .parquet, FILE.py:function"


def parse_data_name(name: str) -> tuple[str, Path]:
    """Return the kind of the data and its path.

    Returns:
        "digits", "mnist", "cifar10", "function", "folder" (of pictures), "tables" (a folder of Parquet or
        Arrow files), or the suffix of a file; and the path that exists.

    Raises:
        DataError: no such kind, file or folder.
    """
    path = Path(name).expanduser()
    suffix = path.suffix.lower()
    if name == "digits":
        return "digits", path
    if suffix in TABLES and not path.is_dir():
        check_file(path)
        return suffix, path
    prefix, _, place = name.partition(":")
    if prefix in FOLDERS and place:
        folder = Path(place).expanduser()
        check = check_file if folder.suffix.lower() == ".zip" and prefix == "cifar10" else check_folder
        check(folder)
        return prefix, folder
    if ".py:" in name:
        file = Path(name.rpartition(":")[0]).expanduser()
        check_file(file)
        return "function", file
    if path.is_dir():
        return "tables" if table_files(path) else "folder", path
    if suffix:
        check_file(path)
    if suffix not in FILES:
        near = did_you_mean(name, ["digits", *names_beside(path)])
        raise DataError(f"`data` must be one of {KINDS_OF_DATA}; got {name!r}.{near}")
    return suffix, path


def table_files(folder: Path) -> list[Path]:
    """Return the Parquet or Arrow files of a folder, at most one folder deep, without caches.

    A folder that also holds pictures, or folders two deep, is one of pictures with a table beside them: none.
    """
    entries = _entries(folder)
    inner = [entry for place in entries if place.is_dir() for entry in _entries(place)]
    if any(entry.name.lower().endswith(PICTURES) for entry in (*entries, *inner)):
        return []
    found = [entry for entry in (*entries, *inner) if entry.suffix.lower() in (ARROW, ".parquet")]
    if not found or any(entry.is_dir() for entry in inner):
        return []
    return [path for path in found if path.is_file()]


def _entries(folder: Path) -> list[Path]:
    """Return what a folder holds and does not hide."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "cache-")))
    except OSError:
        return []  # whoever reads pictures says what is wrong


def check_file(path: Path) -> None:
    """Raise unless `path` is an ordinary file."""
    if not path.exists():
        near = did_you_mean(path.name, names_beside(path))
        raise DataError(f"`{path}` must be a file; there is none of this name.{near or ' Check the path.'}")
    if not path.is_file():
        raise DataError(f"`{path}` must be an ordinary file; it is a folder, a device or a pipe.")


def check_folder(path: Path) -> None:
    """Raise unless `path` is a folder."""
    if not path.is_dir():
        near = did_you_mean(path.name, names_beside(path))
        raise DataError(f"`{path}` must be a folder; there is none of this name.{near or ' Check the path.'}")


def names_beside(path: Path) -> list[str]:
    """Return the names in the folder that a path lies in; none where it cannot be read."""
    try:
        return sorted(other.name for other in path.parent.iterdir() if not other.name.startswith("."))
    except OSError:
        return []

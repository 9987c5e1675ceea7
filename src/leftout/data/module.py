"""Data and models from a user's function, named as `FILE.py:function`.

This is the only place that runs code from a file, which the user names.
"""

import sys
import types
from pathlib import Path
from typing import Any

from leftout.core.errors import DataError
from leftout.data.archive import source_of_arrays
from leftout.data.arrays import pair_arrays
from leftout.data.data_source import DataSource
from leftout.data.examples import Examples
from leftout.data.files import file_bytes

ExamplePair = tuple[Examples, Examples]


def module(source: str) -> DataSource | ExamplePair:
    """Return the data that the function of a file returns.

    Args:
        source: "FILE.py:function"; modules beside FILE.py can be imported by it.

    Raises:
        DataError: as `returned_by`; or what came back is no pair.
    """
    return source_of_pair(returned_by(source, "(train, query)"), source)


def returned_by(source: str, wanted: str) -> Any:
    """Return what a function of a user's file returns.

    Args:
        source: "FILE.py:function"; modules beside FILE.py can be imported by it.
        wanted: what it must return, in the words of messages.

    Raises:
        DataError: no such file or function; the user's code failed (its exception is the cause of
            ours).
    """
    place, _, name = source.rpartition(":")
    path = Path(place).expanduser()
    code = file_bytes(path)
    beside = str(path.resolve().parent)
    namespace = types.ModuleType(f"leftout_user_{path.stem}")
    namespace.__file__ = str(path)
    sys.path.insert(0, beside)
    sys.modules[namespace.__name__] = namespace  # where dataclasses and pickling look it up
    try:
        exec(compile(code, str(path), "exec"), namespace.__dict__)
        function = getattr(namespace, name, None)
        if not callable(function):
            raise DataError(f"`{path}` must define a function {name!r}; it does not.")
        return function()
    except DataError:
        raise
    except (Exception, SystemExit) as error:
        raise DataError(
            f"`{source}` must return {wanted}; it raised {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path.remove(beside)


def source_of_pair(pair: Any, source: str) -> DataSource | ExamplePair:
    """Return a pair of Examples unchanged, or the rows of a pair of pairs (inputs, targets).

    Raises:
        DataError: neither; or one of each.
    """
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        length = f" of {len(pair)}" if isinstance(pair, tuple | list) else ""
        raise DataError(
            f"`{source}` must be a pair (train, query), each Examples or a pair (inputs, targets); "
            f"got {type(pair).__name__}{length}."
        )
    train, query = pair
    if isinstance(train, Examples) and isinstance(query, Examples):
        if train.encoding != query.encoding:
            raise DataError(
                f"`{source}` must code training and query targets alike; got {train.encoding} and "
                f"{query.encoding}. Make the queries with the encoding of the training examples."
            )
        return train, query
    if isinstance(train, Examples) or isinstance(query, Examples):
        raise DataError(
            f"`{source}` must be two Examples, or two pairs (inputs, targets); got "
            f"{type(train).__name__} and {type(query).__name__}."
        )
    inputs, targets = {}, {}
    for name, side in (("train", train), ("query", query)):
        inputs[name], targets[f"{name} targets"] = pair_arrays(side, name)
    return source_of_arrays(source, inputs, targets)

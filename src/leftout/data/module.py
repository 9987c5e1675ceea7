"""Data and models from a user's function, named as `FILE.py:function`.

This is the only place that runs code from a file, which the user names.
"""

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leftout.core.errors import DataError
from leftout.data.files import file_bytes


def returned_by(source: str, wanted: str) -> Any:
    """Return what a function of a user's file returns.

    Args:
        source: "FILE.py:function"; modules beside FILE.py can be imported by it.
        wanted: what it must return, in the words of messages.

    Raises:
        DataError: no such file or function; the user's code failed (its exception is the cause of
            ours).
    """
    return _use_function(source, lambda function: function(), wanted)


def user_function(source: str) -> Any:
    """Return a function, or a module, that a user's file defines.

    Raises:
        DataError: as `returned_by`.
    """
    return _use_function(source, lambda function: function, "a function of a batch")


def _use_function(source: str, use: Callable[[Any], Any], wanted: str) -> Any:
    """Return what is made of a function of a user's file, while its neighbours can be imported."""
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
        return use(function)
    except DataError:
        raise
    except (Exception, SystemExit) as error:
        raise DataError(
            f"`{source}` must return {wanted}; it raised {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path.remove(beside)

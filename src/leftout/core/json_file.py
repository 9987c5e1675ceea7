"""JSON files that are replaced whole, and hold only what every reader of JSON takes."""

import json
import math
from pathlib import Path
from typing import Any

from leftout.core.atomic_files import atomic_write
from leftout.core.errors import StoreError


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(strict(content), indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        StoreError: no such file, or not JSON. What is no file, such as a pipe, is not read: that might never
            end.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "result.json"
        >>> _ = path.write_text('{"rows": 2}')
        >>> read_json(path)
        {'rows': 2}
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no file")
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise StoreError(f"{str(path)!r} does not exist.") from None
    except MemoryError:
        raise StoreError(f"{str(path)!r} is not readable JSON: it is larger than memory.") from None
    except (OSError, ValueError, RecursionError) as error:  # brackets nested too deep for the parser
        raise StoreError(f"{str(path)!r} is not readable JSON: {error}.") from None


def strict(content: Any) -> Any:
    """Return content that JSON can hold: infinity and NaN, which JSON lacks, become text."""
    if isinstance(content, float) and not math.isfinite(content):
        return str(content)
    if isinstance(content, dict):
        return {key: strict(inner) for key, inner in content.items()}
    return [strict(inner) for inner in content] if isinstance(content, list | tuple) else content

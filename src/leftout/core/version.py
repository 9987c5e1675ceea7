"""The version of leftout, which is written into every saved result."""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

try:
    __version__ = version("leftout")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"


@cache
def code_fingerprint() -> str:
    """Return a hash of the source of this package: of one version, another where a file was changed.

    Cost: a megabyte is read once.
    """
    package, digest = Path(__file__).resolve().parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]

"""Compile fused.c: `python -m leftout.kernels.fused.build`, which `hatch_build.py` does at installation.

The library stands beside its source. It needs nothing of Python, and has a version for each set of
instructions.
"""

import os
import shlex
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

SOURCE = Path(__file__).with_name("fused.c")
LIBRARY = Path(__file__).with_name("libfused.so")

# No -ffast-math and no contraction: either breaks that equal images have no angle.
FLAGS = (
    "-std=gnu11",
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fvisibility=hidden",
    "-fPIC",
    "-shared",
)


def source_digest(source: Path = SOURCE) -> str:
    """Return the digest of the source that is compiled into its library."""
    return sha256(source.read_bytes()).hexdigest()


def compile_library(library: Path = LIBRARY, *flags: str) -> str:
    """Compile the library; return why that is not possible, or an empty text.

    Args:
        flags: for the compiler, beside `FLAGS`.
    """
    compiler = _compiler()
    if not compiler:
        return "no C compiler was found (cc, gcc, clang, or $CC)."
    unfinished = library.with_suffix(".part")  # it appears when it is whole
    command = [*compiler, *FLAGS, *flags, f'-DSOURCE="{source_digest()}"', str(SOURCE), "-o", str(unfinished)]
    try:
        process = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{compiler[0]} does not start: {error}."
    if process.returncode:
        return f"{compiler[0]} failed: {process.stderr.strip()[-500:]}"
    unfinished.replace(library)
    return ""


def _compiler() -> list[str]:
    """Return the command of a C compiler; [] without any."""
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    return list(filter(None, map(shutil.which, ("cc", "gcc", "clang"))))[:1]


if __name__ == "__main__":
    sys.exit(compile_library() or 0)

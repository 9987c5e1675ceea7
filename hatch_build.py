"""Compile fused.c when leftout is installed or a wheel is made, where there is a C compiler.

The library stands beside its source; it needs no Python, so that a wheel with it is for a platform and for any
Python. Without a compiler the wheel is for every platform, and torch computes what C would.
"""

import os
import shlex
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

ROOM = Path("src/leftout/kernels/fused")
FLAGS = "-std=gnu11 -O3 -ffp-contract=off -fno-math-errno -fvisibility=hidden -fPIC -shared"


class CustomBuildHook(BuildHookInterface):
    """Build the library before files are collected."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say for which platform the wheel then is."""
        if self.target_name != "wheel":
            return
        source, library = (Path(self.root) / ROOM / name for name in ("fused.c", "libfused.so"))
        reason = compile_library(source, library)
        if reason:
            self.app.display_warning(f"Kernels are computed by torch alone: {reason}")
            return
        build_data["artifacts"].append(f"/{ROOM / library.name}")
        if version != "editable":
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{next(sys_tags()).platform}"


def compile_library(source: Path, library: Path, flags: str = FLAGS) -> str:
    """Compile the library; return why that is not possible, or nothing."""
    library.unlink(missing_ok=True)
    asked = os.environ.get("CC")
    found = shlex.split(asked) if asked else next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if not found:
        return "no C compiler was found (cc, gcc, clang or $CC)."
    compiler = found if isinstance(found, list) else [found]
    digest = sha256(source.read_bytes()).hexdigest()
    part = library.with_suffix(".part")  # appears when it is whole
    command = [*compiler, *flags.split(), f'-DSOURCE="{digest}"', str(source), "-o", str(part)]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{compiler[0]} does not start: {error}."
    if made.returncode:
        return f"{compiler[0]} failed: {made.stderr.strip()[-500:]}"
    part.replace(library)
    return ""

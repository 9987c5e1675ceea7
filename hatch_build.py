"""Compile fused.c when leftout is installed or a wheel is made, where there is a C compiler.

A wheel with the library is for one platform and for any Python. Without a compiler it is for every platform,
and torch computes what C would.
"""

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

ROOM = Path("src/leftout/kernels/fused")


class CustomBuildHook(BuildHookInterface):
    """Build the library before files are collected."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say for which platform the wheel then is."""
        if self.target_name != "wheel":
            return
        # By its path: leftout is not installed yet.
        path = Path(self.root) / ROOM / "build.py"
        spec = importlib.util.spec_from_file_location("build", path)
        build = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(build)
        build.LIBRARY.unlink(missing_ok=True)
        reason = build.compile_library()
        if reason:
            self.app.display_warning(f"Torch computes all kernels: {reason}")
            return
        build_data["artifacts"].append(f"/{ROOM / build.LIBRARY.name}")
        if version != "editable":
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{next(sys_tags()).platform}"

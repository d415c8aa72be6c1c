"""Compiles the optional C parts of the hot path; where there is no compiler, the same classes in Python do the work."""

from __future__ import annotations

import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext

SOURCES = "src/voxload/**/_*.c"


class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts each module beside its source, for wheels and for editable installs alike."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  # hatchling's signature
        """Compile; a wheel with a compiled part is for this Python and machine alone."""
        root = Path(self.root)
        sources = sorted(root.glob(SOURCES))
        built = [made for source in sources if (made := compile_extension(source)) is not None]
        if len(built) == len(sources):
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            build_data["artifacts"] += [str(made.relative_to(root)) for made in built]


def compile_extension(source: Path) -> Path | None:
    """Return the compiled module, or None (with a word of why) where it cannot be compiled."""
    target = source.with_name(source.stem + sysconfig.get_config_var("EXT_SUFFIX"))
    with tempfile.TemporaryDirectory() as folder:
        distribution = Distribution(
            {"ext_modules": [Extension(source.stem, [str(source)], extra_compile_args=["-O3"])]}
        )
        command = build_ext(distribution)
        command.build_lib = command.build_temp = folder
        try:
            command.ensure_finalized()
            command.run()
            target.unlink(missing_ok=True)  # a process that has it open keeps the old one
            shutil.copy(command.get_ext_fullpath(source.stem), target)
        except Exception as error:  # noqa: BLE001  # whatever the compiler's side raises: it is optional
            sys.stderr.write(f"voxload: {source.name} was not compiled ({error}); the same code in Python is used\n")
            return None
    return target

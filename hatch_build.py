"""Compiles the optional C parts of the hot path; where there is no compiler, the same classes in Python do the work."""

from __future__ import annotations

import hashlib
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
        build = build_of(root)
        built = [made for source in sources if (made := compile_extension(source, build)) is not None]
        if len(built) == len(sources):
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            build_data["artifacts"] += [str(made.relative_to(root)) for made in built]


def build_of(root: Path) -> str:
    """Return what tells these C sources from others: modules that share objects must be of one build (`_native.h`)."""
    digest = hashlib.sha256()
    for source in sorted(root.glob("src/voxload/**/_*.[ch]")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def compile_extension(source: Path, build: str) -> Path | None:
    """Return the compiled module, or None (with a word of why) where it cannot be compiled."""
    target = source.with_name(source.stem + sysconfig.get_config_var("EXT_SUFFIX"))
    macros: list[tuple[str, str | None]] = [("VOXLOAD_BUILD", f'"{build}"')]
    extension = Extension(source.stem, [str(source)], define_macros=macros, extra_compile_args=["-O3"])
    with tempfile.TemporaryDirectory() as folder:
        distribution = Distribution({"ext_modules": [extension]})
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

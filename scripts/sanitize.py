"""Runs the tests of the parts in C on copies that were compiled with gcc's address and undefined-behaviour sanitizers.

python scripts/sanitize.py [pytest's options and files]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
FLAGS = "-shared -fPIC -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined"
TESTS = ("unit/test_ring.py", "unit/test_wheel.py", "unit/dialects/test_splice.py", "unit/engine", "conformance")


def main(arguments: list[str]) -> int:
    """Compile, run, and return pytest's exit code.

    Raises:
        subprocess.CalledProcessError: it cannot be compiled, or a compiled copy cannot be imported.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(shutil.copytree(ROOT / "src", Path(folder, "src"), ignore=shutil.ignore_patterns("*.so")))
        environment = {
            **os.environ,
            "PYTHONPATH": str(source),  # before the installed one
            "LD_PRELOAD": " ".join(_gcc(f"-print-file-name={name}").strip() for name in ("libasan.so", "libubsan.so")),
            "ASAN_OPTIONS": "detect_leaks=0",  # Python frees little at its end
            "PYTHONMALLOC": "malloc",  # Python's own allocator would hide what is read beyond an object
        }
        checks = []
        for path in sorted(source.glob("voxload/**/_*.c")):
            built = path.with_name(path.stem + sysconfig.get_config_var("EXT_SUFFIX"))
            _gcc(*FLAGS.split(), f"-I{sysconfig.get_paths()['include']}", str(path), "-o", str(built))
            module = ".".join(path.relative_to(source).with_suffix("").parts)
            checks.append(f"import {module} as made; assert made.__file__ == {str(built)!r}")
        subprocess.run([sys.executable, "-c", "\n".join(checks)], env=environment, check=True)
        tests = arguments or [str(ROOT / "tests" / name) for name in TESTS]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
        return subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode


def _gcc(*words: str) -> str:
    return subprocess.run(["gcc", *words], stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Parts in C that were compiled from other sources are refused: they would read each other's objects wrongly."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import voxload
from voxload.engine.receiver import native_receiver

CODE = """
import sys
sys.path[:0] = [{folder!r}]
from voxload import inlet
from voxload.engine import receiver
assert inlet.__file__.startswith({folder!r})
print(inlet.COMPILED, receiver.native_receiver)
try:
    from voxload.engine import _receiver
except ImportError as error:
    print(error)
"""


@pytest.mark.skipif(native_receiver is None or shutil.which("cc") is None, reason="nothing was compiled here")
def test_a_part_of_another_build_is_not_used(tmp_path):
    package = Path(voxload.__file__).parent
    copy = tmp_path / "voxload"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__", "speech", "*.wav"))
    for built in copy.glob("_inlet.*.so"):
        words = ["-shared", "-fPIC", f"-I{sysconfig.get_paths()['include']}", '-DVOXLOAD_BUILD="other"']
        subprocess.run(["cc", *words, str(copy / "_inlet.c"), "-o", str(built)], check=True)
    code = CODE.format(folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.strip().splitlines()[-2:]
    assert first == "False None"
    assert second == "voxload._inlet was compiled from other sources: install voxload again"

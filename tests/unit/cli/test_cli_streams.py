"""Standard streams that are closed, full, left by their reader, or lack characters; a defect is no verdict."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from voxload.cli.main import run_command_line

CODE = """
import os, sys
from voxload.cli.streams import Streams
streams = Streams()
for _ in range(3000):
    print("✗ a line of output")
sys.stdout.flush()
sys.exit(streams.end(int(sys.argv[1])))
"""


def ended(code: int, **streams: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", CODE, str(code)], timeout=60, check=False, **streams)


def test_a_reader_that_leaves_changes_no_exit_code() -> None:
    for code in (0, 1):
        reader, writer = os.pipe()
        os.close(reader)
        done = ended(code, stdout=writer, stderr=subprocess.PIPE)
        os.close(writer)
        assert (done.returncode, done.stderr) == (code, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full disk to offer")
def test_output_on_a_full_disk_is_no_success() -> None:
    with Path("/dev/full").open("wb") as full:
        done = ended(0, stdout=full, stderr=subprocess.PIPE)
        assert (done.returncode, done.stderr.count(b"\n")) == (3, 1)
        assert b"could not be written: No space left" in done.stderr
        assert ended(1, stdout=full, stderr=subprocess.DEVNULL).returncode == 1


def test_closed_streams_are_not_taken_by_other_files() -> None:
    code = "import os; from voxload.cli.streams import Streams; Streams(); print('x'); os._exit(os.dup(0) - 3)"
    command = f"exec '{sys.executable}' -c \"{code}\" <&- >&- 2>&-"
    assert subprocess.run(["/bin/sh", "-c", command], timeout=60, check=False).returncode == 0


def test_what_an_encoding_lacks_is_a_question_mark() -> None:
    done = ended(0, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert done.stdout.startswith(b"? a line of output\n")


def test_a_defect_is_no_failed_gate(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(**_: object) -> None:
        raise ZeroDivisionError("oh")

    assert run_command_line([], broken) == 4
    told = capsys.readouterr().err
    assert "ZeroDivisionError: oh" in told
    assert "this is a defect of voxload" in told


def test_a_folder_that_cannot_be_made_is_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert run_command_line([], lambda **_: (tmp_path / "file/x").mkdir()) == 2
    assert capsys.readouterr().err == f"voxload: {tmp_path}/file/x: Not a directory\n"

"""What a process asks of its system: room for open files, a garbage collector that holds up no frames."""

import gc
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from voxload.process import (
    AUTOGROUP,
    FILES_RESERVED_MAX,
    PRIORITY,
    SCHED_CALLS,
    SLICE_NS,
    YOUNG_MAX,
    slice_short,
    tidy_garbage,
)

PREFER = f"""
from voxload.process import prefer_this_process
print(prefer_this_process(), open({str(AUTOGROUP)!r}).read())
"""


def niceness_of_session(told: str) -> str:
    """What the file says last; it is empty where no ancestor of the process ever began a session (some containers)."""
    return (told.split() or [""])[-1]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
def test_the_table_of_files_is_as_large_as_it_will_ever_be():
    code = "import resource; from voxload.process import raise_file_limit; limit = raise_file_limit();"
    code += "print(limit, len(__import__('os').listdir('/proc/self/fd'))); print(open('/proc/self/status').read())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    limit, open_files = map(int, told.splitlines()[0].split())
    size = int(re.search(r"FDSize:\s+(\d+)", told)[1])
    assert size >= min(limit, FILES_RESERVED_MAX) > 64
    assert open_files <= len(list(Path("/proc/self/fd").iterdir())) + 4, "nothing stays open"


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="the system does not group by session")
@pytest.mark.parametrize("leads", [True, False])
def test_a_session_of_its_own_is_preferred_too_and_that_of_others_left_alone(leads):
    before = AUTOGROUP.read_text()
    command = [sys.executable, "-c", PREFER]
    done = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=leads)
    granted, _, told = done.stdout.partition(" ")
    if granted != "True":
        pytest.skip("the system does not grant a higher priority")
    if leads and not told.strip():
        pytest.skip("the system does not group by session")
    assert niceness_of_session(told) == (str(PRIORITY) if leads else niceness_of_session(before))
    assert AUTOGROUP.read_text() == before


LINUX = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2]) if sys.platform == "linux" else (0, 0)


@pytest.mark.skipif(platform.machine() not in SCHED_CALLS, reason="the system calls' numbers are not known")
@pytest.mark.skipif(LINUX < (6, 12), reason="the system grants no slices")
@pytest.mark.parametrize("first", ["", "prefer_this_process(); "])
def test_slices_are_short_and_niceness_stays_as_it_is(first):
    code = "import os; from voxload.process import prefer_this_process, slice_short; niceness = os.nice(3);"
    code += f"{first}before = os.nice(0); print(slice_short(), os.nice(0) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(SLICE_NS), "0"]


def test_a_machine_whose_system_calls_are_not_known_keeps_its_slices(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "abacus")
    assert slice_short() == 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
def test_a_command_and_its_children_start_no_threads_for_linear_algebra():
    code = """
import sys
from voxload.__main__ import main
sys.argv = ["voxload", "--version"]
try:
    main()
except SystemExit:
    import numpy
print(open("/proc/self/status").read())
"""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert re.search(r"Threads:\s+(\d+)", told)[1] == "1"


def test_many_new_objects_are_left_alone_and_few_are_looked_through():
    gc.collect()
    gc.disable()
    try:
        cycle = []
        cycle.append(cycle)
        del cycle
        tidy_garbage()
        assert gc.get_count()[0] < 100
        frozen = gc.get_freeze_count()
        kept = [[] for _ in range(YOUNG_MAX + 2000)]
        tidy_garbage()
        assert gc.get_freeze_count() >= frozen + len(kept)
    finally:
        gc.unfreeze()
        gc.enable()


def test_the_last_file_that_may_be_open_is_told_once():
    code = "import os, resource; from voxload.process import FileWatch, files_left\n"
    code += "resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30)); watch = FileWatch(); number = 0\n"
    code += "while number < 28: number = os.dup(0); watch.opened(number); watch.look()\n"
    code += "print(watch.used_up, files_left()); number = os.dup(0); print(number, files_left())\n"
    code += "watch.look(); watch.opened(number); print(watch.used_up)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "29", "False", "True"]
    assert done.stderr == "out of open files: it may have 30 open (ulimit -n)\n"

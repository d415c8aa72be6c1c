"""What a process that keeps time asks of its machine: open files, a fair share of the cores, no pauses for garbage."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import gc
import os
import platform
import resource
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

PRIORITY = -10
"""Niceness of processes that keep time: other work on the machine must not make frames late."""

AUTOGROUP = Path("/proc/self/autogroup")
"""Name and niceness of the group that the scheduler has made of this session."""

BACKGROUND = 15
"""Niceness of work that can wait."""

SLICE_NS = 100_000
"""Time slice of processes that keep time: the shortest that Linux grants."""
SCHED_CALLS = {"x86_64": (314, 315), "aarch64": (274, 275)}
"""Numbers of the system calls sched_setattr and sched_getattr, which neither Python nor older C libraries name."""


FILES_RESERVED_MAX = 65_536
NO_FILE_LEFT = frozenset({errno.EMFILE, errno.ENFILE})
"""Error numbers with which the system says that no more files can be opened."""
OUT_OF_FILES = "out of open files"
"""How a `FileWatch` begins its line."""


def raise_file_limit() -> int:
    """Raise the soft limit on open files to the hard one; returns the limit that is now in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    _reserve_files(min(hard, FILES_RESERVED_MAX))
    return hard


def _reserve_files(count: int) -> None:
    """Have the kernel make room for so many open files at once.

    It doubles a process's table of files when that is full, and where the process has threads each time waits for all
    cores to have let go of the old one (`expand_fdtable` in Linux' fs/file.c): 15 ms in which no frame is sent.
    """
    with contextlib.suppress(OSError):
        some = os.open(os.devnull, os.O_RDONLY)
        try:
            os.close(fcntl.fcntl(some, fcntl.F_DUPFD_CLOEXEC, count - 1))
        finally:
            os.close(some)


def files_left() -> bool:
    """Return whether this process can open one more file."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno not in NO_FILE_LEFT
    return True


class FileWatch:
    """Says once, on standard error, that a server of ours has used up the files that it may have open.

    The system then takes connections and drops them without a word, which looks like a fault of the service.
    """

    def __init__(self) -> None:
        self._limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.used_up = False

    def opened(self, number: int) -> None:
        """Look at the number of a file just opened: the system gives the lowest that is free."""
        if self._limit > 0 and number >= self._limit - 1:
            self._tell()

    def look(self) -> None:
        """Try to open one more."""
        if not self.used_up and not files_left():
            self._tell()

    def _tell(self) -> None:
        if not self.used_up:
            self.used_up = True
            sys.stderr.write(f"{OUT_OF_FILES}: it may have {self._limit} open (ulimit -n)\n")
            sys.stderr.flush()


def take_turns_often() -> None:
    """Let a thread that computes give the interpreter up after 0.5 ms, not 5: so long may it make the loop late."""
    sys.setswitchinterval(0.0005)


class SchedulingAttributes(ctypes.Structure):
    """`struct sched_attr` of Linux (sched_setattr(2)); what is not set here stays as the system returned it."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime_ns", ctypes.c_uint64),
        ("deadline_ns", ctypes.c_uint64),
        ("period_ns", ctypes.c_uint64),
    )


def slice_short() -> int:
    """Ask for short time slices; returns the length in ns that is now in force, 0 where the system tells none.

    Since Linux 6.12 a process that asks for short slices comes to its turn before one with long ones that waits or runs
    (Documentation/scheduler/sched-eevdf.rst in Linux' sources). It gets no larger share of the core, so
    that anybody may ask. Else a process that wakes up waits for a slice of another, 1.4 to 3 ms.
    """
    calls = SCHED_CALLS.get(platform.machine()) if sys.platform == "linux" else None
    if calls is None:
        return 0
    set_attributes, get_attributes = calls
    system = ctypes.CDLL(None).syscall
    asked = SchedulingAttributes()
    size = ctypes.sizeof(asked)
    if system(get_attributes, 0, ctypes.byref(asked), size, 0) != 0:
        return 0
    asked.size, asked.runtime_ns = size, SLICE_NS
    system(set_attributes, 0, ctypes.byref(asked), 0)
    return int(asked.runtime_ns) if system(get_attributes, 0, ctypes.byref(asked), size, 0) == 0 else 0


def prefer_this_process() -> bool:
    """Ask for short slices and a higher priority; returns whether the latter was granted (to root and CAP_SYS_NICE).

    Where Linux groups processes by session (sched(7), "The autogroup feature"), niceness counts only within a session,
    and the sessions share alike. A process that leads one, as the children of the command do, asks for it too.
    """
    slice_short()
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
        if os.getsid(0) == os.getpid():
            _prefer_session()
        return True
    return False


def _prefer_session() -> None:
    with contextlib.suppress(OSError), AUTOGROUP.open("w") as autogroup:
        autogroup.write(str(PRIORITY))


def settle_libraries() -> None:
    """Have libraries do less in this process and its children; to be called before they are imported.

    Numpy's library of linear algebra starts a thread for each core and lets them spin a while: half of what importing
    it costs, taken from the cores that frames are sent on. What is calculated here is too small to be shared out.
    Pydantic looks through all that is installed for plugins of its own: none has a part in what is read here.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def load(name: str) -> ModuleType:
    """Import a module with all that it needs, and leave what they make out of garbage collection for good.

    Hardly any of it is garbage; to look for that while it is made, and when the process ends, takes a fifth of the CPU
    time of a short command.
    """
    if name in sys.modules:
        return sys.modules[name]
    collected = gc.isenabled()
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        if collected:
            gc.enable()


def yield_to_others() -> None:
    """Give the calling thread (on Linux a niceness of its own) what time the others leave."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, BACKGROUND)


YOUNG_MAX = 4000
"""So many new objects are looked through in 2 ms."""


def tidy_garbage() -> None:
    """Keep the collector from ever holding up frames; to be called once a second, where ended work leaves no cycles.

    New objects are looked through while they are few. Where they are many, calls are being set up: they are taken out
    of collection instead, which costs nothing, and are freed with their last reference as ever.
    """
    if gc.get_count()[0] <= YOUNG_MAX:
        gc.collect(0)
    else:
        gc.freeze()


def freeze_garbage() -> None:
    """Leave what exists now out of garbage collection, and collect seldom: a collection holds up frames."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)

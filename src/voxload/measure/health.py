"""How the generator itself fares: CPU and memory of this process."""

from __future__ import annotations

import contextlib

import psutil

from voxload.clock import Clock, process_cpu_ns


class HealthMeter:
    """Measures this process between two calls of `sample`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._process = psutil.Process()
        self._cpu_ns, self._at_ns = process_cpu_ns(), clock()
        self._memory_mib = 0.0

    def sample(self) -> tuple[float, float]:
        """Return (CPU in percent of one core since the last call, resident memory in MiB)."""
        cpu_ns, now_ns = process_cpu_ns(), self._clock()
        percent = 100 * (cpu_ns - self._cpu_ns) / max(now_ns - self._at_ns, 1)
        self._cpu_ns, self._at_ns = cpu_ns, now_ns
        with contextlib.suppress(OSError):  # no file can be opened any more: the last value stands
            self._memory_mib = self._process.memory_info().rss / (1024 * 1024)
        return percent, self._memory_mib

"""Runs a component test in this process and keeps what it measured."""

from __future__ import annotations

import asyncio
from typing import Any

from voxload.clock import monotonic_ns, unix_ns
from voxload.measure.collector import Collector
from voxload.measure.recorder import Recorder
from voxload.measure.summary import CallRecord
from voxload.model.source import Source
from voxload.services.base import ComponentRun
from voxload.services.registry import component_type
from voxload.services.runner import ComponentResult, ComponentRunner
from voxload.services.settings import read_settings


def constant(rate: float, duration: str = "1s") -> dict[str, Any]:
    return {"shape": "constant", "arrival_rate": rate, "duration": duration}


def closed(callers: int, duration: str = "1s", pause: str = "0s") -> dict[str, Any]:
    return {"shape": "concurrency", "concurrency": callers, "duration": duration, "pause": pause}


class Ran:
    """A component of `kind`, to be awaited by `await ran()`."""

    def __init__(
        self, kind: str, load: dict[str, Any], run_id: str = "run", timeout: str = "120s", **options: Any
    ) -> None:
        found = component_type(kind)
        document = {"component": kind, "load": load, "timeout": timeout, "options": options}
        self.settings = read_settings(Source(document, f"{kind}.yaml"), found.settings_type, {})
        self.collector, self.calls = Collector(), list[CallRecord]()
        recorder = Recorder(lateness_metric="loop_lateness")
        self.component = found(self.settings, ComponentRun(run_id, recorder, monotonic_ns, unix_ns))
        self.runner = ComponentRunner(self.component, recorder, self._take)
        self.result = ComponentResult()

    def _take(self, snapshot: Any) -> None:
        self.collector.add(snapshot)
        self.calls += snapshot.calls

    async def __call__(self) -> Ran:
        async with asyncio.timeout(60):
            self.result = await self.runner.run()
        return self

    @property
    def ended(self) -> dict[str, int]:
        return dict(self.collector.outcomes)

    @property
    def facts(self) -> dict[str, str]:
        return self.component.facts()

    def errors(self) -> str:
        return " | ".join(item.text for item in self.collector.errors())

    def count(self, metric: str) -> int:
        return self.collector.histogram(metric).count

    def ms(self, metric: str, share: float) -> float:
        value = self.collector.histogram(metric).quantile(share)
        assert value is not None, metric
        return value / 1e6

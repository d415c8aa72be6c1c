"""Probes of the services behind the agent, each in a process of its own, on the time axis of a run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from voxload.clock import NS_PER_S, monotonic_ns, unix_ns
from voxload.errors import BadInputError, Problem
from voxload.measure.collector import Collector
from voxload.measure.probe import ProbePoint, ProbeResult
from voxload.measure.recorder import Recorder
from voxload.measure.snapshot import Snapshot
from voxload.model.outcome import NOT_ATTEMPTED, Outcome
from voxload.model.plan import Plan
from voxload.model.probe import ProbeSettings
from voxload.model.source import Source
from voxload.runners.prepare import Prepared
from voxload.runners.probe_settings import document_of
from voxload.services.base import AnyComponent, ComponentRun
from voxload.services.registry import component_type
from voxload.services.remote import ComponentProcess
from voxload.services.settings import read_settings
from voxload.services.words import Job

_NOT_FAILED = NOT_ATTEMPTED | {Outcome.COMPLETED}
LEAVE_S = 20.0
"""Beyond the longest unit of work, for a probe to clean up and leave."""


@dataclass(slots=True)
class _Probe:
    """One probe of a run."""

    settings: ProbeSettings
    component: AnyComponent
    """Says what it is; the work is the process's."""
    target: str
    collector: Collector
    process: ComponentProcess
    started: bool = False


def _make(
    settings: ProbeSettings,
    plan: Plan,
    stretch_s: int,
    run_id: str,
    file: str,
    environ: Mapping[str, str],
    heard: Callable[[str, Snapshot], None],
) -> _Probe:
    found, document, collector = (
        component_type(settings.component),
        document_of(settings, plan.target),
        Collector(stretch_s),
    )
    checked = read_settings(Source(document, file), found.settings_type, environ)
    component = found(checked, ComponentRun(run_id, Recorder(), monotonic_ns, unix_ns))

    def emit(snapshot: Snapshot) -> None:
        collector.add(snapshot)
        heard(settings.label, snapshot)

    process = ComponentProcess(Job(document, run_id, file, gives_up=False), emit)
    return _Probe(settings, component, plan.redact(component.target), collector, process)


class Probes:
    """The probes of a run; `start_ns()` returns its first instant, 0 before it is known.

    `on_snapshot(probe, snapshot)` hears of what each measures, once a second.
    """

    def __init__(
        self,
        prepared: Prepared,
        stretch_s: int,
        start_ns: Callable[[], int],
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._start_ns = start_ns
        self._stopped = False
        self.on_snapshot: Callable[[str, Snapshot], None] = lambda *_: None
        plan = prepared.plan
        self._probes = [
            _make(item, plan, stretch_s, f"{plan.run_id}-probe{number}", prepared.source.file, environ, self._hear)
            for number, item in enumerate(prepared.scenario.probes)
        ]

    def _hear(self, probe: str, snapshot: Snapshot) -> None:
        self.on_snapshot(probe, snapshot)

    @property
    def collectors(self) -> dict[str, Collector]:
        """What each probe has measured, by its name."""
        return {probe.settings.label: probe.collector for probe in self._probes}

    @asynccontextmanager
    async def probing(self) -> AsyncIterator[Sequence[str]]:
        """Probe while the block runs; gives what is wrong with probes whose service is not there: it is tried again.

        Raises (on entering):
            BadInputError: a probe wants what only the user can give, such as a library.
        """
        going: asyncio.Task[None] | None = None
        try:
            await asyncio.gather(*(probe.process.start() for probe in self._probes))
            wrong = [probe for probe in self._probes if probe.process.bad_input]
            if wrong:
                raise BadInputError(
                    [Problem(f"probes: {probe.settings.label}: {probe.process.problem}") for probe in wrong]
                )
            going = asyncio.create_task(self._go())
            yield [
                f"probe {probe.settings.label}: {probe.process.problem}"
                for probe in self._probes
                if probe.process.problem
            ]
        finally:
            if going is not None:
                going.cancel()
            await asyncio.gather(*(self._end(probe) for probe in self._probes))

    async def _go(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            if self._start_ns():
                break
        for probe in self._probes:
            probe.process.go(self._start_ns())
            probe.started = True

    async def _end(self, probe: _Probe) -> None:
        if probe.process.pid:
            if probe.started and not self._stopped:
                probe.process.finish()
            else:
                probe.process.stop()
        await probe.process.leave(probe.settings.timeout_ns / NS_PER_S + LEAVE_S)

    def stop(self) -> None:
        """End the probes without waiting for what they have under way."""
        self._stopped = True
        for probe in self._probes:
            if probe.process.pid:
                probe.process.stop()

    def kill(self) -> None:
        """End them at once."""
        for probe in self._probes:
            probe.process.kill()

    def results(self) -> list[ProbeResult]:
        """Return what they have measured up to now."""
        return [_result(probe) for probe in self._probes]


def _result(probe: _Probe) -> ProbeResult:
    component = probe.component
    return ProbeResult(
        name=probe.settings.label,
        component=probe.settings.component,
        target=probe.target,
        rate_per_s=probe.settings.rate_per_s,
        headline=component.headline_of(component.settings),
        lateness_limit_ms=component.lateness_limit_ms,
        outcomes=dict(probe.collector.outcomes),
        series=probe.collector.series(),
        timeline=_points(probe.collector),
        errors=probe.collector.errors(),
        facts=probe.process.result.facts if probe.process.result is not None else {},
        problem=probe.process.problem,
    )


def _points(collector: Collector) -> list[ProbePoint]:
    return [
        ProbePoint(
            start_s=point.start_s,
            completed=point.outcomes.get(Outcome.COMPLETED, 0),
            failed=sum(count for name, count in point.outcomes.items() if name not in _NOT_FAILED),
            latencies=point.latencies,
            means=point.means,
        )
        for point in collector.timeline({})
        if point.outcomes or point.latencies
    ]

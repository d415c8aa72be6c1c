"""Component tests side by side, each in a process of its own, while the calls that they stand for grow step by step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from voxload.clock import NS_PER_S, monotonic_ns
from voxload.errors import BadInputError, Problem, RunAbortedError
from voxload.measure.collector import Collector
from voxload.measure.histogram import Histogram, merged
from voxload.measure.series import Series
from voxload.measure.snapshot import Snapshot
from voxload.measure.summary import LATENESS_METRICS
from voxload.model.metric import SCALE
from voxload.services.base import AnyComponent
from voxload.services.remote import ComponentProcess
from voxload.services.words import Job
from voxload.verdict.expression import Gate
from voxload.verdict.steps import ServiceResult, Status, StepResult, generator_doubt, judge_step

LEAD_S = 0.3
"""Between "all are ready" and the first instant."""
LOOK_S = 0.6
"""After the end of a step, for the report of its last second to come."""
LEAVE_S = 20.0


class Service(NamedTuple):
    """A service that is to be loaded; `component` says what it is, the work is another process's."""

    name: str
    component: AnyComponent
    document: dict[str, Any]
    """The file of its component test; the load in it is replaced."""
    file: str
    per_call: float
    """Units of work that one call makes."""
    about_work: str
    gates: tuple[Gate, ...]


class Steps(NamedTuple):
    """How the calls grow."""

    calls: tuple[float, ...]
    step_s: float
    call_s: float
    """Length of a call: with it, so many calls at once are so many a second."""
    slowdown: float

    def rate_per_s(self, number: int, per_call: float) -> float:
        """Return the units of work a second of one step."""
        return self.calls[number] / self.call_s * per_call

    def phase(self, number: int) -> str:
        """Return the name of a step, which is the phase of its units of work."""
        return f"{self.calls[number]:g} calls"


@dataclass(slots=True)
class _Cpu:
    used: float = 0.0
    span_ns: int = 0


@dataclass(slots=True)
class _Side:
    """One service while the test goes on."""

    service: Service
    steps: Steps
    collector: Collector = field(default_factory=Collector)
    lateness: dict[int, Histogram] = field(default_factory=dict)
    cpu: dict[int, _Cpu] = field(default_factory=dict)
    seen: dict[int, tuple[Status, list[str]]] = field(default_factory=dict)
    """What was judged at the end of each step."""
    left_from: int = 1 << 30
    """The first step at which the service is left alone."""
    first_p95_ms: float | None = None

    @property
    def latency(self) -> str:
        """The metric that the service is known by."""
        component = self.service.component
        return component.headline_of(component.settings)[0]

    def take(self, snapshot: Snapshot) -> None:
        """Take in one report."""
        self.collector.add(snapshot)
        middle_ns = (snapshot.start_ns + snapshot.end_ns) // 2
        number = min(int(middle_ns / NS_PER_S / self.steps.step_s), len(self.steps.calls) - 1)
        cpu = self.cpu.setdefault(number, _Cpu())
        span_ns = snapshot.end_ns - snapshot.start_ns
        cpu.used, cpu.span_ns = cpu.used + snapshot.cpu_percent * span_ns, cpu.span_ns + span_ns
        late = self.lateness.setdefault(number, Histogram())
        for series in snapshot.series:
            if series.metric in LATENESS_METRICS:
                late.merge(Histogram.from_data(series.histogram))

    def judge(self, number: int) -> tuple[Status, list[str]]:
        """Return how the service does at a step, by what is known up to now."""
        series, latency = self._series(number), self.latency
        if number == 0 and self.first_p95_ms is None:
            p95_ns = _values(series, latency, {}).quantile(0.95)
            self.first_p95_ms = None if p95_ns is None else p95_ns / 1e6
        cpu = self.cpu.get(number, _Cpu())
        doubt = generator_doubt(
            self.lateness.get(number, Histogram()),
            self.service.component.lateness_limit_ms,
            cpu.used / cpu.span_ns if cpu.span_ns else 0.0,
        )
        return judge_step(
            self.service.gates,
            lambda metric, labels: _values(series, metric, labels),
            doubt,
            self.first_p95_ms,
            self.steps.slowdown,
            latency,
        )

    def result(self, number: int, status: Status, reasons: list[str]) -> StepResult:
        """Return a step with its figures."""
        component, series = self.service.component, self._series(number)
        success = _values(series, component.success_metric, {})
        latency, throttled = _values(series, self.latency, {}), _values(series, "throttled", {})
        p50, p95 = latency.quantile(0.5), latency.quantile(0.95)
        return StepResult(
            calls=self.steps.calls[number],
            rate_per_s=self.steps.rate_per_s(number, self.service.per_call),
            status=status,
            attempted=success.count,
            completed=round(success.total / SCALE),
            p50_ms=None if p50 is None else p50 / 1e6,
            p95_ms=None if p95 is None else p95 / 1e6,
            throttled=throttled.total / SCALE / throttled.count if throttled.count else None,
            reasons=reasons,
        )

    def _series(self, number: int) -> list[Series]:
        phase = self.steps.phase(number)
        return [series for series in self.collector.series() if series.labels.get("phase") == phase]


def _values(series: Sequence[Series], metric: str, labels: dict[str, str]) -> Histogram:
    return merged(
        Histogram.from_data(item.histogram)
        for item in series
        if item.metric == metric and labels.items() <= item.labels.items()
    )


class SideBySide:
    """Loads the services; `told(step, results)` hears of each step when it is over."""

    def __init__(
        self,
        services: Sequence[Service],
        steps: Steps,
        run_id: str,
        told: Callable[[int, list[ServiceResult]], None] = lambda _, __: None,
    ) -> None:
        self._steps, self._told = steps, told
        self._sides = [
            (side, self._process(side, run_id, number))
            for number, side in enumerate(_Side(each, steps) for each in services)
        ]
        self._done = 0
        """Steps that are over."""
        self._stopped = asyncio.Event()
        self.start_ns = 0
        """The first instant on the monotonic clock; 0 before it is known."""
        self.on_snapshot: Callable[[str, Snapshot], None] = lambda *_: None
        """Hears of what each service's test measures, once a second."""
        self.interrupted = False

    def _process(self, side: _Side, run_id: str, seed: int) -> ComponentProcess:
        service, steps = side.service, self._steps
        stages = [
            {
                "name": steps.phase(number),
                "duration": steps.step_s,
                "arrival_rate": steps.rate_per_s(number, service.per_call),
            }
            for number in range(len(steps.calls))
        ]
        load = {"shape": "stages", "stages": stages, "process": "poisson"}
        document = {**service.document, "load": load, "seed": service.component.settings.seed + seed}

        def emit(snapshot: Snapshot) -> None:
            side.take(snapshot)
            self.on_snapshot(service.name, snapshot)

        return ComponentProcess(Job(document, f"{run_id}-{service.name}", service.file), emit)

    @property
    def collectors(self) -> dict[str, Collector]:
        """What was measured of each service, by its name."""
        return {side.service.name: side.collector for side, _ in self._sides}

    async def run(self) -> None:
        """Load the services to the last step, or until none is left that carries it.

        Raises:
            BadInputError: a service wants what only the user can give, such as a library.
            RunAbortedError: a service is not there; every one is named.
        """
        try:
            await asyncio.gather(*(process.start() for _, process in self._sides))
            self._see_that_all_are_there()
            if not self.interrupted:
                await self._load()
        finally:
            await asyncio.gather(*(self._end(side, process) for side, process in self._sides))

    def _see_that_all_are_there(self) -> None:
        wrong = [(side, process) for side, process in self._sides if process.problem]
        texts = [f"{side.service.name}: {process.problem}" for side, process in wrong]
        if any(process.bad_input for _, process in wrong):
            raise BadInputError([Problem(text) for text in texts])
        if texts and not self.interrupted:
            raise RunAbortedError("\n".join(texts))

    async def _load(self) -> None:
        self.start_ns = start_ns = monotonic_ns() + round(LEAD_S * NS_PER_S)
        for _, process in self._sides:
            process.go(start_ns)
        for number in range(len(self._steps.calls)):
            end_ns = start_ns + round(((number + 1) * self._steps.step_s + LOOK_S) * NS_PER_S)
            if await self._stopped_within((end_ns - monotonic_ns()) / NS_PER_S):
                return
            self._done = number + 1
            for side, process in self._sides:
                if number < side.left_from:
                    self._look(side, process, number)
            self._told(number, self.results())
            if all(side.left_from <= number + 1 for side, _ in self._sides):
                return

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._stopped.wait()
        except TimeoutError:
            return False
        return True

    def _look(self, side: _Side, process: ComponentProcess, number: int) -> None:
        """Judge a service at the end of a step, and leave it alone from then on if it does not carry it."""
        status, reasons = side.judge(number)
        if process.problem:
            gone = process.result is not None
            status, reasons = ("breaks" if gone else "unknown"), [process.problem]
        side.seen[number] = status, reasons
        late = status == "unknown" and any("generator" in reason for reason in reasons)
        if status == "breaks" or late or process.problem:
            side.left_from = number + 1
            process.finish()

    async def _end(self, side: _Side, process: ComponentProcess) -> None:
        if process.pid:
            if self.interrupted or not self._done:
                process.stop()
            else:
                process.finish()
        await process.leave(float(side.service.component.settings.timeout_ns) / NS_PER_S + LEAVE_S)

    def stop(self) -> None:
        """End the test; what was measured is kept."""
        self.interrupted = True
        self._stopped.set()
        for _, process in self._sides:
            if process.pid:
                process.stop()

    def kill(self) -> None:
        """End the processes at once."""
        for _, process in self._sides:
            process.kill()

    def results(self) -> list[ServiceResult]:
        """Return what is known of each service, step by step; steps that were not over are not judged."""
        return [self._result(side, process) for side, process in self._sides]

    def _result(self, side: _Side, process: ComponentProcess) -> ServiceResult:
        component = side.service.component
        steps = []
        for number in range(self._done):
            if number >= side.left_from:
                rate_per_s = self._steps.rate_per_s(number, side.service.per_call)
                steps.append(StepResult(self._steps.calls[number], rate_per_s, "left alone"))
                continue
            status, reasons = side.seen.get(number, ("unknown", ["interrupted"]))
            if not process.problem and process.ended.is_set():
                # work that was under way when the step was over has its say, but what has given way stays so
                again = side.judge(number)
                if status != "breaks" or again[0] == "breaks":
                    status, reasons = again
            steps.append(side.result(number, status, reasons))
        return ServiceResult(
            name=side.service.name,
            component=component.name,
            target=component.target,
            latency=side.latency,
            per_call=side.service.per_call,
            steps=steps,
            problem=process.problem,
        )

"""Runs a component test in one process: units of work at their intended instants, on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field

from voxload.clock import NS_PER_MS, NS_PER_S, Clock, monotonic_ns
from voxload.load.arrivals import Arrival, arrivals, closed_starts
from voxload.measure.health import HealthMeter
from voxload.measure.recorder import Recorder
from voxload.measure.snapshot import Snapshot
from voxload.measure.summary import CallRecord
from voxload.model.load import ConcurrencyLoad
from voxload.model.outcome import NOT_ATTEMPTED, Outcome
from voxload.model.plan import HIDDEN, SECRET_LENGTH_MIN
from voxload.process import files_left
from voxload.services.base import AnyComponent, Operation, OperationFailedError
from voxload.services.settings import secrets_of
from voxload.timer import WheelTimer
from voxload.wheel import Wheel

LEAD_NS = 50 * NS_PER_MS
PROBE_NS = 20 * NS_PER_MS
"""Between two looks at how late the event loop runs its timers."""
GONE_OPERATIONS = 20
"""A service is gone after this many units of work in a row without a connection…"""
GONE_NS, GONE_OPERATIONS_MIN = 3 * NS_PER_S, 3
"""…or after that time without one, if so many have tried."""
RETRY_PAUSE_NS = 100 * NS_PER_MS
"""A caller of a closed load whose work failed waits at least so long: a refusal must not become a flood."""
STOP_GRACE_S = 15.0
"""For work that is being cancelled to leave nothing behind, and again for the tear-down."""


@dataclass(slots=True)
class ComponentResult:
    """How a run ended."""

    duration_s: float = 0.0
    cut_short: str = ""
    warnings: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    """Why the run cannot be trusted, beyond what its numbers say."""


class ComponentRunner:
    """Places a component's units of work as its load says, and reports a snapshot a second to `emit`.

    `on_ready()` is called once before the first unit of work, `on_tick(elapsed_s)` twice a second. `start_at()` waits
    for the run's first instant and returns it; by default that is at once. `stop(reason)` ends the run in good order,
    `finish()` too and lets what is in flight end by itself, `kill()` ends it at once. With `gives_up=False` the work
    goes on where the service is gone: it may come back. With `joins_late=True` the first instant may have passed, and
    what was due before the component was set up is not placed.
    """

    def __init__(
        self,
        component: AnyComponent,
        recorder: Recorder,
        emit: Callable[[Snapshot], None],
        on_tick: Callable[[float], None] = lambda _: None,
        on_ready: Callable[[], None] = lambda: None,
        clock: Clock = monotonic_ns,
        start_at: Callable[[], Awaitable[int]] | None = None,
        gives_up: bool = True,
        joins_late: bool = False,
    ) -> None:
        self._component, self._recorder = component, recorder
        self._start_at, self._gives_up, self._joins_late = start_at, gives_up, joins_late
        self._emit, self._on_tick, self._on_ready, self._clock = emit, on_tick, on_ready, clock
        self._settings = component.settings
        load = self._settings.load
        self._closed = load if isinstance(load, ConcurrencyLoad) else None
        self._secrets = [secret.value for _, secret in secrets_of(self._settings) if secret.value]
        self._sampled = tuple(
            name for name in component.headline_of(component.settings) if name != "call_setup"
        )  # the record has that one
        self._result = ComponentResult()
        self._tasks: dict[asyncio.Task[None], Operation] = {}
        self._waiting: asyncio.Task[None] | None = None
        self._arrivals: Iterator[Arrival] = iter(())
        self._next: Arrival | None = None
        self._callers_left = 0
        self._start_ns = 0
        self._over = asyncio.Event()
        self._in_contact_ns = 0
        self._out_of_contact = 0
        self._ever_in_contact = False

    @property
    def start_ns(self) -> int:
        """The first instant of the run on the monotonic clock; 0 before it is known."""
        return self._start_ns

    @property
    def stopping(self) -> bool:
        """Whether the run is being cut short."""
        return bool(self._result.cut_short)

    async def run(self) -> ComponentResult:
        """Set up, place the work, tear down.

        Raises:
            BadInputError, RunAbortedError: the component cannot be set up.
        """
        try:
            await self._unless_stopped(self._component.set_up())
            if not self.stopping:
                await self._unless_stopped(self._find_start())
            if not self.stopping:
                await self._place_all()
        finally:
            await self._tear_down()
        return self._result

    def stop(self, reason: str) -> None:
        """Start no more work, and cancel what is in flight; the numbers up to now are kept."""
        if self.stopping:
            return
        self._result.cut_short = reason
        if self._waiting is not None:
            self._waiting.cancel()
        for task in self._tasks:
            task.cancel()
        self.finish()

    def finish(self) -> None:
        """Start no more work; what is in flight ends by itself."""
        self._next, self._callers_left = None, 0
        self._finish_if_over()

    def kill(self) -> None:
        """Wait for nothing any more."""
        self._over.set()
        for task in self._tasks:
            task.cancel()

    async def _unless_stopped(self, work: Coroutine[None, None, None]) -> None:
        """Wait for what comes before the first unit of work; `stop` ends the wait."""
        self._waiting = asyncio.ensure_future(work)
        try:
            await self._waiting
        except asyncio.CancelledError:
            if not self.stopping:
                raise
        finally:
            self._waiting = None

    async def _find_start(self) -> None:
        self._on_ready()  # takes its time, so before the first instant is set
        self._start_ns = await self._start_at() if self._start_at is not None else self._clock() + LEAD_NS

    async def _tear_down(self) -> None:
        try:
            async with asyncio.timeout(STOP_GRACE_S):
                await self._component.tear_down()
        except Exception as error:  # noqa: BLE001  # the numbers are worth more than a clean end
            self._result.warnings.append(f"tear-down: {self._redact(str(error) or repr(error))}")

    async def _place_all(self) -> None:
        loop = asyncio.get_running_loop()
        wheel, health = Wheel(self._clock()), HealthMeter(self._clock)
        begin_ns = max(self._start_ns, self._clock()) if self._joins_late else self._start_ns
        self._in_contact_ns = begin_ns
        self._begin(wheel, begin_ns)

        def report(final: bool = False) -> None:
            cpu_percent, memory_mib = health.sample()
            elapsed_ns = max(self._clock() - self._start_ns, 0)
            active = self._component.active(len(self._tasks))
            self._emit(self._recorder.take(elapsed_ns, active, cpu_percent, memory_mib, final))

        def every_second(due_ns: int) -> int:
            report()
            return due_ns + NS_PER_S

        def every_half_second(due_ns: int) -> int:
            self._on_tick(max(self._clock() - self._start_ns, 0) / NS_PER_S)
            self._consider_ending()
            return due_ns + NS_PER_S // 2

        def probe(due_ns: int) -> int:
            self._recorder.lateness.record(max(self._clock() - due_ns, 0))
            return due_ns + PROBE_NS

        second_ns = begin_ns - (begin_ns - self._start_ns) % NS_PER_S  # reports are made at the run's seconds
        wheel.at(second_ns + NS_PER_S, every_second)
        wheel.at(second_ns + NS_PER_S // 2, every_half_second)
        wheel.at(begin_ns + PROBE_NS, probe)
        timer = WheelTimer.on_loop(wheel, self._clock, loop)
        timer.start()
        self._finish_if_over()
        await self._over.wait()
        timer.stop()
        await self._await_cancelled()
        await self._settle()
        self._judge_contact()
        if doubt := self._component.doubt():
            self._result.doubts.append(doubt)
        report(final=True)
        self._result.duration_s = max(self._clock() - self._start_ns, 0) / NS_PER_S

    async def _await_cancelled(self) -> None:
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=STOP_GRACE_S)
            if left:
                self._result.warnings.append(f"{len(left)} units of work did not end within {STOP_GRACE_S:g} s")

    async def _settle(self) -> None:
        if self.stopping:
            return
        try:
            async with asyncio.timeout(STOP_GRACE_S):
                await self._component.settle()
        except TimeoutError:
            self._result.warnings.append(f"what was still to come did not come within {STOP_GRACE_S:g} s")

    # --- placing ---

    def _begin(self, wheel: Wheel, begin_ns: int) -> None:
        load, seed = self._settings.load, self._settings.seed
        if self._closed is not None:
            starts = list(closed_starts(self._closed, 0, 1))
            self._callers_left = len(starts)
            for first in starts:
                wheel.at(self._start_ns + first.due_ns, self._caller(first, self._closed, wheel))
            return
        assert not isinstance(load, ConcurrencyLoad)
        self._arrivals = arrivals(load.phases(), load.process, seed)
        self._next = next((item for item in self._arrivals if self._start_ns + item.due_ns >= begin_ns), None)
        if self._next is not None:
            wheel.at(self._start_ns + self._next.due_ns, self._on_arrival)

    def _on_arrival(self, due_ns: int) -> int:
        arrival = self._next
        if arrival is None or self.stopping:
            return 0
        self._place(arrival.index, arrival.phase, due_ns, lambda _: None)
        self._next = next(self._arrivals, None)
        if self._next is None:
            self._finish_if_over()
            return 0
        return self._start_ns + self._next.due_ns

    def _caller(self, first: Arrival, load: ConcurrencyLoad, wheel: Wheel) -> Callable[[int], int]:
        """Return the life of one caller of a closed load: work, a pause, the next work."""
        index = first.index

        def on_over(outcome: Outcome) -> None:
            pause_ns = load.pause_ns if outcome is Outcome.COMPLETED else max(load.pause_ns, RETRY_PAUSE_NS)
            due_ns = self._clock() + pause_ns
            if self.stopping:  # `stop` has left the callers out of the count
                return
            if due_ns - self._start_ns < load.duration_ns:
                wheel.at(due_ns, on_due)
            else:
                self._callers_left -= 1

        def on_due(due_ns: int) -> int:
            nonlocal index
            if not self.stopping:
                phase = "ramp" if due_ns - self._start_ns < load.ramp_up_ns else "hold"
                self._place(index, phase, due_ns, on_over)
                index += load.concurrency
            return 0

        return on_due

    def _place(self, index: int, phase: str, due_ns: int, over: Callable[[Outcome], None]) -> None:
        labels = (("component", self._component.name), ("phase", phase))
        name = f"{self._component.name}-{index:06d}"
        operation = Operation(index, name, phase, due_ns, self._clock, self._recorder, labels)
        operation.sampled = self._sampled
        limit = self._settings.operations_max
        if limit and len(self._tasks) >= limit:
            self._close(operation, Outcome.SHED, "operations_max reached", over)
            return
        task = asyncio.ensure_future(self._operate(operation, over))
        self._tasks[task] = operation
        task.add_done_callback(self._on_task_over)

    def _on_task_over(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._finish_if_over()

    def _finish_if_over(self) -> None:
        if not self._tasks and not self._callers_left and self._next is None:
            self._over.set()

    # --- one unit of work ---

    async def _operate(self, operation: Operation, over: Callable[[Outcome], None]) -> None:
        operation.started_ns = self._clock()
        self._recorder.lateness.record(max(operation.started_ns - operation.due_ns, 0))
        self._recorder.started += 1
        outcome, error = Outcome.COMPLETED, ""
        try:
            async with asyncio.timeout(self._settings.timeout_ns / NS_PER_S):
                await self._component.operate(operation)
        except OperationFailedError as failure:
            outcome, error = failure.outcome, failure.reason
        except TimeoutError:
            outcome, error = Outcome.TIMEOUT, f"not done within {self._settings.timeout_ns / NS_PER_S:g} s (timeout)"
        except asyncio.CancelledError:
            outcome = Outcome.CANCELLED
        except Exception as defect:  # noqa: BLE001  # one unit of work must not end the run
            outcome, error = Outcome.INTERNAL_ERROR, repr(defect)
        self._close(operation, outcome, error, over)

    def _close(self, operation: Operation, outcome: Outcome, error: str, over: Callable[[Outcome], None]) -> None:
        if outcome is Outcome.CONNECT_FAILED and not files_left():
            outcome, error = Outcome.SHED, f"no more files can be opened here: raise the limit (ulimit -n); {error}"
        now_ns, recorder, labels = self._clock(), self._recorder, operation.labels
        if outcome is Outcome.COMPLETED:
            recorder.latency("operation_latency", labels, now_ns - operation.due_ns)
            operation.samples["operation_latency"] = [(now_ns - operation.due_ns) / NS_PER_MS]
            recorder.latency("operation_latency_uncorrected", labels, now_ns - operation.started_ns)
        if outcome not in NOT_ATTEMPTED:
            recorder.observe(self._component.success_metric, labels, outcome is Outcome.COMPLETED)
            self._note_contact(outcome, now_ns)
        since_ns = operation.ready_ns or operation.started_ns
        recorder.call_ended(
            CallRecord(
                index=operation.index,
                call_id=operation.operation_id,
                call=self._component.name,
                phase=operation.phase,
                due_s=(operation.due_ns - self._start_ns) / NS_PER_S,
                outcome=outcome.value,
                duration_s=(now_ns - since_ns) / NS_PER_S if since_ns else 0.0,
                setup_ms=(operation.ready_ns - operation.due_ns) / NS_PER_MS if operation.ready_ns else None,
                error=self._redact(error)[:400],
                target_id=operation.target_id,
                moments=operation.moments,
                samples=operation.samples,
                ended_after_s=0.0 if operation.ready_ns else (now_ns - operation.due_ns) / NS_PER_S,
            )
        )
        over(outcome)

    # --- is the service there? ---

    def _note_contact(self, outcome: Outcome, now_ns: int) -> None:
        if outcome is Outcome.CONNECT_FAILED:
            self._out_of_contact += 1
        else:
            self._in_contact_ns, self._out_of_contact, self._ever_in_contact = now_ns, 0, True

    def _consider_ending(self) -> None:
        reason = self._component.died()
        count, lost_ns = self._out_of_contact, self._clock() - self._in_contact_ns
        if (
            not reason
            and self._gives_up
            and (count >= GONE_OPERATIONS or (count >= GONE_OPERATIONS_MIN and lost_ns > GONE_NS))
        ):
            reason = self._gone()
        if reason:
            self.stop(reason)

    def _judge_contact(self) -> None:
        """A short run in which nothing at all found a connection says nothing of the service either."""
        if self._gives_up and self._out_of_contact and not self._ever_in_contact and not self.stopping:
            self._result.cut_short = self._gone()

    def _gone(self) -> str:
        if not self._ever_in_contact:
            return f"{self._component.target} cannot be reached: nothing found a connection"
        at_s = (self._in_contact_ns - self._start_ns) / NS_PER_S
        return (
            f"{self._component.target} is gone since {at_s:.1f} s into the run: "
            f"the last {self._out_of_contact} units of work found no connection"
        )

    def _redact(self, text: str) -> str:
        for secret in self._secrets:
            if len(secret) >= SECRET_LENGTH_MIN:
                text = text.replace(secret, HIDDEN)
        return text

"""Places the calls of a shard at their intended instants: open arrivals or a fixed number of callers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from voxload.engine.call import Call
from voxload.engine.context import CallContext, Line
from voxload.load.arrivals import Arrival, closed_starts
from voxload.measure.summary import CallRecord
from voxload.model.load import ConcurrencyLoad
from voxload.model.outcome import Outcome


class _FreeCaller:
    """A caller of a load that is shaped from outside, with the call that it is in."""

    def __init__(self) -> None:
        self.call: Call | None = None
        self.gone = False


class Placer:
    """Starts calls when they are due, holds those that are up, and knows when all is over.

    At most `measurement.setup_concurrency` set-ups are in flight; further calls wait their turn, and the wait counts in
    their latency because that runs from the intended instant. Calls beyond `measurement.calls_max` are shed.
    `connect(call)` gives a call its line; `finished()` is called once when the last call is over.
    """

    def __init__(
        self,
        context: CallContext,
        shard: int,
        shards: int,
        connect: Callable[[Call], Line],
        finished: Callable[[], None],
    ) -> None:
        self._context = context
        self._shard, self._shards = shard, shards
        self._connect = connect
        scenario = context.workload.scenario
        self._closed = scenario.load if isinstance(scenario.load, ConcurrencyLoad) else None
        limit = scenario.measurement.calls_max
        self._calls_max = -(-limit // shards) if limit else 0
        self._setups_max = scenario.measurement.setup_concurrency
        self._calls: set[Call] = set()
        self._setting_up: set[Call] = set()
        self._waiting: deque[Call] = deque()
        self._arrivals: Iterator[Arrival] = iter(())
        self._next: Arrival | None = None
        self._callers_left = 0
        self._free_callers: list[_FreeCaller] = []
        self._come_and_go = False
        self._placed = 0
        self._stopping = False
        self._finished = finished
        self.done = False
        """Whether every call of the plan is over."""

    @property
    def active(self) -> int:
        """Calls whose media channel is open and that are not over."""
        return self._context.recorder.up

    def begin(self, start_ns: int) -> None:
        """Put the first intended start on the wheel."""
        workload, wheel = self._context.workload, self._context.wheel
        if self._closed is not None:
            starts = list(closed_starts(self._closed, self._shard, self._shards))
            self._callers_left = len(starts)
            for first in starts:
                wheel.at(start_ns + first.due_ns, self._caller(first, start_ns))
        else:
            self._arrivals = workload.arrivals(self._shard, self._shards)
            self._next = next(self._arrivals, None)
            if self._next is not None:
                wheel.at(start_ns + self._next.due_ns, self._on_arrival)
        self._finish_if_over()

    def _on_arrival(self, due_ns: int) -> int:
        """Place the call that is due; returns the instant of the next one."""
        arrival = self._next
        if arrival is None or self._stopping:
            return 0
        self._place(arrival.index, arrival.phase, due_ns, self._on_call_over)
        self._next = next(self._arrivals, None)
        if self._next is None:
            self._finish_if_over()
            return 0
        return self._context.run_start_ns + self._next.due_ns

    def _caller(self, first: Arrival, start_ns: int) -> Callable[[int], int]:
        """Return the life of one caller of a closed load: a call, a pause, the next call."""
        load = self._closed
        assert load is not None
        index = first.index

        def on_over(call: Call) -> None:
            self._calls.discard(call)
            due_ns = self._context.clock() + load.pause_after_ns(call.was_up)
            if self._stopping or due_ns - start_ns >= load.duration_ns:
                self._callers_left -= 1
            else:
                self._context.wheel.at(due_ns, on_due)
            self._finish_if_over()

        def on_due(due_ns: int) -> int:
            nonlocal index
            if self._stopping:  # `stop` has already left this caller out of the count
                return 0
            phase = "ramp" if due_ns - start_ns < load.ramp_up_ns else "hold"
            self._place(index, phase, due_ns, on_over)
            index += load.concurrency
            return 0

        return on_due

    def set_callers(self, count: int, now_ns: int) -> None:
        """Have so many callers, each of whom calls again and again; those too many hang up.

        Instead of `begin`, for loads that somebody else shapes; the run then lasts until `stop`.
        """
        self._come_and_go = True
        while len(self._free_callers) > count:
            caller = self._free_callers.pop()
            caller.gone = True
            if caller.call is not None:
                caller.call.cancel(now_ns)
        while len(self._free_callers) < count and not self._stopping:
            self._free_callers.append(_FreeCaller())
            self._call_again(self._free_callers[-1], now_ns)

    def _call_again(self, caller: _FreeCaller, due_ns: int) -> int:
        """Let a caller that comes and goes place its next call."""
        if caller.gone or self._stopping:
            return 0
        index = self._shard + self._shards * self._placed
        self._placed += 1

        def over(call: Call) -> None:
            self._calls.discard(call)
            pause_ns = self._closed.pause_after_ns(call.was_up) if self._closed is not None else 0
            self._context.wheel.at(self._context.clock() + pause_ns, lambda at_ns: self._call_again(caller, at_ns))
            self._finish_if_over()

        caller.call = self._place(index, "hold", due_ns, over)
        return 0

    def _place(self, index: int, phase: str, due_ns: int, over: Callable[[Call], None]) -> Call:
        call = Call(self._context.workload.call(index, phase), due_ns, self._context, over, self._on_setup_over)
        if self._calls_max and len(self._calls) >= self._calls_max:
            self._shed(call, due_ns)
            over(call)
            return call
        self._calls.add(call)
        if len(self._setting_up) < self._setups_max:
            self._start(call)
        else:
            self._waiting.append(call)
        return call

    def _start(self, call: Call) -> None:
        self._setting_up.add(call)
        call.line = self._connect(call)
        call.start(self._context.clock())

    def _on_setup_over(self, call: Call) -> None:
        """A set-up has ended, well or badly: the next waiting call may begin."""
        self._setting_up.discard(call)
        while self._waiting and len(self._setting_up) < self._setups_max and not self._stopping:
            self._start(self._waiting.popleft())

    def _shed(self, call: Call, due_ns: int) -> None:
        spec, targets = call.spec, self._context.workload.targets
        self._context.recorder.call_ended(
            CallRecord(
                index=spec.index,
                call_id=spec.call_id,
                call=spec.call_type.name,
                phase=spec.phase,
                due_s=(due_ns - self._context.run_start_ns) / 1e9,
                outcome=Outcome.SHED.value,
                error="measurement.calls_max reached",
                shard=self._context.shard,
                persona=spec.persona.name,
                target=targets[spec.target].name if targets else "",
            )
        )

    def _on_call_over(self, call: Call) -> None:
        self._calls.discard(call)
        self._finish_if_over()

    def _finish_if_over(self) -> None:
        waiting = self._next is not None or self._come_and_go  # for calls that are still to come
        if not self._calls and not self._callers_left and (self._stopping or not waiting) and not self.done:
            self.done = True
            self._finished()

    def stop(self, now_ns: int) -> None:
        """Place no more calls and end those that are up or waiting."""
        if self._stopping:
            return
        self._stopping = True
        for call in [*self._waiting, *self._calls]:
            call.cancel(now_ns)
        self._waiting.clear()
        if self._closed is not None and not self._come_and_go:
            self._callers_left = len(self._calls)
        self._finish_if_over()

"""A run without sockets and without waiting: real calls and the real agent on a virtual clock and a virtual link."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from voxload.clock import NS_PER_MS, NS_PER_S
from voxload.dialects.base import Dial, HttpRequest, HttpResponse, Signal
from voxload.dialects.registry import build_dialect
from voxload.engine.call import Call
from voxload.engine.context import CallContext
from voxload.engine.media import Media
from voxload.engine.mouth import FrameMouth
from voxload.engine.placer import Placer
from voxload.load.workload import Workload
from voxload.measure.collector import Collector
from voxload.measure.understanding import Understanding
from voxload.model.outcome import Outcome
from voxload.model.plan import Plan
from voxload.model.template import fill_options
from voxload.model.twin import TwinSettings
from voxload.twin.agent import CLOSE_OK, Agent
from voxload.twin.desk import Desk
from voxload.twin.replies import CorpusRepertoire
from voxload.wheel import Wheel

START_NS = 1_000 * NS_PER_S
"""The virtual clock starts here: far from zero, which means "not yet" in many places."""
UNIX_OFFSET_NS = 1_700_000_000 * NS_PER_S


class VirtualClock:
    """A monotonic clock that stands still until it is told."""

    def __init__(self, now_ns: int = START_NS) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        """Return the time."""
        return self.now_ns


class VirtualLine:
    """A call's connection to the virtual agent: messages arrive `delay_ns` after they were sent, in order."""

    def __init__(self, call: Call, world: VirtualWorld) -> None:
        self._call = call
        self._world = world
        self._agent: Agent | None = None
        self._closed = False

    def _later(self, work: Callable[[], None], trips: int = 1) -> None:
        """Do something after so many trips over the link, unless the connection is gone by then."""

        def run(_due_ns: int) -> int:
            if not self._closed:
                work()
            return 0

        self._world.wheel.at(self._world.clock() + trips * self._world.delay_ns, run)

    def request(self, request: HttpRequest) -> None:
        """Let the agent side answer."""

        def answer() -> None:
            response = self._world.answer(request)
            self._later(lambda: self._call.on_response(response, self._world.clock()))

        self._later(answer)

    def dial(self, dial: Dial) -> None:
        """Open the media socket."""

        def arrive() -> None:
            world = self._world
            call_id = world.dialect.socket_call_id(_path(dial.url), dict(dial.headers))
            record = world.desk.connect(call_id) if call_id is not None else HttpResponse(404)
            if isinstance(record, HttpResponse):
                reason = f"handshake answered {record.status}"
                self._later(lambda: self._call.on_failed(Outcome.REJECTED, reason, world.clock()))
                return
            assert call_id is not None
            self._agent = Agent(world.desk, record, world.dialect.agent(call_id), self._to_caller, self._agent_closes)
            self._later(lambda: self._call.on_connected(world.clock()))
            self._agent.on_connected(world.clock())

        self._later(arrive)

    def _to_caller(self, payload: bytes, text: bool) -> None:
        self._later(lambda: self._call.on_message(payload, text, self._world.clock()))

    def _agent_closes(self, code: int) -> None:
        reason = f"closed by the target with code {code}"
        self._later(lambda: self._end(Outcome.DROPPED_BY_TARGET, reason, code == CLOSE_OK))

    def send(self, payload: bytes, text: bool) -> bool:
        """Carry a message to the agent."""

        def deliver() -> None:
            if self._agent is not None:
                self._agent.on_message(payload, text, self._world.clock())

        self._later(deliver)
        return True

    def lend(self, mouth: FrameMouth) -> None:
        """There is no socket."""

    def ping(self, payload: bytes) -> None:
        """Answer after a round trip."""
        self._later(lambda: self._call.on_pong(payload, self._world.clock()), trips=2)

    def side_request(self, request: HttpRequest, answered: Callable[[str, int], None]) -> None:
        """Answer a request beside the call after a round trip."""
        status = str(self._world.answer(request).status)
        self._later(lambda: answered(status, self._world.clock()), trips=2)

    def signal(self, payload: bytes) -> None:  # noqa: ARG002  # as `Line` has it
        """There is no exchange on the virtual clock: the call fails."""
        self._call.on_failed(Outcome.INTERNAL_ERROR, "the virtual world has no trunk", self._world.clock())

    def release(self, signals: Sequence[Signal]) -> None:
        """There is no exchange to tell."""

    def close(self) -> None:
        """Close in good order."""
        self._later(lambda: self._end(Outcome.COMPLETED, ""), trips=2)

    def abort(self) -> None:
        """Drop the connection."""
        if not self._closed:
            self._closed = True
            if self._agent is not None:
                self._agent.on_closed("dropped")
                self._agent = None

    def _end(self, outcome: Outcome, reason: str, orderly: bool = False) -> None:
        self._closed = True
        if self._agent is not None:
            self._agent.on_closed("completed")
            self._agent = None
        self._call.on_closed(outcome, reason, self._world.clock(), orderly)


class VirtualWorld:
    """One shard and one agent in a single thread, on one wheel.

    `run()` returns the collector with the whole run's numbers; the same plan and seed give the same numbers, always.
    """

    def __init__(self, plan: Plan, twin: TwinSettings | None = None, delay_ns: int = 0) -> None:
        self.clock = VirtualClock()
        self.wheel = Wheel(self.clock())
        self.delay_ns = delay_ns
        self.workload = Workload(plan)
        scenario = self.workload.scenario
        settings = scenario.dialect
        options = fill_options(settings.options, plan.constants)
        self.dialect = build_dialect(settings.name, "http://agent.example", options)
        repertoire = CorpusRepertoire(self.dialect, (twin or scenario.twin).reply_seconds_max)
        self.desk = Desk(
            twin or scenario.twin, self.dialect, repertoire, self.wheel, self.clock, UNIX_OFFSET_NS, self._stall
        )
        self.collector = Collector()
        self._understanding = Understanding(self.workload.labelled_texts())
        media = Media(self.dialect, self.workload)
        now_ns = self.clock()
        context = CallContext.of(
            self.workload, self.dialect, media, self.wheel, self.clock, now_ns, UNIX_OFFSET_NS - now_ns
        )
        self.recorder = context.recorder
        self.placer = Placer(context, 0, 1, self._connect, lambda: None)

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Answer as the twin's server does."""
        asked = request._replace(url=_path(request.url))
        answer = self.dialect.answer(asked, self.desk)
        if answer is not None:
            return answer
        return HttpResponse(200 if asked.url == "/health" else 404)

    def run(self, limit_s: float = 86_400.0) -> Collector:
        """Play the run to its end.

        Raises:
            TimeoutError: it was not over after `limit_s` of virtual time.
        """
        start_ns = self.clock()
        next_report_ns = start_ns + NS_PER_S
        self.placer.begin(start_ns)
        while not self.placer.done:
            due_ns = self.wheel.next_due_ns()
            if due_ns is None or due_ns > start_ns + limit_s * NS_PER_S:
                raise TimeoutError(f"the run was not over after {limit_s:g} s of virtual time")
            self.clock.now_ns = max(min(due_ns, next_report_ns), self.clock.now_ns)
            self.wheel.advance(self.clock.now_ns)
            if self.clock.now_ns >= next_report_ns:
                self._report(next_report_ns - start_ns)
                next_report_ns += NS_PER_S
        self._report(self.clock.now_ns - start_ns, final=True)
        return self.collector

    def _report(self, end_ns: int, final: bool = False) -> None:
        snapshot = self.recorder.take(end_ns, self.placer.active, 0.0, 0.0, final)
        self.collector.add(self._understanding.complete(snapshot))

    def _connect(self, call: Call) -> VirtualLine:
        return VirtualLine(call, self)

    def _stall(self, for_ns: int) -> None:
        """The agent's process stands still: on one clock this makes everything late by so much."""
        self.clock.now_ns += for_ns // NS_PER_MS * NS_PER_MS


def _path(url: str) -> str:
    """Return path and query, as a server sees them."""
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")

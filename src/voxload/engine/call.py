"""One call: a state machine without I/O, from its intended start to exactly one outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto

from voxload.audio.line import LineImpairment
from voxload.audio.playout import Ear
from voxload.audio.recording import CallRecording
from voxload.clock import NS_PER_S
from voxload.dialects.base import (
    AudioIn,
    CallIdentity,
    Dial,
    Ended,
    Event,
    HttpRequest,
    HttpResponse,
    Interrupted,
    Malformed,
    Mark,
    Outgoing,
    PeerError,
    Ready,
    ReplyEnded,
    Respond,
    SetupFailed,
    SetupStep,
    Signal,
    Stage,
    Transcript,
    Unknown,
    Usage,
)
from voxload.engine.books import CallEnd, close_books
from voxload.engine.caller import Caller
from voxload.engine.context import GONE, CallContext, Line, tell
from voxload.engine.hearing import HearingMeter
from voxload.engine.listener import Listener
from voxload.engine.marks import Marks
from voxload.engine.messages import CallEnds, IntentHeard, RuledEvent
from voxload.engine.side import SideTasks
from voxload.engine.speaker import Speaker
from voxload.inlet import Inlet
from voxload.load.workload import CallSpec
from voxload.model.outcome import Outcome

MESSAGES_PER_S_MAX = 10_000
"""More messages a second than this from the agent of one call are a flood (200 times real-time speech)."""
ERROR_TEXT_MAX = 200
FIRST_PING_NS = NS_PER_S
"""The first ping does not wait for the whole interval: short calls shall know their round trip too."""


class Phase(Enum):
    """Where a call stands."""

    NEW = auto()
    SETUP = auto()
    UP = auto()
    CLOSING = auto()
    OVER = auto()


class Call:
    """One call of the run.

    The shard calls `start` at the intended instant; the line calls the `on_…` methods. All time comes in by argument or
    from the wheel, so that the same object runs on sockets and on a virtual clock. `setup_over(call)` is called once
    when a set-up that was started has succeeded or failed, `ended(call)` once when the call is over.
    """

    __slots__ = (
        "_awaiting_ready", "_caller", "_context", "_due_ns", "_ended", "_error", "_hearing", "_labels", "_listener",
        "_marks", "_outcome", "_phase", "_ready_ns", "_recorder", "_session", "_setup_over", "_started_ns", "inlet",
        "line", "spec", "trace",
    )  # fmt: skip

    def __init__(
        self,
        spec: CallSpec,
        due_ns: int,
        context: CallContext,
        ended: Callable[[Call], None],
        setup_over: Callable[[Call], None],
    ) -> None:
        self.spec = spec
        self.line: Line
        self._setup_over = setup_over
        self._context = context
        self._recorder = context.recorder
        self._due_ns = due_ns
        self._ended = ended
        self.trace = context.tracing.call(spec.index, spec.call_id) if context.tracing is not None else None
        headers = (
            context.workload.headers() if self.trace is None else context.workload.headers() | self.trace.headers()
        )
        self._session = context.dialect_of(spec).caller(CallIdentity(spec.index, spec.call_id, spec.values, headers))
        self._labels = context.labels(spec)
        self._phase = Phase.NEW
        self._outcome: Outcome | None = None
        self._error = ""
        self._started_ns = self._ready_ns = 0
        self._awaiting_ready = False
        self._caller: Caller | None = None
        self._listener: Listener | None = None
        self._hearing: HearingMeter | None = None
        self._marks = Marks(context.wheel, lambda name: self._tell(self._session.played(name)))
        self.inlet = Inlet(context.recorder, MESSAGES_PER_S_MAX)

    @property
    def up(self) -> bool:
        """Whether the media channel is open and the call not yet over."""
        return self._phase is Phase.UP

    @property
    def was_up(self) -> bool:
        """Whether the media channel has ever been open."""
        return self._ready_ns > 0

    # --- set-up ---

    def start(self, now_ns: int) -> None:
        """Begin the set-up; `now_ns` may be later than the intended instant, the latency counts from the latter."""
        self._phase = Phase.SETUP
        self._started_ns = self.inlet.since_ns = now_ns
        self._context.recorder.started += 1
        timeouts = self._context.workload.scenario.timeouts
        self._context.wheel.at(now_ns + timeouts.setup_ns, self._on_setup_timeout)
        self._take(self._session.open(), now_ns)

    def _take(self, step: SetupStep, now_ns: int) -> None:
        match step:
            case HttpRequest():
                self.line.request(step if self.trace is None else self.trace.on(step))
            case Dial():
                self._awaiting_ready = step.await_ready
                self.line.dial(step if self.trace is None else self.trace.on(step))
            case Signal(payload=payload):
                self.line.signal(payload)
            case SetupFailed(outcome=outcome, reason=reason):
                self._finish(outcome, reason, now_ns)

    def _on_setup_timeout(self, due_ns: int) -> int:
        if self._phase is Phase.SETUP:
            waiting_for = self._session.waiting_for()
            reason = "not ready within timeouts.setup" + (f": waited for {waiting_for}" if waiting_for else "")
            self._finish(Outcome.SETUP_TIMEOUT, reason, due_ns)
        return 0

    def on_response(self, response: HttpResponse, now_ns: int) -> None:
        """The answer to the set-up's HTTP request."""
        if self._phase is Phase.SETUP:
            self._take(self._session.on_response(response), now_ns)

    def on_signal(self, payload: bytes, now_ns: int) -> None:
        """A message of the trunk for this call."""
        for item in self._session.on_signal(payload):
            if self._phase is Phase.OVER:
                return
            if not isinstance(item, SetupStep):
                self._on_event(item, now_ns)
            elif self._phase is Phase.SETUP:
                self._take(item, now_ns)

    def on_connected(self, now_ns: int) -> None:
        """The media socket is open."""
        if self._phase is not Phase.SETUP:
            self.line.abort()
            return
        self._tell(self._session.on_connected())
        if not self._awaiting_ready:
            self._on_ready(now_ns)

    def on_failed(self, outcome: Outcome, reason: str, now_ns: int) -> None:
        """The set-up failed below the protocol, or our own code did."""
        if self._phase is not Phase.OVER:
            self._finish(outcome, reason, now_ns)

    def _on_ready(self, now_ns: int) -> None:
        context, measurement = self._context, self._context.workload.scenario.measurement
        self._phase = Phase.UP
        self._ready_ns = now_ns
        context.recorder.up += 1
        self._setup_over(self)
        context.recorder.latency("call_setup", self._labels, now_ns - self._due_ns)
        context.recorder.latency("call_setup_uncorrected", self._labels, now_ns - self._started_ns)
        self._begin_talk(now_ns)
        context.wheel.at(now_ns + min(measurement.ping_interval_ns, FIRST_PING_NS), self._on_ping)
        side = context.workload.scenario.side_traffic
        if side is not None and self._listener is not None:
            values, samples = self._session.template_values(), self._listener.samples
            SideTasks(side, self, context, values, samples).start(now_ns)

    def _begin_talk(self, now_ns: int) -> None:
        """Give the caller its ear, its mouth and its script."""
        context, persona, form = self._context, self.spec.persona, self._context.dialect.agent_format
        buffer_ns = context.workload.scenario.measurement.playout_buffer_ns
        ear = Ear(form.sample_rate_hz, form.encoding, buffer_ns)
        self._hearing = HearingMeter(ear, form, buffer_ns)
        self._listener = Listener(ear, context, self._labels, self._due_ns, now_ns)
        if context.keeper is not None and context.keeper.wants(self.spec.index):
            self._listener.recording = CallRecording(form.sample_rate_hz, form.encoding)
        else:
            self._hearing.open(self.inlet, self._session.audio_form)
        line_seed = self.spec.rng.getrandbits(64)
        impairment = None if persona.line is None else LineImpairment(persona.line, line_seed, now_ns)
        speaker = Speaker(self._session, self.line, context, context.media.bed(persona), impairment)
        self._caller = Caller(self.spec, self._session, speaker, self._listener, context, self._finish, self._drop)
        self._caller.start(now_ns)

    # --- the call is up ---

    def on_message(self, payload: bytes, text: bool, now_ns: int) -> None:
        """One whole message of the agent."""
        if self.inlet.message(payload, text, now_ns) or self._phase is Phase.OVER:
            return
        if self.inlet.flooded(len(payload), now_ns):
            self._finish(Outcome.PROTOCOL_ERROR, f"flood: over {MESSAGES_PER_S_MAX} messages a second", now_ns)
            return
        for event in self._session.decode(payload, text):
            if event.__class__ is AudioIn:
                self._recorder.frames_received += 1
                if not self.inlet.hear(event.audio, now_ns):
                    self._on_audio(event.audio, now_ns)
            elif event.__class__ is Unknown and self._context.rules is not None and text:
                self._on_side_message(event, payload, now_ns)
            else:
                self._on_event(event, now_ns)

    def _on_audio(self, audio: bytes, now_ns: int) -> None:
        """Hear a piece of agent audio; the other hot path."""
        listener, hearing, caller = self._listener, self._hearing, self._caller
        if listener is None or hearing is None or caller is None:
            return
        ear = listener.ear
        playout = ear.playout
        heard_ns, underrun_ns = ear.heard_ns, playout.underrun_ns
        begun = ear.hear(audio, now_ns)
        hearing.heard(audio, heard_ns, now_ns)
        if listener.recording is not None:
            listener.recording.agent(ear.last_start_ns, audio)
        if playout.underrun_ns != underrun_ns:
            listener.broke_off(ear.last_start_ns, playout.underrun_ns - underrun_ns)
        if begun:
            listener.speech_began()
            caller.look(now_ns)

    def _on_side_message(self, unknown: Event, payload: bytes, now_ns: int) -> None:
        """Take what the scenario's rules say of a message that the dialect does not know."""
        rules = self._context.rules
        found = None if rules is None else rules.read(payload)
        for event in (unknown,) if found is None else found:
            self._on_event(event, now_ns)

    def _on_event(self, event: RuledEvent, now_ns: int) -> None:
        match event:
            case Ready():
                if self._phase is Phase.SETUP and self._awaiting_ready:
                    self._on_ready(now_ns)
            case Respond(messages=messages):
                self._tell(messages)
            case PeerError(code=code):
                self._context.recorder.peer_error(code)
            case Unknown(kind=kind):
                self._context.recorder.unknown_message(kind)
            case CallEnds(outcome=outcome, reason=reason):
                self._finish(outcome, reason, now_ns)
            case Malformed(detail=detail):
                self._finish(Outcome.PROTOCOL_ERROR, detail, now_ns)
            case Ended(reason=reason):
                if self._phase is Phase.UP:
                    self._on_hung_up(Outcome.DROPPED_BY_TARGET, f"the agent ended the call: {reason}", now_ns)
                elif self._phase is Phase.SETUP:
                    self._finish(Outcome.REJECTED, f"the agent ended the call before it was up: {reason}", now_ns)
            case _:
                if self._listener is not None and self._phase is Phase.UP:
                    self._on_talk(event, self._listener, now_ns)

    def _on_talk(self, event: RuledEvent, listener: Listener, now_ns: int) -> None:
        """Take what belongs to the conversation."""
        match event:
            case Interrupted(if_heard=if_heard):
                self._drop(now_ns, if_heard)
            case Mark(name=name):
                self._marks.add(name, listener.ear.plays_until_ns, now_ns)
            case Transcript():
                listener.on_transcript(event, now_ns)
            case IntentHeard(intent=intent):
                listener.on_intent(intent)
            case Stage(name=name):
                listener.on_stage(name, now_ns)
            case Usage():
                listener.on_usage(event)
            case ReplyEnded():
                listener.on_reply_ended(now_ns)
            case _:
                pass

    def _drop(self, now_ns: int, if_heard: bool = True) -> None:
        """Drop what the agent has sent and the caller has not heard yet; `if_heard`: only if there may be any."""
        listener, buffer_ns = self._listener, self._context.workload.scenario.measurement.playout_buffer_ns
        if listener is not None and (not if_heard or now_ns < listener.ear.plays_until_ns + buffer_ns):
            self._tell(self._session.dropped(listener.on_interrupted(now_ns)))
            self._marks.flush()

    def _on_ping(self, due_ns: int) -> int:
        if self._phase is not Phase.UP:
            return 0
        scenario = self._context.workload.scenario
        ends_ns = self._ready_ns + scenario.timeouts.call_ns
        if due_ns >= ends_ns:
            self._finish(Outcome.COMPLETED, "", due_ns)
            return 0
        self.line.ping(due_ns.to_bytes(8, "big"))
        return min(due_ns + scenario.measurement.ping_interval_ns, ends_ns)

    def on_pong(self, payload: bytes, now_ns: int) -> None:
        """The answer to a ping, which carries the instant at which the ping was due."""
        if self._phase is Phase.UP and len(payload) == 8:
            rtt_ns = now_ns - int.from_bytes(payload, "big")
            self._context.recorder.latency("message_rtt", self._labels, rtt_ns)
            if self._hearing is not None and self._listener is not None:
                self._hearing.rtt(rtt_ns)
                self._listener.samples.add("message_rtt", rtt_ns / 1e6)

    # --- the end ---

    def on_closed(self, outcome: Outcome, reason: str, now_ns: int, orderly: bool = False) -> None:
        """The socket is gone; `outcome` is what that means if the call was still up, unless it was closed `orderly`."""
        if self._phase in {Phase.SETUP, Phase.UP}:
            if orderly:
                self._on_hung_up(outcome, reason, now_ns)
            else:
                self._finish(outcome, reason, now_ns)
        elif self._phase is Phase.CLOSING:
            self._over()

    def _on_hung_up(self, outcome: Outcome, reason: str, now_ns: int) -> None:
        """The agent has ended the call in good order: as the script expects, or not."""
        if self._caller is not None and self._caller.expects_hang_up:
            self._finish(Outcome.COMPLETED, "", now_ns)
        else:
            self._finish(outcome, reason, now_ns)

    def cancel(self, now_ns: int) -> None:
        """End the call because the run is being cut short."""
        if self._phase in {Phase.NEW, Phase.SETUP, Phase.UP}:
            self._finish(Outcome.CANCELLED, "", now_ns)

    def _finish(self, outcome: Outcome, reason: str, now_ns: int) -> None:
        """Fix the outcome, record the call, and hang up; the first outcome stands."""
        if self._outcome is not None:
            return
        self._outcome, self._error = outcome, reason[:ERROR_TEXT_MAX]
        was, self._phase = self._phase, Phase.CLOSING
        self._recorder.up -= was is Phase.UP
        self._record(now_ns)
        if self._caller is not None:
            self._caller.stop()
            self._caller = None
        self.inlet.close()
        self._marks.clear()
        if was is not Phase.NEW:
            self.line.release(self._session.released())
        if was is not Phase.UP:
            if was is Phase.SETUP:
                self._setup_over(self)
                self.line.abort()
            self._over()
            return
        if outcome in {Outcome.COMPLETED, Outcome.CANCELLED, Outcome.AGENT_SILENT}:
            self._tell(self._session.hang_up())
        self.line.close()
        self._context.wheel.at(now_ns + self._context.workload.scenario.timeouts.hang_up_ns, self._on_hang_up_timeout)

    def _on_hang_up_timeout(self, _due_ns: int) -> int:
        if self._phase is Phase.CLOSING:
            self.line.abort()
            self._over()
        return 0

    def _over(self) -> None:
        if self._phase is not Phase.OVER:
            self._phase = Phase.OVER
            self.line, self._listener, self._hearing = GONE, None, None  # no cycles: garbage is collected too seldom
            self._ended(self)

    def _record(self, now_ns: int) -> None:
        assert self._outcome is not None
        context = self._context
        talk = None if self._listener is None or self._hearing is None else (self._listener, self._hearing)
        end = CallEnd(self._outcome, self._error, self._due_ns, self._ready_ns, now_ns)
        trace_id = "" if self.trace is None else self.trace.trace_id
        context.recorder.call_ended(close_books(self.spec, end, talk, self._labels, trace_id, context))

    def _tell(self, messages: Sequence[Outgoing]) -> None:
        tell(messages, self.line, self._context.recorder)

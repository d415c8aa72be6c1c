"""What all calls of a shard share, and what a call needs of the connection that carries it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from voxload.audio.recording_keeper import RecordingKeeper
from voxload.clock import Clock
from voxload.dialects.base import Dial, Dialect, HttpRequest, Outgoing, Signal
from voxload.engine.media import Media
from voxload.engine.messages import MessageRules
from voxload.engine.mouth import FrameMouth, new_ledger
from voxload.engine.tracing import Tracing
from voxload.load.workload import CallSpec, Workload
from voxload.measure.cost import CostModel
from voxload.measure.recorder import Labels, Recorder
from voxload.wheel import Wheel


class Line(Protocol):
    """The connection of one call. It reports back through the call's `on_…` methods; nothing here blocks or raises."""

    def request(self, request: HttpRequest) -> None:
        """Send a set-up request; the answer comes by `Call.on_response` or `Call.on_failed`."""

    def dial(self, dial: Dial) -> None:
        """Open the media socket; `Call.on_connected` or `Call.on_failed` follows."""

    def send(self, payload: bytes, text: bool) -> bool:
        """Hand a message to the kernel; False when it was dropped because the target does not read."""

    def lend(self, mouth: FrameMouth) -> None:
        """Let the mouth write to the socket itself, where both can."""

    def ping(self, payload: bytes) -> None:
        """Send a ping whose pong returns by `Call.on_pong`."""

    def side_request(self, request: HttpRequest, answered: Callable[[str, int], None]) -> None:
        """Send a request beside the call; `answered(status or "error", now_ns)` follows."""

    def signal(self, payload: bytes) -> None:
        """Send a message on the trunk; what comes back for this call arrives by `Call.on_signal`."""

    def release(self, signals: Sequence[Signal]) -> None:
        """Send the call's last signals; nothing of the trunk reaches it any more."""

    def close(self) -> None:
        """Close in good order; `Call.on_closed` follows."""

    def abort(self) -> None:
        """Drop the connection at once."""


class _GoneLine:
    def _nothing(self, *_: object) -> bool:
        return False

    request = dial = send = ping = side_request = signal = release = close = abort = _nothing


GONE = cast("Line", _GoneLine())
"""The line of a call that is over: nothing goes over it."""


@dataclass(frozen=True, slots=True)
class CallContext:
    """What the calls of a shard share."""

    workload: Workload
    dialect: Dialect
    media: Media
    recorder: Recorder
    wheel: Wheel
    clock: Clock
    run_start_ns: int
    """On the monotonic clock."""
    unix_offset_ns: int
    """Add it to the monotonic clock to get the time of day for a protocol's stamps."""
    shard: int = 0
    cost: CostModel | None = None
    """Prices the calls, where the scenario says how."""
    keeper: RecordingKeeper | None = None
    """Where recordings of calls go, if any are to be made."""
    tracing: Tracing | None = None
    """Gives the calls their trace context, unless it is turned off."""
    rules: MessageRules | None = None
    """Reads the messages that the dialect does not know, where the scenario has rules for them."""
    dialects: tuple[Dialect, ...] = ()
    """The dialect for each target, where there are several; they differ in the target's address alone."""

    @classmethod
    def of(
        cls,
        workload: Workload,
        dialect: Dialect,
        media: Media,
        wheel: Wheel,
        clock: Clock,
        run_start_ns: int,
        unix_offset_ns: int,
        shard: int = 0,
        keeper: RecordingKeeper | None = None,
        dialects: tuple[Dialect, ...] = (),
    ) -> CallContext:
        """Return the context with what the scenario says of prices, tracing and messages, and a new recorder."""
        scenario = workload.scenario
        return cls(
            workload,
            dialect,
            media,
            Recorder(shard, ledger=new_ledger(clock)),
            wheel,
            clock,
            run_start_ns,
            unix_offset_ns,
            shard,
            CostModel(scenario.cost) if scenario.cost is not None else None,
            keeper,
            Tracing.of(workload),
            MessageRules(scenario.messages) if scenario.messages else None,
            dialects,
        )

    def labels(self, spec: CallSpec) -> Labels:
        """Return the labels of everything that is measured in a call."""
        region, targets = self.workload.scenario.region, self.workload.targets
        if targets:
            region = targets[spec.target].region or region
        labels: Labels = (("call", spec.call_type.name), ("persona", spec.persona.name), ("phase", spec.phase))
        labels = (*labels, ("region", region)) if region else labels
        return (*labels, ("target", targets[spec.target].name)) if targets else labels

    def dialect_of(self, spec: CallSpec) -> Dialect:
        """Return the dialect that speaks to a call's target."""
        return self.dialects[spec.target] if self.dialects else self.dialect


def tell(messages: Sequence[Outgoing], line: Line, recorder: Recorder) -> None:
    """Send what is not audio, on the media socket or on the trunk."""
    for message in messages:
        if isinstance(message, Signal):
            line.signal(message.payload)
        else:
            line.send(message.payload, message.text)
            recorder.bytes_sent += len(message.payload)

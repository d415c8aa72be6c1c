"""What all calls of a twin share: settings, prepared replies, quotas, records, and the door that lets calls in."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any, Protocol

from voxload.clock import NS_PER_S, Clock
from voxload.dialects.base import CallIdentity, Dialect, HttpRequest, HttpResponse
from voxload.draws import build_sampler, chance
from voxload.errors import BadInputError, Problem
from voxload.model.twin import TwinSettings
from voxload.quotas import ConcurrencyLimit, TokenBucket
from voxload.twin.exchange import Exchange
from voxload.twin.faults import SoundFaults
from voxload.twin.meters import Meters
from voxload.twin.record import CallRecord
from voxload.twin.speaking import PreparedReply
from voxload.wheel import Wheel

ENDED_CALLS_KEPT = 1_000
"""Calls whose numbers can be asked for after their end."""
ALIKE_KEPT = 5_000
"""Details of calls of which is known how many calls have had them."""
ADMISSION_NS = 30 * NS_PER_S
"""How long a session that was opened over HTTP waits for its media socket before its place is given away."""

_JSON = {"content-type": "application/json"}


class Repertoire(Protocol):
    """What the agent can say."""

    @property
    def greeting(self) -> PreparedReply:
        """The first words of a call."""

    @property
    def generic(self) -> PreparedReply:
        """An answer to anything."""

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """The turns from which the twin draws where it does not know what was said; at least one."""

    @property
    def known(self) -> Mapping[bytes, Exchange]:
        """The turns by the caller's utterance: its last frame with an active sample, as 16-bit PCM."""


class Desk:
    """The front desk of a twin; serves the dialect's HTTP routes (`CallDesk`) and hands each call its shared parts.

    `stall` stands the process still for so many ns: a blocking sleep in a server, a jump of the clock in a simulation.

    Raises:
        BadInputError: one turn costs more tokens than the quota gives in a minute, so no turn could ever be answered.
    """

    def __init__(
        self,
        settings: TwinSettings,
        dialect: Dialect,
        repertoire: Repertoire,
        wheel: Wheel,
        clock: Clock,
        unix_offset_ns: int,
        stall: Callable[[int], None],
    ) -> None:
        quotas, latency = settings.quotas, settings.latency
        if 0 < quotas.tokens_per_minute < quotas.tokens_per_turn:
            raise BadInputError(
                [
                    Problem(
                        f"tokens_per_turn {quotas.tokens_per_turn} exceeds tokens_per_minute {quotas.tokens_per_minute}"
                    )
                ]
            )
        self.settings = settings
        self.dialect = dialect
        self.repertoire = repertoire
        self.wheel = wheel
        self.clock = clock
        self.unix_offset_ns = unix_offset_ns
        self.origin_ns = clock()
        self.samplers = {
            name: build_sampler(getattr(latency, name), settings.seed, name)
            for name in (("turn",) if latency.turn is not None else ("stt", "llm", "tts"))
        }
        self.connections = ConcurrencyLimit(quotas.connections)
        self.stt = ConcurrencyLimit(quotas.concurrent_stt)
        self.tokens = TokenBucket(quotas.tokens_per_minute, self.origin_ns)
        self.meters = Meters(self._live_frames)
        probe = dialect.caller(CallIdentity(0, "probe"))
        self.ends_by_message = bool(probe.end_of_speech(0))
        """The callers of this dialect say when an utterance is over; else the agent listens for silence."""
        self.admits_by_http = isinstance(probe.open(), HttpRequest)
        """Callers of this dialect open a session over HTTP before they dial; else the socket alone is the call."""
        self.sound_faults = SoundFaults(settings, dialect, (exchange.reply for exchange in repertoire.exchanges))
        self._stall = stall
        self._pending: dict[str, CallRecord] = {}
        self._active: dict[str, CallRecord] = {}
        self._ended: OrderedDict[str, CallRecord] = OrderedDict()
        self._alike: OrderedDict[str, int] = OrderedDict()
        self._first_call = True

    def always_watching(self, ends_by_message: bool) -> bool:
        """Return whether agents listen for speech at all times, not only while they speak."""
        return not ends_by_message or self.stt.limit > 0 or self.settings.faults.agent_interruption_rate > 0

    # --- letting calls in ---

    def admit(self, details: Mapping[str, Any]) -> str | HttpResponse:
        """Open a session and return its id, or the refusal to send.

        The id comes from the details and from how many calls had the same ones: where each caller gives a number of its
        own, a call keeps its id, and with it all its draws, whatever the order of arrival.
        """
        text = json.dumps(details, sort_keys=True, default=str)
        stem = blake2b(text.encode(), digest_size=6).hexdigest()
        count = self._alike.pop(stem, 0)
        while (call_id := f"{stem}-{count}") in self._active or call_id in self._pending:
            count += 1  # how many there were is known no more
        self._alike[stem] = count + 1
        if len(self._alike) > ALIKE_KEPT:
            self._alike.popitem(last=False)
        return self._enter(call_id)

    def call_metrics(self, call_id: str) -> Mapping[str, Any] | None:
        """Return the numbers of one call, or None when there is no such call (or it ended too long ago)."""
        record = self._active.get(call_id) or self._pending.get(call_id) or self._ended.get(call_id)
        return record.as_metrics(self.origin_ns, self.clock()) if record else None

    def unix_s(self) -> float:
        """Return the time of day."""
        return (self.clock() + self.unix_offset_ns) / NS_PER_S

    def connect(self, call_id: str) -> CallRecord | HttpResponse:
        """Take a media socket for `call_id` and return the call's record, or the refusal to send."""
        if call_id in self._active:
            return _refusal(409, f"call {call_id!r} has a media socket already")
        if call_id not in self._pending:
            if self.admits_by_http:
                return _refusal(404, f"no session {call_id!r}: open one first")
            entered = self._enter(call_id)
            if isinstance(entered, HttpResponse):
                return entered
        record = self._pending.pop(call_id)
        record.connected_ns = self.clock()
        self._active[call_id] = record
        self.meters.active_calls = len(self._active)
        return record

    def leave(self, record: CallRecord, outcome: str) -> None:
        """Close the books on a call that had a media socket."""
        if self._active.pop(record.call_id, None) is None:
            return
        self.meters.active_calls = len(self._active)
        self.meters.ended_frames_in += record.frames_in
        self.meters.ended_frames_out += record.frames_out
        self._close(record, outcome)

    @property
    def active_calls(self) -> int:
        """Calls with an open media socket."""
        return len(self._active)

    # --- inside ---

    def _enter(self, call_id: str) -> str | HttpResponse:
        """Give a call its place, unless a fault or the quota of connections refuses it."""
        now_ns = self.clock()
        self._start_stalls(now_ns)
        settings = self.settings
        if chance(settings.faults.reject_rate, settings.seed, call_id, 0, "reject"):
            self.meters.call_ended("rejected")
            return _refusal(503, "the service is unavailable", retry_after_s=1)
        if not self.connections.acquire():
            self.meters.refused("connections")
            self.meters.call_ended("rejected")
            return _refusal(503, f"all {self.connections.limit} connections are in use", retry_after_s=1)
        record = self._pending[call_id] = CallRecord(call_id, now_ns)

        def expire(_due_ns: int) -> int:
            if self._pending.get(call_id) is record:
                del self._pending[call_id]
                self._close(record, "never_connected")
            return 0

        self.wheel.at(now_ns + ADMISSION_NS, expire)
        return call_id

    def _close(self, record: CallRecord, outcome: str) -> None:
        record.ended_ns = self.clock()
        record.outcome = outcome
        settings = self.settings
        if chance(settings.faults.session_leak_rate, settings.seed, record.call_id, 0, "session_leak"):
            record.faults["session_leak"] = 1
            self.meters.fault("session_leak")
        else:
            self.connections.release()
        self.meters.call_ended(outcome)
        self._ended[record.call_id] = record
        if len(self._ended) > ENDED_CALLS_KEPT:
            self._ended.popitem(last=False)

    def _start_stalls(self, now_ns: int) -> None:
        if not self._first_call:
            return
        self._first_call = False
        for stall in self.settings.faults.stalls:

            def stand_still(_due_ns: int, for_ns: int = stall.for_ns) -> int:
                self._stall(for_ns)
                return 0

            self.wheel.at(now_ns + stall.at_ns, stand_still)

    def _live_frames(self) -> Iterable[tuple[int, int]]:
        return ((record.frames_in, record.frames_out) for record in self._active.values())


def _refusal(status: int, reason: str, retry_after_s: int = 0) -> HttpResponse:
    body: dict[str, Any] = {"error": reason}
    headers = dict(_JSON)
    if retry_after_s:
        body["retry_after_s"] = retry_after_s
        headers["retry-after"] = str(retry_after_s)
    return HttpResponse(status, headers, json.dumps(body).encode())

"""The exchange: all calls, who rings, who answers, what is allowed."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import aiohttp

from voxload.clock import NS_PER_S, monotonic_ns
from voxload.model.exchange import ExchangeSettings
from voxload.model.outcome import Outcome
from voxload.standins.acs.bodies import Answer, CallLocator, Connect, Create, check_callback, check_media
from voxload.standins.acs.callbacks import Postman
from voxload.standins.acs.callee import Callee
from voxload.standins.acs.calls import Call, State
from voxload.standins.acs.counters import Counters
from voxload.standins.acs.errors import ApiError, bad_request, call_not_found
from voxload.standins.acs.eventgrid import Failure, IncomingCall, Webhooks
from voxload.standins.acs.identifiers import number_of, raw_id_of
from voxload.standins.acs.media_socket import Sound, Studio
from voxload.standins.acs.party import Party
from voxload.standins.acs.recordings import Recordings
from voxload.standins.acs.tokens import TokenIssuer
from voxload.timer import WheelTimer
from voxload.wheel import Wheel

ENDED_CALLS_KEPT = 2_000
"""Contexts of calls that are over, so that a late answer is told from a nonsense one."""


class Exchange:
    """Create it inside the running loop; `close` it."""

    def __init__(self, settings: ExchangeSettings, http: aiohttp.ClientSession) -> None:
        self.settings = settings
        self.rng = random.Random(settings.seed)
        self.counters = Counters()
        self.tokens = TokenIssuer(settings.resource_id, settings.identity_header)
        self.postman = Postman(http, settings, self.tokens, self.counters)
        self.webhooks = Webhooks(http, settings)
        self.recordings = Recordings()
        wheel = Wheel(monotonic_ns())
        self.studio = Studio(Sound(settings.callee.speaks), wheel, self.counters)
        self._timer = WheelTimer.on_loop(wheel, monotonic_ns, asyncio.get_running_loop())
        self._timer.start()
        self._calls: dict[str, Call] = {}
        self._by_context: OrderedDict[str, Call] = OrderedDict()

    async def close(self, patience_s: float) -> None:
        """Hang up for everybody, deliver what is under way, and stop."""
        for call in list(self._calls.values()):
            call.end_by_party()
        await self.postman.close(patience_s)
        self._timer.stop()

    @property
    def active_calls(self) -> int:
        """Calls that ring or are up."""
        return len(self._calls)

    # --- finding calls ---

    def find(self, connection_id: str) -> Call:
        """Return a call that the backend has a connection to.

        Raises:
            ApiError: 404.
        """
        call = self._calls.get(connection_id)
        if call is None or call.state is State.RINGING:
            raise call_not_found()
        return call

    def locate(self, locator: CallLocator | None, connection_id: str | None) -> Call:
        """Return the call that a request names by one id or another.

        Raises:
            ApiError: 404, or 400 when it names none.
        """
        if connection_id:
            return self.find(connection_id)
        key = locator.key if locator is not None else ""
        if not key:
            raise bad_request("The field callLocator names no call.")
        for call in self._calls.values():
            if key in {call.server_call_id, call.group_key}:
                return call
        raise call_not_found()

    def by_context(self, context: str) -> Call | None:
        """Return the call that an `incomingCallContext` belongs to, over or not."""
        return self._by_context.get(context)

    def forget(self, call: Call) -> None:
        """A call is over."""
        if self._calls.pop(call.connection_id, None) is not None:
            self.counters.calls["ended"] += 1
            self.recordings.forget(call)

    # --- calls that come in ---

    def ring(self, party: Party, source: str, target: str, webhook: str, headers: Mapping[str, str]) -> Call:
        """Ring a backend; `party` hears what becomes of it."""
        call = Call(self, source, [target], headers)
        call.party = party
        self.counters.calls["rung"] += 1
        limit = self.settings.limits.concurrent_calls
        if limit and len(self._calls) >= limit:
            self.counters.limited["concurrent_calls"] += 1
            call.refuse(Outcome.REJECTED, f"the exchange: all {limit} concurrent calls are in use")
            return call
        self._enter(call)
        self.postman.spawn(self._ring(call, webhook))
        return call

    async def _ring(self, call: Call, webhook: str) -> None:
        call.party.waiting(f"the webhook {webhook} to take the event")
        target = call.targets[0]
        incoming = IncomingCall(call.source, target, call.server_call_id, call.context, call.correlation_id)
        failure = await self.webhooks.ring(webhook, incoming, call.headers)
        if call.state is not State.RINGING:  # answered, or given up, in the meantime
            if failure is not None and call.state is not State.DISCONNECTED:
                call.complain("webhook", failure.reason)
            return
        if failure is not None:
            call.refuse(*failure)
            return
        call.party.waiting("the backend to answer the call (POST /calling/callConnections:answer)")
        ring_s = self.settings.ring_timeout_ns / NS_PER_S
        unanswered = Failure(
            Outcome.SETUP_TIMEOUT, f"the backend did not answer the call within {ring_s:g} s of ringing"
        )
        call.later(self.settings.ring_timeout_ns, lambda: call.refuse(*unanswered))

    def take(self, context: str) -> Call:
        """Return the ringing call that the backend wants to answer, reject or redirect.

        Raises:
            ApiError: there is none, or it has been answered.
        """
        call = self._by_context.get(context)
        if call is None:
            raise bad_request("The field incomingCallContext is not one of an incoming call.")
        if call.state is State.DISCONNECTED:
            raise call_not_found()
        if call.state is not State.RINGING:
            call.complain("answered twice", "the backend answered a call that it had answered already")
            raise ApiError(409, "Conflict", "The call has been answered already.")
        return call

    def answer(self, body: Answer) -> Call:
        """The backend answers.

        Raises:
            ApiError: it cannot.
        """
        call = self.take(body.incoming_call_context)
        check_callback(body.callback_uri)
        check_media(body.media_streaming_options)
        call.answered_by = raw_id_of({"communicationUser": body.answered_by or {}}) or self._identity()
        self.counters.calls["answered"] += 1
        call.accept(body)
        call.answered()
        return call

    def reject(self, context: str, reason: str | None) -> None:
        """The backend rejects a call."""
        self.take(context).refuse(Outcome.REJECTED, f"the backend rejected the call ({reason or 'none'})")

    def redirect(self, context: str, target: str) -> None:
        """The backend sends a call elsewhere."""
        self.take(context).refuse(Outcome.REJECTED, f"the backend redirected the call to {number_of(target)}")

    # --- calls that the backend places ---

    def create(self, body: Create) -> Call:
        """The backend calls somebody.

        Raises:
            ApiError: it may not, or the request makes no sense.
        """
        check_callback(body.callback_uri)
        check_media(body.media_streaming_options)
        targets = [raw_id for raw_id in map(raw_id_of, body.targets) if raw_id]
        if not targets or len(targets) != len(body.targets):
            raise bad_request("The field targets names nobody to call.")
        number = (body.source_caller_id_number or {}).get("value")
        if any(target.startswith("4:") for target in targets) and not isinstance(number, str):
            raise bad_request("The field sourceCallerIdNumber is required to call a phone number.")
        source = raw_id_of({"communicationUser": body.source or {}}) or self._identity()
        call = self._place(source, targets, body)
        call.caller_id_number = number if isinstance(number, str) else ""
        Callee(self, call).ring()
        self.counters.calls["created"] += 1
        return call

    def connect(self, body: Connect) -> Call:
        """The backend joins a call that there is, or opens a room.

        Raises:
            ApiError: it may not, or there is no such call.
        """
        check_callback(body.callback_uri)
        check_media(body.media_streaming_options)
        locator = body.call_locator
        found = self.locate(locator, None) if locator.server_call_id else None
        call = self._place(self._identity(), [], body)
        call.group_key = locator.key
        if found is not None:
            call.server_call_id = found.server_call_id
        Callee(self, call).join()
        return call

    def _place(self, source: str, targets: list[str], body: Create | Connect) -> Call:
        limit = self.settings.limits.concurrent_calls
        if limit and len(self._calls) >= limit:
            self.counters.limited["concurrent_calls"] += 1
            raise ApiError(429, "TooManyRequests", f"All {limit} concurrent calls are in use.", retry_after_s=1)
        call = Call(self, source, targets, {}, outbound=True)
        call.accept(body)
        self._enter(call)
        return call

    def _enter(self, call: Call) -> None:
        self._calls[call.connection_id] = call
        self._by_context[call.context] = call
        if len(self._by_context) > ENDED_CALLS_KEPT + len(self._calls):
            self._by_context.popitem(last=False)

    def _identity(self) -> str:
        return f"8:acs:{self.settings.resource_id}_voxload"

    def as_data(self) -> dict[str, Any]:
        """Return the counters."""
        return self.counters.as_data(self.active_calls)

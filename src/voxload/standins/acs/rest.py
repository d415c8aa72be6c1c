"""The Call Automation REST API: what each request does."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from voxload.clock import NS_PER_S, monotonic_ns
from voxload.model.outcome import Outcome
from voxload.standins.acs import bodies
from voxload.standins.acs.auth import Guard
from voxload.standins.acs.bodies import Operation, check_participant, read
from voxload.standins.acs.calls import Call
from voxload.standins.acs.errors import ApiError, bad_request
from voxload.standins.acs.exchange import Exchange
from voxload.standins.acs.recordings import Recordings
from voxload.standins.acs.tones import known_tone
from voxload.standins.rate import RateLimit

ROOT = "/calling/"
REPLAYS_KEPT = 2_000
REPEATABILITY_HEADER = "repeatability-request-id"


class Request(NamedTuple):
    """A request: `ids` are the variable parts of its path, header names are lower case."""

    ids: tuple[str, ...]
    headers: Mapping[str, str]
    body: bytes


class Reply(NamedTuple):
    """An answer: `body` is JSON, None for none."""

    status: int
    body: dict[str, Any] | None = None
    headers: Mapping[str, str] = {}


class Api:
    """Answers requests below `/calling/`."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._guard = Guard(exchange.settings.access_key, exchange.tokens)
        self._rate = RateLimit(exchange.settings.limits.requests_per_s, monotonic_ns())
        self._replays: OrderedDict[tuple[str, str], Reply] = OrderedDict()

    async def answer(self, method: str, raw_path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Answer one request; `raw_path` is path and query as they were sent, header names are lower case."""
        counters = self._exchange.counters
        operation, ids = parse(method, raw_path.partition("?")[0])
        delay_ns = self._exchange.settings.api_delay_ns
        if delay_ns:
            await asyncio.sleep(delay_ns / NS_PER_S)
        try:
            reply = self._admit(operation, ids, method, raw_path, headers, body)
        except ApiError as error:
            self._refuse_caller(operation, body, error)
            retry = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {}
            reply = Reply(error.status, {"error": {"code": error.code, "message": error.message}}, retry)
        counters.statuses[str(reply.status)] += 1
        return reply

    def _admit(
        self, operation: str, ids: tuple[str, ...], method: str, raw_path: str, headers: Mapping[str, str], body: bytes
    ) -> Reply:
        counters = self._exchange.counters
        handler = OPERATIONS.get(operation)
        if handler is None:
            raise ApiError(404, "NotFound", f"There is no {method} {raw_path} in the Call Automation API.")
        counters.requests[operation] += 1
        self._guard.check(method, raw_path, headers, body)
        wait_ns = self._rate.wait_ns(1, monotonic_ns())
        if wait_ns:
            counters.limited["requests_per_s"] += 1
            raise ApiError(429, "TooManyRequests", "Too many requests a second.", -(-wait_ns // NS_PER_S))
        self._rate.take(1)
        repeated = (operation, headers.get(REPEATABILITY_HEADER, ""))
        if repeated[1] and repeated in self._replays:
            return self._replays[repeated]
        reply = handler(self, Request(ids, headers, body))
        if repeated[1]:
            self._replays[repeated] = reply
            if len(self._replays) > REPLAYS_KEPT:
                self._replays.popitem(last=False)
        return reply

    def _refuse_caller(self, operation: str, body: bytes, error: ApiError) -> None:
        """A backend that cannot answer its call has failed it: the caller learns why at once."""
        if operation != "POST callConnections:answer" or error.status not in {400, 401}:
            return
        try:
            context = json.loads(body)["incomingCallContext"]
            call = self._exchange.by_context(context)
        except (ValueError, KeyError, TypeError):
            return
        if call is not None:
            reason = f"the backend's answer was refused with {error.status}: {error.message}"
            call.refuse(Outcome.REJECTED, reason)

    # --- the operations ---

    def _call(self, request: Request) -> Call:
        return self._exchange.find(request.ids[0])

    def _up(self, request: Request) -> Call:
        return self._call(request).established()

    def _create(self, request: Request) -> Reply:
        return Reply(201, self._exchange.create(read(request.body, bodies.Create)).properties())

    def _answer(self, request: Request) -> Reply:
        return Reply(200, self._exchange.answer(read(request.body, bodies.Answer)).properties())

    def _connect(self, request: Request) -> Reply:
        return Reply(200, self._exchange.connect(read(request.body, bodies.Connect)).properties())

    def _reject(self, request: Request) -> Reply:
        body = read(request.body, bodies.Reject)
        self._exchange.reject(body.incoming_call_context, body.call_reject_reason)
        return Reply(204)

    def _redirect(self, request: Request) -> Reply:
        body = read(request.body, bodies.Redirect)
        self._exchange.redirect(body.incoming_call_context, check_participant(body.target, "target"))
        return Reply(204)

    def _properties(self, request: Request) -> Reply:
        return Reply(200, self._call(request).properties())

    def _leave(self, request: Request) -> Reply:
        self._call(request).end_by_backend("the backend left the call")
        return Reply(204)

    def _terminate(self, request: Request) -> Reply:
        self._call(request).end_by_backend("the backend hung up")
        return Reply(204)

    def _play(self, request: Request) -> Reply:
        body = read(request.body, bodies.Play)
        self._up(request).media_ops.play(body)
        return Reply(202)

    def _recognize(self, request: Request) -> Reply:
        body = read(request.body, bodies.Recognize)
        check_participant(body.recognize_options.target_participant)
        self._up(request).media_ops.recognize(body)
        return Reply(202)

    def _cancel_all(self, request: Request) -> Reply:
        self._up(request).media_ops.cancel_all()
        return Reply(202)

    def _watch_tones(self, request: Request) -> Reply:
        self._up(request).watch_tones(read(request.body, bodies.OneParticipant))
        return Reply(200)

    def _stop_watching_tones(self, request: Request) -> Reply:
        self._up(request).stop_watching_tones(read(request.body, bodies.OneParticipant))
        return Reply(200)

    def _send_tones(self, request: Request) -> Reply:
        body = read(request.body, bodies.SendTones)
        unknown = [tone for tone in body.tones if not known_tone(tone)]
        if unknown or not body.tones:
            raise bad_request(
                f"The field tones has no tone {unknown[0]!r}." if unknown else "The field tones is empty."
            )
        self._up(request).send_tones(body)
        return Reply(202, _context(body))

    def _start_media(self, request: Request) -> Reply:
        self._up(request).start_media(read(request.body, Operation))
        return Reply(202)

    def _stop_media(self, request: Request) -> Reply:
        self._up(request).stop_media(read(request.body, Operation))
        return Reply(202)

    def _transcribe(self, request: Request) -> Reply:
        self._up(request).transcribe(read(request.body, Operation))
        return Reply(202)

    def _put_on_hold(self, request: Request) -> Reply:
        return self._hold(request, True)

    def _take_off_hold(self, request: Request) -> Reply:
        return self._hold(request, False)

    def _hold(self, request: Request, on_hold: bool) -> Reply:
        body = read(request.body, bodies.OneParticipant)
        self._up(request).roster.hold(check_participant(body.target_participant), on_hold)
        return Reply(200)

    def _transfer(self, request: Request) -> Reply:
        body = read(request.body, bodies.Transfer)
        self._up(request).transfer(body, check_participant(body.target_participant))
        return Reply(202, _context(body))

    # --- participants and recordings ---

    def _participants(self, request: Request) -> Reply:
        return Reply(200, {"value": self._call(request).roster.as_data()})

    def _participant(self, request: Request) -> Reply:
        return Reply(200, self._call(request).roster.find(request.ids[1]).as_data())

    def _add(self, request: Request) -> Reply:
        body = read(request.body, bodies.AddParticipant)
        return Reply(202, {**_context(body), **self._up(request).roster.add(body)})

    def _remove(self, request: Request) -> Reply:
        body = read(request.body, bodies.RemoveParticipant)
        return Reply(202, {**_context(body), **self._up(request).roster.remove(body)})

    def _mute(self, request: Request) -> Reply:
        body = read(request.body, bodies.MuteParticipants)
        return Reply(200, {**_context(body), **self._up(request).roster.mute(body)})

    def _cancel_add(self, request: Request) -> Reply:
        body = read(request.body, bodies.CancelAdd)
        return Reply(202, {**_context(body), **self._up(request).roster.cancel_add(body)})

    def _move(self, request: Request) -> Reply:
        body = read(request.body, bodies.MoveParticipants)
        other = self._exchange.find(body.from_call)
        return Reply(202, {**_context(body), **self._up(request).roster.take_from(other.roster, body)})

    @property
    def _recordings(self) -> Recordings:
        return self._exchange.recordings

    def _start_recording(self, request: Request) -> Reply:
        body = read(request.body, bodies.StartRecording)
        call = self._exchange.locate(body.call_locator, body.call_connection_id)
        return Reply(200, self._recordings.start(call, body))

    def _stop_recording(self, request: Request) -> Reply:
        self._recordings.stop(request.ids[0])
        return Reply(204)

    def _recording(self, request: Request) -> Reply:
        return Reply(200, self._recordings.find(request.ids[0]).as_data())

    def _pause_recording(self, request: Request) -> Reply:
        self._recordings.switch(request.ids[0], False)
        return Reply(202)

    def _resume_recording(self, request: Request) -> Reply:
        self._recordings.switch(request.ids[0], True)
        return Reply(202)


_ONE, _PEOPLE = "callConnections/{}", "callConnections/{}/participants"

OPERATIONS: dict[str, Callable[[Api, Request], Reply]] = {
    "POST callConnections": Api._create,
    "POST callConnections:answer": Api._answer,
    "POST callConnections:reject": Api._reject,
    "POST callConnections:redirect": Api._redirect,
    "POST callConnections:connect": Api._connect,
    f"GET {_ONE}": Api._properties,
    f"DELETE {_ONE}": Api._leave,
    f"POST {_ONE}:terminate": Api._terminate,
    f"POST {_ONE}:play": Api._play,
    f"POST {_ONE}:recognize": Api._recognize,
    f"POST {_ONE}:cancelAllMediaOperations": Api._cancel_all,
    f"POST {_ONE}:startContinuousDtmfRecognition": Api._watch_tones,
    f"POST {_ONE}:stopContinuousDtmfRecognition": Api._stop_watching_tones,
    f"POST {_ONE}:sendDtmfTones": Api._send_tones,
    f"POST {_ONE}:startMediaStreaming": Api._start_media,
    f"POST {_ONE}:stopMediaStreaming": Api._stop_media,
    f"POST {_ONE}:startTranscription": Api._transcribe,
    f"POST {_ONE}:updateTranscription": Api._transcribe,
    f"POST {_ONE}:stopTranscription": Api._transcribe,
    f"POST {_ONE}:hold": Api._put_on_hold,
    f"POST {_ONE}:unhold": Api._take_off_hold,
    f"POST {_ONE}:transferToParticipant": Api._transfer,
    f"GET {_PEOPLE}": Api._participants,
    f"GET {_PEOPLE}/{{}}": Api._participant,
    f"POST {_PEOPLE}:add": Api._add,
    f"POST {_PEOPLE}:remove": Api._remove,
    f"POST {_PEOPLE}:mute": Api._mute,
    f"POST {_PEOPLE}:cancelAddParticipant": Api._cancel_add,
    f"POST {_PEOPLE}:moveHere": Api._move,
    "POST recordings": Api._start_recording,
    "GET recordings/{}": Api._recording,
    "DELETE recordings/{}": Api._stop_recording,
    "POST recordings/{}:pause": Api._pause_recording,
    "POST recordings/{}:resume": Api._resume_recording,
}
"""Every operation by method and shape of its path."""


def parse(method: str, raw_path: str) -> tuple[str, tuple[str, ...]]:
    """Return an operation's name, `POST callConnections/{}:play`, and the ids in its path.

    Every second part of the path is an id; what follows a colon in the last part is the action.
    """
    parts = raw_path.removeprefix(ROOT).split("/")
    ids: list[str] = []
    shape: list[str] = []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if number % 2 == 0:
            shape.append(unquote(part))
        elif last and number == 1:
            name, colon, action = unquote(part).partition(":")
            ids.append(name)
            shape.append(f"{{}}{colon}{action}")
        else:
            ids.append(unquote(part))
            shape.append("{}")
    return f"{method} {'/'.join(shape)}", tuple(ids)


def _context(body: Operation) -> dict[str, Any]:
    return {"operationContext": body.operation_context}

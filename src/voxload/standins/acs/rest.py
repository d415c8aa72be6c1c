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
from voxload.standins.acs.errors import ApiError, bad_request
from voxload.standins.acs.exchange import Exchange
from voxload.standins.acs.tones import known_tone

ROOT = "/calling/"
REPLAYS_KEPT = 10_000
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


Handler = Callable[[Request], Reply]


class RateLimit:
    """Requests a second: a bucket that holds one second's worth."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._left = max(per_s, 1.0)
        self._at_ns = monotonic_ns()

    def take(self) -> bool:
        """Return whether one more request is allowed now."""
        if not self._per_s:
            return True
        now_ns = monotonic_ns()
        self._left = min(self._left + (now_ns - self._at_ns) / NS_PER_S * self._per_s, max(self._per_s, 1.0))
        self._at_ns = now_ns
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Api:
    """Answers requests below `/calling/`."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._guard = Guard(exchange.settings.access_key, exchange.tokens)
        self._rate = RateLimit(exchange.settings.limits.requests_per_s)
        self._replays: OrderedDict[tuple[str, str], Reply] = OrderedDict()
        self._handlers = self._table()

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
        handler = self._handlers.get(operation)
        if handler is None:
            raise ApiError(404, "NotFound", f"There is no {method} {raw_path} in the Call Automation API.")
        counters.requests[operation] += 1
        self._guard.check(method, raw_path, headers, body)
        if not self._rate.take():
            counters.limited["requests_per_s"] += 1
            raise ApiError(429, "TooManyRequests", "Too many requests a second.", retry_after_s=1)
        repeated = (operation, headers.get(REPEATABILITY_HEADER, ""))
        if repeated[1] and repeated in self._replays:
            return self._replays[repeated]
        reply = handler(Request(ids, headers, body))
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

    def _table(self) -> dict[str, Handler]:
        calls, one, people = "callConnections", "callConnections/{}", "callConnections/{}/participants"
        return {
            f"POST {calls}": self._create,
            f"POST {calls}:answer": self._answer,
            f"POST {calls}:reject": self._reject,
            f"POST {calls}:redirect": self._redirect,
            f"POST {calls}:connect": self._connect,
            f"GET {one}": lambda request: Reply(200, self._call(request).properties()),
            f"DELETE {one}": lambda request: self._hang_up(request, "the backend left the call"),
            f"POST {one}:terminate": lambda request: self._hang_up(request, "the backend hung up"),
            f"POST {one}:play": self._play,
            f"POST {one}:recognize": self._recognize,
            f"POST {one}:cancelAllMediaOperations": self._cancel_all,
            f"POST {one}:startContinuousDtmfRecognition": self._watch_tones,
            f"POST {one}:stopContinuousDtmfRecognition": self._stop_watching_tones,
            f"POST {one}:sendDtmfTones": self._send_tones,
            f"POST {one}:startMediaStreaming": self._start_media,
            f"POST {one}:stopMediaStreaming": self._stop_media,
            f"POST {one}:startTranscription": self._transcribe,
            f"POST {one}:updateTranscription": self._transcribe,
            f"POST {one}:stopTranscription": self._transcribe,
            f"POST {one}:hold": lambda request: self._hold(request, True),
            f"POST {one}:unhold": lambda request: self._hold(request, False),
            f"POST {one}:transferToParticipant": self._transfer,
            f"GET {people}": lambda request: Reply(200, {"value": self._call(request).roster.as_data()}),
            f"GET {people}/{{}}": self._participant,
            f"POST {people}:add": self._add,
            f"POST {people}:remove": self._remove,
            f"POST {people}:mute": self._mute,
            f"POST {people}:cancelAddParticipant": self._cancel_add,
            f"POST {people}:moveHere": self._move,
            "POST recordings": self._start_recording,
            "GET recordings/{}": lambda request: Reply(200, self._recordings.find(request.ids[0]).as_data()),
            "DELETE recordings/{}": self._stop_recording,
            "POST recordings/{}:pause": lambda request: self._switch_recording(request, False),
            "POST recordings/{}:resume": lambda request: self._switch_recording(request, True),
        }

    def _call(self, request: Request) -> Any:
        return self._exchange.find(request.ids[0])

    def _up(self, request: Request) -> Any:
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

    def _hang_up(self, request: Request, reason: str) -> Reply:
        self._call(request).end_by_backend(reason)
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
        """Say plainly that nobody listens: the exchange has no speech service."""
        body = read(request.body, bodies.Transcribe)
        update = {
            "transcriptionStatus": "transcriptionFailed",
            "transcriptionStatusDetails": "speechServicesConnectionError",
        }
        failure = (500, 8582, "The stand-in has no transcription.")
        self._up(request).operation_event("TranscriptionFailed", body, failure, transcriptionUpdate=update)
        return Reply(202)

    def _hold(self, request: Request, on_hold: bool) -> Reply:
        body = read(request.body, bodies.OneParticipant)
        self._up(request).roster.hold(check_participant(body.target_participant), on_hold)
        return Reply(200)

    def _transfer(self, request: Request) -> Reply:
        body = read(request.body, bodies.Transfer)
        self._up(request).transfer(body, check_participant(body.target_participant))
        return Reply(202, _context(body))

    # --- participants and recordings ---

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
    def _recordings(self) -> Any:
        return self._exchange.recordings

    def _start_recording(self, request: Request) -> Reply:
        body = read(request.body, bodies.StartRecording)
        call = self._exchange.locate(body.call_locator, body.call_connection_id)
        return Reply(200, self._recordings.start(call, body))

    def _stop_recording(self, request: Request) -> Reply:
        self._recordings.stop(request.ids[0])
        return Reply(204)

    def _switch_recording(self, request: Request, active: bool) -> Reply:
        self._recordings.switch(request.ids[0], active)
        return Reply(202)


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

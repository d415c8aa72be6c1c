"""The exchange's end of the trunk: callers ring, press keys, speak and hang up over one WebSocket a process."""

from __future__ import annotations

import asyncio
import logging

import msgspec
from aiohttp import WSMsgType, web

from voxload.dialects import acs_trunk as words
from voxload.model.outcome import Outcome
from voxload.standins.acs.calls import Call
from voxload.standins.acs.exchange import Exchange
from voxload.standins.acs.identifiers import raw_id_of_number
from voxload.standins.acs.party import Asked, MediaOrder

_log = logging.getLogger("voxload.exchange")


class TrunkParty:
    """A caller behind the trunk; see `Party`."""

    def __init__(self, end: TrunkEnd, call_id: str) -> None:
        self._end = end
        self._call_id = call_id

    def waiting(self, step: str) -> None:
        """Tell the caller what its set-up waits for."""
        self._end.tell(words.Waiting(self._call_id, step))

    def refused(self, outcome: Outcome, reason: str) -> None:
        """Tell the caller that the call cannot be set up."""
        self._end.tell(words.Refused(self._call_id, outcome.value, reason))

    def open_media(self, order: MediaOrder) -> None:
        """Tell the caller to dial the backend's media socket."""
        self._end.tell(words.OpenMedia(self._call_id, *order))

    def close_media(self) -> None:
        """Tell the caller to close it."""
        self._end.tell(words.CloseMedia(self._call_id))

    def asked(self, wish: Asked) -> None:
        """Callers follow their script, whatever the backend wants to hear."""

    def finished(self, reason: str) -> None:
        """Tell the caller that the backend has hung up."""
        self._end.tell(words.Finished(self._call_id, reason))

    def complaint(self, code: str, message: str) -> None:
        """Tell the caller of a fault of the backend."""
        self._end.tell(words.Complaint(self._call_id, code, message))


class TrunkEnd:
    """One trunk."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._calls: dict[str, Call] = {}
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()

    def tell(self, word: words.FromExchange) -> None:
        """Send a word to the callers."""
        self._outgoing.put_nowait(words.encode(word))

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve a trunk until its process is gone, which hangs up for all its callers."""
        socket = web.WebSocketResponse(max_msg_size=1 << 20)
        await socket.prepare(request)
        sender = asyncio.create_task(self._send(socket))
        try:
            async for message in socket:
                if message.type is WSMsgType.BINARY:
                    self._take(message.data)
        finally:
            sender.cancel()
            for call in self._calls.values():
                call.end_by_party()
            self._calls.clear()
        return socket

    async def _send(self, socket: web.WebSocketResponse) -> None:
        while True:
            await socket.send_bytes(await self._outgoing.get())

    def _take(self, payload: bytes) -> None:
        try:
            word = words.decode_to_exchange(payload)
        except msgspec.MsgspecError as error:
            _log.warning("a message on the trunk is no word: %s", error)
            return
        if isinstance(word, words.Ring):
            caller, callee = raw_id_of_number(word.caller), raw_id_of_number(word.callee)
            party = TrunkParty(self, word.call_id)
            self._calls[word.call_id] = self._exchange.ring(party, caller, callee, word.webhook, word.headers)
            return
        call = self._calls.get(word.call_id)
        if call is None:
            return
        match word:
            case words.MediaOpened():
                call.media_opened()
            case words.Pressed(digit=digit):
                call.pressed(digit)
            case words.Said(text=text):
                call.said(text)
            case words.HungUp():
                del self._calls[word.call_id]
                call.end_by_party()

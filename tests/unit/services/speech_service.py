"""A tiny Speech service that does what a test tells it, message by message."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from voxload.speech_protocol import SpeechMessage, binary_head, read_binary, read_text, text_message

Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One connection of a client: what it says, and what it is answered."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket, self.request_id = socket, ""
        self.path = socket.request.path

    async def receive(self) -> SpeechMessage:
        message = await self.socket.recv()
        found = read_text(message.encode()) if isinstance(message, str) else read_binary(message)
        self.request_id = found.request_id or self.request_id
        return found

    async def say(self, path: str, **body: object) -> None:
        await self.socket.send(text_message(path, self.request_id, json.dumps(body).encode()).decode())

    async def phrase(self, text: str, start_s: float, length_s: float, status: str = "Success") -> None:
        ticks = {"Offset": round(start_s * 1e7), "Duration": round(length_s * 1e7)}
        await self.say("speech.phrase", RecognitionStatus=status, DisplayText=text, **ticks)

    async def audio(self, payload: bytes) -> None:
        await self.socket.send(binary_head("audio", self.request_id) + payload)

    async def listen(self, until_bytes: int = 1 << 60) -> int:
        """Take audio until there is so much of it, or it ends; returns how much there was behind the header."""
        total = 0
        while True:
            message = await self.receive()
            if message.path != "audio":
                continue
            if not message.body:
                return total
            if message.body[:4] != b"RIFF":
                total += len(message.body)
            if total >= until_bytes:
                return total


class Service:
    """Runs a script for each connection; the first handshakes are answered with `refusals`, (status, headers) each."""

    def __init__(
        self,
        script: Script,
        refusals: list[tuple[int, dict[str, str]]] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.script, self.refusals, self.tls = script, list(refusals or []), tls
        self.handshakes: list[Request] = []
        self.problems: list[BaseException] = []

    async def _gate(self, _: ServerConnection, request: Request) -> Response | None:
        self.handshakes.append(request)
        if not self.refusals:
            return None
        status, headers = self.refusals.pop(0)
        return Response(status, HTTPStatus(status).phrase, Headers({"Content-Length": "0", **headers}), b"")

    async def _serve(self, socket: ServerConnection) -> None:
        try:
            await self.script(Peer(socket))
        except Exception as problem:  # noqa: BLE001  # told to the test
            self.problems.append(problem)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(socket.wait_closed(), 10)

    async def __aenter__(self) -> Service:
        self._server = await serve(
            self._serve, "127.0.0.1", 0, ssl=self.tls, process_request=self._gate, subprotocols=["USP"], max_size=None
        )
        port = self._server.sockets[0].getsockname()[1]
        s = "s" if self.tls else ""
        self.url, self.host = f"http{s}://127.0.0.1:{port}", f"ws{s}://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

"""Targets that misbehave on purpose, each on 127.0.0.1 and a port of its own, in a thread."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SESSION = b'{"session_id":"s1"}'


@contextlib.contextmanager
def serve(handler: Handler) -> Iterator[str]:
    """Serve connections with `handler` until the block ends; yields the base URL."""
    ready: list[str] = []
    started = threading.Event()
    loop = asyncio.new_event_loop()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await handler(reader, writer)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        ready.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        started.set()

    thread = threading.Thread(target=lambda: (loop.run_until_complete(main()), loop.run_forever()), daemon=True)
    thread.start()
    started.wait(5)
    yield ready[0]

    async def end() -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(end(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)


def refused_url() -> str:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


async def read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    await reader.readexactly(int(headers.get("content-length", 0)))
    return first, headers


def answer(status: str, body: bytes = b"{}") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"connection: close\r\n\r\n" + body


def accept_key(headers: dict[str, str]) -> str:
    digest = hashlib.sha1((headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    return base64.b64encode(digest).decode()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts, reads, and never says a word."""
    while await reader.read(65536):
        pass


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Resets every connection."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


def http(status: str, body: bytes = b"{}") -> Handler:
    """Answers the first request so."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(status, body))
        await writer.drain()

    return handler


def media(after_upgrade: Handler, handshake: str = "101") -> Handler:
    """Opens a session over HTTP; then `after_upgrade` has the WebSocket's raw bytes, or the handshake is refused."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, headers = await read_request(reader)
        if first.startswith("POST"):
            writer.write(answer("200 OK", SESSION))
            await writer.drain()
            return
        if handshake != "101":
            writer.write(answer(handshake))
            await writer.drain()
            return
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accept_key(headers)}\r\nSec-WebSocket-Protocol: call-protocol\r\n\r\n".encode()
        )
        await writer.drain()
        await after_upgrade(reader, writer)

    return handler


def frame(payload: bytes, opcode: int = 1, fin: bool = True) -> bytes:
    """One unmasked WebSocket frame (RFC 6455, 5.2)."""
    size = len(payload)
    length = (
        bytes([size])
        if size < 126
        else b"\x7e" + size.to_bytes(2, "big")
        if size < 65536
        else b"\x7f" + size.to_bytes(8, "big")
    )
    return bytes([(0x80 if fin else 0) | opcode]) + length + payload


def says(*messages: bytes, then: Handler = silent) -> Handler:
    """Sends raw bytes after the handshake, then does something else."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for message in messages:
            writer.write(message)
        await writer.drain()
        await then(reader, writer)

    return handler


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closes the socket without a word after a moment."""
    await asyncio.sleep(0.2)


async def floods(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends 200,000 small messages as fast as they are taken, then falls silent."""
    batch = frame(b'{"type":"noise"}') * 1000
    for _ in range(200):
        writer.write(batch)
        await writer.drain()
    await silent(reader, writer)

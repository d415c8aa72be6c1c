"""A SOCKS5 and an HTTP proxy for tests: they resolve every name to 127.0.0.1 and count what they carried."""

import asyncio
import ipaddress
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """Where it listens, and for whom it has opened tunnels."""

    port: int = 0
    tunnels: list[str] = field(default_factory=list)
    refuse: bool = False


async def _pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


async def _join(reader, writer, port):
    inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))


def connect_proxy(proxy):
    """`CONNECT host:port`, as for https:// and ws://."""

    async def serve(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, authority, _ = head.split(" ", 2)
        if method != "CONNECT" or proxy.refuse:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        proxy.tunnels.append(authority)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await _join(reader, writer, int(authority.rpartition(":")[2]))

    return serve


def socks5_proxy(proxy):
    """RFC 1928 without authentication, CONNECT only."""

    async def serve(reader, writer):
        _, methods = await reader.readexactly(2)
        await reader.readexactly(methods)
        writer.write(b"\x05\x00")
        _, command, _, kind = await reader.readexactly(4)
        assert command == 1
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        port = int.from_bytes(await reader.readexactly(2), "big")
        proxy.tunnels.append(f"{host}:{port}")
        writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01" + port.to_bytes(2, "big"))
        await _join(reader, writer, port)

    return serve


@contextmanager
def running(kind):
    """Serve in a thread of its own."""
    proxy, loop, ready = Proxy(), asyncio.new_event_loop(), threading.Event()

    async def main():
        server = await asyncio.start_server(kind(proxy), "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        ready.set()
        await asyncio.Event().wait()

    task = None

    def serve():
        nonlocal task
        asyncio.set_event_loop(loop)
        task = loop.create_task(main())
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            for left in asyncio.all_tasks(loop):
                left.cancel()
            loop.run_until_complete(asyncio.sleep(0.05))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(5)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(5)
